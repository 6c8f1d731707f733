//! What a factory signs about one run: how it ended, how long it ran, what it costs.
//!
//! It proves who claimed that, not that it is true; what a home can check of it, [`JobReceipt::fault`] checks. Times are
//! durations by the factory's own clock, counted from its own request, so that no two clocks need to agree. Absent: the log;
//! a receipt becomes a leaf of it where the node keeps one.

use ed25519_dalek::{SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};

use super::{Epoch, JobId};
use crate::canonical::{self, CanonicalError, Digest};
use crate::ids::NodeId;
use crate::keys::{Signed, is_signed, sign};

const RECEIPT_DOMAIN: &str = "polder/job-receipt/v1";
const HOUR_MS: u128 = 3_600_000;

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunOutcome {
    /// It exited with 0.
    Succeeded,
    /// It exited with another code.
    Failed(i32),
    /// It used up its wall time.
    TimedOut,
    /// The home asked for its end.
    Stopped,
    /// The factory's operator, or its terms, ended it.
    Evicted,
    /// Its lease was not renewed in time.
    LeaseEnded,
    /// The factory lost sight of it in a crash; it is not running.
    Interrupted,
    /// It never started.
    NotStarted,
}

/// What a factory says of one run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobReceipt {
    /// Whose job.
    pub home: NodeId,
    /// Who ran it.
    pub factory: NodeId,
    /// The job.
    pub job: JobId,
    /// The epoch of the lease.
    pub epoch: Epoch,
    /// The digest of the order.
    pub order: Digest,
    /// How it ended.
    pub outcome: RunOutcome,
    /// How long it ran, in milliseconds.
    pub ran_ms: u64,
    /// When it ended, in milliseconds after the factory's last answered request for the lease.
    pub ended_after_ms: u64,
    /// What it costs, in micro-euro.
    pub cost_microeur: u64,
    /// The last checkpoint that it wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<Digest>,
}

/// What became of a receipt at the home.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It is believed and paid.
    Settled,
    /// It is not: a person has to look at it. The reason is one of [`Fault`].
    Disputed(Fault),
    /// The home knows no such job.
    Unknown,
}

/// Why a receipt is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// A newer epoch has a lease.
    Superseded,
    /// The job was over.
    JobOver,
    /// There was no such lease for this factory.
    NoLease,
    /// It is about another order.
    OtherOrder,
    /// It says that the run ended outside its lease.
    OutsideLease,
    /// It says that the run took longer than there was time for.
    TooLong,
    /// It costs more than was agreed.
    TooDear,
}

/// What a home knows of a lease, to hold a receipt against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Agreed {
    /// The order's digest.
    pub order: Digest,
    /// How long each grant of the lease lasts, in milliseconds.
    pub lease_ms: u64,
    /// The price of an hour, in micro-euro.
    pub price_microeur_per_hour: u64,
    /// The wall time that the order asks for, in milliseconds.
    pub wall_ms: u64,
    /// How long the lease can have been in use by the factory's clock, in milliseconds, where the home has seen its beginning.
    pub elapsed_ms_max: Option<u64>,
}

impl JobReceipt {
    /// Signs with the factory's authority key.
    pub fn sign(self, authority: &SigningKey) -> Result<Signed<Self>, CanonicalError> {
        let signature = sign(RECEIPT_DOMAIN, &self, authority)?;
        Ok(Signed { value: self, signature })
    }

    /// The digest by which a home remembers it.
    pub fn digest(&self) -> Result<Digest, CanonicalError> {
        canonical::digest(RECEIPT_DOMAIN, self)
    }

    /// What about it cannot be, by what the home agreed to and saw itself.
    pub fn fault(&self, agreed: &Agreed) -> Option<Fault> {
        if self.order != agreed.order {
            return Some(Fault::OtherOrder);
        }
        if self.ended_after_ms > agreed.lease_ms {
            return Some(Fault::OutsideLease);
        }
        if agreed.elapsed_ms_max.is_some_and(|elapsed| self.ran_ms > elapsed) {
            return Some(Fault::TooLong);
        }
        let most = cost_microeur(self.ran_ms.min(agreed.wall_ms), agreed.price_microeur_per_hour);
        (self.cost_microeur > most).then_some(Fault::TooDear)
    }
}

impl Signed<JobReceipt> {
    /// Whether a factory's authority key signed it.
    pub fn is_signed(&self, authority: &VerifyingKey) -> bool {
        is_signed(RECEIPT_DOMAIN, &self.value, authority, &self.signature)
    }
}

/// What a run of some milliseconds costs at a price per hour, in micro-euro, rounded up.
pub fn cost_microeur(ran_ms: u64, price_microeur_per_hour: u64) -> u64 {
    let product = u128::from(ran_ms).saturating_mul(u128::from(price_microeur_per_hour));
    u64::try_from(product.div_ceil(HOUR_MS)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
