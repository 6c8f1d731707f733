//! `cargo xtask bench`: the benchmarks, by name.
//!
//! A benchmark is one entry in [`BENCHES`]: a name, a line, and the cargo command that runs it. None
//! exists yet; the first belongs to `decide`, the hot path.

use crate::failure::Failure;
use crate::process;

/// The task's help.
pub const HELP: &str = "\
Usage: cargo xtask bench [NAME]

Without a name, lists the benchmarks that exist. With one, runs it.
A benchmark is added in `xtask/src/bench.rs`.

Example:
  cargo xtask bench
";

/// One benchmark or long test: its name, one line, and cargo's arguments.
pub struct Entry {
    pub name: &'static str,
    pub summary: &'static str,
    pub cargo_args: &'static [&'static str],
}

const BENCHES: &[Entry] = &[];

/// Lists the benchmarks or runs one.
pub fn task(args: &[String]) -> Result<(), Failure> {
    list_or_run("bench", BENCHES, args)
}

/// Lists the entries, or runs the one that is named.
pub fn list_or_run(task: &str, entries: &[Entry], args: &[String]) -> Result<(), Failure> {
    let Some(name) = args.first() else {
        if entries.is_empty() {
            println!("{task}: none exist yet");
        }
        for entry in entries {
            println!("  {:<18} {}", entry.name, entry.summary);
        }
        return Ok(());
    };
    let Some(entry) = entries.iter().find(|entry| entry.name == name) else {
        let next = format!("run `cargo xtask {task}` for the list");
        return Err(Failure::usage(format!("{task} knows no `{name}`"), next));
    };
    process::run(process::cargo(&process::root()?).args(entry.cargo_args))
}
