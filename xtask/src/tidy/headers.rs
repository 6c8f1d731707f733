//! Every Rust file begins with `//!`: what it is, why, and what is deliberately absent.

use super::Finding;
use super::tree::Tree;

/// Fewer words than this on a single line say nothing.
const WORDS_MIN: usize = 10;

/// Finds files whose header is missing or too short.
pub fn check(tree: &Tree) -> Vec<Finding> {
    let mut found = Vec::new();
    for source in tree.rust() {
        let header: Vec<&str> = source.text.lines().map_while(|line| line.strip_prefix("//!")).collect();
        let written = header.iter().filter(|line| !line.trim().is_empty()).count();
        let words: usize = header.iter().map(|line| line.split_whitespace().count()).sum();
        if header.is_empty() {
            let next = "write at the top what the file is, why, and what is deliberately absent";
            found.push(Finding::new(&source.path, 1, "does not begin with `//!`", next));
        } else if written < 2 && words < WORDS_MIN {
            let problem = format!("the header says too little ({words} words)");
            found.push(Finding::new(&source.path, 1, problem, "say what the file is, why, and what is absent"));
        }
    }
    found
}
