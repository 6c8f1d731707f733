//! Whom an owner believes: the issuers that it named, and the keys that the members' own facts are signed with.

use serde::{Deserialize, Serialize};

use super::TrustedIssuer;
use crate::canonical::{self, CanonicalError, Digest, bytes_as_hex};
use crate::ids::NodeId;

/// Everything that decides whether a signed fact counts, beside the time. A decision's statement names its digest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trust {
    /// The issuers that the owner trusts, in the owner's order.
    pub issuers: Vec<TrustedIssuer>,
    /// The factories, in name order, with the keys of their own facts.
    pub members: Vec<MemberKey>,
}

/// The key that a factory signs its own facts with.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemberKey {
    /// The factory.
    pub node: NodeId,
    /// Its authority key.
    #[serde(with = "bytes_as_hex")]
    pub key: [u8; 32],
}

impl Trust {
    /// The trust of an owner in a federation; the members are put in order.
    pub fn new(issuers: Vec<TrustedIssuer>, members: impl IntoIterator<Item = (NodeId, [u8; 32])>) -> Self {
        let mut members: Vec<MemberKey> = members.into_iter().map(|(node, key)| MemberKey { node, key }).collect();
        members.sort();
        Self { issuers, members }
    }

    /// The digest that a statement names.
    pub fn digest(&self) -> Result<Digest, CanonicalError> {
        canonical::digest("polder/trust/v1", self)
    }

    /// The key of a factory's own facts; zeros, which sign nothing, for one that is no member.
    pub fn key_of(&self, node: &NodeId) -> [u8; 32] {
        self.members.iter().find(|member| member.node == *node).map_or([0; 32], |member| member.key)
    }
}
