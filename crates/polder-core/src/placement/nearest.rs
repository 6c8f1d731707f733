//! The nearest relaxations: what would have to change for a refused request to be placed, smallest sets first.
//!
//! Two things can change: a rule gives way, or a fact about a factory becomes better known. Every set that is named was
//! asked about in full, so that making it, and nothing else, places the request at its factory. Absent: whether anybody
//! should make it, who would attest a fact, and facts that nobody has stated: no country or owner is made up.

use std::cell::Cell;
use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::row::Row;
use super::{Basis, Ground, NO_CAPACITY, Outcome, Snapshot, UNREACHABLE, Verdict, score};
use crate::facts::Evidence;
use crate::ids::{IssuerId, NodeId};
use crate::policy::{Cause, Layer, LayerKind, POLICY_ERROR};

pub(super) mod facts;

use facts::Search;

/// How many relaxations a refusal names at most.
pub const NEAREST_MAX: usize = 5;
/// At how many factories changes of facts are looked for: those that are nearest by their rules. A refusal must stay
/// quick, and a home may know hundreds of factories.
const FACTORIES_MAX: usize = 16;
/// How many changed profiles one refusal asks the policies about, over all factories: what a refusal costs is bounded by
/// it (`cargo xtask bench policy` measures one).
pub(super) const TRIES_MAX: usize = 64;

/// A smallest set of changes that would make a placement possible.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Relaxation {
    /// Where the request would then run.
    pub factory: NodeId,
    /// What would have to change, all of it.
    pub changes: Vec<Change>,
    /// How far this is from what the owner would do; lower is nearer. See [`distance`].
    pub distance: u64,
}

/// One thing that would have to change: `{"layer","rule"}` or `{"fact": {…}}`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub enum Change {
    /// A rule gives way.
    Rule {
        /// Whose rule it is.
        layer: LayerKind,
        /// The rule.
        rule: String,
    },
    /// A fact about the factory becomes better known.
    Fact {
        /// Which one, and how well.
        fact: FactChange,
    },
}

/// A fact that would have to be better known.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FactChange {
    /// The slot, such as `control` or `certifications/iso-27001`.
    pub slot: String,
    /// Where facts of the slot contradict each other: what would have to be agreed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub says: Option<String>,
    /// Where facts of the slot contradict each other: who says so now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<IssuerId>,
    /// The class at which the fact is held now; absent where there is none, or where it is contradicted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Evidence>,
    /// The class at which it would have to be held.
    pub to: Evidence,
}

impl Change {
    /// The rule's id, or the fact's slot.
    pub fn name(&self) -> &str {
        match self {
            Self::Rule { rule, .. } => rule,
            Self::Fact { fact } => &fact.slot,
        }
    }

    /// Whether it is the one factory's own; what is not is the same change wherever it helps.
    pub fn is_the_factorys(&self) -> bool {
        match self {
            Self::Rule { layer, .. } => matches!(layer, LayerKind::Terms | LayerKind::Availability),
            Self::Fact { .. } => true,
        }
    }

    /// Whether making `other` makes this change, too: it is the same, or the same fact known no less well.
    fn is_part_of(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Fact { fact: less }, Self::Fact { fact: more }) => {
                less.to <= more.to && *less == FactChange { to: less.to, ..more.clone() }
            }
            _ => self == other,
        }
    }
}

/// The relaxations nearest to what the owner would do: a set that contains another is dropped, and the rest is ordered
/// by distance, size, score and name. Of a request that only waits for a place no facts are sought.
pub(super) fn nearest(snapshot: &Snapshot, row: &Row, verdicts: &[Verdict], outcome: Outcome) -> Vec<Relaxation> {
    let owner = &snapshot.basis.owner;
    let places: Vec<Place<'_>> = (0..)
        .zip(snapshot.basis.grounds.iter().zip(verdicts))
        .map(|(place, (ground, verdict))| Place::new(snapshot, row, place, ground, verdict))
        .collect();
    let by_rules = places.iter().map(|place| place.relaxation(place.before.clone(), owner)).collect();
    let by_rules = smallest(by_rules);
    if outcome != Outcome::Refused {
        return first(by_rules);
    }
    let last = by_rules.get(NEAREST_MAX - 1).map_or(u64::MAX, |(one, _)| one.distance);
    let mut near: Vec<&Place<'_>> = places.iter().filter(|place| place.least(owner) <= last).collect();
    near.sort_by_cached_key(|place| (sum(&place.before, owner), place.score));
    let tries = Cell::new(TRIES_MAX);
    let near = near.into_iter().take(FACTORIES_MAX);
    // What one fact would do is known of every factory before several are tried together at any.
    let begun: Vec<Search<'_>> = near.map(|place| Search::begin(row, place, &tries)).collect();
    let mut all = by_rules;
    for search in begun {
        let place = search.place;
        all.extend(search.sets().into_iter().map(|changes| place.relaxation(changes, owner)));
    }
    first(smallest(all))
}

