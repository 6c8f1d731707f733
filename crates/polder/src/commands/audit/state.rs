//! What a monitor remembers between two looks: how far each log was read, what is open, and what was found.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use polder_core::canonical::Digest;
use polder_core::monitor::{Finding, Kind, Log, Pairs};
use serde::{Deserialize, Serialize};

use crate::failure::{Failure, of_file};

/// The value of a state file's own field.
const STATE_V1: &str = "polder/monitor-state/v1";
/// Most findings that are kept; there is no use in more.
const FINDINGS_MAX: usize = 10_000;

/// The state.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    monitor: String,
    /// The logs by their names.
    pub logs: BTreeMap<String, Log>,
    /// What has one side so far.
    pub pairs: Pairs,
    /// What was found and stays so.
    pub findings: Vec<Finding>,
    /// Checkpoints of others that were compared, by log, size and root.
    pub compared: BTreeSet<(String, u64, Digest)>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            monitor: STATE_V1.to_owned(),
            logs: BTreeMap::new(),
            pairs: Pairs::default(),
            findings: Vec::new(),
            compared: BTreeSet::new(),
        }
    }
}

impl State {
    /// Reads a state file; a new state where there is none.
    pub fn read(path: Option<&Path>) -> Result<Self, Failure> {
        let Some(path) = path else { return Ok(Self::default()) };
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(of_file(path)(error)),
        };
        let wrong = |says: String| {
            Failure::new(format!("`{}` is not a monitor's state: {says}", path.display()))
                .hint("name another file; with a new one the logs are read from their first leaf")
        };
        let state: Self = serde_json::from_slice(&bytes).map_err(|e| wrong(e.to_string()))?;
        if state.monitor != STATE_V1 {
            return Err(wrong(format!("`{}` is not a version that is known here", state.monitor)));
        }
        Ok(state)
    }

    /// Writes it in the place of the file of before, or not at all.
    pub fn write(&self, path: Option<&Path>) -> Result<(), Failure> {
        let Some(path) = path else { return Ok(()) };
        let bytes = serde_json::to_vec(self).map_err(|e| Failure::new(format!("the state cannot be written: {e}")))?;
        // Statements' instants and ids stand in it: for its owner only.
        polder_node::keys::write_private(path, &bytes).map_err(of_file(path))
    }

    /// Takes in findings; those that are new. What may pass by itself is not kept.
    pub fn keep(&mut self, findings: Vec<Finding>) -> Vec<Finding> {
        let known: BTreeSet<Digest> = self.findings.iter().map(Finding::id).collect();
        let mut new: Vec<Finding> = Vec::new();
        for finding in findings {
            if !known.contains(&finding.id()) && !new.iter().any(|one| one.id() == finding.id()) {
                new.push(finding);
            }
        }
        let room = FINDINGS_MAX.saturating_sub(self.findings.len());
        self.findings.extend(new.iter().filter(|one| stays(one.kind)).take(room).cloned());
        new
    }
}

/// Whether a finding stays so, whatever is seen later.
fn stays(kind: Kind) -> bool {
    !matches!(kind, Kind::Unreachable | Kind::Unwitnessed | Kind::Tiles | Kind::Sources)
}
