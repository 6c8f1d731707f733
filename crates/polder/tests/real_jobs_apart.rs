//! A home and a factory as two nodes: jobs go over, come back and are paid, and whoever is killed when, none is lost and none runs twice at once.
//!
//! `POLDER_JOB_KILLS` says how often somebody is killed; `cargo xtask soak jobs` asks for many.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;
use support::jobs::{JobNode, introduce};
use support::node::Running;
use support::{Folder, polder, process, run, until};

const KILLS: usize = 10;

struct Pair {
    folder: Folder,
    home: JobNode,
    factory: JobNode,
}

impl Pair {
    fn new(home_jobs: &str, factory_jobs: &str) -> Self {
        let folder = Folder::new();
        let (home, factory) = (JobNode::new(folder.path(), "home"), JobNode::new(folder.path(), "site"));
        introduce(folder.path(), &[("home", &home, false), ("site", &factory, true)]);
        home.configure("home", Some(home_jobs), None);
        factory.configure("site", None, Some(factory_jobs));
        Self { folder, home, factory }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }
}

#[test]
fn a_job_goes_to_another_node_and_its_receipt_names_both() {
    let pair = Pair::new("", "cores = 2\n");
    let (site, home) = (pair.factory.start(), pair.home.start());
    let ended = until("a factory for jobs", || {
        let ended = pair.home.polder(&["run", "--wait", "--", "/bin/sh", "-c", "echo over there"]);
        (ended.code != 3).then_some(ended)
    });
    assert_eq!((ended.code, ended.stdout.as_str()), (0, "over there\n"), "{ended:?}");
    let receipt = pair.path().join("receipt.json");
    let job = pair.home.polder(&["jobs", "last", "-o", "json", "--receipt", receipt.to_str().unwrap()]).json();
    assert_eq!(job["factory"], "site", "{job}");
    let members = pair.path().join("members.json");
    let verified = run(polder(pair.path()).args(["verify", "--members"]).arg(&members).arg(&receipt));
    assert!(verified.code == 0 && verified.stdout.contains("`site` ran it"), "{verified:?}");
    // A job is ended from afar, and what the factory's own terms forbid from now on ends by its own word.
    let id = pair.home.submit(&[], &["sleep", "300"]);
    pair.home.until(&id, "running");
    assert_eq!(pair.home.polder(&["cancel", &id]).code, 0);
    pair.home.until(&id, "cancelled");
    let id = pair.home.submit(&[], &["sleep", "300"]);
    pair.home.until(&id, "running");
    let terms = "permit (principal, action, resource);\n@id(\"closed\")\n@reason(\"closed\")\nforbid (principal, action, resource);\n";
    std::fs::write(pair.factory.folder.join("terms.cedar"), terms).unwrap();
    process::signal(site.pid(), Signal::HUP);
    let waiting = until("the end of the run", || {
        let job = pair.home.job(&id);
        (job["state"] == "waiting" && job["why"] == "refused").then_some(job)
    });
    assert_eq!(waiting["outcome"], "evicted", "{waiting}");
    assert_eq!(
        process::left_behind(&pair.factory.folder.join("state/jobs"), Duration::from_secs(10)),
        Vec::<u32>::new()
    );
    home.end();
    site.end();
}

/// A source of chance that a seed repeats (splitmix64, Steele et al. 2014).
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % most
    }
}

fn kill_and_start(node: &JobNode, running: Running) -> (Running, Duration) {
    let pid = running.pid();
    process::signal(pid, Signal::KILL);
    until("the node's end", || process::has_ended(pid).then_some(()));
    drop(running);
    let begun = Instant::now();
    (node.start(), begun.elapsed())
}

/// Submits a job that counts its starts and tells of an overlap; none where nobody took it. The key makes a second try the same one.
fn submit(pair: &Pair, number: usize) -> Option<String> {
    let folder = pair.path().display();
    let command = format!(
        "exec 9>{folder}/lock-{number}; flock -n 9 || echo {number} >> {folder}/overlaps; echo {number} >> {folder}/starts; sleep 0.3"
    );
    let key = format!("job-{number}");
    let ended = pair.home.polder(&["run", "--key", &key, "--", "/bin/sh", "-c", &command]);
    (ended.code == 0).then(|| ended.stdout.trim().to_owned())
}

#[test]
fn whoever_is_killed_no_job_is_lost_and_none_runs_twice_at_once() {
    let kills: usize = std::env::var("POLDER_JOB_KILLS").ok().map_or(KILLS, |text| text.parse().unwrap());
    let seed: u64 = std::env::var("POLDER_JOB_SEED").ok().map_or(1, |text| text.parse().unwrap());
    let pair = Pair::new("lease_s = 4", "cores = 3\n");
    let (mut site, mut home) = (pair.factory.start(), pair.home.start());
    until("the first job", || submit(&pair, 0));
    let (mut dice, mut jobs, mut ready) = (Dice(seed), Vec::new(), Vec::new());
    for round in 0..kills {
        for number in 2 * round + 1..2 * round + 3 {
            // What is not acknowledged is tried again with its key, as a client would.
            jobs.push(until("an acknowledgement", || submit(&pair, number)));
        }
        std::thread::sleep(Duration::from_millis(dice.below(700)));
        let took;
        if dice.below(2) == 0 {
            (home, took) = kill_and_start(&pair.home, home);
        } else {
            (site, took) = kill_and_start(&pair.factory, site);
        }
        ready.push(took);
    }
    for id in &jobs {
        pair.home.until(id, "succeeded");
    }
    let text = |name: &str| std::fs::read_to_string(pair.path().join(name)).unwrap_or_default();
    assert_eq!(text("overlaps"), "", "no two runs of one job at once");
    let starts = text("starts");
    for number in 1..=jobs.len() {
        let runs = starts.lines().filter(|line| **line == number.to_string()).count();
        assert!(runs >= 1, "job {number} never ran");
    }
    let usage = pair.home.polder(&["usage", "export", "--format", "json"]).json();
    let mut paid: Vec<String> = usage
        .as_array()
        .unwrap()
        .iter()
        .filter(|one| one["outcome"] == "succeeded" && one["verdict"] == "settled")
        .map(|one| one["job"].to_string())
        .collect();
    paid.sort_unstable();
    let all = paid.len();
    paid.dedup();
    assert_eq!((paid.len(), all), (jobs.len() + 1, jobs.len() + 1), "each job has one success that counts");
    ready.sort_unstable();
    let slowest = ready.last().copied().unwrap_or_default();
    eprintln!("ready again after {:?} at the median, {slowest:?} at worst", ready.get(ready.len() / 2));
    let money: Value = pair.home.polder(&["usage", "accounts", "-o", "json"]).json();
    let sum: i64 = money.as_array().unwrap().iter().map(|one| one["microeur"].as_i64().unwrap()).sum();
    assert_eq!(sum, 0);
    home.end();
    site.end();
}
