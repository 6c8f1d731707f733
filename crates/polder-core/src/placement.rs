//! Placement: `decide`, the one function that says where something runs.
//!
//! It asks every layer about every factory, keeps every cause of every no, and among those that are left takes the
//! lowest integer score. A refusal comes with the nearest relaxations, computed from the same causes. Absent: clocks,
//! networks and state; the snapshot holds what was known at one instant, and a retry is a new decision with
//! exclusions.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::canonical::Digest;
use crate::ids::{ModelId, NodeId};
use crate::labels::{Action, Closed as _};
use crate::policy::{Case, Cause, Column, Layer, LayerKind, POLICY_ERROR, PolicySchema};
use crate::request::Request;

/// How many relaxations a refusal names at most.
pub const NEAREST_MAX: usize = 5;

/// What a home knows at one instant. Factories are in name order.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The instant, in Unix milliseconds.
    pub at_ms: u64,
    /// The schema that every layer was checked against.
    pub schema: Arc<PolicySchema>,
    /// The federation's baseline.
    pub baseline: Arc<Layer>,
    /// The owner's policy.
    pub owner: Arc<Layer>,
    /// The labels layer.
    pub labels: Arc<Layer>,
    /// The root over all factories' facts.
    pub facts_root: Digest,
    /// What the owner prefers among admissible factories.
    pub weights: Weights,
    /// The factories.
    pub factories: Vec<Factory>,
}

/// What a home knows of one factory.
#[derive(Debug, Clone)]
pub struct Factory {
    /// Its name.
    pub id: NodeId,
    /// Its facts as policies read them.
    pub column: Arc<Column>,
    /// The root over its facts.
    pub passport: Digest,
    /// Its terms.
    pub terms: Arc<Layer>,
    /// Why it cannot be used now, whatever the policies say; empty where it can.
    pub unavailable: Vec<Cause>,
    /// The models it serves, with what each can do.
    pub models: BTreeSet<(ModelId, Action)>,
    /// What its score is made of.
    pub inputs: Inputs,
}

/// Integer weights of an owner's preference: each multiplies the input of the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Weights {
    /// For the price.
    pub price: u32,
    /// For the load.
    pub load: u32,
    /// For the round-trip time.
    pub latency: u32,
}

/// What a score is made of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inputs {
    /// Price of a million generated tokens, in micro-euro.
    pub price_microeur_per_mtok: u64,
    /// Share of places taken, in millionths; above a million where requests queue.
    pub load_ppm: u64,
    /// Round-trip time from the home, in microseconds.
    pub rtt_us: u64,
}

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
    /// The score, lower is better.
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
}

/// A smallest set of changes that would make a placement possible.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Relaxation {
    /// Where the request would then run.
    pub factory: NodeId,
    /// What would have to give way, all of it.
    pub changes: Vec<Change>,
    /// How far this is from what the owner would do; lower is nearer. See [`distance`].
    pub distance: u64,
}

/// One thing that would have to give way.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// Whose rule it is.
    pub layer: LayerKind,
    /// The rule.
    pub rule: String,
}

/// Decides where a request runs. `excluded` holds factories that a former attempt found to refuse or to be gone.
pub fn decide(snapshot: &Snapshot, request: &Request, excluded: &BTreeMap<NodeId, Vec<Cause>>) -> Decision {
    let cases = cases(request);
    let verdicts: Vec<Verdict> = snapshot
        .factories
        .iter()
        .map(|factory| {
            let mut causes = policy_causes(snapshot, factory, &cases);
            causes.extend(availability_causes(factory, request));
            causes.extend(excluded.get(&factory.id).into_iter().flatten().cloned());
            let score = score(&factory.inputs, &snapshot.weights);
            let (terms, passport) = (factory.terms.digest(), factory.passport);
            let causes = causes.into_iter().collect();
            Verdict { factory: factory.id.clone(), terms, passport, causes, inputs: factory.inputs, score }
        })
        .collect();
    let admitted = verdicts.iter().filter(|verdict| verdict.causes.is_empty());
    let chosen = admitted.min_by_key(|verdict| (verdict.score, &verdict.factory)).map(|v| v.factory.clone());
    // An owner may call a rule `no-capacity`, too; only the built-in cause means that waiting helps.
    let full = |cause: &Cause| cause.layer == LayerKind::Availability && cause.rule == NO_CAPACITY;
    let only_full = |v: &Verdict| v.causes.iter().all(full);
    let outcome = match chosen {
        Some(_) => Outcome::Placed,
        None if verdicts.iter().any(only_full) => Outcome::NoCapacity,
        None => Outcome::Refused,
    };
    // Of a request without a purpose nobody knows what the rules would say, so nothing can be advised.
    let advise = outcome != Outcome::Placed && !cases.is_empty();
    let nearest = if advise { nearest(snapshot, &verdicts) } else { Vec::new() };
    Decision { outcome, factory: chosen, verdicts, nearest }
}

/// The rule of a factory that is there and has no place free.
pub const NO_CAPACITY: &str = "no-capacity";
/// The rule of a factory that does not answer.
pub const UNREACHABLE: &str = "unreachable";
/// The rule of a factory that does not serve the model.
pub const MODEL_NOT_SERVED: &str = "model-not-served";

/// The score of a factory, lower is better: each input times its weight, summed, at most `u64::MAX`.
pub fn score(inputs: &Inputs, weights: &Weights) -> u64 {
    let part = |input: u64, weight: u32| input.saturating_mul(u64::from(weight));
    part(inputs.price_microeur_per_mtok, weights.price)
        .saturating_add(part(inputs.load_ppm, weights.load))
        .saturating_add(part(inputs.rtt_us, weights.latency))
}

