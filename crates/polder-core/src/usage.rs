//! Usage: where a tenant's tokens ran over the last 30 days, for owners who do not want to depend on one chip vendor.
//!
//! Days are counted from the Unix epoch in UTC. Money and quotas are absent.

use std::collections::{BTreeMap, BTreeSet};

use crate::facts::Vendor;
use crate::ids::NodeId;
use crate::policy::Usage;

/// How many days count, today among them.
pub const WINDOW_DAYS: u64 = 30;
const DAY_MS: u64 = 86_400_000;

/// Tokens by day and factory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Window {
    days: BTreeMap<u64, BTreeMap<NodeId, u64>>,
}

/// The day of an instant in Unix milliseconds.
pub fn day_of(at_ms: u64) -> u64 {
    at_ms / DAY_MS
}

impl Window {
    /// Counts tokens that ran at a factory on a day.
    pub fn add(&mut self, day: u64, factory: &NodeId, tokens: u64) {
        let counted = self.days.entry(day).or_default().entry(factory.clone()).or_default();
        *counted = counted.saturating_add(tokens);
    }

    /// Forgets the days that no longer count on this day.
    pub fn forget(&mut self, today: u64) {
        self.days.retain(|day, _| day.saturating_add(WINDOW_DAYS) > today);
    }

    /// For each factory with known vendors, the largest share that any of them had of all tokens in the window up to this
    /// day, in per cent, rounded up. Tokens that ran where no vendor is known count towards the whole only.
    pub fn shares(&self, today: u64, vendors: &BTreeMap<NodeId, BTreeSet<Vendor>>) -> BTreeMap<NodeId, Usage> {
        let counts = |day: u64| day <= today && day.saturating_add(WINDOW_DAYS) > today;
        let (mut whole, mut of_vendor) = (0_u128, BTreeMap::<Vendor, u128>::new());
        for (factory, tokens) in self.days.iter().filter(|(day, _)| counts(**day)).flat_map(|(_, of)| of) {
            whole = whole.saturating_add(u128::from(*tokens));
            for vendor in vendors.get(factory).into_iter().flatten() {
                let sum = of_vendor.entry(*vendor).or_default();
                *sum = sum.saturating_add(u128::from(*tokens));
            }
        }
        let share = |vendors: &BTreeSet<Vendor>| {
            let most = vendors.iter().filter_map(|vendor| of_vendor.get(vendor)).max().copied().unwrap_or(0);
            let percent = most.saturating_mul(100).checked_add(whole.saturating_sub(1));
            let percent = percent.and_then(|sum| sum.checked_div(whole)).unwrap_or(0);
            Usage { vendor_share_percent: u8::try_from(percent.min(100)).unwrap_or(100) }
        };
        vendors.iter().map(|(factory, vendors)| (factory.clone(), share(vendors))).collect()
    }
}

#[cfg(test)]
mod tests;
