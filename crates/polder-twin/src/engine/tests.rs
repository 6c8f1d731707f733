//! Tests of the engine: against queueing theory and naive oracles, and that nothing is lost, made up or placed where it may not run.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::expect_used)]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use polder_core::facts::Claim;
use polder_core::labels::{Closed as _, Country, EU};

use super::plan::{Job, Plan, Scheduler, Source, Use};
use super::pool::{Pool, Power};
use super::{Engine, Outcome};
use crate::calendar::{DAY_US, HOUR_US, SECOND_US};
use crate::federation::Federation;
use crate::study::{Files, parse};

const FEDERATION: &str = r#"
baseline = "open.cedar"
[[issuers]]
id = "register"
name = "Register"
at_most = "B"
[[factories]]
id = "only"
place = "Here"
price_microeur_per_mtok = 1
places = 1
models = ["polder-toy"]
terms = "open.cedar"
facts = []
[[tenants]]
id = "one"
home = "one-home"
policy = "open.cedar"
trust = ["register"]
weights = { price = 1, load = 0, latency = 0 }
question = "What?"
[[tenants.projects]]
id = "work"
class = "public"
purposes = ["research"]
model = "polder-toy"
"#;

fn plan(text: &str, folder: &Path) -> Arc<Plan> {
    let read = |name: &str| match name {
        "federation.toml" => Some(FEDERATION.to_owned()),
        _ => Some("permit (principal, action, resource);".to_owned()),
    };
    parse("study.toml", text, &Files { read: &read, folder: folder.to_owned() }).unwrap_or_else(|e| panic!("{e}"))
}

fn one_factory(days: u64, accelerators: u32, rest: &str, demand: &str) -> String {
    format!(
        "name = \"one\"\nfederation = \"federation.toml\"\nbegin = \"2026-01-01\"\ndays = {days}\n\
[[accelerators]]\nid = \"a\"\nidle_w = 100\nactive_w = 700\n\
[[factories]]\nid = \"only\"\nqueue_max = 1_000_000\nhalls = [{{ id = \"h\", racks = {accelerators}, per_rack = 1, accelerator = \"a\" }}]\n\
grid = {{ price_eur_per_mwh = 100, carbon_g_per_kwh = 300 }}\n{rest}\n\
[[demands]]\nid = \"d\"\ntenant = \"one\"\nproject = \"work\"\n{demand}\n"
    )
}

fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("polder-twin-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

fn demo(days: u64) -> Arc<Plan> {
    let studies = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../studies");
    let text = std::fs::read_to_string(studies.join("demo.toml")).unwrap();
    let read = |name: &str| std::fs::read_to_string(studies.join(name)).ok();
    let plan = parse("demo.toml", &text, &Files { read: &read, folder: studies.clone() });
    let plan = plan.unwrap_or_else(|e| panic!("{e}"));
    Arc::new(Plan { days, ..Plan::clone(&plan) })
}

fn run(plan: &Arc<Plan>, threads: usize) -> Outcome {
    let mut engine = Engine::new(Arc::clone(plan), threads).unwrap();
    engine.run_until(u64::MAX).unwrap();
    engine.outcome()
}

/// The mean wait of M/M/c by Erlang's formula, in units of the mean service time.
fn erlang_c_wait(servers: u32, offered: f64) -> f64 {
    let (mut term, mut sum) = (1.0, 1.0);
    for k in 1..servers {
        term *= offered / f64::from(k);
        sum += term;
    }
    let servers = f64::from(servers);
    let last = term * offered / servers * (servers / (servers - offered));
    let waits = last / (sum + last);
    waits / (servers - offered)
}

#[test]
fn waits_are_those_of_queueing_theory() {
    for (servers, load, seed) in [(1_u32, 0.5, 3), (4, 0.7, 3), (16, 0.8, 3)] {
        let demand = "per_hour = 1_000\nrun_min = 1\npatience_min = 1_000_000";
        let text = one_factory(90, servers, "scheduler = \"fcfs\"", demand);
        let mut plan = Plan::clone(&plan(&text, Path::new(".")));
        let service_us = (f64::from(servers) * load * 3_600.0 / 1_000.0 * 1e6) as u64;
        plan.seed = seed;
        if let Source::Drawn(drawn) = &mut plan.demands[0].source {
            (drawn.run_us, drawn.run_us_max) = (service_us, u64::MAX / 4);
        }
        let outcome = run(&Arc::new(plan), 1);
        let expected = erlang_c_wait(servers, f64::from(servers) * load) * service_us as f64;
        let waits = &outcome.demands[0].tally.waits;
        let off = waits.mean_us() as f64 / expected - 1.0;
        assert!(waits.count() > 2_000_000);
        assert!(off.abs() < 0.01, "{servers} servers: {} instead of {expected}, {off}", waits.mean_us());
    }
}

/// A made-up log in the Standard Workload Format: submission, run time, processors, time asked for; in seconds.
fn log(jobs: u64, seed: u64) -> Vec<(u64, u64, u32, u64)> {
    let mut draws = crate::draw::Draws::new(seed, 9);
    let mut at = 0;
    let job = |_| {
        at += draws.below(200);
        let run = 1 + draws.below(1_500);
        (at, run, 1 << draws.below(6), run + draws.below(1_000))
    };
    (0..jobs).map(job).collect()
}

fn swf(log: &[(u64, u64, u32, u64)]) -> String {
    let line = |(number, (at, run, processors, asked)): (usize, &(u64, u64, u32, u64))| {
        format!("{} {at} -1 {run} {processors} -1 -1 {processors} {asked} -1 1 1 1 1 1 1 -1 -1\n", number + 1)
    };
    let lines: String = log.iter().enumerate().map(line).collect();
    format!("; made up\n{lines}")
}

/// The same scheduling, done as plainly as can be: when each job begins, in seconds.
fn oracle(log: &[(u64, u64, u32, u64)], machine: u32, easy: bool) -> Vec<u64> {
    let mut begun = vec![u64::MAX; log.len()];
    let mut waiting: Vec<usize> = Vec::new();
    let mut running: Vec<usize> = Vec::new();
    let mut next = 0;
    while next < log.len() || !waiting.is_empty() {
        let end = running.iter().map(|one| begun[*one] + log[*one].1).min().unwrap_or(u64::MAX);
        let arrival = log.get(next).map_or(u64::MAX, |job| job.0);
        let now = end.min(arrival);
        if end == now {
            running.retain(|one| begun[*one] + log[*one].1 != now);
        } else {
            waiting.push(next);
            next += 1;
        }
        let used = |running: &[usize]| running.iter().map(|one| log[*one].2).sum::<u32>();
        while let Some(head) = waiting.first().copied().filter(|head| machine - used(&running) >= log[*head].2) {
            begun[head] = now;
            running.push(head);
            waiting.remove(0);
        }
        let Some(head) = waiting.first().copied().filter(|_| easy) else { continue };
        // When enough is free at the latest, by what owners said.
        let mut ends: Vec<(u64, u32)> =
            running.iter().map(|one| ((begun[*one] + log[*one].3).max(now), log[*one].2)).collect();
        ends.sort_unstable();
        let free_at =
            |at: u64| machine - used(&running) + ends.iter().filter(|(end, _)| *end <= at).map(|(_, n)| n).sum::<u32>();
        let shadow = ends.iter().map(|(end, _)| *end).find(|end| free_at(*end) >= log[head].2).unwrap();
        let mut extra = free_at(shadow) - log[head].2;
        for one in waiting.clone().into_iter().skip(1) {
            let (_, _, processors, asked) = log[one];
            let in_time = now + asked <= shadow;
            if machine - used(&running) >= processors && (in_time || processors <= extra) {
                begun[one] = now;
                running.push(one);
                waiting.retain(|other| *other != one);
                extra -= if in_time { 0 } else { processors };
            }
        }
    }
    begun
}

/// Drives the pool as a factory does, and says when each job began.
fn begun_by_pool(jobs: &[Job], machine: u32, scheduler: Scheduler) -> Vec<u64> {
    let text = one_factory(1, machine, "", "per_hour = 1\nrun_min = 1");
    let plan = plan(&text, Path::new("."));
    let mut pool = Pool::new(Use::Batch, &plan.sites[0].halls, scheduler, usize::MAX);
    pool.set_units(0, machine);
    let (mut power, mut begun, mut next) = (Power::new(), vec![u64::MAX; jobs.len()], 0);
    loop {
        let (end, arrival) = (pool.next_end_us(), jobs.get(next).map_or(u64::MAX, |job| job.at_us));
        let now = end.min(arrival);
        if now == u64::MAX {
            return begun;
        }
        if end == now {
            pool.finish(&mut power).unwrap();
            if pool.next_end_us() == now {
                continue;
            }
        } else {
            assert!(pool.admit(Job { prompt: u32::try_from(next).unwrap(), ..jobs[next] }));
            next += 1;
        }
        pool.schedule(now, &mut power, |started| begun[started.job.prompt as usize] = now / SECOND_US);
    }
}

#[test]
fn fcfs_and_easy_do_what_a_naive_oracle_does() {
    let folder = folder("oracle");
    for seed in 0..20 {
        let log = log(400, seed);
        let path = folder.join(format!("{seed}.swf"));
        std::fs::write(&path, swf(&log)).unwrap();
        let traced = crate::traces::Traced { format: crate::traces::Format::Swf, path, processors_per_accelerator: 1 };
        let mut reading = traced.open().unwrap();
        let jobs: Vec<Job> = std::iter::from_fn(|| reading.next_job().unwrap()).collect();
        assert_eq!((jobs.len(), reading.wrong().count), (log.len(), 0));
        let first = log[0].0;
        let moved = |begun: Vec<u64>| begun.into_iter().map(|at| at + first).collect::<Vec<_>>();
        assert_eq!(moved(begun_by_pool(&jobs, 48, Scheduler::Fcfs)), oracle(&log, 48, false), "fcfs, seed {seed}");
        assert_eq!(moved(begun_by_pool(&jobs, 48, Scheduler::Easy)), oracle(&log, 48, true), "easy, seed {seed}");
    }
    std::fs::remove_dir_all(folder).unwrap();
}

/// A finite trace with failures, a loss and a cap: by the end all has run, so every nanojoule must be accounted for.
#[test]
fn energy_is_that_of_jobs_and_idle_and_losses() {
    let folder = folder("energy");
    std::fs::write(folder.join("jobs.swf"), swf(&log(3_000, 5))).unwrap();
    let rest = "failure_every_h = 200\nrepair_h = 3\nsupply_loss_percent_hundredths = 631\nrectifier_loss_percent_hundredths = 217\n\
cooling = { curve = [[0, 8], [20, 31]], mean_c = 11, season_c = 9, day_c = 5 }\n\
battery = { kwh = 7, kw = 3, efficiency_percent = 91 }";
    let demand = "patience_min = 100_000\ntrace = { format = \"swf\", file = \"jobs.swf\" }\n\
[[events]]\nkind = \"curtailment\"\nfactory = \"only\"\npercent = 50\nfrom = \"2026-01-02\"\nuntil = \"2026-01-03\"\n\
[[events]]\nkind = \"loss\"\nfactory = \"only\"\nfrom = \"2026-01-03\"\nuntil = \"2026-01-04\"";
    let text = one_factory(30, 48, rest, demand).replace("grid = {", "grid = { contracted_kw = 40,");
    let plan = plan(&text, &folder);
    let outcome = run(&plan, 1);
    let site = &outcome.sites[0];
    let (whole, tally) = (&site.whole, &outcome.demands[0].tally);
    assert_eq!((site.left, outcome.demands[0].asked.arrived, tally.finished), ((0, 0), 3_000, 3_000));
    assert!(tally.lost > 10 && tally.returned > 0 && whole.bridged_nj > 0, "the hard cases occurred: {tally:?}");
    assert_eq!(whole.it_nj, whole.idle_nj + tally.energy_nj, "accelerators take idle power and what jobs add");
    // 48 accelerators, 29 days: one day the factory was gone.
    assert_eq!(whole.idle_nj, 48 * 100_000 * u128::from(29 * DAY_US));
    assert_eq!(whole.grid_nj + whole.bridged_nj, whole.facility_nj() + whole.stored_nj);
    let supply = whole.it_nj * 63_100 / 1_000_000;
    let chain = supply + (whole.it_nj + supply) * 21_700 / 1_000_000;
    assert!(chain - whole.chain_nj <= 3 * 30 * 24, "rounded down at most thrice an hour");
    assert_eq!(whole.used_us[0], tally.work_us + tally.undone_us);
    // Money: 200 cents an accelerator and hour; what was undone is not charged.
    let charged = tally.work_us * 2_000_000 * 1_000_000 / u128::from(HOUR_US);
    assert!(charged - tally.charged_pico <= 10_000, "rounded down once a run");
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn nothing_is_lost_or_made_up() {
    let outcome = run(&demo(40), 1);
    for demand in &outcome.demands {
        let (asked, tally) = (&demand.asked, &demand.tally);
        let told = asked.refused_by_policy + asked.refused_for_capacity + tally.finished + demand.left;
        assert_eq!(asked.arrived, told, "{}", demand.id);
        assert_eq!(asked.placed, tally.sent, "{}", demand.id);
        assert!(asked.arrived > 0 && tally.finished > 0, "{}", demand.id);
    }
}

#[test]
fn a_fork_goes_on_as_the_original_would() {
    let plan = demo(12);
    let mut engine = Engine::new(Arc::clone(&plan), 1).unwrap();
    engine.run_until(5 * DAY_US + 17 * HOUR_US).unwrap();
    let mut fork = engine.fork().unwrap();
    fork.run_until(u64::MAX).unwrap();
    engine.run_until(u64::MAX).unwrap();
    let (one, other) = (engine.outcome(), fork.outcome());
    assert_eq!(one, other);
    assert_eq!(one.digest().unwrap(), run(&plan, 1).digest().unwrap());
}

#[test]
fn threads_and_seeds() {
    let plan = demo(6);
    let one = run(&plan, 1).digest().unwrap();
    assert_eq!(one, run(&plan, 2).digest().unwrap());
    assert_eq!(one, run(&plan, 5).digest().unwrap());
    let other = Arc::new(Plan { seed: plan.seed + 1, ..Plan::clone(&plan) });
    assert_ne!(one, run(&other, 1).digest().unwrap());
}

/// What the demo's policies mean, told without Cedar, from the facts as the federation's file says them.
#[test]
fn nothing_is_placed_outside_policy() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../demo");
    let text = std::fs::read_to_string(folder.join("federation.toml")).unwrap();
    let federation = Federation::parse("federation.toml", &text, |_| Some("")).unwrap();
    let attested = |site: &str, is: &dyn Fn(&Claim) -> bool| {
        let facts = &federation.factory(site).unwrap().facts;
        facts.iter().any(|fact| fact.issuer.is_some() && is(&fact.claim))
    };
    let eu = |country: &Country| EU.contains(country.as_str());
    let site_in_eu = |site: &str| attested(site, &|claim| matches!(claim, Claim::Site { country, .. } if eu(country)));
    let may = |demand: &str, site: &str| match demand {
        "bank-questions" => {
            site_in_eu(site)
                && attested(
                    site,
                    &|claim| matches!(claim, Claim::Control { owners } if owners.iter().all(|owner| eu(&owner.country))),
                )
                && attested(
                    site,
                    &|claim| matches!(claim, Claim::Certification { scheme } if *scheme == polder_core::facts::Certification::Iso27001),
                )
        }
        "bank-models" => true,
        "defence-analysis" => ["paris", "munich", "frankfurt"].contains(&site) && site != "bologna",
        "lab-captions" => ["paris", "kajaani", "barcelona"].contains(&site),
        "start-up-training" => site_in_eu(site),
        other => panic!("{other}"),
    };
    let outcome = run(&demo(30), 1);
    let mut placed = 0;
    for site in &outcome.sites {
        for (demand, _) in outcome.demands.iter().zip(&site.tallies).filter(|(_, tally)| tally.sent > 0) {
            assert!(may(&demand.id, &site.id), "{} ran at {}", demand.id, site.id);
            placed += 1;
        }
    }
    assert!(placed > 5);
}

#[test]
fn power_that_is_not_contracted_is_the_bottleneck() {
    let demand = "per_hour = 20\nrun_min = 300\nsizes = [[4, 1]]\npatience_min = 100_000";
    let text = one_factory(70, 100, "", demand).replace("grid = {", "grid = { contracted_kw = 30,");
    let outcome = run(&plan(&text, Path::new(".")), 1);
    let found = &outcome.bottlenecks[0];
    assert_eq!((found.month.as_str(), found.factory.as_str(), found.cause), ("2026-01", "only", "power"));
    let peak_mw = outcome.sites[0].whole.peak_mw;
    assert!((25_000_000..=30_000_000).contains(&peak_mw), "{peak_mw}");
}

fn shipped(name: &str) -> Arc<Plan> {
    let studies = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../studies");
    let path = studies.join(name);
    let text = std::fs::read_to_string(&path).unwrap();
    let folder = path.parent().unwrap().to_owned();
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).ok();
    parse(name, &text, &Files { read: &read, folder: folder.clone() }).unwrap_or_else(|e| panic!("{e}"))
}

