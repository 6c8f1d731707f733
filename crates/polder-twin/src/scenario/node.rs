//! A node of the twin: keys from its name, a log in memory, and the halves of receipts that come of it.
//!
//! Keys made from names are worth nothing as secrets; they make transcripts repeatable. Storage and peers are absent.

use std::collections::BTreeMap;

use ed25519_dalek::SigningKey;
use polder_core::canonical::{CanonicalError, hash};
use polder_core::ids::NodeId;
use polder_core::keys::{NodeCard, ROLES, Role};
use polder_core::merkle::{Tree, leaf_hash};
use polder_core::note::{Checkpoint, origin};
use polder_core::receipt::{self, Check, Failure, Half};
use polder_core::statement::commitment;
use polder_core::statement::v1::Statement;

/// A signing key made from a name, the same in every run.
pub(crate) fn key_of(name: &str) -> SigningKey {
    SigningKey::from_bytes(&hash("polder/twin/key", &[name.as_bytes()]).0)
}

/// 32 bytes made from a number, the same in every run, that stand where the product has randomness.
pub(super) fn bytes_of(number: u64) -> [u8; 32] {
    hash("polder/twin/bytes", &[&number.to_be_bytes()]).0
}

pub(super) struct Node {
    pub card: NodeCard,
    log: SigningKey,
    tree: Tree,
}

impl Node {
    pub fn new(id: &NodeId) -> Result<Self, CanonicalError> {
        let public = |role: Role| key_of(&role_name(id, role)).verifying_key().to_bytes();
        let keys: BTreeMap<Role, [u8; 32]> = ROLES.iter().map(|role| (*role, public(*role))).collect();
        let card = NodeCard::sign(id.clone(), &key_of(id.as_str()), &keys)?;
        Ok(Self { card, log: key_of(&role_name(id, Role::Log)), tree: Tree::default() })
    }

    /// Appends a statement to the log and signs a checkpoint that holds it.
    pub fn state(&mut self, statement: Statement, salt: [u8; 32]) -> Result<Half, String> {
        let bytes = statement.to_bytes().map_err(|e| e.to_string())?;
        let index = self.tree.size();
        self.tree.push(leaf_hash(&commitment(&salt, &bytes).0));
        let size = self.tree.size();
        let checkpoint = Checkpoint::new(origin(&self.card.node), size, self.tree.root());
        let path = self.tree.inclusion(index, size).ok_or("the log lost a leaf that was just appended")?;
        Ok(Half { statement, salt, index, path, checkpoint: checkpoint.sign(&self.log), card: self.card.clone() })
    }
}

/// The key that signs what a factory declares, made from its name.
pub(crate) fn authority_of(id: &NodeId) -> SigningKey {
    key_of(&role_name(id, Role::Authority))
}

fn role_name(id: &NodeId, role: Role) -> String {
    format!("{id}/{role:?}")
}

/// Verifies a receipt against the members' cards, and says which checks it passed.
pub(super) fn verify(bytes: &[u8], members: &[NodeCard]) -> Result<Vec<Check>, Failure> {
    receipt::verify(bytes, Some(members)).map(|report| report.passed)
}
