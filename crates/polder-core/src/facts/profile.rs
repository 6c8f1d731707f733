//! A factory's profile: what may be believed of it at one instant, slot by slot.
//!
//! Facts of one slot that contradict each other leave it empty, and the profile says so. Signatures and trust are
//! absent: what comes in here was weighed already.

use std::collections::BTreeMap;

use super::{Fact, Held};
use crate::ids::IssuerId;

/// What may be believed of a factory at one instant: the strongest fact of each slot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Profile {
    /// The chosen facts, by their slot (`site`, `control`, `certifications/iso-27001` …).
    pub facts: BTreeMap<String, Held>,
    /// Slots that are empty because facts contradict each other, with those facts, strongest first.
    pub contested: BTreeMap<String, Vec<Held>>,
    /// First instant after the given one at which this profile may change; `u64::MAX` where none is known.
    pub valid_until_ms: u64,
}

impl Profile {
    /// The profile at an instant, in Unix milliseconds.
    pub fn at(held: &[Held], now_ms: u64) -> Self {
        let mut profile = Self { valid_until_ms: u64::MAX, ..Self::default() };
        let mut slots: BTreeMap<String, Vec<&Held>> = BTreeMap::new();
        for one in held {
            let Fact { from_ms, until_ms, .. } = one.fact;
            if let Some(next) = [from_ms, until_ms].into_iter().filter(|t| *t > now_ms).min() {
                profile.valid_until_ms = profile.valid_until_ms.min(next);
            }
            if from_ms <= now_ms && now_ms < until_ms {
                slots.entry(one.fact.claim.slot()).or_default().push(one);
            }
        }
        for (slot, candidates) in slots {
            match settled(&candidates) {
                Ok(one) => drop(profile.facts.insert(slot, one.clone())),
                Err(contested) => drop(profile.contested.insert(slot, contested.into_iter().cloned().collect())),
            }
        }
        profile
    }

    /// The facts that fill one attribute, such as `chips`.
    pub fn of_attribute<'a>(&'a self, attribute: &'a str) -> impl Iterator<Item = &'a Held> {
        self.facts.values().filter(move |held| held.fact.claim.kind().attribute() == attribute)
    }

    /// The facts that contradict each other about one attribute.
    pub fn contested_of<'a>(&'a self, attribute: &'a str) -> impl Iterator<Item = &'a Held> {
        self.contested.values().flatten().filter(move |held| held.fact.claim.kind().attribute() == attribute)
    }
}

/// The strongest of several facts about the same thing, or all of them where any two contradict each other. An
/// issuer's later statement replaces its earlier one.
fn settled<'a>(candidates: &[&'a Held]) -> Result<&'a Held, Vec<&'a Held>> {
    let mut latest: BTreeMap<(&IssuerId, &[u8; 32]), &'a Held> = BTreeMap::new();
    for held in candidates {
        let entry = latest.entry((&held.fact.issuer, &held.key)).or_insert(held);
        if (held.fact.from_ms, held.digest) > (entry.fact.from_ms, entry.digest) {
            *entry = held;
        }
    }
    let mut all: Vec<&Held> = latest.into_values().collect();
    all.sort_by_key(|held| std::cmp::Reverse((held.evidence, held.fact.from_ms, held.digest)));
    let agree = |one: &&Held| all.iter().all(|other| one.fact.claim.agrees_with(&other.fact.claim));
    match all.first() {
        Some(first) if all.iter().all(agree) => Ok(first),
        _ => Err(all),
    }
}
