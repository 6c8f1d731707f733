//! How a peer stands, what a leaf says of it, and why an event changes nothing.
//!
//! What leads from one standing to the next is absent: that is the machine above.

use serde::{Deserialize, Serialize};

use super::{Answer, Introduction, Invitation, JoinRequest, Versions};
use crate::canonical::{CanonicalError, Digest, bytes_as_hex};
use crate::ids::NodeId;
use crate::keys::Signed;

/// How a peer stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// It has asked, and waits for this node's answer.
    Asks,
    /// This node has asked, and waits for its answer.
    Asked,
    /// Both have pinned each other.
    Member,
    /// The one who was asked said no.
    Refused,
    /// It has left.
    Left,
}

impl Standing {
    /// Its name, as files and calls write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Asks => "asks",
            Self::Asked => "asked",
            Self::Member => "member",
            Self::Refused => "refused",
            Self::Left => "left",
        }
    }
}

/// A peer as this node knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Peer {
    /// What it says of itself.
    pub said: Introduction,
    /// How it stands.
    pub standing: Standing,
    /// Since when, in Unix milliseconds.
    pub since_ms: u64,
    /// The request that made it known; absent for one that the members' file names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<Signed<JoinRequest>>,
    /// The answer to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<Signed<Answer>>,
}

/// An invitation of this node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Open {
    /// The invitation.
    pub invitation: Signed<Invitation>,
    /// The digest of the one request that used it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used: Option<Digest>,
}

/// Why an event changes nothing. Each names its cause; [`Refusal::cause`] is the word for it in metrics.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A signature does not hold.
    #[error("{0}")]
    Forged(String),
    /// The invitation has had its time.
    #[error("the invitation has expired: ask for another")]
    Expired,
    /// It was used.
    #[error("the invitation was used before: each is for one node, ask for another")]
    Used,
    /// It is not one of this node's.
    #[error("the invitation is not one of this node's, or it was withdrawn: ask for another")]
    Unknown,
    /// It is meant for another.
    #[error("this is meant for another node")]
    Misdirected,
    /// There is no version that both speak.
    #[error(
        "this node speaks versions {own} of the messages between peers, the other {other}: bring the older one up to date"
    )]
    Version {
        /// What this node speaks.
        own: Versions,
        /// What the other speaks.
        other: Versions,
    },
    /// A name that another identity has here.
    #[error("the name `{0}` belongs to another identity here: one of the two needs another name")]
    Name(NodeId),
    /// It is this very node.
    #[error("a node is no member of itself")]
    Oneself,
    /// Nobody of that name waits for this.
    #[error("`{0}` is not waiting for an answer here: `polder members list` shows who is")]
    NotWaiting(String),
    /// It came too late.
    #[error("this was said before the membership that it would end began")]
    Stale,
    /// A part is longer than it may be.
    #[error("the {0} is too long")]
    TooLong(&'static str),
    /// There is no room for more.
    #[error("{0}")]
    Full(&'static str),
    /// This node has left.
    #[error("this node has left: `polder join` with a new invitation begins again")]
    Gone,
}

impl Refusal {
    /// One word for it, from a closed list.
    pub fn cause(&self) -> &'static str {
        match self {
            Self::Forged(_) => "forged",
            Self::Expired => "expired",
            Self::Used | Self::Stale => "replayed",
            Self::Unknown | Self::NotWaiting(_) => "unknown",
            Self::Misdirected | Self::Oneself => "misdirected",
            Self::Version { .. } => "version",
            Self::Name(_) => "name",
            Self::TooLong(_) => "oversized",
            Self::Full(_) => "flood",
            Self::Gone => "gone",
        }
    }
}

impl From<CanonicalError> for Refusal {
    fn from(error: CanonicalError) -> Self {
        Self::Forged(error.to_string())
    }
}

/// What a leaf says of a membership.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Act {
    /// This node accepted the peer.
    Accepted,
    /// This node refused the peer.
    Refused,
    /// The peer accepted this node.
    Joined,
    /// The peer refused this node.
    Declined,
    /// The peer has left.
    Departed,
    /// This node ended the membership.
    Removed,
    /// This node has left.
    Left,
}

impl Act {
    /// Its name, as leaves write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Refused => "refused",
            Self::Joined => "joined",
            Self::Declined => "declined",
            Self::Departed => "departed",
            Self::Removed => "removed",
            Self::Left => "left",
        }
    }
}

/// What a leaf says: `polder/member/v1`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemberStatement {
    /// Whose log it is.
    pub node: NodeId,
    /// When, in Unix milliseconds.
    pub at_ms: u64,
    /// What happened.
    pub act: Act,
    /// The other side.
    pub peer: NodeId,
    /// Its identity.
    #[serde(with = "bytes_as_hex")]
    pub identity: [u8; 32],
    /// The digest of the signed record that it follows from; absent where this node's operator alone decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<Digest>,
}

impl MemberStatement {
    /// What a leaf says of an act on a peer.
    pub fn of(node: &NodeId, at_ms: u64, act: Act, peer: &Peer) -> Self {
        let record = match act {
            Act::Removed | Act::Left | Act::Departed => None,
            _ => peer.answer.as_ref().map(|answer| answer.digest()),
        };
        let card = &peer.said.card;
        Self { node: node.clone(), at_ms, act, peer: card.node.clone(), identity: card.identity, record }
    }
}
