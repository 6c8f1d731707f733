//! Jobs on one node, as a user sees them: submitted, run, read, paid, proved; refused, ended, held, and found again after kill -9.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;
use support::jobs::JobNode;
use support::node::Running;
use support::{Folder, polder, process, run, until};

const FACTORY: &str = "cores = 4\nmemory_mib = 1024\ngrace_s = 1\n";

fn node(around: &Path, home: &str, factory: &str) -> JobNode {
    let node = JobNode::new(around, "here");
    node.configure("here", Some(home), Some(factory));
    node
}

/// No process of a node's jobs is left.
fn none_left(node: &JobNode) {
    let left = process::left_behind(&node.folder.join("state/jobs"), Duration::from_secs(10));
    assert_eq!(left, Vec::<u32>::new(), "processes of jobs left behind");
}

fn write(node: &JobNode, name: &str, text: &str) -> String {
    let path = node.folder.join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_job_runs_says_what_it_says_and_leaves_a_receipt_that_verifies() {
    let folder = Folder::new();
    let node = node(folder.path(), "", &format!("{FACTORY}core_microeur_per_hour = 3600000000\n"));
    let running = node.start();
    // Money first: a project without any is told what it lacks.
    let words = [
        "run",
        "--euro",
        "50",
        "--wall-s",
        "40",
        "--wait",
        "--",
        "/bin/sh",
        "-c",
        "echo out $POLDER_TASK; echo err >&2; env",
    ];
    let poor = node.polder(&words);
    assert_eq!(poor.code, 1, "{poor:?}");
    assert!(poor.stderr.contains("polder usage grant"), "{poor:?}");
    assert_eq!(node.polder(&["usage", "grant", "--project", "runs", "--euro", "100"]).code, 0);
    let ended = node.polder(&words);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.stdout.starts_with("out 0\n") && ended.stderr.contains("err\n"), "{ended:?}");
    // Nothing of the node's own environment reaches a job.
    let own = ["XDG_STATE_HOME", "POLDER_LOG", "USER", "CARGO"];
    assert!(own.iter().all(|name| !ended.stdout.contains(name)), "{ended:?}");
    let receipt = node.folder.join("receipt.json");
    let shown = node.polder(&["jobs", "last", "--receipt", receipt.to_str().unwrap(), "-o", "json"]);
    let job = shown.json();
    assert_eq!((&job["state"], &job["factory"]), (&"succeeded".into(), &"here".into()));
    assert_eq!(job["receipts"][0]["verdict"], "settled");
    let verified = run(polder(folder.path()).args(["verify", "-o", "json"]).arg(&receipt));
    assert_eq!((verified.code, &verified.json()["verified"]), (0, &Value::Bool(true)), "{verified:?}");
    // What it cost is the factory's, and the rest is the project's again; all accounts together are nothing.
    let accounts = node.polder(&["usage", "accounts", "-o", "json"]).json();
    let sum: i64 = accounts.as_array().unwrap().iter().map(|one| one["microeur"].as_i64().unwrap()).sum();
    let of = |name: &str| {
        let found = accounts.as_array().unwrap().iter().find(|one| one["account"] == name);
        found.unwrap()["microeur"].as_i64().unwrap()
    };
    let cost = job["cost_microeur"].as_i64().unwrap();
    assert_eq!((sum, of("factory/here"), of("project/runs")), (0, cost, 100_000_000 - cost), "{accounts}");
    assert!(cost > 0 && cost == job["ran_ms"].as_i64().unwrap() * 1_000, "{job}");
    let focus = node.polder(&["usage", "export", "--format", "focus"]);
    assert!(focus.stdout.lines().count() == 2 && focus.stdout.contains("EUR,2"), "{focus:?}");
    none_left(&node);
    running.end();
}

