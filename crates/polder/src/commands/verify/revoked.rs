//! What rests on a revoked key: the key histories that a verifier brings, and whose cosignatures count.

use ed25519_dalek::VerifyingKey;
use polder_core::cose::CoseReceipt;
use polder_core::export::Held;
use polder_core::ids::NodeId;
use polder_core::keys::history::{KeyHistory, Vouching, judge};
use polder_core::keys::{NodeCard, Role, Signed};
use polder_core::note::{Note, VerifierKey, origin};
use polder_core::receipt::{Check, Failure as NotHeld, Report};
use polder_core::tlog_policy::Policy;
use polder_core::tlog_proof::TlogProof;

use super::exported::Form;
use super::{Arguments, read_members};
use crate::failure::{Failure, of_file};

/// The histories, and who vouches.
pub struct Lives {
    histories: Vec<Signed<KeyHistory>>,
    policy: Option<Policy>,
    members: Vec<NodeCard>,
    witnesses: Vec<VerifierKey>,
}

impl Lives {
    /// Reads what the arguments name.
    pub fn read(arguments: &Arguments) -> Result<Self, Failure> {
        let mut histories = Vec::new();
        for path in &arguments.keys {
            let bytes = std::fs::read(path).map_err(of_file(path))?;
            let history = serde_json::from_slice(&bytes)
                .map_err(|error| Failure::new(format!("`{}` is no key history: {error}", path.display())))?;
            histories.push(history);
        }
        let members = arguments.members.as_deref().map(read_members).transpose()?.unwrap_or_default();
        let key = |card: &NodeCard| Some(VerifierKey::of_witness(&card.node, card.key(Role::Witness).ok()?));
        let witnesses = members.iter().filter_map(key).collect();
        Ok(Self { histories, policy: arguments.policy()?, members, witnesses })
    }

    /// The log keys in the histories of members.
    pub fn log_keys(&self) -> Vec<VerifierKey> {
        let of = |history: &Signed<KeyHistory>| {
            let node = history.value.node.clone();
            let own = self.of(&node, None).is_ok();
            let lives = history.value.keys.iter().filter(move |life| own && life.role == Role::Log);
            let key = |key: &[u8; 32]| VerifyingKey::from_bytes(key).ok();
            lives.filter_map(|life| Some(VerifierKey::of_log(&node, key(&life.key)?))).collect::<Vec<_>>()
        };
        self.histories.iter().flat_map(of).collect()
    }

    /// The history of a node, by the identity that is pinned: a member's, or that which the receipt names.
    fn of(&self, node: &NodeId, named: Option<[u8; 32]>) -> Result<Option<&KeyHistory>, NotHeld> {
        let Some(history) = self.histories.iter().find(|history| history.value.node == *node) else { return Ok(None) };
        let pinned = self.members.iter().find(|card| card.node == *node).map(|card| card.identity);
        let message = || format!("whose key history of `{node}` this is, only the members tell: name --members");
        let identity = pinned.or(named).ok_or_else(|| NotHeld::new(Check::Revocation, message()))?;
        history.check(node, &identity).map_err(|error| NotHeld::new(Check::Revocation, error.to_string()))?;
        Ok(Some(&history.value))
    }

    fn judge(&self, history: &KeyHistory, log: &VerifierKey, note: &str) -> Result<(), NotHeld> {
        let note = Note::parse(note).map_err(|error| NotHeld::new(Check::Checkpoint, error.to_string()))?;
        // A node does not vouch for its own log.
        let own = polder_core::note::witness_name(&history.node);
        let others: Vec<VerifierKey> = self.witnesses.iter().filter(|key| key.name() != own).cloned().collect();
        let vouching = self.policy.as_ref().map_or(Vouching::Any(&others), Vouching::Policy);
        judge(history, log, &note, vouching)
    }

    /// Looks at both halves of a receipt.
    pub fn check_receipt(&self, report: &mut Report) -> Result<(), NotHeld> {
        let mut looked = false;
        for half in std::iter::once(&report.receipt.decision).chain(&report.receipt.execution) {
            if let Some(history) = self.of(&half.card.node, Some(half.card.identity))? {
                self.judge(history, &half.export()?.log, &half.checkpoint)?;
                looked = true;
            }
        }
        if looked {
            report.passed.push(Check::Revocation);
        }
        Ok(())
    }

    /// Looks at an exported receipt; who its node is, the members tell.
    pub fn check_exported(&self, bytes: &[u8], form: Form, mut held: Held) -> Result<Held, NotHeld> {
        let Some(node) = held.log.strip_prefix("polder/").and_then(|name| NodeId::parse(name).ok()) else {
            return Ok(held);
        };
        let Some(history) = self.of(&node, None)? else { return Ok(held) };
        let note = match form {
            Form::Cose => CoseReceipt::parse(bytes).ok().map(|receipt| receipt.checkpoint),
            _ => std::str::from_utf8(bytes)
                .ok()
                .and_then(|text| TlogProof::parse(text).ok())
                .map(|one| one.checkpoint.to_string()),
        };
        let note = note.ok_or_else(|| NotHeld::new(Check::Format, "it holds no checkpoint"))?;
        let parsed = Note::parse(&note).map_err(|error| NotHeld::new(Check::Checkpoint, error.to_string()))?;
        // The keys of the history that signed it: one that may be believed is enough.
        let signed = history.keys.iter().filter(|life| life.role == Role::Log).filter_map(|life| {
            let key = VerifierKey::of_log(&node, VerifyingKey::from_bytes(&life.key).ok()?);
            parsed.signed_by(&key).ok().flatten().map(|_| key)
        });
        let mut failed =
            NotHeld::new(Check::Revocation, format!("no key of the history of `{}` signed it", origin(&node)));
        for key in signed {
            match self.judge(history, &key, &note) {
                Ok(()) => {
                    held.passed.push(Check::Revocation);
                    return Ok(held);
                }
                Err(failure) => failed = failure,
            }
        }
        Err(failed)
    }
}
