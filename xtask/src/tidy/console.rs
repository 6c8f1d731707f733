//! The README's console blocks can be run: each command is one that the runner knows.
//!
//! That they print what the README says is another test's work, which starts real processes.

use crate::readme;

use super::Finding;
use super::tree::Tree;

const FILE: &str = "README.md";

/// Finds console blocks that cannot be run.
pub fn check(tree: &Tree) -> Vec<Finding> {
    let Some(text) = tree.text(FILE) else { return Vec::new() };
    match readme::parse(text) {
        Ok(_) => Vec::new(),
        Err(problems) => {
            problems.into_iter().map(|problem| Finding::new(FILE, problem.line, problem.what, problem.next)).collect()
        }
    }
}