/// One factory of a refusal.
pub(super) struct Place<'a> {
    pub(super) basis: &'a Basis,
    pub(super) ground: &'a Ground,
    /// The score that it would have if it were admitted; it only orders advice.
    score: u64,
    /// Its place in the snapshot.
    pub(super) number: usize,
    /// Everything that would have to give way as things are.
    pub(super) before: BTreeSet<Change>,
    /// Those of them that do not come of the policies, so that no fact mends them.
    pub(super) fixed: BTreeSet<Change>,
}

impl<'a> Place<'a> {
    fn new(snapshot: &'a Snapshot, row: &Row, number: usize, ground: &'a Ground, verdict: &Verdict) -> Self {
        let (basis, score) = (snapshot.basis.as_ref(), score(&verdict.inputs, &snapshot.weights));
        let change = |cause: &Cause| change(basis, ground, cause);
        let asked = row.causes(number);
        let fixed = |cause: &&Cause| cause.layer == LayerKind::Availability || !asked.contains(cause);
        let before = verdict.causes.iter().map(change).collect();
        let fixed = verdict.causes.iter().filter(fixed).map(change).collect();
        Self { basis, ground, score, number, before, fixed }
    }

    /// No relaxation that changes a fact of this factory is nearer than this.
    fn least(&self, owner: &Layer) -> u64 {
        sum(&self.fixed, owner).saturating_add(of_class(Evidence::C))
    }

    /// A relaxation, and the score by which it stands among its equals.
    fn relaxation(&self, changes: BTreeSet<Change>, owner: &Layer) -> (Relaxation, u64) {
        let distance = sum(&changes, owner);
        let changes = changes.into_iter().collect();
        (Relaxation { factory: self.ground.id.clone(), changes, distance }, self.score)
    }
}

/// All of them in order, without those that contain another.
fn smallest(mut all: Vec<(Relaxation, u64)>) -> Vec<(Relaxation, u64)> {
    all.sort_by(|(one, score), (other, others)| {
        let key = |one: &Relaxation| (one.distance, one.changes.len());
        key(one).cmp(&key(other)).then_with(|| (score, &one.factory).cmp(&(others, &other.factory)))
    });
    let mut smallest: Vec<(Relaxation, u64)> = Vec::new();
    for (one, score) in all {
        // One rule of the owner is the same wherever it refuses; two factories that do not answer are two obstacles.
        let contains = |(other, _): &(Relaxation, u64)| {
            let same = |change: &Change| !change.is_the_factorys() || one.factory == other.factory;
            let made = |change: &Change| one.changes.iter().any(|mine| change.is_part_of(mine));
            other.changes.iter().all(|change| same(change) && made(change))
        };
        if !smallest.iter().any(contains) {
            smallest.push((one, score));
        }
    }
    smallest
}

fn first(all: Vec<(Relaxation, u64)>) -> Vec<Relaxation> {
    all.into_iter().take(NEAREST_MAX).map(|(one, _)| one).collect()
}

/// What has to give way for a cause to vanish: its rule; of an evaluation error, the rule that cannot be evaluated.
pub(super) fn change(basis: &Basis, ground: &Ground, cause: &Cause) -> Change {
    let layer = basis.layers(ground).into_iter().find(|layer| layer.kind() == cause.layer);
    let line = cause.clause.as_ref().filter(|_| cause.rule == POLICY_ERROR).map(|clause| clause.line);
    let fails = layer.zip(line).and_then(|(layer, line)| layer.rules().find(|rule| rule.line == line));
    Change::Rule { layer: cause.layer, rule: fails.map_or_else(|| cause.rule.clone(), |rule| rule.id.clone()) }
}

fn sum(changes: &BTreeSet<Change>, owner: &Layer) -> u64 {
    changes.iter().map(|change| distance(change, owner)).fold(0, u64::saturating_add)
}

/// How far a change is from what the owner would do. What time alone may mend comes first, then what the owner
/// declared with `@relax("n")`, then the request's own labels, then a fact that would have to be better known (the
/// stronger the class, the further), then the owner's other rules, and last what others decide.
pub fn distance(change: &Change, owner: &Layer) -> u64 {
    let (layer, rule) = match change {
        Change::Rule { layer, rule } => (layer, rule),
        Change::Fact { fact } => return of_class(fact.to),
    };
    match layer {
        LayerKind::Availability if rule == NO_CAPACITY => 1,
        LayerKind::Availability if rule == UNREACHABLE => 2,
        LayerKind::Availability => 100_000,
        LayerKind::Owner => {
            let declared = owner.rules().find(|one| one.id == *rule).and_then(|rule| rule.relax);
            declared.map_or(10_000, |rank| 10 + u64::from(rank.min(900)))
        }
        LayerKind::Labels => 1_000,
        LayerKind::Terms | LayerKind::Baseline => 1_000_000,
    }
}

fn of_class(class: Evidence) -> u64 {
    match class {
        Evidence::C => 1_100,
        Evidence::B => 1_200,
        Evidence::A => 1_300,
    }
}
