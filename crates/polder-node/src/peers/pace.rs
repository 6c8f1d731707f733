//! How fast one member may ask: so many requests a second, with a second's worth at once.
//!
//! One atomic number for each member, whatever the number of its connections: the instant until which what it asked is paid for
//! (the generic cell rate algorithm, ITU-T I.371). What happens to whoever is too fast is absent.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use polder_core::ids::NodeId;

/// A second, in nanoseconds.
const SECOND_NS: u64 = 1_000_000_000;

/// One member's pace.
#[derive(Debug)]
pub struct Pace {
    begun: Instant,
    /// What one request costs, in nanoseconds.
    cost_ns: u64,
    /// Until when everything is paid for, in nanoseconds since the beginning.
    paid_ns: AtomicU64,
}

impl Pace {
    /// A pace of so many requests a second.
    pub fn new(per_s: u64) -> Self {
        Self { begun: Instant::now(), cost_ns: SECOND_NS / per_s.max(1), paid_ns: AtomicU64::new(0) }
    }

    /// Whether one more request may come now.
    pub fn allows(&self) -> bool {
        let now_ns = u64::try_from(self.begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.allows_at(now_ns)
    }

    fn allows_at(&self, now_ns: u64) -> bool {
        let pay = |paid: u64| {
            let next = paid.max(now_ns).saturating_add(self.cost_ns);
            (next <= now_ns.saturating_add(SECOND_NS)).then_some(next)
        };
        self.paid_ns.fetch_update(Ordering::AcqRel, Ordering::Acquire, pay).is_ok()
    }
}

/// The paces of all members.
#[derive(Debug)]
pub struct Paces {
    per_s: u64,
    members: Mutex<BTreeMap<NodeId, Arc<Pace>>>,
}

impl Paces {
    /// Each member may ask so many requests a second.
    pub fn new(per_s: u64) -> Self {
        Self { per_s, members: Mutex::default() }
    }

    /// A member's pace, the same for all its connections.
    pub fn of(&self, member: &NodeId) -> Arc<Pace> {
        let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(members.entry(member.clone()).or_insert_with(|| Arc::new(Pace::new(self.per_s))))
    }
}

#[cfg(test)]
mod tests {
    use super::{Pace, SECOND_NS};

    #[test]
    fn a_second_at_once_and_then_one_at_a_time() {
        let pace = Pace::new(10);
        assert_eq!((0..50).filter(|_| pace.allows_at(0)).count(), 10);
        assert!(!pace.allows_at(SECOND_NS / 20));
        assert!(pace.allows_at(SECOND_NS / 10) && !pace.allows_at(SECOND_NS / 10));
        assert_eq!(
            (0..50).filter(|_| pace.allows_at(100 * SECOND_NS)).count(),
            10,
            "what was not asked is not saved up"
        );
    }
}
