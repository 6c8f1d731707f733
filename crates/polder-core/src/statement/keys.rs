//! The statement about a change of a node's keys, signed by the identity, so that the log shows since when which key counts. What follows
//! from it is absent: that is `keys/history.rs`.

use serde::{Deserialize, Serialize};

use crate::canonical::bytes_as_hex;
use crate::keys::history::KeyChange;

/// A node's key was rotated or revoked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyStatement {
    /// What changed.
    pub change: KeyChange,
    /// The identity's signature (`polder/key-change/v1`) over the change.
    #[serde(with = "bytes_as_hex")]
    pub identity: [u8; 64],
    /// For a rotation, the signature of the key that goes; for a revocation, whose key may be a thief's, that of the key that comes.
    #[serde(with = "bytes_as_hex")]
    pub key: [u8; 64],
}
