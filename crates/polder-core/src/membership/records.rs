//! What nodes sign when one joins another: the invitation, the request, the answer, and the word that somebody leaves.
//!
//! Each is signed by an identity and names the other side's identity, so that neither can be shown to somebody else as meant for them.
//! Deciding what follows from one is absent: that is the machine beside it.

use std::fmt;

use ed25519_dalek::{SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};

use super::Refusal;
use crate::canonical::{self, CanonicalError, Digest, bytes_as_hex};
use crate::ids::NodeId;
use crate::keys::{NodeCard, Signed, is_signed, sign};

const INVITATION_DOMAIN: &str = "polder/invitation/v1";
const REQUEST_DOMAIN: &str = "polder/join/v1";
const ANSWER_DOMAIN: &str = "polder/answer/v1";
const DEPARTURE_DOMAIN: &str = "polder/departure/v1";

/// Longest life of an invitation, in milliseconds: 30 days.
pub const INVITATION_MS_MAX: u64 = 30 * 86_400_000;
/// Longest text of what an invitation offers, in bytes.
pub const OFFERS_BYTES_MAX: usize = 500;
/// Longest address, in bytes.
pub const ADDRESS_BYTES_MAX: usize = 64;

/// The versions of the messages between peers that a node speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Versions {
    /// The oldest.
    pub least: u32,
    /// The newest.
    pub most: u32,
}

/// What this build speaks: the newest version and the one before.
pub const SPOKEN: Versions = Versions { least: 1, most: 2 };

impl Versions {
    /// The newest version that both speak.
    pub fn newest_with(self, other: Self) -> Option<u32> {
        let most = self.most.min(other.most);
        (self.least <= self.most && other.least <= other.most && most >= self.least.max(other.least)).then_some(most)
    }
}

impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.least == self.most {
            true => write!(f, "{}", self.most),
            false => write!(f, "{} to {}", self.least, self.most),
        }
    }
}

/// What a node says of itself as a member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Introduction {
    /// Its keys.
    pub card: NodeCard,
    /// Where peers reach it, as `ADDRESS:PORT`; absent for one that only connects outwards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Whether it is a factory.
    pub factory: bool,
    /// What it speaks.
    pub versions: Versions,
}

impl Introduction {
    /// Checks that the card is the identity's own and that nothing is longer than it may be.
    fn check(&self) -> Result<(), Refusal> {
        self.card.check().map_err(|error| Refusal::Forged(error.to_string()))?;
        match self.address.as_ref().is_some_and(|address| address.len() > ADDRESS_BYTES_MAX) {
            true => Err(Refusal::TooLong("address")),
            false => Ok(()),
        }
    }
}

/// That somebody may ask to join a node, once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Invitation {
    /// 16 random bytes.
    #[serde(with = "bytes_as_hex")]
    pub id: [u8; 16],
    /// Who invites.
    pub from: Introduction,
    /// What is offered, in words.
    pub offers: String,
    /// First instant at which it no longer holds, in Unix milliseconds.
    pub until_ms: u64,
}

/// That a node wants to be a member of another, whose identity it has pinned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JoinRequest {
    /// The invitation that it answers.
    #[serde(with = "bytes_as_hex")]
    pub invitation: [u8; 16],
    /// Whom it asks.
    pub to: NodeId,
    /// The identity that it has pinned for it.
    #[serde(with = "bytes_as_hex")]
    pub to_identity: [u8; 32],
    /// Who asks.
    pub from: Introduction,
    /// When, in Unix milliseconds.
    pub at_ms: u64,
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// The request's digest.
    pub request: Digest,
    /// Who answers.
    pub from: Introduction,
    /// The identity that asked.
    #[serde(with = "bytes_as_hex")]
    pub to_identity: [u8; 32],
    /// Whether both are members of each other now.
    pub accepted: bool,
    /// When, in Unix milliseconds.
    pub at_ms: u64,
}

