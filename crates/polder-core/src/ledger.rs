//! Budgets and limits: what a key, its project and its tenant may still spend, and how fast.
//!
//! Three accounts stand one above the other: tenant, project, key. A request reserves from each that has a limit, so that no
//! level can be overrun, and none knows of the others. For money there are two sides. The durable side, a [`Standing`] for
//! each account and period, lends *tranches*; a gateway holds them in its [`Purses`], reserves from them before it sends work
//! off, extends a reservation while an answer grows, and settles with what was really used. What is lent counts as spent until
//! it is settled or given back, so a gateway that is gone with its tranche makes a budget smaller and never larger.
//!
//! Jobs are paid by double entry instead: see [`books`].
//!
//! Time is an argument and every number is an integer: micro-euro, tokens, milliseconds. Absent: storage, keys' secrets,
//! waiting, and which price is right; those are the node's.

use serde::{Deserialize, Serialize};

pub mod books;
mod period;
mod purses;
mod rate;
mod standing;

pub use period::{Window, civil};
pub use purses::{Account, Flush, Hold, Path, Purses, Refused, Short};
pub use rate::{Bucket, PER_MINUTE_MAX};
pub use standing::Standing;

/// What an account may do; an absent limit is none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Requests per minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_per_minute: Option<u64>,
    /// Tokens per minute, read and generated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_per_minute: Option<u64>,
    /// Answers under way at once, streamed or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub streams: Option<u32>,
    /// Money.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<Budget>,
}

/// How much money an account may spend, in which time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// Micro-euro.
    pub microeur: u64,
    /// Since when spending counts.
    pub window: Window,
}

impl Limits {
    /// Whether nothing is limited.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// What tokens cost at a price per million, in micro-euro, rounded up: an answer is never cheaper than its tokens.
pub fn cost_microeur(tokens: u64, price_microeur_per_mtok: u64) -> u64 {
    let product = u128::from(tokens).saturating_mul(u128::from(price_microeur_per_mtok));
    u64::try_from(product.div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
