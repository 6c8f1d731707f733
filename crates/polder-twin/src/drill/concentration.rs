//! Concentration: on how few vendors, operators, owners and countries the work stands.
//!
//! The index is Herfindahl and Hirschman's: the sum of the squares of all shares in per cent, from near 0 (many small ones) to
//! 10,000 (one has all). It is shown with the share of the largest and never as a verdict. What nobody has attested counts as one
//! more owner, called `unknown`. A factory with chips of several vendors counts for each by its accelerators.

use std::collections::BTreeMap;

use polder_core::facts::{Claim, Profile};
use polder_core::ids::NodeId;
use serde::Serialize;

/// How the index is made, as it stands in every output.
pub const FORMULA: &str = "HHI = sum of (share in per cent)^2, from near 0 (many small ones) to 10,000 (one has all)";

/// What concentration is looked at by.
pub const DIMENSIONS: [&str; 6] =
    ["factory", "operator", "last-owner-country", "operator-country", "site-country", "vendor"];

/// Work by who did it, in each dimension.
#[derive(Debug, Clone, Default)]
pub struct Spread {
    by: [BTreeMap<String, u128>; DIMENSIONS.len()],
}

/// One dimension's figures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Index {
    /// The dimension.
    pub dimension: &'static str,
    /// The index, 0 to 10,000; 0 where there was no work.
    pub hhi: u64,
    /// The largest.
    pub largest: String,
    /// Its share, in millionths.
    pub largest_ppm: u64,
    /// How many there are.
    pub count: usize,
}

/// Who stands behind a factory in each dimension, each with its part in millionths.
pub fn behind(factory: &NodeId, profile: &Profile) -> [Vec<(String, u64)>; DIMENSIONS.len()] {
    let mut named: [Vec<(String, u64)>; DIMENSIONS.len()] = Default::default();
    let [site, operator, owner, operators_country, country, vendors] = &mut named;
    site.push((factory.to_string(), 1_000_000));
    let mut chips: BTreeMap<&'static str, u64> = BTreeMap::new();
    let mut operated = None;
    for held in profile.facts.values() {
        match &held.fact.claim {
            Claim::Site { country: of, .. } => country.push((of.to_string(), 1_000_000)),
            Claim::Operator { name, country: of } => {
                operator.push((name.clone(), 1_000_000));
                operators_country.push((of.to_string(), 1_000_000));
                operated = Some(*of);
            }
            Claim::Chip { vendor, accelerators, .. } => {
                use polder_core::labels::Closed as _;
                *chips.entry(vendor.as_str()).or_default() += u64::from(*accelerators);
            }
            _ => {}
        }
    }
    for held in profile.of_attribute("control") {
        let Claim::Control { owners } = &held.fact.claim else { continue };
        // Without an owner above it, the operator is its own.
        let last = owners.last().map(|owner| owner.country).or(operated);
        owner.extend(last.map(|country| (country.to_string(), 1_000_000)));
    }
    let all: u64 = chips.values().sum();
    vendors.extend(
        chips.into_iter().filter_map(|(name, count)| Some((name.to_owned(), (count * 1_000_000).checked_div(all)?))),
    );
    for one in &mut named {
        if one.is_empty() {
            one.push(("unknown".to_owned(), 1_000_000));
        }
    }
    named
}

impl Spread {
    /// Counts work at a factory.
    pub fn add(&mut self, behind: &[Vec<(String, u64)>; DIMENSIONS.len()], work: u128) {
        for (sums, named) in self.by.iter_mut().zip(behind) {
            for (name, ppm) in named {
                match sums.get_mut(name) {
                    Some(sum) => *sum += work * u128::from(*ppm),
                    None => drop(sums.insert(name.clone(), work * u128::from(*ppm))),
                }
            }
        }
    }

    /// The figures of all dimensions.
    pub fn indices(&self) -> Vec<Index> {
        DIMENSIONS.iter().zip(&self.by).map(|(dimension, sums)| index(dimension, sums)).collect()
    }
}

fn index(dimension: &'static str, sums: &BTreeMap<String, u128>) -> Index {
    let all: u128 = sums.values().sum();
    // Shares in hundredths of a per cent, rounded down: the index is too low by less than 2 for each share.
    let share = |sum: &u128| (sum * 10_000).checked_div(all).unwrap_or(0);
    let hhi = sums.values().map(|sum| share(sum) * share(sum)).sum::<u128>() / 10_000;
    let largest = sums.iter().max_by_key(|(name, sum)| (**sum, std::cmp::Reverse(*name)));
    let ppm = largest.and_then(|(_, sum)| (sum * 1_000_000).checked_div(all)).unwrap_or(0);
    Index {
        dimension,
        hhi: u64::try_from(hhi).unwrap_or(10_000),
        largest: largest.map(|(name, _)| name.clone()).unwrap_or_default(),
        largest_ppm: u64::try_from(ppm).unwrap_or(0),
        count: sums.values().filter(|sum| **sum > 0).count(),
    }
}
