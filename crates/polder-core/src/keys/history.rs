//! The life of a node's keys: since when each is used, until when, and since when one is not to be trusted any more.
//!
//! The history is signed by the node's identity, which peers pin; it only ever grows. What rests on a revoked key is believed where
//! a witness had cosigned it before the instant from which the key is not to be trusted, for a thief cannot make a witness sign in the
//! past; times inside statements are the thief's to choose, and count for nothing. Making and keeping keys is absent.

use ed25519_dalek::{SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};

use super::{NodeCard, ROLES, Role, Signed, is_signed, sign};
use crate::canonical::{CanonicalError, bytes_as_hex};
use crate::check::{Check, Failure};
use crate::ids::NodeId;
use crate::note::{Note, VerifierKey};
use crate::tlog_policy::Policy;

const HISTORY_DOMAIN: &str = "polder/key-history/v1";
const CHANGE_DOMAIN: &str = "polder/key-change/v1";
/// Most keys of a history.
pub const KEYS_MAX: usize = 4_096;

/// One key's life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyLife {
    /// What it is for.
    pub role: Role,
    /// The Ed25519 public key.
    #[serde(with = "bytes_as_hex")]
    pub key: [u8; 32],
    /// Since when it is used, in Unix milliseconds.
    pub from_ms: u64,
    /// Until when it is used beside its successor, in Unix milliseconds; absent while it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_ms: Option<u64>,
    /// Whether it was revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<Revocation>,
}

/// That a key was revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revocation {
    /// When, in Unix milliseconds.
    pub at_ms: u64,
    /// Since when it is not to be trusted, in Unix milliseconds; not later than `at_ms`.
    pub since_ms: u64,
}

/// The lives of all of a node's keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyHistory {
    /// The node.
    pub node: NodeId,
    /// One more with each change.
    pub number: u64,
    /// The keys, in the order in which they came.
    pub keys: Vec<KeyLife>,
}

/// A change of a node's keys, as its log tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyChange {
    /// The node.
    pub node: NodeId,
    /// The number of the history that holds it.
    pub number: u64,
    /// What the key is for.
    pub role: Role,
    /// What becomes of it.
    pub act: KeyAct,
    /// The key.
    #[serde(with = "bytes_as_hex")]
    pub key: [u8; 32],
    /// The key that takes its place.
    #[serde(with = "bytes_as_hex")]
    pub next: [u8; 32],
    /// The instant, in Unix milliseconds.
    pub at_ms: u64,
    /// For a rotation, until when both are used; for a revocation, since when the key is not to be trusted. In Unix milliseconds.
    pub bound_ms: u64,
}

/// What becomes of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyAct {
    /// Another takes its place.
    Rotated,
    /// It is not to be trusted any more, and another takes its place at once.
    Revoked,
}

/// Why a history cannot be believed or changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HistoryError {
    /// It is not signed by the identity.
    #[error("the key history of `{0}` is not signed by its identity")]
    Signature(NodeId),
    /// It leaves out or changes what was said before.
    #[error("the key history of `{0}` does not go on from what was known of it")]
    Broken(NodeId),
    /// There is no such key in use.
    #[error("the node has no {0:?} key in use")]
    Missing(Role),
    /// A change that cannot be.
    #[error("{0}")]
    Invalid(&'static str),
}

impl KeyHistory {
    /// The history of a node that has never changed a key.
    pub fn first(card: &NodeCard, at_ms: u64) -> Self {
        let life = |role: Role| {
            let key = card.keys.get(&role)?.key;
            Some(KeyLife { role, key, from_ms: at_ms, until_ms: None, revoked: None })
        };
        Self { node: card.node.clone(), number: 1, keys: ROLES.into_iter().filter_map(life).collect() }
    }

    /// The key of a role that has no successor.
    pub fn current(&self, role: Role) -> Option<&KeyLife> {
        self.keys.iter().rev().find(|life| life.role == role && life.until_ms.is_none() && life.revoked.is_none())
    }

    /// A key's life.
    pub fn life(&self, role: Role, key: &[u8]) -> Option<&KeyLife> {
        self.keys.iter().find(|life| life.role == role && life.key == *key)
    }

    /// The keys of a role that were never revoked, the newest first.
    pub fn trusted(&self, role: Role) -> impl Iterator<Item = &KeyLife> {
        self.keys.iter().rev().filter(move |life| life.role == role && life.revoked.is_none())
    }

