//! `cargo xtask soak`: tests that run for hours, by name.
//!
//! They are kept out of `cargo xtask test`, which must end in minutes. None exists yet; an entry in
//! [`SOAKS`] adds one.

use crate::failure::Failure;
use crate::process;

/// The task's help.
pub const HELP: &str = "\
Usage: cargo xtask soak [NAME]

Without a name, lists the long tests that exist. With one, runs it.
A long test is added in `xtask/src/soak.rs`.

Example:
  cargo xtask soak
";

/// One long test: its name, one line, and cargo's arguments.
struct Entry {
    name: &'static str,
    summary: &'static str,
    cargo_args: &'static [&'static str],
}

const SOAKS: &[Entry] = &[];

/// Lists the long tests or runs one.
pub fn task(args: &[String]) -> Result<(), Failure> {
    let Some(name) = args.first() else {
        if SOAKS.is_empty() {
            println!("soak: none exist yet");
        }
        SOAKS.iter().for_each(|entry| println!("  {:<18} {}", entry.name, entry.summary));
        return Ok(());
    };
    let Some(entry) = SOAKS.iter().find(|entry| entry.name == name) else {
        return Err(Failure::usage(format!("soak knows no `{name}`"), "run `cargo xtask soak` for the list"));
    };
    process::run(process::cargo(&process::root()?).args(entry.cargo_args))
}
