//! The demo: a federation's files in a fresh folder, and its processes.
//!
//! Everything that a node of the demo has, a node elsewhere has too: keys, a configuration, policies, facts, state and a log of its own.
//! What is shared is absent, apart from the model's files, which are the same everywhere.

mod files;
mod processes;

use std::path::{Path, PathBuf};

use polder_core::ids::NodeId;

pub use files::{Plan, lay_out};
pub use processes::Processes;

use crate::failure::Failure;

/// The configuration file of a node of the demo in `dir`.
pub fn config_path(dir: &Path, node: &NodeId) -> PathBuf {
    dir.join("nodes").join(node.as_str()).join("node.toml")
}

/// A new key for an application: its project's name for people, and 32 random bytes.
pub fn new_key(project: &str) -> Result<String, Failure> {
    let secret: [u8; 32] = polder_node::clock::random().map_err(|e| Failure::new(format!("no randomness: {e}")))?;
    Ok(format!("polder-{project}-{}", hex::encode(secret)))
}
