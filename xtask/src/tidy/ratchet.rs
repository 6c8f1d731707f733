//! The ratchet: what was too long when it was found, with its length, in `xtask/tidy-ratchet.toml`.
//!
//! An entry may shrink and vanish; it may not grow, and new ones are not meant to come.

use std::collections::BTreeMap;

use super::Finding;
use super::tree::Tree;

const FILE: &str = "xtask/tidy-ratchet.toml";
const SECTIONS: &[&str] = &["file_lines", "function_lines"];

/// Section, key and length of each excuse, with its line in the file.
pub type Ratchet = BTreeMap<(String, String), (usize, usize)>;

/// File, line and length of each measured thing.
pub type Measured = BTreeMap<String, (String, usize, usize)>;

/// Reads the ratchet; a broken one is a finding.
pub fn read(tree: &Tree) -> (Ratchet, Vec<Finding>) {
    let text = tree.text(FILE).unwrap_or_default();
    let table: toml::Table = match text.parse() {
        Ok(table) => table,
        Err(error) => {
            let problem = format!("is not TOML: {}", error.to_string().trim());
            return (Ratchet::new(), vec![Finding::new(FILE, 1, problem, "correct it")]);
        }
    };
    let mut ratchet = Ratchet::new();
    let mut found = Vec::new();
    for (section, entries) in &table {
        let known = SECTIONS.contains(&section.as_str());
        for (key, value) in entries.as_table().into_iter().flatten() {
            let line = text.lines().position(|line| line.contains(key.as_str())).map_or(1, |at| at + 1);
            match value.as_integer().and_then(|lines| usize::try_from(lines).ok()).filter(|_| known) {
                Some(lines) => {
                    ratchet.insert((section.clone(), key.clone()), (lines, line));
                }
                None => found.push(Finding::new(FILE, line, format!("`{key}` is not understood"), FORM)),
            }
        }
    }
    (ratchet, found)
}

const FORM: &str = "write `\"path\" = lines` below `[file_lines]` or `\"path::name\" = lines` below `[function_lines]`";

/// Compares what was measured with the limit and the ratchet.
pub fn compare(section: &str, limit: usize, measured: &Measured, ratchet: &Ratchet) -> Vec<Finding> {
    let mut found = Vec::new();
    for (key, (file, line, lines)) in measured.iter().filter(|(_, (_, _, lines))| *lines > limit) {
        let excused = ratchet.get(&(section.to_owned(), key.clone())).map(|(lines, _)| *lines);
        let problem = match excused {
            None => format!("`{key}` has {lines} lines, the limit is {limit}"),
            Some(excused) if *lines > excused => format!("`{key}` grew from {excused} to {lines} lines"),
            Some(_) => continue,
        };
        found.push(Finding::new(file, *line, problem, "split it where the thought splits"));
    }
    for ((_, key), (excused, line)) in ratchet.iter().filter(|((other, _), _)| other == section) {
        let lines = measured.get(key).map_or(0, |(_, _, lines)| *lines);
        if lines <= limit {
            found.push(Finding::new(FILE, *line, format!("`{key}` is within the limit again"), "remove it"));
        } else if lines < *excused {
            let problem = format!("`{key}` has shrunk from {excused} to {lines} lines");
            found.push(Finding::new(FILE, *line, problem, format!("lower it to {lines}")));
        }
    }
    found
}
