//! Manifests: every crate inherits the workspace's lints, and the core's dependencies are a closed list.
//!
//! The list stands here so that a new dependency of the core is a visible choice.

use super::Finding;
use super::tree::Tree;

/// What the core may be built from. None of it reads a clock, a file, a socket or randomness for us.
const CORE_MAY_USE: &[&str] = &[
    "base64", "cedar-policy", "coset", "ed25519-dalek", "hex", "ml-dsa", "serde", "serde_json", "sha2", "thiserror",
    "toml",
];

/// Finds manifests without inherited lints, and dependencies the core may not have.
pub fn check(tree: &Tree) -> Vec<Finding> {
    let mut found = Vec::new();
    for (path, text) in tree.texts().filter(|(path, _)| path.ends_with("/Cargo.toml")) {
        if !inherits_lints(text) {
            let problem = "does not inherit the workspace's lints";
            found.push(Finding::new(path, 1, problem, "add `[lints]` with `workspace = true`"));
        }
    }
    for member in tree.crates().iter().filter(|member| member.name == "polder-core") {
        for dependency in member.normal.iter().filter(|name| !CORE_MAY_USE.contains(&name.as_str())) {
            let problem = format!("`polder-core` may not depend on `{dependency}`");
            let next = "keep it out of the core, or write a decision and add it to xtask/src/tidy/manifests.rs";
            found.push(Finding::new(&member.manifest, 1, problem, next));
        }
    }
    found
}

fn inherits_lints(manifest: &str) -> bool {
    let parsed: Result<toml::Table, _> = manifest.parse();
    let lints = parsed.ok().and_then(|table| table.get("lints").cloned());
    lints.and_then(|lints| lints.get("workspace").and_then(toml::Value::as_bool)).unwrap_or(false)
}
