//! ARCHITECTURE.md names things that exist: paths and items of the code in back-ticks.
//!
//! Plain lower-case words in back-ticks are free, they may be commands, headers or fields of a format; so is
//! everything that belongs to the standard library or to a dependency.

use std::collections::BTreeSet;

use super::Finding;
use super::links::prose;
use super::tree::Tree;

const FILE: &str = "ARCHITECTURE.md";

/// Foreign names the text may mention, mostly to say that they are absent.
const FOREIGN: &[&str] =
    &["HashMap", "HashSet", "BTreeMap", "BTreeSet", "SystemTime", "Instant", "Vec", "String", "Result", "Option"];

/// Finds names that do not exist.
pub fn check(tree: &Tree) -> Vec<Finding> {
    let Some(text) = tree.text(FILE) else { return Vec::new() };
    let known = names(tree);
    let mut found = Vec::new();
    for (line, content) in prose(text) {
        for span in content.split('`').skip(1).step_by(2) {
            if let Some(what) = missing(tree, &known, span) {
                let next = "correct the name, or remove what is no longer true";
                found.push(Finding::new(FILE, line, format!("`{span}` names {what} that does not exist"), next));
            }
        }
    }
    found
}

/// Every name in the code.
fn names(tree: &Tree) -> BTreeSet<String> {
    let items = tree.rust().iter().flat_map(|source| source.items());
    let stems = tree.rust().iter().filter_map(|source| source.path.rsplit('/').next()?.strip_suffix(".rs"));
    items.map(|item| item.name).chain(stems.map(str::to_owned)).collect()
}

/// What kind of thing a span names, when that thing does not exist.
fn missing(tree: &Tree, known: &BTreeSet<String>, span: &str) -> Option<&'static str> {
    if span.contains([' ', '*', '<', '{', '$', '…', '"', '='])
        || span.starts_with(['-', '/', '#'])
        || span.contains("://")
    {
        return None;
    }
    if let Some((first, _)) = span.split_once("::") {
        let last = span.rsplit("::").next().unwrap_or_default().trim_end_matches("()");
        return (is_ours(tree, known, first) && !known.contains(last)).then_some("an item");
    }
    if span.contains('/') || [".rs", ".toml", ".md", ".txt"].iter().any(|end| span.ends_with(end)) {
        return (!path_exists(tree, span)).then_some("a path");
    }
    let function = span.strip_suffix("()");
    let camel = span.starts_with(|c: char| c.is_uppercase())
        && span.contains(|c: char| c.is_lowercase())
        && span.chars().all(char::is_alphanumeric);
    let name = function.or(camel.then_some(span))?;
    (!known.contains(name) && !FOREIGN.contains(&name)).then_some("an item")
}

/// Whether a path of an item begins in our code and not in a dependency.
fn is_ours(tree: &Tree, known: &BTreeSet<String>, first: &str) -> bool {
    let member = tree.crates().iter().any(|member| member.name.replace('-', "_") == first);
    let foreign = tree.crates().iter().flat_map(|member| member.normal.iter().chain(&member.other));
    let dependency = foreign.into_iter().any(|name| name.replace('-', "_") == first);
    member
        || matches!(first, "crate" | "self")
        || (!dependency && known.contains(first))
        || (!dependency && !matches!(first, "std" | "core" | "alloc"))
}

/// Whether a path exists from the root, or inside a crate's sources.
fn path_exists(tree: &Tree, span: &str) -> bool {
    let inside = |folder: &str| tree.exists(&format!("{folder}/{span}"));
    let crates = ["polder-core", "polder-node", "polder-twin", "polder"];
    tree.exists(span)
        || crates.iter().any(|name| inside(&format!("crates/{name}/src")) || inside(&format!("crates/{name}")))
        || tree.paths().any(|path| !span.contains('/') && path.ends_with(&format!("/{span}")))
}
