//! `cargo xtask bench`: the benchmarks, by name.
//!
//! A benchmark is one entry in [`BENCHES`]: a name, a line, and the function that measures. It returns rows of one shape, so that
//! people and programs read all of them alike. Passing judgement in CI is absent: times belong here, outcomes to the tests.

mod demo;
mod gateway;
mod jobs;
mod live_jobs;
mod log;
mod policy;
mod proof;
pub(crate) mod rows;
mod twin;

use crate::failure::Failure;
use rows::Row;

/// The task's help.
pub const HELP: &str = "\
Usage: cargo xtask bench [NAME [PART …]] [-o table|json]

Without a name, lists the benchmarks that exist. With one, runs it and prints its rows: value, unit, baseline, ratio, and
what it must and should be. The parts of `gateway` can be run alone;
`twin --data FOLDER` measures calibration too.

Example:
  cargo xtask bench demo
";

/// One benchmark: its name, one line, and what measures it.
struct Bench {
    name: &'static str,
    summary: &'static str,
    measure: fn(&Asked<'_>) -> Result<Vec<Row>, Failure>,
}

/// What was asked for.
pub(crate) struct Asked<'a> {
    /// The parts that are named.
    pub parts: &'a [&'a str],
    /// Whether rows are printed for programs; for those who print by themselves.
    #[cfg_attr(feature = "load", allow(dead_code))] // Whoever measures here leaves the printing to the task.
    pub json: bool,
}

const BENCHES: &[Bench] = &[
    Bench { name: "demo", summary: "how soon the demo is ready, and its memory", measure: |_| demo::measure() },
    Bench {
        name: "gateway",
        summary: "what a request through the gateway costs, against nginx",
        measure: gateway::measure,
    },
    Bench {
        name: "jobs",
        summary: "jobs: submitted to a node (`live` alone), and in the simulator (`twin` alone)",
        measure: jobs::measure,
    },
    Bench { name: "log", summary: "what the log, its tiles and its witnesses cost", measure: |_| log::measure() },
    Bench { name: "policy", summary: "what a decision costs, and a change of policy", measure: |_| policy::measure() },
    Bench { name: "proof", summary: "what each claim about policies costs to prove", measure: |_| proof::measure() },
    Bench {
        name: "twin",
        summary: "what a year of 24 factories costs to foresee, beside SimPy",
        measure: twin::measure,
    },
];

/// Lists the benchmarks or runs one.
pub fn task(args: &[String]) -> Result<(), Failure> {
    let mut words: Vec<&str> = args.iter().map(String::as_str).collect();
    let json = match words.iter().position(|word| *word == "-o") {
        Some(place) if matches!(words.get(place + 1), Some(&("table" | "json"))) => {
            words.drain(place..place + 2).nth(1) == Some("json")
        }
        Some(_) => return Err(Failure::usage("`-o` takes table or json", "`cargo xtask bench --help`")),
        None => false,
    };
    let Some((name, parts)) = words.split_first() else {
        BENCHES.iter().for_each(|bench| println!("  {:<18} {}", bench.name, bench.summary));
        return Ok(());
    };
    let Some(bench) = BENCHES.iter().find(|bench| bench.name == *name) else {
        return Err(Failure::usage(format!("bench knows no `{name}`"), "run `cargo xtask bench` for the list"));
    };
    let rows = (bench.measure)(&Asked { parts, json })?;
    if rows.is_empty() {
        return Ok(());
    }
    if json {
        rows::print_json(&rows)
    } else {
        rows::print_table(&rows)
    };
    Ok(())
}
