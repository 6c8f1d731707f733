//! Marks that must not stay: open tasks, unfinished merges, paths of somebody's machine, registry hosts in lock files.
//!
//! The words are put together here from halves, so that this file does not find itself.

use super::Finding;
use super::tree::Tree;

/// Words that mark something unfinished.
const OPEN: &[[&str; 2]] = &[["TO", "DO"], ["FIX", "ME"], ["XX", "X"], ["HA", "CK"]];

/// How a line begins that a merge has left behind.
const MERGE: &[[&str; 2]] = &[["<<<<", "<<< "], [">>>>", ">>> "]];

/// How absolute paths of one machine begin.
const MACHINE: &[[&str; 2]] =
    &[["/ho", "me/"], ["/ro", "ot/"], ["/wo", "rk/"], ["/Us", "ers/"], ["C:\\", "Users"], ["/private/", "var/"]];

/// Finds open marks, machine paths and registry hosts.
pub fn check(tree: &Tree) -> Vec<Finding> {
    let mut found = Vec::new();
    for (path, text) in tree.texts() {
        let lock = path.ends_with("Cargo.lock") || path.ends_with("package-lock.json");
        for (index, line) in text.lines().enumerate() {
            let at = index + 1;
            if lock {
                found.extend(registry(path, at, line));
                continue;
            }
            for mark in OPEN.iter().map(|halves| halves.concat()).filter(|mark| has_word(line, mark)) {
                let next = "finish it, or open an issue and remove the mark";
                found.push(Finding::new(path, at, format!("an open `{mark}`"), next));
            }
            if MERGE.iter().any(|halves| line.starts_with(&halves.concat())) {
                found.push(Finding::new(path, at, "an unfinished merge", "choose what stays and remove the marks"));
            }
            for start in MACHINE.iter().map(|halves| halves.concat()).filter(|start| has_path(line, start)) {
                let next = "use a relative path or ask the system for the folder";
                found.push(Finding::new(path, at, format!("a path of one machine, `{start}…`"), next));
            }
        }
    }
    found
}

/// npm writes where a package came from; that names the host of one machine's registry.
fn registry(path: &str, at: usize, line: &str) -> Option<Finding> {
    let names_host = path.ends_with("package-lock.json") && line.contains("\"resolved\"");
    let next = "write it again with `npm install --omit-lockfile-registry-resolved`";
    names_host.then(|| Finding::new(path, at, "names a registry's host", next))
}

fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        ![before, after].into_iter().flatten().any(|c| c.is_alphanumeric() || c == '_')
    })
}

/// Whether a path begins here: not in the middle of a longer path or address.
fn has_path(line: &str, start: &str) -> bool {
    line.match_indices(start).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | '/' | '}' | '>' | '~'))
    })
}
