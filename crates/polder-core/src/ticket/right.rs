//! The right of a capability, bound to a channel's key and narrowed by whoever hands it on.
//!
//! A right is a capability and the links by which each holder handed it to the next: every link is signed by the holder before it,
//! names the one after it and that one's transport key, and can only narrow. What was meant is read from closed fields: there is no
//! language in it to be evaluated, so checking it takes the same few steps for everybody. Keeping rights is absent.

use std::collections::BTreeSet;

use ed25519_dalek::{SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};

use super::{CLOCK_SKEW_MS_MAX, Capability, TicketError};
use crate::canonical::{self, CanonicalError, Digest, bytes_as_hex};
use crate::ids::{ModelId, NodeId, ProjectId};
use crate::keys::{Signed, is_signed, sign};
use crate::labels::Action;
use crate::request::Request;

/// Most links of a right.
pub const LINKS_MAX: usize = 3;
/// Largest right, in bytes of its JSON.
pub const RIGHT_BYTES_MAX: usize = 8 << 10;
/// Most values of one limit.
const VALUES_MAX: usize = 64;

const LINK_DOMAIN: &str = "polder/capability-link/v1";
const PARENT_DOMAIN: &str = "polder/capability-parent/v1";
const REVOCATION_DOMAIN: &str = "polder/capability-revocation/v1";

/// What a right is limited to; what is absent is not limited.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// What may be done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actions: Option<BTreeSet<Action>>,
    /// With which models.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub models: Option<BTreeSet<ModelId>>,
    /// For which projects of the tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub projects: Option<BTreeSet<ProjectId>>,
    /// Most tokens that one request may generate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_max: Option<u32>,
}

/// What binds a capability to its holder: from version 2 of the messages on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bound {
    /// 16 random bytes, by which it can be revoked.
    #[serde(with = "bytes_as_hex")]
    pub id: [u8; 16],
    /// The transport key of the channel in which it counts.
    #[serde(with = "bytes_as_hex")]
    pub key: [u8; 32],
    /// What it is limited to.
    #[serde(default, skip_serializing_if = "Limits::is_open")]
    pub limits: Limits,
}

/// A right handed on: to whom, and how much narrower.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// The digest of what is handed on: the signed capability, or the signed link before.
    pub parent: Digest,
    /// 16 random bytes, by which this link and what follows from it can be revoked.
    #[serde(with = "bytes_as_hex")]
    pub id: [u8; 16],
    /// Who may use it from here on.
    pub holder: NodeId,
    /// That one's transport key.
    #[serde(with = "bytes_as_hex")]
    pub key: [u8; 32],
    /// First instant at which it no longer holds, in Unix milliseconds; not later than that of what is handed on.
    pub until_ms: u64,
    /// What it is limited to; not wider than what is handed on.
    #[serde(default, skip_serializing_if = "Limits::is_open")]
    pub limits: Limits,
}

/// Rights that are taken back: told by the home that granted them, passed on by anybody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revoked {
    /// The home.
    pub home: NodeId,
    /// The ids of capabilities and links.
    pub ids: BTreeSet<String>,
    /// When, in Unix milliseconds. No capability of before holds much longer than a minute, and neither does this.
    pub at_ms: u64,
}

/// Most ids of one revocation.
pub const REVOKED_MAX: usize = 4_096;

/// Who presents a right to whom, and when.
#[derive(Clone, Copy)]
pub struct Presented<'a> {
    /// The node at the other end of the channel.
    pub speaker: &'a NodeId,
    /// The transport key that it showed; absent within one process, where there is no channel.
    pub key: Option<&'a [u8; 32]>,
    /// The factory that is asked.
    pub factory: &'a NodeId,
    /// The instant, in Unix milliseconds.
    pub now_ms: u64,
    /// The version of the message.
    pub version: u32,
}

/// What a factory knows of those who sign rights.
pub trait Issuers {
    /// The authority keys of a node; none where it is no member.
    fn authorities(&self, node: &NodeId) -> Vec<VerifyingKey>;
    /// Whether a right with this id was taken back.
    fn is_revoked(&self, id: &[u8; 16]) -> bool;
}

impl Limits {
    /// Whether nothing is limited.
    pub fn is_open(&self) -> bool {
        *self == Self::default()
    }

    /// Whether these limits are nowhere wider than others.
    pub fn within(&self, wider: &Self) -> bool {
        fn set<T: Ord>(own: &Option<BTreeSet<T>>, wider: &Option<BTreeSet<T>>) -> bool {
            match (own, wider) {
                (_, None) => true,
                (None, Some(_)) => false,
                (Some(own), Some(wider)) => own.is_subset(wider),
            }
        }
        let tokens = match (self.tokens_max, wider.tokens_max) {
            (_, None) => true,
            (None, Some(_)) => false,
            (Some(own), Some(wider)) => own <= wider,
        };
        tokens
            && set(&self.actions, &wider.actions)
            && set(&self.models, &wider.models)
            && set(&self.projects, &wider.projects)
    }

    /// Whether a request with at most so many tokens to generate lies within them.
    pub fn admit(&self, request: &Request, tokens_max: u32) -> bool {
        let model = |models: &BTreeSet<ModelId>| request.model.as_ref().is_some_and(|model| models.contains(model));
        self.actions.as_ref().is_none_or(|actions| actions.contains(&request.action))
            && self.models.as_ref().is_none_or(model)
            && self.projects.as_ref().is_none_or(|projects| projects.contains(&request.project))
            && self.tokens_max.is_none_or(|most| tokens_max <= most)
    }