#[test]
fn arrays_and_dependencies_run_in_order_and_a_key_submits_once() {
    let folder = Folder::new();
    let node = node(folder.path(), "", FACTORY);
    let running = node.start();
    let file = "jobs:\n  - name: part\n    resources: {cores: 1}\n    run: {command: [/bin/sh, -c, 'echo $POLDER_TASK of $POLDER_TASKS']}\n    \
                wall_s: 30\n    cost_microeur_max: 0\n    array: 5\n  - name: whole\n    resources: {cores: 1}\n    \
                run: {command: ['true']}\n    wall_s: 30\n    cost_microeur_max: 0\n    after: [part]\n";
    let file = write(&node, "jobs.yaml", file);
    let ended = node.polder(&["run", &file, "--wait", "--key", "once", "-o", "json"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    let jobs = ended.json()["jobs"].as_array().unwrap().clone();
    assert_eq!(jobs.len(), 6);
    let said: Vec<String> = jobs.iter().map(|job| node.said(job["id"].as_str().unwrap())).collect();
    assert_eq!(said[4], "4 of 5\n", "{said:?}");
    let again = node.polder(&["run", &file, "--key", "once", "-o", "json"]).json();
    let ids = |jobs: &Value| jobs.as_array().unwrap().iter().map(|job| job["id"].clone()).collect::<Vec<_>>();
    assert_eq!(ids(&again["jobs"]), ids(&ended.json()["jobs"]), "the same jobs");
    let other = node.polder(&["run", "--key", "once", "--", "true"]);
    assert!(other.code == 1 && other.stderr.contains("Idempotency-Key"), "{other:?}");
    running.end();
}

#[test]
fn bad_files_are_refused_by_name_and_nothing_is_taken() {
    let folder = Folder::new();
    let node = node(folder.path(), "", FACTORY);
    let running = node.start();
    let good = "[[jobs]]\nname = \"a\"\nresources = { cores = 1 }\nrun = { command = [\"true\"] }\nwall_s = 5\ncost_microeur_max = 0\n";
    let rows = [
        ("cores = 1", "gpus = 1", "unknown field `gpus`"),
        ("cores = 1", "cores = -1", "-1"),
        ("wall_s = 5", "after = [\"a\"]\nwall_s = 5", "wait for each other"),
        (
            "wall_s = 5",
            "wall_s = 5\ninputs = [{ uri = \"file:///etc/hostname\", class = \"public\", path = \"../x\" }]",
            "stays in the work folder",
        ),
        ("name = \"a\"", "name = \"A\"", "`name` is"),
    ];
    for (from, to, word) in rows {
        let file = write(&node, "bad.toml", &good.replace(from, to));
        let ended = node.polder(&["run", &file]);
        assert!(ended.code == 2 && ended.stderr.contains(word) && ended.stderr.contains("bad.toml"), "{to}: {ended:?}");
    }
    let yaml = "jobs:\n  - name: a\n    resources: {cores: 1}\n    run: {command: ['true']}\n    wallclock: 5\n";
    let ended = node.polder(&["run", &write(&node, "bad.yaml", yaml)]);
    assert!(ended.code == 2 && ended.stderr.contains("wallclock"), "{ended:?}");
    assert_eq!(node.polder(&["jobs", "-o", "json"]).json()["jobs"], serde_json::json!([]));
    running.end();
}

#[test]
fn a_job_that_no_rule_permits_is_refused_with_its_reasons_and_stands_in_the_log() {
    let folder = Folder::new();
    let node = node(folder.path(), "", FACTORY);
    let rule = "permit (principal, action, resource);\n@id(\"no-jobs\")\n@reason(\"no jobs here\")\nforbid (principal, action == Action::\"run-job\", resource);\n";
    std::fs::write(node.folder.join("policy.cedar"), rule).unwrap();
    let running = node.start();
    let ended = node.polder(&["run", "-o", "json", "--", "true"]);
    assert_eq!(ended.code, 3, "{ended:?}");
    let refused = &ended.json()["refused"];
    assert_eq!(
        (&refused["refusals"][0]["rule"], &refused["refusals"][0]["reason"]),
        (&"no-jobs".into(), &"no jobs here".into())
    );
    let why = node.polder(&["why", refused["decision"].as_str().unwrap(), "-o", "json"]);
    assert!(why.stdout.contains("no-jobs"), "{why:?}");
    // What fits nowhere waits and says so.
    std::fs::write(node.folder.join("policy.cedar"), "permit (principal, action, resource);\n").unwrap();
    process::signal(running.pid(), Signal::HUP);
    let id = until("the mended policy", || {
        let ended = node.polder(&["run", "--cores", "64", "--", "true"]);
        (ended.code == 0).then(|| ended.stdout.trim().to_owned())
    });
    let explained = until("the reason", || {
        let ended = node.polder(&["explain", &id, "-o", "json"]);
        (ended.json()["why"] == "unfit").then_some(ended)
    });
    assert_eq!(explained.code, 3, "{explained:?}");
    assert!(explained.stdout.contains("job-unfit"), "{explained:?}");
    assert_eq!(node.polder(&["cancel", &id]).code, 0);
    assert_eq!(node.job(&id)["state"], "cancelled");
    running.end();
}

#[test]
fn what_does_not_want_to_end_is_ended_with_all_that_it_left_behind() {
    let folder = Folder::new();
    let factory = format!("{FACTORY}output_bytes_max = 65536\n");
    let node = node(folder.path(), "", &factory);
    let running = node.start();
    // It ignores the signal, and leaves a process in a group and session of its own.
    let stubborn = "trap '' TERM; setsid sleep 300 & while :; do sleep 0.05; done";
    let id = node.submit(&[], &["/bin/sh", "-c", stubborn]);
    node.until(&id, "running");
    let begun = Instant::now();
    assert_eq!(node.polder(&["cancel", &id]).code, 0);
    node.until(&id, "cancelled");
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    none_left(&node);
    let long = node.submit(&["--wall-s", "1"], &["sleep", "300"]);
    let timed_out = node.until(&long, "failed");
    assert_eq!(timed_out["outcome"], "timed-out", "{timed_out}");
    let large = node.submit(&[], &["/bin/sh", "-c", "while :; do head -c 4096 /dev/zero; done > large"]);
    let over = node.until(&large, "failed");
    assert_eq!(over["outcome"]["failed"], 153, "{over}");
    let many =
        node.submit(&[], &["/bin/sh", "-c", "i=0; while :; do head -c 4096 /dev/zero > part$i; i=$((i+1)); done"]);
    assert_eq!(node.until(&many, "failed")["outcome"]["failed"], 153);
    assert!(node.polder(&["logs", &many]).stderr.contains("quota"));
    none_left(&node);
    running.end();
}

#[test]
fn inputs_are_checked_and_outputs_kept_where_the_factory_allows() {
    let folder = Folder::new();
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    std::fs::create_dir_all(&from).unwrap();
    std::fs::create_dir_all(&to).unwrap();
    std::fs::write(from.join("set"), "abc").unwrap();
    let (from, to) = (from.to_str().unwrap().to_owned(), to.to_str().unwrap().to_owned());
    let node = node(folder.path(), "", &format!("{FACTORY}inputs = [\"{from}\"]\noutputs = [\"{to}\"]\n"));
    let running = node.start();
    let job = |input: &str, sha: &str, command: &str, bytes_max: u64| {
        format!(
            "[[jobs]]\nname = \"copy\"\nresources = {{ cores = 1 }}\nrun = {{ command = [\"/bin/sh\", \"-c\", \"{command}\"] }}\nwall_s = 20\n\
             cost_microeur_max = 0\ninputs = [{{ uri = \"file://{input}\", class = \"public\", path = \"in/set\"{sha} }}]\n\
             outputs = [{{ uri = \"file://{to}/made\", class = \"public\", path = \"made\", bytes_max = {bytes_max} }}]\n"
        )
    };
    let sha = ", sha256 = \"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\"";
    let set = format!("{from}/set");
    let run = |text: String| node.polder(&["run", &write(&node, "job.toml", &text), "--wait"]);
    let good = run(job(&set, sha, "cp in/set made", 3));
    assert_eq!(good.code, 0, "{good:?}");
    assert_eq!(std::fs::read_to_string(format!("{to}/made")).unwrap(), "abc");
    std::fs::remove_file(format!("{to}/made")).unwrap();
    let rows = [
        (job(&set, &sha.replace("ba78", "ba79"), "cp in/set made", 3), "another SHA-256"),
        (job("/etc/hostname", "", "cp in/set made", 300), "no folder that this factory reads"),
        (job(&set, sha, "cp in/set made", 2), "larger than its quota of 2 bytes"),
        (job(&set, sha, "ln -s /etc/hostname made", 300), "cannot be kept"),
        (job(&format!("{from}/none"), sha, "true", 3), "cannot be had"),
    ];
    for (text, word) in rows {
        let ended = run(text);
        assert!(ended.code == 1 && ended.stderr.contains(word), "{word}: {ended:?}");
    }
    assert_eq!(std::fs::read_dir(&to).unwrap().count(), 0, "nothing half-written");
    running.end();
}

/// Kills the node at once and starts it again; how long it took to be ready.
fn kill(node: &JobNode, running: Running) -> (Running, Duration) {
    let pid = running.pid();
    process::signal(pid, Signal::KILL);
    until("the node's end", || process::has_ended(pid).then_some(()));
    drop(running);
    let begun = Instant::now();
    let running = node.start();
    (running, begun.elapsed())
}

#[test]
fn a_run_goes_on_while_its_node_is_killed_and_is_paid_once() {
    let folder = Folder::new();
    let node = node(folder.path(), "lease_s = 20", FACTORY);
    let mut running = node.start();
    let log = folder.path().join("starts");
    let command =
        format!("echo start >> {}; for i in 1 2 3 4 5 6 7 8 9 10; do echo $i; sleep 0.3; done", log.display());
    let id = node.submit(&[], &["/bin/sh", "-c", &command]);
    node.until(&id, "running");
    for _ in 0..3 {
        running = kill(&node, running).0;
        assert_eq!(node.job(&id)["state"], "running");
    }
    let job = node.until(&id, "succeeded");
    assert_eq!((job["epoch"].as_u64(), job["receipts"].as_array().unwrap().len()), (Some(1), 1), "{job}");
    assert_eq!(std::fs::read_to_string(&log).unwrap(), "start\n", "it ran once");
    assert_eq!(node.said(&id).lines().count(), 10);
    // A run that ends while nobody is there is found by its end.
    let id = node.submit(&[], &["sleep", "0.5"]);
    node.until(&id, "running");
    process::signal(running.pid(), Signal::KILL);
    std::thread::sleep(Duration::from_millis(900));
    drop(running);
    let running = node.start();
    assert_eq!(node.until(&id, "succeeded")["epoch"], 1);
    none_left(&node);
    running.end();
}

#[test]
fn a_run_whose_node_stays_dead_ends_with_its_lease() {
    let folder = Folder::new();
    let node = node(folder.path(), "lease_s = 3", FACTORY);
    let running = node.start();
    let id = node.submit(&[], &["sleep", "300"]);
    node.until(&id, "running");
    process::signal(running.pid(), Signal::KILL);
    drop(running);
    let left = process::left_behind(&node.folder.join("state/jobs"), Duration::from_secs(8));
    assert_eq!(left, Vec::<u32>::new(), "the lease is over");
}