    /// The history after a change. A revocation takes every key of the role that was in use since the instant that it names: the
    /// current one, and those that have a successor and signed until after that instant.
    pub fn changed(&self, change: &KeyChange) -> Result<Self, HistoryError> {
        let invalid = |message| Err(HistoryError::Invalid(message));
        let current = self.current(change.role).ok_or(HistoryError::Missing(change.role))?;
        if current.key != change.key || change.node != self.node || change.number != self.number.saturating_add(1) {
            return invalid("the change is not one of the key in use");
        }
        if self.keys.iter().any(|life| life.key == change.next) {
            return invalid("the new key was used before");
        }
        if self.keys.len() >= KEYS_MAX {
            return invalid("the history is full");
        }
        let (at_ms, bound_ms) = (change.at_ms, change.bound_ms);
        match change.act {
            KeyAct::Rotated if bound_ms < at_ms => return invalid("the overlap ends before it begins"),
            KeyAct::Revoked if bound_ms > at_ms => {
                return invalid("a key cannot be distrusted from a later instant on");
            }
            _ => {}
        }
        let mut next = Self { number: change.number, ..self.clone() };
        for life in next.keys.iter_mut().filter(|life| life.role == change.role && life.revoked.is_none()) {
            match change.act {
                KeyAct::Rotated if life.key == change.key => life.until_ms = Some(bound_ms),
                // Whoever may have had the log's key then may have had the one before it, too.
                KeyAct::Revoked if life.key == change.key || life.until_ms.is_some_and(|until| until > bound_ms) => {
                    life.revoked = Some(Revocation { at_ms, since_ms: bound_ms })
                }
                _ => {}
            }
        }
        let (role, key) = (change.role, change.next);
        next.keys.push(KeyLife { role, key, from_ms: at_ms, until_ms: None, revoked: None });
        Ok(next)
    }

    /// Signs it by the node's identity.
    pub fn sign(self, identity: &SigningKey) -> Result<Signed<Self>, CanonicalError> {
        let signature = sign(HISTORY_DOMAIN, &self, identity)?;
        Ok(Signed { value: self, signature })
    }
}

impl KeyChange {
    /// A signature over it: the identity's, or that of the key that goes.
    pub fn sign(&self, key: &dyn crate::note::Signs) -> Result<[u8; 64], String> {
        let message = super::message(CHANGE_DOMAIN, self).map_err(|error| error.to_string())?;
        key.sign_bytes(&message)
    }

    /// Whether a signature over it is the key's.
    pub fn is_signed(&self, key: &VerifyingKey, signature: &[u8; 64]) -> bool {
        is_signed(CHANGE_DOMAIN, self, key, signature)
    }
}

impl Signed<KeyHistory> {
    /// Checks that it is the node's own, by the identity that is pinned.
    pub fn check(&self, node: &NodeId, identity: &[u8; 32]) -> Result<(), HistoryError> {
        let own = self.value.node == *node && self.value.keys.len() <= KEYS_MAX;
        let key = VerifyingKey::from_bytes(identity).ok().filter(|_| own);
        match key.is_some_and(|key| is_signed(HISTORY_DOMAIN, &self.value, &key, &self.signature)) {
            true => Ok(()),
            false => Err(HistoryError::Signature(node.clone())),
        }
    }

    /// Checks that nothing which an earlier history said was taken back.
    pub fn goes_on_from(&self, before: &KeyHistory) -> Result<(), HistoryError> {
        let kept = |life: &KeyLife| {
            self.value.life(life.role, &life.key).is_some_and(|now| {
                let ended = life.until_ms.is_none() || life.until_ms == now.until_ms;
                let revoked = life.revoked.is_none() || life.revoked == now.revoked;
                now.from_ms == life.from_ms && ended && revoked
            })
        };
        let goes_on = self.value.node == before.node && self.value.number >= before.number;
        match goes_on && before.keys.iter().all(kept) {
            true => Ok(()),
            false => Err(HistoryError::Broken(before.node.clone())),
        }
    }
}

/// Whose cosignatures count where a key was revoked.
#[derive(Debug, Clone, Copy)]
pub enum Vouching<'a> {
    /// Any one of these witnesses.
    Any(&'a [VerifierKey]),
    /// The quorum of a policy.
    Policy(&'a Policy),
}

/// Whether a checkpoint may be believed that a log's key has signed, as far as the key's life tells. The instants of the
/// cosignatures count, by which a witness says when it signed.
pub fn judge(history: &KeyHistory, log: &VerifierKey, note: &Note, vouching: Vouching<'_>) -> Result<(), Failure> {
    let failed = |message: String| Err(Failure::new(Check::Revocation, message));
    let Some(life) = history.life(Role::Log, log.public_bytes()) else {
        return failed(format!("the log's key is not among those in the key history of `{}`", history.node));
    };
    let Some(Revocation { since_ms, .. }) = life.revoked else { return Ok(()) };
    // A witness says when it signed in whole seconds: the whole second must lie before.
    let before = |at_s: u64| at_s.saturating_add(1).saturating_mul(1_000) <= since_ms;
    let vouched = match vouching {
        Vouching::Any(witnesses) => {
            witnesses.iter().any(|witness| matches!(note.signed_by(witness), Ok(Some(at_s)) if before(at_s)))
        }
        Vouching::Policy(policy) => {
            // Only lines that are early enough are shown to the policy.
            let late = |line: &crate::note::SignatureLine| {
                policy.witnesses.iter().map(|witness| &witness.key).any(|witness| {
                    let alone = Note { text: note.text.clone(), signatures: vec![line.clone()] };
                    line.is_of(witness) && !matches!(alone.signed_by(witness), Ok(Some(at_s)) if before(at_s))
                })
            };
            let early = note.signatures.iter().filter(|line| !late(line)).cloned().collect();
            policy.accept(&Note { text: note.text.clone(), signatures: early }, Some(log)).is_ok()
        }
    };
    if vouched {
        return Ok(());
    }
    failed(format!(
        "the log's key was revoked and is not to be trusted since {since_ms} (Unix milliseconds), and no witness that counts here \
         had cosigned this checkpoint before"
    ))
}

#[cfg(test)]
mod tests;
