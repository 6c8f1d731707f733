//! What a factory knows of the rights to use it: who may grant some, which it found good, and which were taken back.
//!
//! A right is verified once; the very same one is only looked at again for its time, its channel and whether it was revoked. Rights
//! live a minute, so what was revoked is remembered in memory a little longer than that, and on disk for a node that starts again.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError, RwLock};

use arc_swap::ArcSwap;
use ed25519_dalek::VerifyingKey;
use polder_core::ids::{NodeId, TenantId};
use polder_core::keys::{Role, Signed};
use polder_core::policy::{Cause, LayerKind};
use polder_core::ticket::right::{
    Issuers, Limits, Link, Presented, RIGHT_BYTES_MAX, Revoked, check_right, check_right_again,
};
use polder_core::ticket::{CAPABILITY_MS_MAX, CLOCK_SKEW_MS_MAX, Capability, TicketError};

use crate::members::Held;
use crate::metrics;
use crate::peers::wire::Envelope;

/// Most rights that are kept as verified.
const RIGHTS_MAX: usize = 4_096;
/// Most ids that are remembered as revoked; past that no right at all counts until the first are forgotten.
const REVOKED_IDS_MAX: usize = 65_536;
/// How long an id is remembered, in milliseconds: whatever it names does not hold longer.
const REMEMBERED_MS: u64 = CAPABILITY_MS_MAX + 2 * CLOCK_SKEW_MS_MAX;

/// A capability, and how it was handed on.
type Right = (Signed<Capability>, Vec<Signed<Link>>);

/// The rights to use one factory.
pub struct Rights {
    node: NodeId,
    homes: ArcSwap<BTreeMap<NodeId, Vec<VerifyingKey>>>,
    /// The last right of each holder and tenant that was found good.
    good: Mutex<BTreeMap<(NodeId, TenantId), Right>>,
    /// What was taken back, and until when that is remembered, in Unix milliseconds.
    revoked: RwLock<BTreeMap<[u8; 16], u64>>,
}

/// What the core asks of it.
struct Asked<'a> {
    homes: &'a BTreeMap<NodeId, Vec<VerifyingKey>>,
    revoked: &'a BTreeMap<[u8; 16], u64>,
}

impl Issuers for Asked<'_> {
    fn authorities(&self, node: &NodeId) -> Vec<VerifyingKey> {
        self.homes.get(node).cloned().unwrap_or_default()
    }

    fn is_revoked(&self, id: &[u8; 16]) -> bool {
        self.revoked.len() >= REVOKED_IDS_MAX || self.revoked.contains_key(id)
    }
}

impl Rights {
    /// The rights at a factory that knows nobody yet.
    pub fn new(node: &NodeId) -> Self {
        Self { node: node.clone(), homes: ArcSwap::default(), good: Mutex::default(), revoked: RwLock::default() }
    }

    /// Follows who is a member now, and the keys that they sign with; the node itself is one.
    pub fn follow(&self, own: [u8; 32], members: &[Held]) {
        let keys = |keys: &[[u8; 32]]| keys.iter().filter_map(|key| VerifyingKey::from_bytes(key).ok()).collect();
        let all = members.iter().map(|held| (held.member.card.node.clone(), keys(held.keys(Role::Authority))));
        self.homes.store(std::sync::Arc::new(all.chain([(self.node.clone(), keys(&[own]))]).collect()));
        // What was found good by a key that counts no more is to be found again.
        self.good.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Checks an envelope's right, as it came in a node's channel; what it is limited to.
    pub(super) fn check(
        &self,
        (speaker, key): (&NodeId, Option<&[u8; 32]>),
        factory: &NodeId,
        envelope: &Envelope,
        now_ms: u64,
    ) -> Result<Limits, Vec<Cause>> {
        let right = (&envelope.capability, envelope.links.as_slice(), envelope.version);
        self.check_right((speaker, key), factory, right, now_ms)
    }

    /// Checks a capability that came by itself, in its home's own channel.
    pub(super) fn check_alone(
        &self,
        home: &NodeId,
        factory: &NodeId,
        capability: &Signed<Capability>,
        now_ms: u64,
    ) -> Result<(), Vec<Cause>> {
        let version = if capability.value.bound.is_some() { 2 } else { 1 };
        self.check_right((home, None), factory, (capability, &[], version), now_ms).map(drop)
    }

    fn check_right(
        &self,
        (speaker, key): (&NodeId, Option<&[u8; 32]>),
        factory: &NodeId,
        (capability, links, version): (&Signed<Capability>, &[Signed<Link>], u32),
        now_ms: u64,
    ) -> Result<Limits, Vec<Cause>> {
        let refused = |rule: &str, reason: String| vec![Cause::built_in(LayerKind::Terms, rule, reason)];
        let homes = self.homes.load();
        if !homes.contains_key(speaker) || !homes.contains_key(&capability.value.home) {
            metrics::peer_refused("unpinned");
            return Err(refused("unknown-home", format!("`{speaker}` is no member")));
        }
        let presented = Presented { speaker, key, factory, now_ms, version };
        let place = (speaker.clone(), capability.value.tenant.clone());
        let known = {
            let good = self.good.lock().unwrap_or_else(PoisonError::into_inner);
            good.get(&place).is_some_and(|(held, before)| held == capability && before == links)
        };
        let checked = {
            let revoked = self.revoked.read().unwrap_or_else(PoisonError::into_inner);
            let asked = Asked { homes: &homes, revoked: &revoked };
            match known {
                true => check_right_again(capability, links, &presented, &asked),
                false => sized(capability, links).and_then(|()| check_right(capability, links, &presented, &asked)),
            }
        };
        let limits = checked.map_err(|error| {
            metrics::peer_refused(error.cause());
            refused("capability", error.to_string())
        })?;
        if !known {
            let mut good = self.good.lock().unwrap_or_else(PoisonError::into_inner);
            if good.len() >= RIGHTS_MAX {
                good.clear();
            }
            good.insert(place, (capability.clone(), links.to_vec()));
        }
        Ok(limits)
    }

    /// Takes in what a home takes back; the ids, and until when they are remembered.
    pub fn revoke(&self, told: &Signed<Revoked>, now_ms: u64) -> Result<Vec<([u8; 16], u64)>, TicketError> {
        let homes = self.homes.load();
        let ids = told.check(homes.get(&told.value.home).map_or(&[], Vec::as_slice));
        let ids = ids.inspect_err(|error| metrics::peer_refused(error.cause()))?;
        let until_ms = now_ms.saturating_add(REMEMBERED_MS);
        let rows: Vec<([u8; 16], u64)> = ids.into_iter().map(|id| (id, until_ms)).collect();
        self.remember(&rows, now_ms);
        Ok(rows)
    }

    /// Remembers ids that were taken back, such as those of before a start.
    pub fn remember(&self, rows: &[([u8; 16], u64)], now_ms: u64) {
        let mut revoked = self.revoked.write().unwrap_or_else(PoisonError::into_inner);
        revoked.retain(|_, until| now_ms < *until);
        revoked.extend(rows.iter().filter(|(_, until)| now_ms < *until).copied());
    }
}

/// Whether a right is no larger than any needs to be.
fn sized(capability: &Signed<Capability>, links: &[Signed<Link>]) -> Result<(), TicketError> {
    let size = serde_json::to_vec(&(capability, links)).map_or(usize::MAX, |bytes| bytes.len());
    if size > RIGHT_BYTES_MAX { Err(TicketError::Oversized) } else { Ok(()) }
}
