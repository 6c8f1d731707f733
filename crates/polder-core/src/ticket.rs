//! The right to run at a factory: a signed capability for a while, and an unsigned ticket for each request.
//!
//! Nothing is signed per request. The capability is verified once and cached; the ticket travels inside the channel of
//! two pinned keys, and its digest stands in both leaves. Sending either is absent: see `polder-node`.

use ed25519_dalek::{SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};

use crate::canonical::{self, CanonicalError, Digest, Ordered, bytes_as_hex};
use crate::ids::{DecisionId, NodeId, TenantId};
use crate::keys::{Signed, is_signed, sign};
use crate::request::Request;

pub mod right;

pub use right::{Bound, Limits, Link, Presented, Revoked};

/// Longest life of a capability, in milliseconds.
pub const CAPABILITY_MS_MAX: u64 = 60_000;
/// How far two nodes' clocks may differ before a capability is refused, in milliseconds.
pub const CLOCK_SKEW_MS_MAX: u64 = 5_000;

const CAPABILITY_DOMAIN: &str = "polder/capability/v1";
const TICKET_DOMAIN: &str = "polder/ticket/v1";
const REQUEST_DOMAIN: &str = "polder/request/v1";

/// The right of a home to use a factory for a tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Capability {
    /// The home that grants it, and the only one that may use it.
    pub home: NodeId,
    /// The factory it is for.
    pub factory: NodeId,
    /// The tenant it is for.
    pub tenant: TenantId,
    /// First instant at which it holds, in Unix milliseconds.
    pub from_ms: u64,
    /// First instant at which it no longer holds, in Unix milliseconds.
    pub until_ms: u64,
    /// What binds it to its holder; absent in version 1 of the messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bound: Option<Bound>,
}

/// Why a request may not use a capability or a ticket.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TicketError {
    /// The capability is for others than those in the channel.
    #[error("the capability is for another {0}")]
    Wrong(&'static str),
    /// It holds at another time, or for too long.
    #[error("the capability does not hold now")]
    Time,
    /// It is not signed by the home's authority key.
    #[error("the capability is not signed by its home")]
    Signature,
    /// The request is not the one that the ticket names.
    #[error("the request is not the one that its ticket names")]
    Request,
    /// It was handed on with more than there was.
    #[error("the capability was handed on wider than it was")]
    Widened,
    /// It is larger than any needs to be.
    #[error("the capability is larger than any may be")]
    Oversized,
    /// It names no key, in a version in which each does.
    #[error("the capability names no key of a channel")]
    Unbound,
    /// It counts in the channel of another key.
    #[error("the capability is for the channel of another key")]
    Key,
    /// It was taken back.
    #[error("the capability was revoked")]
    Revoked,
    /// The request lies outside of what it is limited to.
    #[error("the request lies outside of what the capability is limited to")]
    Limits,
}

impl TicketError {
    /// One word for it, from a closed list.
    pub fn cause(&self) -> &'static str {
        match self {
            Self::Wrong(_) | Self::Request => "misdirected",
            Self::Time => "expired",
            Self::Signature => "forged",
            Self::Widened | Self::Limits => "widened",
            Self::Oversized => "oversized",
            Self::Unbound => "version",
            Self::Key => "unpinned",
            Self::Revoked => "revoked",
        }
    }
}

impl Capability {
    /// Signs a capability with the home's authority key.
    pub fn sign(self, authority: &SigningKey) -> Result<Signed<Self>, CanonicalError> {
        let signature = sign(CAPABILITY_DOMAIN, &self, authority)?;
        Ok(Signed { value: self, signature })
    }
}

impl Signed<Capability> {
    /// Whether this authority key has signed it.
    pub fn is_signed_by(&self, authority: &VerifyingKey) -> bool {
        is_signed(CAPABILITY_DOMAIN, &self.value, authority, &self.signature)
    }

    /// Checks that it is for a factory, and holds at an instant in Unix milliseconds.
    fn check_time_and_factory(&self, factory: &NodeId, now_ms: u64) -> Result<(), TicketError> {
        let value = &self.value;
        if value.factory != *factory {
            return Err(TicketError::Wrong("factory"));
        }
        let life_ms = value.until_ms.saturating_sub(value.from_ms);
        let begun = value.from_ms <= now_ms.saturating_add(CLOCK_SKEW_MS_MAX);
        if !begun || now_ms >= value.until_ms.saturating_add(CLOCK_SKEW_MS_MAX) || life_ms > CAPABILITY_MS_MAX {
            return Err(TicketError::Time);
        }
        Ok(())
    }
}

/// The record that carries one request's permission inside it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ticket {
    /// 16 random bytes, never used twice.
    #[serde(with = "bytes_as_hex")]
    pub nonce: [u8; 16],
    /// The decision it carries out.
    pub decision: DecisionId,
    /// The home that decided.
    pub home: NodeId,
    /// The factory that was chosen.
    pub factory: NodeId,
    /// The salted digest of the request's body.
    pub body: Digest,
    /// What was decided about.
    pub request: Request,
    /// Most tokens that may be generated.
    pub tokens_max: u32,
}

impl Ticket {
    /// The ticket's digest, which stands in both leaves.
    pub fn digest(&self) -> Result<Digest, CanonicalError> {
        Ok(self.digest_with(&canonical::to_bytes(&self.request)?))
    }

    /// The same, where the canonical bytes of its request are at hand.
    pub fn digest_with(&self, request: &[u8]) -> Digest {
        let ticket = Ordered::new(512 + request.len())
            .hex("body", &self.body.0)
            .text("decision", self.decision.as_str())
            .text("factory", self.factory.as_str())
            .text("home", self.home.as_str())
            .hex("nonce", &self.nonce)
            .raw("request", request)
            .number("tokens_max", self.tokens_max.into());
        canonical::hash(TICKET_DOMAIN, &[&ticket.end()])
    }
}

/// The salted digest of a request's body.
pub fn body_digest(salt: &[u8; 32], body: &[u8]) -> Digest {
    canonical::hash(REQUEST_DOMAIN, &[salt, body])
}

#[cfg(test)]
mod tests;
