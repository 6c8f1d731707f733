//! Functions of at most 70 lines and files of at most 500, test code apart.
//!
//! What is longer stands in the ratchet, which may only shrink.

use std::collections::BTreeMap;

use super::Finding;
use super::ratchet;
use super::rust::Kind;
use super::tree::Tree;

const FUNCTION_LINES_MAX: usize = 70;
const FILE_LINES_MAX: usize = 500;

/// Finds what is too long and not excused, and excuses that are no longer needed.
pub fn check(tree: &Tree) -> Vec<Finding> {
    let mut files = BTreeMap::new();
    let mut functions = BTreeMap::new();
    for source in tree.rust().iter().filter(|source| !source.is_test()) {
        files.insert(source.path.clone(), (source.path.clone(), 1, source.text.lines().count()));
        for item in source.items().into_iter().filter(|item| item.kind == Kind::Function) {
            let key = format!("{}::{}", source.path, item.path);
            let longest = functions.get(&key).map_or(0, |(_, _, lines)| *lines);
            if item.lines > longest {
                functions.insert(key, (source.path.clone(), item.line, item.lines));
            }
        }
    }
    let (ratchet, mut found) = ratchet::read(tree);
    found.extend(ratchet::compare("file_lines", FILE_LINES_MAX, &files, &ratchet));
    found.extend(ratchet::compare("function_lines", FUNCTION_LINES_MAX, &functions, &ratchet));
    found
}
