//! `cargo xtask soak`: tests that run for hours, by name.
//!
//! They are kept out of `cargo xtask test`, which must end in minutes. Most are a test of that run, made longer by the
//! environment; an entry in [`SOAKS`] adds one.

mod fuzz;

use crate::failure::Failure;
use crate::{federation, process};

/// The task's help.
pub const HELP: &str = "\
Usage: cargo xtask soak [NAME]
       cargo xtask soak federation [--schedules N] [--seed S] [--first] [--tell SEED] [-o table|json]

Without a name, lists the long tests that exist. With one, runs it. `federation` runs N schedules of faults over the
machines of jobs, from seed S on; `--tell` runs one alone and tells everything that was seen of it.
A long test is added in `xtask/src/soak.rs`.

Example:
  cargo xtask soak federation --schedules 1000000 --seed 7 -o json
";

/// One long test: its name, one line, cargo's arguments, and what the environment says where it says nothing else.
struct Entry {
    name: &'static str,
    summary: &'static str,
    cargo_args: &'static [&'static str],
    environment: &'static [(&'static str, &'static str)],
}

const SOAKS: &[Entry] = &[
    Entry {
        name: "policy",
        summary: "ten million verdicts on random policies: bare Cedar and audit agree (POLDER_VERDICTS, POLDER_SEED)",
        cargo_args: &[
            "test",
            "--release",
            "--workspace",
            "--lib",
            "--",
            "--nocapture",
            "cedar_audit_and_memo_agree_on_random_policies",
        ],
        environment: &[("POLDER_VERDICTS", "10000000"), ("POLDER_SEED", "2")],
    },
    Entry {
        name: "log",
        summary: "a node killed a thousand times under load keeps every leaf that it showed (POLDER_KILLS)",
        cargo_args: &[
            "test",
            "--release",
            "--workspace",
            "--test",
            "real_log",
            "--",
            "--nocapture",
            "a_node_killed_a_hundred_times_keeps_every_leaf_that_it_showed",
        ],
        environment: &[("POLDER_KILLS", "1000")],
    },
    Entry {
        name: "abuse",
        summary: "ten minutes of good requests in the middle of 12,000 hostile connections (POLDER_FLOOD_SECONDS)",
        cargo_args: &[
            "test",
            "--release",
            "--workspace",
            "--test",
            "real_abuse",
            "--",
            "--nocapture",
            "good_requests_are_answered_in_the_middle_of_a_flood",
        ],
        environment: &[("POLDER_FLOOD_SECONDS", "600")],
    },
    Entry {
        name: "jobs",
        summary: "a home and a factory killed five hundred times lose no job (POLDER_JOB_KILLS, POLDER_JOB_SEED)",
        cargo_args: &[
            "test",
            "--release",
            "--workspace",
            "--test",
            "real_jobs_apart",
            "--",
            "--nocapture",
            "whoever_is_killed_no_job_is_lost_and_none_runs_twice_at_once",
        ],
        environment: &[("POLDER_JOB_KILLS", "500")],
    },
];

/// Lists the long tests or runs one.
pub fn task(args: &[String]) -> Result<(), Failure> {
    let Some(name) = args.first() else {
        SOAKS.iter().for_each(|entry| println!("  {:<18} {}", entry.name, entry.summary));
        println!(
            "  {:<18} seeded schedules of faults over homes and factories, their jobs and their money",
            "federation"
        );
        println!("  {:<18} {}", fuzz::NAME, fuzz::SUMMARY);
        return Ok(());
    };
    if name == "federation" {
        return federation::soak(args.get(1..).unwrap_or_default());
    }
    if name == fuzz::NAME {
        return fuzz::run();
    }
    let Some(entry) = SOAKS.iter().find(|entry| entry.name == name) else {
        return Err(Failure::usage(format!("soak knows no `{name}`"), "run `cargo xtask soak` for the list"));
    };
    let mut cargo = process::cargo(&process::root()?);
    for (name, value) in entry.environment.iter().filter(|(name, _)| std::env::var_os(name).is_none()) {
        cargo.env(name, value);
    }
    process::run(cargo.args(entry.cargo_args))
}
