//! What a home knows at one instant: the basis, which policies are asked about, and what changes faster than any policy.
//!
//! Making the one from peers' statuses is absent: that is the node's work, and the twin's.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Bits, Inputs, Weights, score};
use crate::canonical::Digest;
use crate::ids::{ModelId, NodeId};
use crate::labels::Action;
use crate::policy::{Cause, Column, Layer, PolicySchema};

/// What policies are asked about, and the policies. Two snapshots share one as long as nothing in it changes; then what
/// was decided on the one holds on the other.
#[derive(Debug, Clone)]
pub struct Basis {
    /// The schema that every layer was checked against.
    pub schema: Arc<PolicySchema>,
    /// The federation's baseline.
    pub baseline: Arc<Layer>,
    /// The owner's policy.
    pub owner: Arc<Layer>,
    /// The labels layer.
    pub labels: Arc<Layer>,
    /// The digest of [`crate::facts::Trust`]: whose facts are believed.
    pub trust: Digest,
    /// The factories, in name order.
    pub grounds: Vec<Ground>,
}

/// What policies read of one factory, and what it offers.
#[derive(Debug, Clone)]
pub struct Ground {
    /// Its name.
    pub id: NodeId,
    /// Its facts as policies read them.
    pub column: Arc<Column>,
    /// The root over its facts.
    pub passport: Digest,
    /// Its terms.
    pub terms: Arc<Layer>,
    /// What it offers, with the model where one is needed for it.
    pub offers: Arc<BTreeSet<(Action, Option<ModelId>)>>,
}

/// What a home knows at one instant.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The instant, in Unix milliseconds.
    pub at_ms: u64,
    /// The policies and what they are asked about.
    pub basis: Arc<Basis>,
    /// The root over all factories' facts.
    pub facts_root: Digest,
    /// What the owner prefers among admissible factories.
    pub weights: Weights,
    live: Arc<Live>,
}

/// What is known of all factories now; shared, so that a snapshot costs nothing to copy.
#[derive(Debug)]
struct Live {
    factories: Vec<Factory>,
    /// The factories that can be used now.
    open: Bits,
    /// The places of the factories, best score first.
    ranking: Vec<u32>,
    /// For each place, how far from the best it is.
    ranks: Vec<u32>,
}

/// What changes of one factory faster than any policy.
#[derive(Debug, Clone, Default)]
pub struct Factory {
    /// Why it cannot be used now, whatever the policies say; empty where it can.
    pub unavailable: Vec<Cause>,
    /// What its score is made of.
    pub inputs: Inputs,
}

impl Basis {
    /// The layers that are asked about one factory, in the order in which causes name them.
    pub(super) fn layers<'a>(&'a self, ground: &'a Ground) -> [&'a Layer; 4] {
        [&self.baseline, &self.owner, &self.labels, &ground.terms]
    }

    /// Whether the layers are the very same ones.
    pub(super) fn same_layers(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.schema, &other.schema)
            && Arc::ptr_eq(&self.baseline, &other.baseline)
            && Arc::ptr_eq(&self.owner, &other.owner)
            && Arc::ptr_eq(&self.labels, &other.labels)
    }
}

impl Ground {
    /// Whether everything that a decision reads of it is the very same.
    pub fn same(&self, other: &Self) -> bool {
        self.id == other.id
            && Arc::ptr_eq(&self.column, &other.column)
            && Arc::ptr_eq(&self.terms, &other.terms)
            && (Arc::ptr_eq(&self.offers, &other.offers) || self.offers == other.offers)
    }
}

impl Snapshot {
    /// A snapshot. `factories` go with the grounds of the basis, in the same order; a ground without one cannot be used.
    pub fn new(at_ms: u64, basis: Arc<Basis>, facts_root: Digest, weights: Weights, factories: Vec<Factory>) -> Self {
        let count = basis.grounds.len();
        let mut open = Bits::none(count);
        let mut order: Vec<(u64, usize)> = Vec::with_capacity(count);
        for (place, factory) in factories.iter().enumerate().take(count) {
            order.push((score(&factory.inputs, &weights), place));
            if factory.unavailable.is_empty() {
                open.insert(place);
            }
        }
        // Grounds stand in name order, so the place settles a tie as the name does.
        order.sort_unstable();
        let places = |place: usize| u32::try_from(place).unwrap_or(u32::MAX);
        let ranking: Vec<u32> = order.iter().map(|(_, place)| places(*place)).collect();
        let mut by_place: Vec<(usize, usize)> =
            order.iter().enumerate().map(|(rank, (_, place))| (*place, rank)).collect();
        by_place.sort_unstable();
        let ranks = by_place.into_iter().map(|(_, rank)| places(rank)).collect();
        let live = Arc::new(Live { factories, open, ranking, ranks });
        Self { at_ms, basis, facts_root, weights, live }
    }

    /// What was known then, taken as known at another instant.
    pub fn at(&self, at_ms: u64) -> Self {
        Self { at_ms, ..self.clone() }
    }

    /// Whether everything but the instant is the very same, so that the same request is decided in the same way.
    pub fn same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.live, &other.live) && Arc::ptr_eq(&self.basis, &other.basis)
    }

    /// Each factory with what is known of it now, in name order.
    pub fn each(&self) -> impl Iterator<Item = (&Ground, &Factory)> {
        self.basis.grounds.iter().zip(&self.live.factories)
    }

    /// The place of the best of some factories that can be used now.
    #[inline]
    pub fn best(&self, admitted: &Bits) -> Option<usize> {
        let both = || admitted.words().iter().zip(self.live.open.words()).map(|(admitted, open)| admitted & open);
        let count: u32 = both().map(u64::count_ones).sum();
        if count == 0 {
            return None;
        }
        // Where many are left, one of the first by rank is among them; where few are left, looking at each is quick.
        if count > 8 {
            let left = |place: &&u32| {
                let place = **place as usize;
                admitted.contains(place) && self.live.open.contains(place)
            };
            return self.live.ranking.iter().find(left).map(|place| *place as usize);
        }
        let mut best: Option<(u32, usize)> = None;
        for (number, mut word) in both().enumerate() {
            while word != 0 {
                let place = number * 64 + word.trailing_zeros() as usize;
                word &= word - 1;
                let rank = self.live.ranks.get(place).copied().unwrap_or(u32::MAX);
                if best.is_none_or(|(lowest, _)| rank < lowest) {
                    best = Some((rank, place));
                }
            }
        }
        best.map(|(_, place)| place)
    }
}
