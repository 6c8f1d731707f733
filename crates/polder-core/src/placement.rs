//! Placement: `decide`, the one function that says where something runs.
//!
//! It asks every layer about every factory, keeps every cause of every no, and among those that are left takes the
//! lowest integer score. A refusal comes with the nearest relaxations: see `nearest`. Absent: clocks,
//! networks and state; the snapshot holds what was known at one instant, and a retry is a new decision with
//! exclusions.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::canonical::Digest;
use crate::framework::FrameworkSeals;
use crate::ids::NodeId;
use crate::policy::{Cause, Column, Layer, LayerKind, PolicySchema};
use crate::request::Request;

mod bits;
mod memo;
mod nearest;
mod row;
mod score;
mod snapshot;

pub use bits::Bits;
pub use memo::{BYTES_MAX, Choice, Memo, ROWS_MAX};
pub use nearest::{Change, FactChange, NEAREST_MAX, Relaxation, distance};
pub use row::Row;
pub use score::{Affinity, Inputs, Weights, carbon_mg_per_kwh, distance_ppm, score, weigh_carbon};
pub use snapshot::{Basis, Factory, Ground, Snapshot};

/// One factory's yes or no.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verdict {
    /// The factory.
    pub factory: NodeId,
    /// The digest of the terms that were asked.
    pub terms: Digest,
    /// The root over the facts that were read.
    pub passport: Digest,
    /// Every reason for a no, sorted; empty for a yes.
    pub causes: Vec<Cause>,
    /// What the score is made of.
    pub inputs: Inputs,
    /// The score, lower is better; 0 for a no, which is never weighed.
    pub score: u64,
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// A factory was chosen.
    Placed,
    /// No factory may run it, or the only ones that may are gone.
    Refused,
    /// Factories may run it and are there, and all of them are full.
    NoCapacity,
}

/// All verdicts and the choice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// What became of the request.
    pub outcome: Outcome,
    /// The chosen factory.
    pub factory: Option<NodeId>,
    /// One verdict for each factory, in name order.
    pub verdicts: Vec<Verdict>,
    /// For a refusal, the smallest changes that would place the request, nearest first.
    pub nearest: Vec<Relaxation>,
    /// The SEALs of the request at the chosen factory, one entry for each framework version.
    pub seals: Vec<FrameworkSeals>,
}

/// Decides where a request runs. `excluded` holds factories that a former attempt found to refuse or to be gone.
pub fn decide(snapshot: &Snapshot, request: &Request, excluded: &BTreeMap<NodeId, Vec<Cause>>) -> Decision {
    decide_by(&Row::new(&snapshot.basis, request), snapshot, request, excluded)
}

/// Decides by a row that was made before. One of another basis or of another request is made anew, so that no memo can
/// answer for what has changed.
pub fn decide_by(
    row: &Row,
    snapshot: &Snapshot,
    request: &Request,
    excluded: &BTreeMap<NodeId, Vec<Cause>>,
) -> Decision {
    decide_near(row, snapshot, request, excluded, None)
}

/// Decides like [`decide_by`], where the owner would rather stay near what a conversation's beginning falls on. That is an
/// input of the score and no more: who is admitted does not depend on it.
pub fn decide_near(
    row: &Row,
    snapshot: &Snapshot,
    request: &Request,
    excluded: &BTreeMap<NodeId, Vec<Cause>>,
    affinity: Option<Affinity>,
) -> Decision {
    if !row.is_for(&snapshot.basis, request) {
        let row = Row::new(&snapshot.basis, request);
        return decide_near(&row, snapshot, request, excluded, affinity);
    }
    let verdict = |(place, (ground, factory)): (usize, (&Ground, &Factory))| {
        let mut causes = row.causes(place);
        causes.extend(factory.unavailable.iter().cloned());
        causes.extend(excluded.get(&ground.id).into_iter().flatten().cloned());
        // What the column was made with is what the policies read.
        let vendor_share_percent = ground.column.usage().vendor_share_percent;
        Verdict {
            factory: ground.id.clone(),
            terms: ground.terms.digest(),
            passport: ground.passport,
            causes: causes.into_iter().collect(),
            inputs: Inputs { vendor_share_percent, ..factory.inputs },
            score: 0,
        }
    };
    let mut verdicts: Vec<Verdict> = snapshot.each().enumerate().map(verdict).collect();
    score::weigh(&mut verdicts, &snapshot.weights, affinity);
    let admitted = verdicts.iter().filter(|verdict| verdict.causes.is_empty());
    let chosen = admitted.min_by_key(|verdict| (verdict.score, &verdict.factory)).map(|v| v.factory.clone());
    // Only the built-in cause means that waiting helps, whatever a peer calls its own.
    let full = |cause: &Cause| cause.layer == LayerKind::Availability && cause.rule == NO_CAPACITY;
    let only_full = |v: &Verdict| v.causes.iter().all(full);
    let outcome = match chosen {
        Some(_) => Outcome::Placed,
        None if verdicts.iter().any(only_full) => Outcome::NoCapacity,
        None => Outcome::Refused,
    };
    // Of a request without a purpose nobody knows what the rules would say, so nothing can be advised.
    let advise = outcome != Outcome::Placed && !request.labels.purposes.is_empty();
    let nearest = if advise { nearest::nearest(snapshot, row, &verdicts, outcome) } else { Vec::new() };
    let seals = chosen.as_ref().map_or_else(Vec::new, |chosen| seals(snapshot, chosen, request));
    Decision { outcome, factory: chosen, verdicts, nearest, seals }
}

fn seals(snapshot: &Snapshot, chosen: &NodeId, request: &Request) -> Vec<FrameworkSeals> {
    let ground = snapshot.basis.grounds.iter().find(|ground| ground.id == *chosen);
    let seals = ground.and_then(|ground| ground.column.seals(request.action, request.model.is_some()).ok());
    seals.unwrap_or_default().to_vec()
}

/// The rule of a factory that is there and has no place free.
pub const NO_CAPACITY: &str = "no-capacity";
/// The rule of a factory that failed several times in a row and is left alone for a while.
pub const CIRCUIT_OPEN: &str = "circuit-open";
/// The rule of every factory while the home's clock is not to be believed: no fact counts then.
pub const CLOCK_WRONG: &str = "clock-wrong";
/// The rule of a factory that does not answer.
pub const UNREACHABLE: &str = "unreachable";
/// The rule of a factory that does not offer what is to be done.
pub const ACTION_NOT_OFFERED: &str = "action-not-offered";
/// The rule of a factory that does not serve the model.
pub const MODEL_NOT_SERVED: &str = "model-not-served";

/// Why one layer keeps a request out of a factory; nothing where it permits. A factory asks its own terms with this.
pub fn refusals(layer: &Layer, column: &Column, request: &Request, schema: &PolicySchema) -> Vec<Cause> {
    let cases = row::cases(request);
    if cases.is_empty() {
        return vec![row::no_purpose(layer)];
    }
    let all: BTreeSet<Cause> = cases.iter().flat_map(|case| layer.refusals(column, case, schema)).collect();
    all.into_iter().collect()
}

#[cfg(test)]
mod tests;
