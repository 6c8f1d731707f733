//! What a home goes by, and what a factory offers for jobs.
//!
//! Reading either from a file or from a peer is absent.

use serde::{Deserialize, Serialize};

use crate::breaker;
use crate::job::message::VERSION;
use crate::job::queue;
use crate::job::spec::{Abilities, Resources};

/// What a home goes by. All times are in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// How long a grant lasts.
    pub lease_ms: u64,
    /// How long an offer stands.
    pub offer_ms: u64,
    /// When an unanswered message is sent again.
    pub resend_ms: u64,
    /// When jobs that could not be placed are looked at again.
    pub retry_ms: u64,
    /// How long a factory that declined a job is not asked about it again.
    pub shun_ms: u64,
    /// How old news of a full factory may be before it is asked again all the same.
    pub news_ms: u64,
    /// How fast or slow any member's clock may run, in millionths.
    pub drift_ppm_max: u64,
    /// The newest version of messages that is spoken.
    pub speaks: u8,
    /// The most jobs that are not over.
    pub jobs_max: usize,
    /// The order of waiting jobs.
    pub queue: queue::Rules,
    /// When a factory that fails is left alone.
    pub breaker: breaker::Limits,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            lease_ms: 60_000,
            offer_ms: 30_000,
            resend_ms: 5_000,
            retry_ms: 10_000,
            shun_ms: 60_000,
            news_ms: 60_000,
            drift_ppm_max: 1_000,
            speaks: VERSION,
            jobs_max: 100_000,
            queue: queue::Rules::default(),
            breaker: breaker::Limits {
                failures: 3,
                forget_ms: 600_000,
                open_ms: 30_000,
                open_ms_max: 600_000,
                probe_ms: 120_000,
            },
        }
    }
}

/// What a factory offers for jobs, by its terms. It may be old: the factory says its own word when it is asked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sheet {
    /// Everything that jobs may use.
    pub whole: Resources,
    /// What its accelerators can do.
    pub abilities: Abilities,
    /// Price of an accelerator's hour, in micro-euro.
    pub accelerator_microeur_per_hour: u64,
    /// Price of a core's hour, in micro-euro.
    pub core_microeur_per_hour: u64,
}

impl Sheet {
    /// What an hour of some resources costs, in micro-euro.
    pub fn price_microeur_per_hour(&self, amounts: &Resources) -> u64 {
        let of = |count: u32, price: u64| u64::from(count).saturating_mul(price);
        of(amounts.accelerators, self.accelerator_microeur_per_hour)
            .saturating_add(of(amounts.cores, self.core_microeur_per_hour))
    }
}

impl Settings {
    /// How long after a grant a lease has ended for certain, by this node's clock. The factory counts from before the grant,
    /// by a clock that may be slow while this one is fast: `lease · (1 + d) / (1 - d)`, and what rounding may take.
    pub fn until_certain_ms(&self, lease_ms: u64) -> u64 {
        let drift = lease_ms.saturating_mul(self.drift_ppm_max).saturating_mul(3).div_ceil(1_000_000);
        lease_ms.saturating_add(drift).saturating_add(3)
    }
}
