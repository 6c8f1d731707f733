//! The rights that a home grants itself at the factories: one for each, signed for up to a minute, bound to the key of its channel.
//!
//! Nothing is signed for a request. Checking a right is absent: that is the factory's.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError, RwLock};

use ed25519_dalek::SigningKey;
use polder_core::ids::{NodeId, TenantId};
use polder_core::keys::Signed;
use polder_core::membership::{SPOKEN, Versions};
use polder_core::ticket::{Bound, CAPABILITY_MS_MAX, Capability, Limits, Revoked};

use super::HomeError;
use crate::clock::{now_ms, random};

/// A right, and the version of the messages that it is for.
#[derive(Debug, Clone)]
pub struct Granted {
    /// The newest version that both sides speak.
    pub version: u32,
    /// The right.
    pub capability: Signed<Capability>,
}

/// What grants a home's rights.
pub struct Granter {
    node: NodeId,
    tenant: TenantId,
    signs: RwLock<Signs>,
    held: Mutex<BTreeMap<NodeId, Granted>>,
}

/// What a right is signed with, and bound to.
struct Signs {
    authority: SigningKey,
    /// The transport key that this node shows; absent where it has no channel.
    channel: Option<[u8; 32]>,
}

impl Granter {
    /// What grants the rights of a tenant's home.
    pub fn new(node: NodeId, tenant: TenantId, authority: SigningKey) -> Self {
        Self { node, tenant, signs: RwLock::new(Signs { authority, channel: None }), held: Mutex::default() }
    }

    /// Signs with this key from now on, and for channels that show that one.
    pub fn follow(&self, authority: SigningKey, channel: [u8; 32]) {
        let mut signs = self.signs.write().unwrap_or_else(PoisonError::into_inner);
        if signs.authority == authority && signs.channel == Some(channel) {
            return;
        }
        *signs = Signs { authority, channel: Some(channel) };
        drop(signs);
        self.held.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// The right to use a factory that speaks these versions; a factory that does not say speaks the first.
    pub fn to(&self, factory: &NodeId, spoken: impl FnOnce() -> Option<Versions>) -> Result<Granted, HomeError> {
        let now = now_ms();
        {
            let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
            let holds = |held: &&Granted| held.capability.value.until_ms > now.saturating_add(5_000);
            if let Some(granted) = held.get(factory).filter(holds) {
                return Ok(granted.clone());
            }
        }
        let spoken = spoken().unwrap_or(Versions { least: 1, most: 1 });
        let newest = SPOKEN.newest_with(spoken);
        let version = newest.ok_or_else(|| {
            HomeError::Internal(format!("`{factory}` speaks versions {spoken} of the messages, this node {SPOKEN}"))
        })?;
        let signs = self.signs.read().unwrap_or_else(PoisonError::into_inner);
        let bound = match signs.channel.filter(|_| version >= 2) {
            Some(key) => Some(Bound { id: random()?, key, limits: Limits::default() }),
            None => None,
        };
        let version = if bound.is_some() { version } else { 1 };
        let capability = Capability {
            home: self.node.clone(),
            factory: factory.clone(),
            tenant: self.tenant.clone(),
            from_ms: now,
            until_ms: now.saturating_add(CAPABILITY_MS_MAX),
            bound,
        };
        let granted = Granted { version, capability: capability.sign(&signs.authority)? };
        self.held.lock().unwrap_or_else(PoisonError::into_inner).insert(factory.clone(), granted.clone());
        Ok(granted)
    }

    /// Takes back every right that holds now, and these ids beside; what the factories are to be told. New ones are granted when
    /// they are needed again.
    pub fn revoke(&self, more: BTreeSet<String>) -> Result<Signed<Revoked>, HomeError> {
        let signs = self.signs.read().unwrap_or_else(PoisonError::into_inner);
        let held = std::mem::take(&mut *self.held.lock().unwrap_or_else(PoisonError::into_inner));
        let ids = held.values().filter_map(|granted| Some(hex::encode(granted.capability.value.bound.as_ref()?.id)));
        let revoked = Revoked { home: self.node.clone(), ids: ids.chain(more).collect(), at_ms: now_ms() };
        Ok(revoked.sign(&signs.authority)?)
    }

    /// The ids of the rights that hold now, by factory.
    pub fn ids(&self) -> BTreeMap<NodeId, String> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let id = |(factory, granted): (&NodeId, &Granted)| {
            Some((factory.clone(), hex::encode(granted.capability.value.bound.as_ref()?.id)))
        };
        held.iter().filter_map(id).collect()
    }
}
