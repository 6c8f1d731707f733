//! A node's keys: an identity, seldom used, that signs one key for each role.
//!
//! Peers pin the identity and learn the role keys from the node's card. Making keys is absent: it needs randomness.

use std::collections::BTreeMap;

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::canonical::{self, CanonicalError, bytes_as_hex};
use crate::ids::NodeId;

pub mod history;

/// What a key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// TLS between peers.
    Transport,
    /// The log's checkpoints.
    Log,
    /// Cosignatures on peers' checkpoints.
    Witness,
    /// Capabilities and declared facts.
    Authority,
}

/// Every role, in the order of the list.
pub const ROLES: [Role; 4] = [Role::Transport, Role::Log, Role::Witness, Role::Authority];

/// Why a card cannot be believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CardError {
    /// The identity is not an Ed25519 key.
    #[error("the identity of `{0}` is not an Ed25519 key")]
    Identity(NodeId),
    /// A role has no key.
    #[error("the card of `{0}` has no {1:?} key")]
    Missing(NodeId, Role),
    /// A role's key is not signed by the identity.
    #[error("the {1:?} key of `{0}` is not signed by its identity")]
    Signature(NodeId, Role),
}

/// A role's key under the identity's signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoleKey {
    /// The Ed25519 public key.
    #[serde(with = "bytes_as_hex")]
    pub key: [u8; 32],
    /// The identity's signature over `polder/role-key/v1`, a zero byte and the canonical JSON of node, role and key.
    #[serde(with = "bytes_as_hex")]
    pub signature: [u8; 64],
}

/// A node's public keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeCard {
    /// The node.
    pub node: NodeId,
    /// Its identity, which peers pin.
    #[serde(with = "bytes_as_hex")]
    pub identity: [u8; 32],
    /// One key for each role.
    pub keys: BTreeMap<Role, RoleKey>,
}

#[derive(Serialize)]
struct Delegation<'a> {
    node: &'a NodeId,
    role: Role,
    #[serde(with = "bytes_as_hex")]
    key: [u8; 32],
}

impl NodeCard {
    /// The card of a node, signed by its identity.
    pub fn sign(node: NodeId, identity: &SigningKey, keys: &BTreeMap<Role, [u8; 32]>) -> Result<Self, CanonicalError> {
        let mut signed = BTreeMap::new();
        for (role, key) in keys {
            let signature = sign("polder/role-key/v1", &Delegation { node: &node, role: *role, key: *key }, identity)?;
            signed.insert(*role, RoleKey { key: *key, signature });
        }
        Ok(Self { node, identity: identity.verifying_key().to_bytes(), keys: signed })
    }

    /// Checks that the identity signed all four role keys.
    pub fn check(&self) -> Result<(), CardError> {
        let identity = VerifyingKey::from_bytes(&self.identity).map_err(|_| CardError::Identity(self.node.clone()))?;
        for role in ROLES {
            let held = self.keys.get(&role).ok_or_else(|| CardError::Missing(self.node.clone(), role))?;
            let delegation = Delegation { node: &self.node, role, key: held.key };
            if !is_signed("polder/role-key/v1", &delegation, &identity, &held.signature) {
                return Err(CardError::Signature(self.node.clone(), role));
            }
        }
        Ok(())
    }

    /// The key of a role, whether or not the card was checked.
    pub fn key(&self, role: Role) -> Result<VerifyingKey, CardError> {
        let held = self.keys.get(&role).ok_or_else(|| CardError::Missing(self.node.clone(), role))?;
        VerifyingKey::from_bytes(&held.key).map_err(|_| CardError::Signature(self.node.clone(), role))
    }
}

/// A value and a signature over a domain prefix, a zero byte and the value's canonical JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, bound(deserialize = "T: DeserializeOwned"))]
pub struct Signed<T> {
    /// The value.
    pub value: T,
    /// The signature.
    #[serde(with = "bytes_as_hex")]
    pub signature: [u8; 64],
}

/// Signs a domain prefix, a zero byte and a value's canonical JSON.
pub fn sign<T: Serialize>(domain: &str, value: &T, key: &SigningKey) -> Result<[u8; 64], CanonicalError> {
    Ok(key.sign(&message(domain, value)?).to_bytes())
}

/// Whether a signature made by [`sign`] is the key's.
pub fn is_signed<T: Serialize>(domain: &str, value: &T, key: &VerifyingKey, signature: &[u8; 64]) -> bool {
    message(domain, value).is_ok_and(|message| key.verify_strict(&message, &Signature::from_bytes(signature)).is_ok())
}

fn message<T: Serialize>(domain: &str, value: &T) -> Result<Vec<u8>, CanonicalError> {
    let mut message = domain.as_bytes().to_vec();
    message.push(0);
    message.extend(canonical::to_bytes(value)?);
    Ok(message)
}

#[cfg(test)]
mod tests;