    fn is_bounded(&self) -> bool {
        let count = |one: Option<usize>| one.unwrap_or(0) <= VALUES_MAX;
        count(self.actions.as_ref().map(BTreeSet::len))
            && count(self.models.as_ref().map(BTreeSet::len))
            && count(self.projects.as_ref().map(BTreeSet::len))
    }
}

impl Link {
    /// A link that hands a capability on, or, where there are links already, the last of them.
    pub fn parent_of(capability: &Signed<Capability>, links: &[Signed<Link>]) -> Result<Digest, CanonicalError> {
        match links.last() {
            Some(link) => canonical::digest(PARENT_DOMAIN, link),
            None => canonical::digest(PARENT_DOMAIN, capability),
        }
    }

    /// Signs it by the authority key of whoever hands the right on.
    pub fn sign(self, authority: &SigningKey) -> Result<Signed<Self>, CanonicalError> {
        let signature = sign(LINK_DOMAIN, &self, authority)?;
        Ok(Signed { value: self, signature })
    }
}

impl Revoked {
    /// Signs it by the home's authority key.
    pub fn sign(self, authority: &SigningKey) -> Result<Signed<Self>, CanonicalError> {
        let signature = sign(REVOCATION_DOMAIN, &self, authority)?;
        Ok(Signed { value: self, signature })
    }
}

impl Signed<Revoked> {
    /// The ids that are taken back, where the home has signed it by one of its keys.
    pub fn check(&self, authorities: &[VerifyingKey]) -> Result<Vec<[u8; 16]>, TicketError> {
        if self.value.ids.len() > REVOKED_MAX {
            return Err(TicketError::Oversized);
        }
        if !authorities.iter().any(|key| is_signed(REVOCATION_DOMAIN, &self.value, key, &self.signature)) {
            return Err(TicketError::Signature);
        }
        let id = |text: &String| {
            let mut id = [0; 16];
            hex::decode_to_slice(text, &mut id).ok().map(|()| id)
        };
        self.value.ids.iter().map(id).collect::<Option<_>>().ok_or(TicketError::Signature)
    }
}

/// Checks a right whole, signatures too, and returns what it is limited to.
pub fn check_right(
    capability: &Signed<Capability>,
    links: &[Signed<Link>],
    presented: &Presented<'_>,
    issuers: &dyn Issuers,
) -> Result<Limits, TicketError> {
    let limits = check_right_again(capability, links, presented, issuers)?;
    let home = &capability.value.home;
    if !issuers.authorities(home).iter().any(|key| capability.is_signed_by(key)) {
        return Err(TicketError::Signature);
    }
    let mut giver = home;
    for (place, link) in links.iter().enumerate() {
        let before = links.get(..place).unwrap_or_default();
        let parent = Link::parent_of(capability, before).map_err(|_| TicketError::Signature)?;
        let signed = |key: &VerifyingKey| is_signed(LINK_DOMAIN, &link.value, key, &link.signature);
        if link.value.parent != parent || !issuers.authorities(giver).iter().any(signed) {
            return Err(TicketError::Signature);
        }
        giver = &link.value.holder;
    }
    Ok(limits)
}

/// Checks everything but the signatures: for the very same right, whose signatures were found good before.
pub fn check_right_again(
    capability: &Signed<Capability>,
    links: &[Signed<Link>],
    presented: &Presented<'_>,
    issuers: &dyn Issuers,
) -> Result<Limits, TicketError> {
    let value = &capability.value;
    let holder = links.last().map_or(&value.home, |link| &link.value.holder);
    if holder != presented.speaker {
        return Err(TicketError::Wrong("home"));
    }
    capability.check_time_and_factory(presented.factory, presented.now_ms)?;
    let Some(bound) = &value.bound else {
        // Version 1 knows neither keys nor links; a newer one does not do without.
        return if presented.version >= 2 || !links.is_empty() {
            Err(TicketError::Unbound)
        } else {
            Ok(Limits::default())
        };
    };
    if links.len() > LINKS_MAX || !bound.limits.is_bounded() {
        return Err(TicketError::Oversized);
    }
    let (mut until_ms, mut limits, mut key) = (value.until_ms, &bound.limits, &bound.key);
    if issuers.is_revoked(&bound.id) {
        return Err(TicketError::Revoked);
    }
    for Signed { value: link, .. } in links {
        if issuers.is_revoked(&link.id) {
            return Err(TicketError::Revoked);
        }
        if !link.limits.is_bounded() {
            return Err(TicketError::Oversized);
        }
        if link.until_ms > until_ms || !link.limits.within(limits) {
            return Err(TicketError::Widened);
        }
        (until_ms, limits, key) = (link.until_ms, &link.limits, &link.key);
    }
    if presented.now_ms >= until_ms.saturating_add(CLOCK_SKEW_MS_MAX) {
        return Err(TicketError::Time);
    }
    match presented.key.is_none_or(|shown| shown == key) {
        true => Ok(limits.clone()),
        false => Err(TicketError::Key),
    }
}

#[cfg(test)]
mod tests;
