//! `cargo xtask soak`: tests that run for hours, by name.
//!
//! They are kept out of `cargo xtask test`, which must end in minutes. None exists yet; an entry in
//! [`SOAKS`] adds one.

use crate::bench::{Entry, list_or_run};
use crate::failure::Failure;

/// The task's help.
pub const HELP: &str = "\
Usage: cargo xtask soak [NAME]

Without a name, lists the long tests that exist. With one, runs it.
A long test is added in `xtask/src/soak.rs`.

Example:
  cargo xtask soak
";

const SOAKS: &[Entry] = &[];

/// Lists the long tests or runs one.
pub fn task(args: &[String]) -> Result<(), Failure> {
    list_or_run("soak", SOAKS, args)
}
