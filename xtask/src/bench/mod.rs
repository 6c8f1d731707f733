//! `cargo xtask bench`: the benchmarks, by name.
//!
//! A benchmark is one entry in [`BENCHES`]: a name, a line, and the function that measures. It returns rows of one shape, so that
//! people and programs read all of them alike. Passing judgement in CI is absent: times belong here, outcomes to the tests.

mod demo;
mod policy;
mod proof;
mod rows;

use crate::failure::Failure;
use rows::Row;

/// The task's help.
pub const HELP: &str = "\
Usage: cargo xtask bench [NAME] [-o table|json]

Without a name, lists the benchmarks that exist. With one, runs it and prints its rows: value, unit, baseline, ratio, and
what it must and should be.

Example:
  cargo xtask bench demo
";

/// One benchmark: its name, one line, and what measures it.
struct Bench {
    name: &'static str,
    summary: &'static str,
    measure: fn() -> Result<Vec<Row>, Failure>,
}

const BENCHES: &[Bench] = &[
    Bench { name: "demo", summary: "how soon the demo is ready, and its memory", measure: demo::measure },
    Bench { name: "policy", summary: "what a decision costs, and a change of policy", measure: policy::measure },
    Bench { name: "proof", summary: "what each claim about policies costs to prove", measure: proof::measure },
];

/// Lists the benchmarks or runs one.
pub fn task(args: &[String]) -> Result<(), Failure> {
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let (name, json) = match words.as_slice() {
        [] => {
            BENCHES.iter().for_each(|bench| println!("  {:<18} {}", bench.name, bench.summary));
            return Ok(());
        }
        [name] | [name, "-o", "table"] => (*name, false),
        [name, "-o", "json"] | ["-o", "json", name] => (*name, true),
        _ => return Err(Failure::usage("the words do not fit together", "`cargo xtask bench --help`")),
    };
    let Some(bench) = BENCHES.iter().find(|bench| bench.name == name) else {
        return Err(Failure::usage(format!("bench knows no `{name}`"), "run `cargo xtask bench` for the list"));
    };
    let rows = (bench.measure)()?;
    if json {
        rows::print_json(&rows)
    } else {
        rows::print_table(&rows)
    };
    Ok(())
}
