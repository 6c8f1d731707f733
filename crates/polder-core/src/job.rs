//! Jobs: work that outlives a request, and the protocol by which a home and a factory keep it.
//!
//! The home owns a job and its money, the factory owns its execution. [`Home`] and [`Executor`] are the two sides, each a
//! state machine: `step(now, event)` gives effects, `deadline()` says when to step without an event. What the two promise is
//! written down in `docs/jobs-protocol.md`; in short: at most one execution of a job is live, one epoch of it is paid once,
//! and nothing that was acknowledged is lost.
//!
//! Whoever runs a machine carries its effects out in their order, and none behind an [`Effect::Record`] before that record
//! is durable. A record that cannot be written ends the machine: it is made again from what was written, as after a crash.
//! Absent: clocks (time is an argument), randomness (so are eight bytes at each start), transport, and processes.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::canonical::{self, CanonicalError, Digest, bytes_as_hex};
use crate::ids::{AwardId, NodeId};
use crate::request::Request;

pub mod executor;
pub mod home;
pub mod message;
pub mod queue;
pub mod receipt;
pub mod row;
pub mod spec;

pub use executor::Executor;
pub use home::Home;
pub use message::{Message, Room};
pub use receipt::{JobReceipt, RunOutcome, Verdict};
pub use row::v1::Row;
pub use spec::{JobSpec, Needs, OnUncertain, Resources};

/// A job: `job-` and 16 random bytes in hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(pub [u8; 16]);

/// How often a job has been offered: each offer has an epoch of its own, written down before it is sent.
pub type Epoch = u64;

/// Names one question, so that an answer to an older one is never taken for its answer: 8 random bytes of the process that
/// asks, drawn when it starts, and 8 bytes that count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Nonce(#[serde(with = "bytes_as_hex")] pub [u8; 16]);

/// Where a process takes its nonces from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nonces {
    boot: [u8; 8],
    drawn: u64,
}

/// One instant by the clocks of one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds since the machine started, which never jump and go on while it sleeps. All waiting is timed by them.
    pub mono_ms: u64,
    /// Unix milliseconds, for people only: nothing is decided by them.
    pub wall_ms: u64,
}

/// What is to be run, and for whom. It never changes once it is submitted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// What is decided about.
    pub request: Request,
    /// Whose money pays.
    pub award: AwardId,
    /// What is run; one task of an array.
    pub spec: JobSpec,
    /// Its place in the array, from 0.
    pub index: u32,
}

impl Order {
    /// The digest that receipts name it by.
    pub fn digest(&self) -> Result<Digest, CanonicalError> {
        canonical::digest("polder/job-order/v1", self)
    }
}

/// One execution: a job of a home, in one epoch.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunId {
    /// Whose job.
    pub home: NodeId,
    /// The job.
    pub job: JobId,
    /// The epoch.
    pub epoch: Epoch,
}

/// What a machine wants done, in this order.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Write all of this durably, or none of it. What follows waits.
    Record(Vec<Row>),
    /// Send to a node. It may be lost.
    Send(NodeId, Message),
    /// Answer whoever called.
    Reply(u64, home::Answer),
    /// Start a run that must not outlive `until_ms` on the machine's monotonic clock, even if the daemon is gone by then.
    Start {
        /// The run.
        run: RunId,
        /// What to run.
        order: Arc<Order>,
        /// The end of its lease.
        until_ms: u64,
        /// The checkpoint to begin from.
        resume: Option<Digest>,
    },
    /// A running one may go on until then.
    Extend(RunId, u64),
    /// End a run: ask it to, then make it.
    Stop(RunId),
    /// Find out what became of a run of an earlier process.
    Probe(RunId),
}

impl Nonces {
    /// The nonces of a process that drew these bytes when it started.
    pub fn new(boot: [u8; 8]) -> Self {
        Self { boot, drawn: 0 }
    }

    /// The next one.
    pub fn draw(&mut self) -> Nonce {
        self.drawn = self.drawn.wrapping_add(1);
        let mut bytes = [0; 16];
        let (boot, count) = bytes.split_at_mut(8);
        boot.copy_from_slice(&self.boot);
        count.copy_from_slice(&self.drawn.to_be_bytes());
        Nonce(bytes)
    }
}

impl JobId {
    /// Reads `job-` and 32 lower-case hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix("job-")?;
        let mut bytes = [0; 16];
        let plain = digits.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        (plain && hex::decode_to_slice(digits, &mut bytes).is_ok()).then_some(Self(bytes))
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "job-{}", hex::encode(self.0))
    }
}

impl fmt::Debug for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for JobId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for JobId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| de::Error::custom("expected `job-` and 32 lower-case hexadecimal digits"))
    }
}

/// Orders are shared between messages, records and machines; in JSON each stands written out.
pub(crate) mod shared {
    use super::{Arc, Deserialize, Deserializer, Order, Serialize as _, Serializer};

    pub fn serialize<S: Serializer>(order: &Arc<Order>, serializer: S) -> Result<S::Ok, S::Error> {
        order.as_ref().serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<Order>, D::Error> {
        Order::deserialize(deserializer).map(Arc::new)
    }
}

#[cfg(test)]
mod tests;
