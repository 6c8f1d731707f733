//! The score: how an owner chooses among factories that every layer permits.
//!
//! A score is a weighed sum of whole numbers, lower is better. It is computed after policy and for those only that have no
//! cause against them: nothing that is weighed here can open or close a factory. Measuring the inputs is absent: that is
//! the node's work.

use serde::{Deserialize, Serialize};

use super::{Factory, Ground, Verdict};
use crate::facts::{Claim, Profile};
use crate::ids::NodeId;

/// Integer weights of an owner's preference: each multiplies the input of the same name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Weights {
    /// For the price.
    pub price: u32,
    /// For the load.
    pub load: u32,
    /// For the round-trip time.
    pub latency: u32,
    /// For the requests that wait.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub queue: u32,
    /// For the time to the first token.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub first_token: u32,
    /// For the carbon.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub carbon: u32,
    /// For staying where a conversation's beginning was read before.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub affinity: u32,
}

/// What a score is made of. What was added after the first version is left out where it is 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inputs {
    /// Price of a million generated tokens, in micro-euro.
    pub price_microeur_per_mtok: u64,
    /// Share of places taken, or of the engine's memory for contexts where that is more, in millionths; above a million
    /// where requests queue.
    pub load_ppm: u64,
    /// Round-trip time from the home, in microseconds, smoothed.
    pub rtt_us: u64,
    /// Share of the tenant's last 30 days that ran on this factory's chip vendors, in per cent. No part of the score;
    /// policies may read it.
    #[serde(default)]
    pub vendor_share_percent: u8,
    /// Requests that wait, in millionths of the places.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub queue_ppm: u64,
    /// Time to the first token, in microseconds, smoothed; 0 where nobody has measured it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub first_token_us: u64,
    /// Carbon of a kilowatt-hour of computing, cooling included, in milligrams of CO2 equivalent. Where no believed fact
    /// says it, the worst that is known of any factory.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub carbon_mg_per_kwh: u64,
    /// How far the factory is from the one that the conversation's beginning falls on, in millionths: 0 for that one, half a
    /// million for the next, a million for all others.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub affinity_ppm: u64,
}

fn is_zero<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// The score of a factory, lower is better: each input times its weight, summed, at most `u64::MAX`.
pub fn score(inputs: &Inputs, weights: &Weights) -> u64 {
    let part = |input: u64, weight: u32| input.saturating_mul(u64::from(weight));
    part(inputs.price_microeur_per_mtok, weights.price)
        .saturating_add(part(inputs.load_ppm, weights.load))
        .saturating_add(part(inputs.rtt_us, weights.latency))
        .saturating_add(part(inputs.queue_ppm, weights.queue))
        .saturating_add(part(inputs.first_token_us, weights.first_token))
        .saturating_add(part(inputs.carbon_mg_per_kwh, weights.carbon))
        .saturating_add(part(inputs.affinity_ppm, weights.affinity))
}

/// Scores the verdicts that are a yes, and no other.
pub(super) fn weigh(verdicts: &mut [Verdict], weights: &Weights, affinity: Option<Affinity>) {
    if let Some(affinity) = affinity.filter(|_| weights.affinity > 0) {
        let admitted = |verdict: &&mut Verdict| verdict.causes.is_empty();
        let mut order: Vec<(u64, &mut Verdict)> =
            verdicts.iter_mut().filter(admitted).map(|one| (affinity.falls_on(&one.factory), one)).collect();
        order.sort_by(|(one, a), (other, b)| (other, &a.factory).cmp(&(one, &b.factory)));
        for (place, (_, verdict)) in order.into_iter().enumerate() {
            verdict.inputs.affinity_ppm = distance_ppm(place);
        }
    }
    for verdict in verdicts.iter_mut().filter(|verdict| verdict.causes.is_empty()) {
        verdict.score = score(&verdict.inputs, weights);
    }
}

/// What the place in the order of affinity, from 0, counts for.
pub fn distance_ppm(place: usize) -> u64 {
    match place {
        0 => 0,
        1 => 500_000,
        _ => 1_000_000,
    }
}

/// Where a conversation's beginning falls: a salted digest that only whoever holds the salt can make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Affinity(pub u64);

impl Affinity {
    /// How strongly it falls on one of several places (rendezvous hashing, Thaler and Ravishankar 1998): the highest wins,
    /// and a place that goes moves only what was its own. The last step is SplitMix64's.
    pub fn falls_on_name(self, name: &str) -> u64 {
        let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        let mut hash = name.bytes().fold(0xcbf2_9ce4_8422_2325 ^ self.0, step);
        hash = hash.wrapping_add(0x9e37_79b9_7f4a_7c15);
        hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        hash ^ (hash >> 31)
    }

    fn falls_on(self, factory: &NodeId) -> u64 {
        self.falls_on_name(factory.as_str())
    }
}

/// The carbon of a kilowatt-hour of computing by a profile's energy fact, in milligrams of CO2 equivalent: what the grid's
/// kilowatt-hour costs, times the power usage effectiveness. `None` where nothing is believed.
pub fn carbon_mg_per_kwh(profile: &Profile) -> Option<u64> {
    let of_claim = |claim: &Claim| match claim {
        // Grams times hundredths are ten milligrams.
        Claim::Energy { carbon_g_per_kwh, pue_percent, .. } => {
            Some(u64::from(*carbon_g_per_kwh).saturating_mul(u64::from(*pue_percent)).saturating_mul(10))
        }
        _ => None,
    };
    profile.of_attribute("energy").find_map(|held| of_claim(&held.fact.claim))
}

/// Writes each factory's carbon into its inputs: those of whom nothing is known count as the worst of whom something is.
pub fn weigh_carbon(grounds: &[Ground], factories: &mut [Factory]) {
    let known: Vec<Option<u64>> = grounds.iter().map(|ground| carbon_mg_per_kwh(ground.column.profile())).collect();
    let worst = known.iter().flatten().max().copied().unwrap_or(0);
    for (factory, known) in factories.iter_mut().zip(known) {
        factory.inputs.carbon_mg_per_kwh = known.unwrap_or(worst);
    }
}