/// That a node leaves all that it is a member of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Departure {
    /// Who leaves.
    pub node: NodeId,
    /// Its identity.
    #[serde(with = "bytes_as_hex")]
    pub identity: [u8; 32],
    /// When, in Unix milliseconds. A membership that begins later is not ended by it.
    pub at_ms: u64,
}

/// Whether a value is signed by an identity in a domain.
fn signed_by<T: Serialize>(domain: &str, signed: &Signed<T>, identity: &[u8; 32]) -> bool {
    let key = VerifyingKey::from_bytes(identity).ok();
    key.is_some_and(|key| is_signed(domain, &signed.value, &key, &signed.signature))
}

fn forged(what: &str) -> Refusal {
    Refusal::Forged(format!("the {what} is not signed by the identity that it names"))
}

impl Invitation {
    /// Signs it by the inviter's identity.
    pub fn sign(self, identity: &SigningKey) -> Result<Signed<Self>, CanonicalError> {
        let signature = sign(INVITATION_DOMAIN, &self, identity)?;
        Ok(Signed { value: self, signature })
    }
}

impl Signed<Invitation> {
    /// Checks that it is the inviter's own, whatever the time.
    pub fn check(&self) -> Result<(), Refusal> {
        self.value.from.check()?;
        if self.value.offers.len() > OFFERS_BYTES_MAX {
            return Err(Refusal::TooLong("offers"));
        }
        match signed_by(INVITATION_DOMAIN, self, &self.value.from.card.identity) {
            true => Ok(()),
            false => Err(forged("invitation")),
        }
    }
}

impl JoinRequest {
    /// Signs it by the identity that asks.
    pub fn sign(self, identity: &SigningKey) -> Result<Signed<Self>, CanonicalError> {
        let signature = sign(REQUEST_DOMAIN, &self, identity)?;
        Ok(Signed { value: self, signature })
    }
}

impl Signed<JoinRequest> {
    /// Checks that it is the asking node's own.
    pub fn check(&self) -> Result<(), Refusal> {
        self.value.from.check()?;
        match signed_by(REQUEST_DOMAIN, self, &self.value.from.card.identity) {
            true => Ok(()),
            false => Err(forged("request")),
        }
    }

    /// The digest by which an answer names it.
    pub fn digest(&self) -> Digest {
        canonical::digest(REQUEST_DOMAIN, self).unwrap_or_default()
    }
}

impl Answer {
    /// Signs it by the identity that answers.
    pub fn sign(self, identity: &SigningKey) -> Result<Signed<Self>, CanonicalError> {
        let signature = sign(ANSWER_DOMAIN, &self, identity)?;
        Ok(Signed { value: self, signature })
    }
}

impl Signed<Answer> {
    /// Checks that it is the answering node's own.
    pub fn check(&self) -> Result<(), Refusal> {
        self.value.from.check()?;
        match signed_by(ANSWER_DOMAIN, self, &self.value.from.card.identity) {
            true => Ok(()),
            false => Err(forged("answer")),
        }
    }

    /// Its digest, for the log.
    pub fn digest(&self) -> Digest {
        canonical::digest(ANSWER_DOMAIN, self).unwrap_or_default()
    }
}

impl Departure {
    /// Signs it by the identity that leaves.
    pub fn sign(self, identity: &SigningKey) -> Result<Signed<Self>, CanonicalError> {
        let signature = sign(DEPARTURE_DOMAIN, &self, identity)?;
        Ok(Signed { value: self, signature })
    }
}

impl Signed<Departure> {
    /// Checks that it is the leaving node's own.
    pub fn check(&self) -> Result<(), Refusal> {
        match signed_by(DEPARTURE_DOMAIN, self, &self.value.identity) {
            true => Ok(()),
            false => Err(forged("departure")),
        }
    }

    /// Its digest, for the log.
    pub fn digest(&self) -> Digest {
        canonical::digest(DEPARTURE_DOMAIN, self).unwrap_or_default()
    }
}
