//! What a home and a factory say to each other about a job.
//!
//! Two versions are spoken, this one and the one before. A node writes what the other understands: [`Message::written_in`]
//! leaves out what an older version has no field for, and a message that it has no word for is not sent. On the wire a
//! reader ignores fields that it does not know, unless the writer names them in `must`: then it refuses the whole message.
//! Whatever a message says, it may come twice, late, in another order, or never. Absent: channels and who is behind them;
//! the sender is whoever the pinned key says.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::receipt::{JobReceipt, Verdict};
use super::spec::Resources;
use super::{Epoch, JobId, Nonce, Order, shared};
use crate::canonical::Digest;
use crate::ids::AwardId;
use crate::keys::Signed;

/// The version that is spoken among those who can.
pub const VERSION: u8 = 2;
/// The oldest version that is still understood.
pub const VERSION_MIN: u8 = 1;
/// The longest message, in bytes.
pub const MESSAGE_BYTES_MAX: usize = 1 << 20;
/// What a message may require its reader to know.
const KNOWN: &[&str] = &["resume", "withdraw"];

/// What a factory has free now. News of it may be old; nothing but the choice among permitted factories hangs on it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Room {
    /// What is free.
    pub free: Resources,
}

/// Why a home asks for the end of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StopWhy {
    /// Whoever submitted the job took it back.
    Cancelled,
    /// The owner's policy no longer permits it there.
    Policy,
}

/// Why a factory does not take a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeclineWhy {
    /// No room now.
    NoRoom,
    /// The factory's terms do not permit it.
    Terms,
    /// The price is below the factory's.
    Price,
    /// It can never run here: it needs more than there is.
    Unfit,
    /// An older run of the same job has not ended here.
    Busy,
    /// The factory asked before it crashed, and has nothing of it left.
    Forgotten,
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Message {
    /// Home to factory: will you run this?
    Offer {
        /// The job.
        job: JobId,
        /// The epoch of the offer.
        epoch: Epoch,
        /// What to run.
        #[serde(with = "shared")]
        order: Arc<Order>,
        /// What an hour of it pays, in micro-euro.
        price_microeur_per_hour: u64,
        /// Where to begin from. Since version 2.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        resume: Option<Digest>,
    },
    /// Home to factory: the offer no longer stands. Since version 2.
    Withdraw {
        /// The job.
        job: JobId,
        /// The epoch of the offer.
        epoch: Epoch,
    },
    /// Home to factory: the lease lasts so long from the moment in which you asked.
    Grant {
        /// The job.
        job: JobId,
        /// The epoch.
        epoch: Epoch,
        /// The request that this answers.
        nonce: Nonce,
        /// The duration, in milliseconds.
        lease_ms: u64,
    },
    /// Home to factory: there is no lease for what you asked.
    Void {
        /// The job.
        job: JobId,
        /// The epoch.
        epoch: Epoch,
        /// The request that this answers.
        nonce: Nonce,
    },
    /// Home to factory: end the run.
    Stop {
        /// The job.
        job: JobId,
        /// The epoch.
        epoch: Epoch,
        /// Why.
        why: StopWhy,
    },
    /// Home to factory: your receipt has arrived, and this became of it.
    Receipted {
        /// The job.
        job: JobId,
        /// The epoch.
        epoch: Epoch,
        /// What became of it.
        verdict: Verdict,
    },
    /// Factory to home: I have kept room; lease it to me from now.
    Want {
        /// The job.
        job: JobId,
        /// The epoch of the offer.
        epoch: Epoch,
        /// Names this request.
        nonce: Nonce,
        /// What is free besides.
        room: Room,
    },
    /// Factory to home: no.
    Decline {
        /// The job.
        job: JobId,
        /// The epoch of the offer.
        epoch: Epoch,
        /// The request that was granted too late, where there was one.
        nonce: Option<Nonce>,
        /// Why.
        why: DeclineWhy,
        /// What is free.
        room: Room,
    },
    /// Factory to home: it runs; lease it to me again from now.
    Renew {
        /// The job.
        job: JobId,
        /// The epoch.
        epoch: Epoch,
        /// Names this request.
        nonce: Nonce,
        /// The last checkpoint. Since version 2.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        checkpoint: Option<Digest>,
    },
    /// Factory to home: it has ended. Sent until it is answered.
    Done {
        /// What is signed about it.
        receipt: Box<Signed<JobReceipt>>,
        /// What is free.
        room: Room,
    },
    /// Factory to home: there is room again.
    Free(Room),
    /// Node to accountant: escrow a slice of an award for me. Sent until it is answered.
    SliceAsk {
        /// The award.
        award: AwardId,
        /// Names this request.
        ask: Nonce,
        /// How much is wanted, in micro-euro.
        microeur: u64,
    },
    /// Accountant to node: the slice is yours, or none of it is.
    SliceGiven {
        /// The award.
        award: AwardId,
        /// The request that this answers.
        ask: Nonce,
        /// How much was escrowed, in micro-euro; 0 where there was not enough.
        microeur: u64,
    },
}

/// A message as it travels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wire {
    /// The newest version that the sender speaks.
    pub speaks: u8,
    /// What a reader must know to take the message at all.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub must: BTreeSet<String>,
    /// The message.
    pub message: Message,
}

/// Why bytes are not a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Longer than [`MESSAGE_BYTES_MAX`].
    #[error("the message is longer than {MESSAGE_BYTES_MAX} bytes")]
    Long,
    /// Not in this form.
    #[error("not a message about a job: {0}")]
    Form(String),
    /// From a version that is no longer understood.
    #[error("the sender speaks version {0} only; {VERSION_MIN} is the oldest that is understood: upgrade it")]
    Version(u8),
    /// It requires what this version does not know.
    #[error("the message requires `{0}`, which this version does not know: upgrade this node")]
    Must(String),
}

impl Message {
    /// The message in the words of a version; none where that has no word for it.
    pub fn written_in(mut self, version: u8) -> Option<Self> {
        if version >= 2 {
            return Some(self);
        }
        match &mut self {
            Self::Withdraw { .. } => return None,
            Self::Offer { resume, .. } => *resume = None,
            Self::Renew { checkpoint, .. } => *checkpoint = None,
            _ => {}
        }
        Some(self)
    }
}

impl Wire {
    /// The bytes of a message.
    pub fn encode(&self) -> Result<Vec<u8>, WireError> {
        serde_json::to_vec(self).map_err(|e| WireError::Form(e.to_string()))
    }

    /// Reads a message.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        /// What is read before anything else, so that a newer form can be refused by its name.
        #[derive(Deserialize)]
        struct Head {
            speaks: u8,
            #[serde(default)]
            must: BTreeSet<String>,
        }
        if bytes.len() > MESSAGE_BYTES_MAX {
            return Err(WireError::Long);
        }
        let head: Head = serde_json::from_slice(bytes).map_err(|e| WireError::Form(e.to_string()))?;
        if head.speaks < VERSION_MIN {
            return Err(WireError::Version(head.speaks));
        }
        if let Some(unknown) = head.must.iter().find(|one| !KNOWN.contains(&one.as_str())) {
            return Err(WireError::Must(unknown.chars().take(64).collect()));
        }
        serde_json::from_slice(bytes).map_err(|e| WireError::Form(e.to_string()))
    }
}

#[cfg(test)]
mod tests;
