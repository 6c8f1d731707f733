//! Policies over time: a decision is made by the owner's policy that the log put in force.
//!
//! A request that was under way while the policy changed may still have been decided by the one before. Whether the verdicts
//! follow from the policy is `verdicts`' question.

use serde::{Deserialize, Serialize};

use crate::canonical::Digest;
use crate::ids::NodeId;
use crate::statement::v1::Statement;

/// How long a decision may still be made by the policy before, in milliseconds.
const SLACK_MS: u64 = 5_000;
/// Most activations that are remembered.
const ACTIVE_MAX: usize = 1_000;

/// The policies that came into force, in the order of the log.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Policies {
    active: Vec<Active>,
    /// Whether some were forgotten.
    forgotten: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Active {
    at_ms: u64,
    digest: Digest,
}

impl Policies {
    pub(super) fn check(&mut self, index: u64, statement: &Statement, node: &NodeId) -> Option<String> {
        match statement {
            Statement::Activation(one) if one.home == *node => {
                self.active.push(Active { at_ms: one.at_ms, digest: one.digest });
                if self.active.len() > ACTIVE_MAX {
                    self.active.remove(0);
                    self.forgotten = true;
                }
                None
            }
            Statement::Decision(one) if one.home == *node => {
                let owner = one.policies.owner;
                let newest = self.active.iter().rposition(|active| active.digest == owner);
                let Some(newest) = newest else {
                    return (!self.forgotten)
                        .then(|| format!("no leaf before {index} put the policy {owner} in force"));
                };
                let replaced = self.active.get(newest.saturating_add(1))?;
                (replaced.at_ms.saturating_add(SLACK_MS) < one.at_ms).then(|| {
                    let Active { at_ms, digest } = replaced;
                    format!("it was decided by the policy {owner}, and {digest} was in force since {at_ms} ms")
                })
            }
            _ => None,
        }
    }
}
