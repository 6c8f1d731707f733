//! What can be said of jobs in the simulator alone: placements a second, leaks and usefulness under faults, and the queue
//! against Kueue's baseline. `cargo xtask bench jobs` runs it.
//!
//! Prints one line of JSON for each quantity. Judging the figures is absent: what is asked of them stands in xtask.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::time::Instant;

use polder_twin::chance::{many, rush};
use polder_twin::kueue::baseline;

fn main() {
    placements();
    leaks();
    kueue();
}

fn print(name: &str, value: f64, unit: &str, baseline: Option<f64>) {
    println!("{}", serde_json::json!({"name": name, "value": value, "unit": unit, "baseline": baseline}));
}

/// Jobs all the way from submission to settlement, over 24 factories.
fn placements() {
    const JOBS: u64 = 5_000;
    rush(24, 100).unwrap();
    let begun = Instant::now();
    let placed = rush(24, JOBS).unwrap();
    let seconds = begun.elapsed().as_secs_f64();
    assert_eq!(placed, JOBS);
    print("jobs placed, run and settled over 24 factories", placed as f64 / seconds, "jobs/s", None);
}

/// Random requests under kills, partitions and stale load, until there are 100,000.
fn leaks() {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let (mut requests, mut placeable, mut placed, mut leaks, mut seed) = (0, 0, 0, 0, 1_000_000);
    while requests < 100_000 {
        let found = many(1_000, seed, threads, false).unwrap();
        seed += 1_000;
        requests += found.counts.jobs;
        placeable += found.counts.placeable;
        placed += found.counts.placed;
        leaks += found
            .violations
            .values()
            .flatten()
            .filter(|what| what.contains("policy") || what.contains("terms"))
            .count();
    }
    print("requests under faults", requests as f64, "requests", None);
    print("placements outside policy or terms", leaks as f64, "placements", None);
    print("placeable requests that were placed", 100.0 * placed as f64 / placeable as f64, "%", None);
}

/// Kueue's figures are the averages of its five trial runs, `configs/baseline/rangespec.yaml`.
fn kueue() {
    let begun = Instant::now();
    let run = baseline().unwrap();
    let seconds = begun.elapsed().as_secs_f64();
    assert_eq!(run.jobs, 15_000);
    for (class, theirs) in [("large", 6.666), ("medium", 76.768), ("small", 215.468)] {
        let (waited_ms, count) = run.classes.get(class).copied().unwrap();
        let name = format!("Kueue's baseline in virtual time, mean to admission, {class}");
        print(&name, waited_ms as f64 / count as f64 / 1_000.0, "s", Some(theirs));
    }
    print("Kueue's baseline in virtual time, all 15,000 jobs", run.wall_ms as f64 / 1_000.0, "s", Some(351.116));
    print("the same, processor time of each plan", seconds * 1e6 / run.plans as f64, "us", None);
}
