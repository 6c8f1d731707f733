//! Tidy: reads the code and enforces what a machine can, so that reviews are about the rest.
//!
//! One small module per check, each a function from the [`Tree`] to findings; the list is [`CHECKS`].
//! Rust is parsed with `syn`, never matched as text. Formatting and lints are absent: rustfmt and clippy
//! do those. Runs as a test and as `cargo xtask tidy`.

use std::fmt;

use crate::failure::Failure;
use crate::process;

mod architecture;
mod arrows;
mod console;
mod headers;
mod lengths;
mod lifted;
mod links;
mod logged;
mod manifests;
mod marks;
mod names;
mod purity;
mod ratchet;
mod routes;
mod rust;
mod tree;

use tree::Tree;

/// The task's help.
pub const HELP: &str = "\
Usage: cargo xtask tidy

Reads the tracked files and checks the house rules: which crate may know which,
the core's purity, file headers, lengths (with xtask/tidy-ratchet.toml), banned
names, lifted lints, log fields, open marks, machine paths, README console
blocks, the names in ARCHITECTURE.md, links in the docs, and routes without a
row that says who may call them. The same checks run as a test.

Example:
  cargo xtask tidy
";

/// Something that breaks a rule, where, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    file: String,
    line: usize,
    problem: String,
    next: String,
}

impl Finding {
    fn new(file: &str, line: usize, problem: impl Into<String>, next: impl Into<String>) -> Self {
        Self { file: file.to_owned(), line, problem: problem.into(), next: next.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}\n  next: {}", self.file, self.line, self.problem, self.next)
    }
}

/// A check: its name and what it finds in the tree.
type Check = (&'static str, fn(&Tree) -> Vec<Finding>);

const CHECKS: &[Check] = &[
    ("rust", rust::check),
    ("arrows", arrows::check),
    ("manifests", manifests::check),
    ("purity", purity::check),
    ("headers", headers::check),
    ("lengths", lengths::check),
    ("names", names::check),
    ("lifted", lifted::check),
    ("logged", logged::check),
    ("marks", marks::check),
    ("console", console::check),
    ("architecture", architecture::check),
    ("links", links::check),
    ("routes", routes::check),
];

/// All findings in a tree, sorted by place.
fn findings(tree: &Tree) -> Vec<Finding> {
    let mut found: Vec<Finding> = CHECKS.iter().flat_map(|(_, check)| check(tree)).collect();
    found.sort();
    found.dedup();
    found
}

/// Checks the repository and prints every finding.
pub fn task(args: &[String]) -> Result<(), Failure> {
    if let Some(arg) = args.first() {
        return Err(Failure::usage(format!("tidy takes no `{arg}`"), "run `cargo xtask tidy`"));
    }
    let tree = Tree::read(&process::root()?)?;
    let found = findings(&tree);
    for finding in &found {
        println!("{finding}");
    }
    if found.is_empty() {
        println!("tidy: {} files, {} checks, nothing found", tree.paths().count(), CHECKS.len());
        return Ok(());
    }
    Err(Failure::new(format!("tidy found {} things", found.len()), "each finding above says what to do"))
}

#[cfg(test)]
mod tests;