/// Each shipped study says in its first lines what happens in it, and that happens.
#[test]
fn shipped_studies_tell_their_stories() {
    let used = |outcome: &Outcome, site: &str, month: usize| {
        let found = outcome.sites.iter().find(|one| one.id == site).unwrap();
        found.months[month].used_us[0]
    };
    let asked = |outcome: &Outcome| outcome.demands.iter().map(|demand| demand.asked.arrived).sum::<u64>();
    // Nothing of the vendor from March to May, and everything again in June.
    let vendor = run(&shipped("vendor.toml"), 2);
    for site in ["paris", "munich", "bologna", "frankfurt", "virginia"] {
        assert_eq!(used(&vendor, site, 3), 0, "{site}");
    }
    for site in ["munich", "frankfurt", "virginia"] {
        assert!(used(&vendor, site, 0) > 0 && used(&vendor, site, 5) > 0, "{site}");
    }
    let refused: u64 = vendor.demands.iter().map(|demand| demand.asked.refused_for_capacity).sum();
    assert!(refused > asked(&vendor) / 10, "much finds no room: {refused}");
    // A week in February without Germany.
    let country = run(&shipped("country.toml"), 2);
    let part = used(&country, "munich", 1) * 100 / used(&country, "munich", 0);
    assert!((40..85).contains(&part), "three weeks of four, a shorter month: {part} %");
    // From February on nothing of the bank's and the start-up's runs where the United States have a say; the defence firm never did.
    let control = run(&shipped("us-control.toml"), 2);
    for site in ["frankfurt", "virginia"] {
        assert!(used(&control, site, 0) > 0, "{site}");
        assert_eq!(used(&control, site, 3), 0, "{site}");
    }
    assert!(shipped("tenfold/grow.toml").growth.is_some());
}
