//! What is checked of a receipt in any of its forms, and how a failure is named.

use serde::{Deserialize, Serialize};

/// What was checked, in the order of checking. The failed one names the failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Check {
    /// The file is a receipt in its one form.
    Format,
    /// Both nodes' identities signed their role keys; for an exported receipt: the log's key is known.
    Keys,
    /// Both identities are those of the members that the verifier names.
    Members,
    /// Both checkpoints are signed by their logs' keys.
    Checkpoint,
    /// Both statements stand in their logs.
    Inclusion,
    /// The tables are those that the decision's statement names.
    Tables,
    /// The decision and the execution speak of the same ticket.
    Pairing,
    /// The statement and its salt are what the log entry commits to.
    Statement,
    /// The node signed the statement itself, in a DSSE envelope or a COSE_Sign1.
    Signature,
    /// As many witnesses signed the checkpoint as the verifier's policy wants.
    Witnesses,
    /// The log's key was not revoked, or witnesses had signed before the instant from which it is not to be trusted.
    Revocation,
}

/// Why a receipt does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// The check that failed.
    pub check: Check,
    /// What is wrong.
    pub message: String,
}

impl Failure {
    /// A failed check, and what is wrong.
    pub fn new(check: Check, message: impl Into<String>) -> Self {
        Self { check, message: message.into() }
    }
}

impl Check {
    /// The check's name in messages and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Format => "format",
            Self::Keys => "keys",
            Self::Members => "members",
            Self::Checkpoint => "checkpoint",
            Self::Inclusion => "inclusion",
            Self::Tables => "tables",
            Self::Pairing => "pairing",
            Self::Statement => "statement",
            Self::Signature => "signature",
            Self::Witnesses => "witnesses",
            Self::Revocation => "revocation",
        }
    }
}
