//! Which crate may know which: the house of four crates, as cargo sees it.
//!
//! Test dependencies count too: a test that needs a forbidden crate shows that the border is wrong.

use super::Finding;
use super::tree::Tree;

/// Each member and the members it may depend on.
const ARROWS: &[(&str, &[&str])] = &[
    ("polder-core", &[]),
    ("polder-node", &["polder-core"]),
    ("polder-twin", &["polder-core"]),
    ("polder", &["polder-core", "polder-node", "polder-twin"]),
    ("xtask", &[]),
];

/// Finds crates that are not in the list, and arrows that are not allowed.
pub fn check(tree: &Tree) -> Vec<Finding> {
    let mut found = Vec::new();
    for member in tree.crates() {
        let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == member.name) else {
            let problem = format!("`{}` is a new crate", member.name);
            let next = "make it a module, or write a decision and add it to ARROWS in xtask/src/tidy/arrows.rs";
            found.push(Finding::new(&member.manifest, 1, problem, next));
            continue;
        };
        for dependency in member.normal.iter().chain(&member.other) {
            let ours = ARROWS.iter().any(|(name, _)| name == dependency);
            if ours && !allowed.contains(&dependency.as_str()) {
                let problem = format!("`{}` must not depend on `{dependency}`", member.name);
                found.push(Finding::new(&member.manifest, 1, problem, "move the code to where both may see it"));
            }
        }
    }
    found
}