/// A request is asked about once for each purpose it may have; all must be permitted.
fn cases(request: &Request) -> Vec<Case> {
    let case = |purpose| Case {
        action: request.action,
        tenant: request.tenant.clone(),
        project: request.project.clone(),
        model: request.model.clone(),
        class: request.labels.class,
        purpose,
        countries: request.labels.countries.clone(),
        language: request.labels.language,
    };
    request.labels.purposes.iter().copied().map(case).collect()
}

fn policy_causes(snapshot: &Snapshot, factory: &Factory, cases: &[Case]) -> BTreeSet<Cause> {
    let mut causes = BTreeSet::new();
    for layer in [&snapshot.baseline, &snapshot.owner, &snapshot.labels, &factory.terms] {
        causes.extend(layer_causes(layer, &factory.column, cases, &snapshot.schema));
    }
    causes
}

/// Why one layer keeps a request out of a factory; nothing where it permits. A factory asks its own terms with this.
pub fn refusals(layer: &Layer, column: &Column, request: &Request, schema: &PolicySchema) -> Vec<Cause> {
    layer_causes(layer, column, &cases(request), schema).into_iter().collect()
}

fn layer_causes(layer: &Layer, column: &Column, cases: &[Case], schema: &PolicySchema) -> BTreeSet<Cause> {
    if cases.is_empty() {
        return BTreeSet::from([Cause::built_in(layer.kind(), "no-purpose", "no rule can be asked without a purpose")]);
    }
    cases.iter().flat_map(|case| layer.refusals(column, case, schema)).collect()
}

fn availability_causes(factory: &Factory, request: &Request) -> Vec<Cause> {
    let mut causes = factory.unavailable.clone();
    if !factory.models.contains(&(request.model.clone(), request.action)) {
        let reason = format!("the factory does not offer `{}` with this model", request.action.as_str());
        causes.push(Cause::built_in(LayerKind::Availability, MODEL_NOT_SERVED, reason));
    }
    causes
}

/// The relaxations nearest to what the owner would do: each factory's causes are exactly what keeps it out, a set that
/// contains another is dropped, and the rest is ordered by distance, size, score and name.
fn nearest(snapshot: &Snapshot, verdicts: &[Verdict]) -> Vec<Relaxation> {
    let mut all: Vec<(Relaxation, u64)> = Vec::new();
    for (factory, verdict) in snapshot.factories.iter().zip(verdicts) {
        let changes: BTreeSet<Change> = verdict.causes.iter().map(|cause| change(snapshot, factory, cause)).collect();
        let distance = changes.iter().map(|change| distance(change, &snapshot.owner)).fold(0, u64::saturating_add);
        let changes = changes.into_iter().collect();
        all.push((Relaxation { factory: verdict.factory.clone(), changes, distance }, verdict.score));
    }
    all.sort_by_key(|(one, score)| (one.distance, one.changes.len(), *score, one.factory.clone()));
    let mut smallest: Vec<Relaxation> = Vec::new();
    for (one, _) in all {
        // One rule of the owner is the same wherever it refuses; two factories that do not answer are two obstacles.
        let own = |change: &Change| matches!(change.layer, LayerKind::Terms | LayerKind::Availability);
        let contains = |other: &Relaxation| {
            let same = |change: &Change| !own(change) || one.factory == other.factory;
            other.changes.iter().all(|change| same(change) && one.changes.contains(change))
        };
        if !smallest.iter().any(contains) {
            smallest.push(one);
        }
    }
    smallest.truncate(NEAREST_MAX);
    smallest
}

/// What has to give way for a cause to vanish: its rule; of an evaluation error, the rule that cannot be evaluated.
fn change(snapshot: &Snapshot, factory: &Factory, cause: &Cause) -> Change {
    let layer = match cause.layer {
        LayerKind::Baseline => Some(&snapshot.baseline),
        LayerKind::Owner => Some(&snapshot.owner),
        LayerKind::Labels => Some(&snapshot.labels),
        LayerKind::Terms => Some(&factory.terms),
        LayerKind::Availability => None,
    };
    let line = cause.clause.as_ref().filter(|_| cause.rule == POLICY_ERROR).map(|clause| clause.line);
    let fails = layer.zip(line).and_then(|(layer, line)| layer.rules().find(|rule| rule.line == line));
    Change { layer: cause.layer, rule: fails.map_or_else(|| cause.rule.clone(), |rule| rule.id.clone()) }
}

/// How far a change is from what the owner would do. What time alone may mend comes first, then what the owner
/// declared with `@relax("n")`, then the request's own labels, then the owner's other rules, and last what others
/// decide.
pub fn distance(change: &Change, owner: &Layer) -> u64 {
    match change.layer {
        LayerKind::Availability if change.rule == NO_CAPACITY => 1,
        LayerKind::Availability if change.rule == UNREACHABLE => 2,
        LayerKind::Availability => 100_000,
        LayerKind::Owner => {
            let declared = owner.rules().find(|rule| rule.id == change.rule).and_then(|rule| rule.relax);
            declared.map_or(10_000, |rank| 10 + u64::from(rank.min(900)))
        }
        LayerKind::Labels => 1_000,
        LayerKind::Terms | LayerKind::Baseline => 1_000_000,
    }
}

#[cfg(test)]
mod tests;
