//! Receipts: one file that lets a stranger check, offline, what a home decided and what a factory did.
//!
//! A receipt holds both statements, their salts, their inclusion proofs and the signed checkpoints. It is canonical
//! JSON and a line feed, and it is read in that form only, so that no byte of it can change unnoticed. What a receipt
//! proves is who claimed what, and that nobody changed it afterwards; that a claim was true is absent, and nothing
//! here says so.

use serde::{Deserialize, Serialize};

use crate::canonical::{self, CanonicalError, Digest, bytes_as_hex};
pub use crate::check::{Check, Failure};
use crate::export::{Export, Seals};
use crate::keys::{NodeCard, Role};
use crate::merkle;
use crate::note::{self, Checkpoint, VerifierKey};
use crate::placement::Outcome;
use crate::statement::commitment;
use crate::statement::v1::{DecisionRecord, DecisionStatement, ExecutionStatement, Statement};
use crate::tables::Tables;

/// A decision and, where something ran, its execution.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    /// Always `polder/receipt/v1`.
    pub receipt: String,
    /// What the home decided.
    pub decision: Half,
    /// The tables that the decision's statement names.
    pub tables: Tables,
    /// What the factory did; absent for a refusal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub execution: Option<Half>,
}

/// The value of a receipt's own field.
pub const RECEIPT_V1: &str = "polder/receipt/v1";

/// One statement with the proof that it stands in its node's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Half {
    /// What the node says.
    pub statement: Statement,
    /// The salt of its commitment.
    #[serde(with = "bytes_as_hex")]
    pub salt: [u8; 32],
    /// The leaf's place in the log, from 0.
    pub index: u64,
    /// The hashes from the leaf to the checkpoint's root.
    pub path: Vec<Digest>,
    /// The signed checkpoint.
    pub checkpoint: String,
    /// The node's keys.
    pub card: NodeCard,
}

/// A half, and its node's signatures over the statement itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sealed {
    /// The half.
    pub half: Half,
    /// The signatures, by the key of the half's log.
    pub seals: Seals,
    /// The tables that a decision names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tables: Option<Tables>,
}

/// What a receipt that holds says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The receipt.
    pub receipt: Receipt,
    /// The checks that it passed; [`Check::Members`] only where members were named.
    pub passed: Vec<Check>,
}

fn failure(check: Check, message: impl Into<String>) -> Failure {
    Failure::new(check, message)
}

impl Receipt {
    /// The receipt of a decision and what came of it.
    pub fn new(decision: Half, tables: Tables, execution: Option<Half>) -> Self {
        Self { receipt: RECEIPT_V1.to_owned(), decision, tables, execution }
    }

    /// The file's bytes.
    pub fn to_bytes(&self) -> Result<Vec<u8>, CanonicalError> {
        let mut bytes = canonical::to_bytes(self)?;
        bytes.push(b'\n');
        Ok(bytes)
    }
}

/// Verifies a receipt file, and that its nodes are among `members` where they are given.
pub fn verify(bytes: &[u8], members: Option<&[NodeCard]>) -> Result<Report, Failure> {
    let receipt: Receipt = serde_json::from_slice(bytes).map_err(|e| failure(Check::Format, e.to_string()))?;
    if receipt.receipt != RECEIPT_V1 {
        return Err(failure(Check::Format, format!("`{}` is not a version that is known here", receipt.receipt)));
    }
    if receipt.to_bytes().ok().as_deref() != Some(bytes) {
        return Err(failure(Check::Format, "the file is not in canonical form"));
    }
    let halves: Vec<&Half> = std::iter::once(&receipt.decision).chain(&receipt.execution).collect();
    let mut passed = vec![Check::Format];
    for half in &halves {
        half.card.check().map_err(|e| failure(Check::Keys, e.to_string()))?;
    }
    passed.push(Check::Keys);
    if let Some(members) = members {
        for half in &halves {
            check_member(&half.card, members)?;
        }
        passed.push(Check::Members);
    }
    let mut checkpoints = Vec::new();
    for half in &halves {
        checkpoints.push(half.open_checkpoint()?);
    }
    passed.push(Check::Checkpoint);
    for (half, checkpoint) in halves.iter().zip(&checkpoints) {
        half.check_inclusion(checkpoint)?;
    }
    passed.push(Check::Inclusion);
    let decision = check_tables(&receipt)?;
    passed.push(Check::Tables);
    check_pairing(&receipt, &decision)?;
    passed.push(Check::Pairing);
    Ok(Report { receipt, passed })
}

fn check_member(card: &NodeCard, members: &[NodeCard]) -> Result<(), Failure> {
    match members.iter().find(|member| member.node == card.node) {
        Some(member) if member.identity == card.identity => Ok(()),
        Some(_) => {
            Err(failure(Check::Members, format!("`{}` has another identity than the member of that name", card.node)))
        }
        None => Err(failure(Check::Members, format!("`{}` is not among the members", card.node))),
    }
}

impl Half {
    /// The half as what other people's forms are made of.
    pub fn export(&self) -> Result<Export, Failure> {
        self.card.check().map_err(|e| failure(Check::Keys, e.to_string()))?;
        let key = self.card.key(Role::Log).map_err(|e| failure(Check::Keys, e.to_string()))?;
        Ok(Export {
            log: VerifierKey::of_log(&self.card.node, key),
            salt: self.salt,
            statement: self.statement.to_bytes().map_err(|e| failure(Check::Format, e.to_string()))?,
            index: self.index,
            path: self.path.clone(),
            checkpoint: self.checkpoint.clone(),
        })
    }

    fn open_checkpoint(&self) -> Result<Checkpoint, Failure> {
        let key = self.card.key(Role::Log).map_err(|e| failure(Check::Keys, e.to_string()))?;
        let opened = Checkpoint::open(&self.checkpoint, &note::origin(&self.card.node), &key);
        opened.map_err(|e| failure(Check::Checkpoint, format!("`{}`: {e}", self.card.node)))
    }

    fn check_inclusion(&self, checkpoint: &Checkpoint) -> Result<(), Failure> {
        let bytes = self.statement.to_bytes().map_err(|e| failure(Check::Inclusion, e.to_string()))?;
        let leaf = merkle::leaf_hash(&commitment(&self.salt, &bytes).0);
        match merkle::root_from_inclusion(&leaf, self.index, checkpoint.size, &self.path) {
            Some(root) if root == checkpoint.root => Ok(()),
            _ => {
                let message = format!("the statement of `{}` does not lead to its checkpoint's root", self.card.node);
                Err(failure(Check::Inclusion, message))
            }
        }
    }
}

fn check_tables(receipt: &Receipt) -> Result<DecisionRecord, Failure> {
    let Statement::Decision(decision) = &receipt.decision.statement else {
        return Err(failure(Check::Pairing, "the first statement is not a decision"));
    };
    let joined = DecisionRecord::joined(DecisionStatement::clone(decision), &receipt.tables);
    joined.ok_or_else(|| failure(Check::Tables, "the tables are not the ones that the decision's statement names"))
}

fn check_pairing(receipt: &Receipt, record: &DecisionRecord) -> Result<(), Failure> {
    let wrong = |message: &str| Err(failure(Check::Pairing, message));
    let decision = &record.statement;
    if decision.home != receipt.decision.card.node {
        return wrong("the decision is not its home's own");
    }
    let Some(half) = &receipt.execution else {
        return match decision.outcome {
            Outcome::Placed => wrong("something was placed, and its execution is missing"),
            Outcome::Refused | Outcome::NoCapacity => check_refusal(record),
        };
    };
    let Statement::Execution(execution) = &half.statement else {
        return wrong("the second statement is not an execution");
    };
    if execution.factory != half.card.node {
        return wrong("the execution is not its factory's own");
    }
    check_pair(record, execution)
}

fn check_refusal(record: &DecisionRecord) -> Result<(), Failure> {
    let decision = &record.statement;
    let admitted = record.verdicts.iter().any(|verdict| verdict.causes.is_empty());
    if admitted || decision.factory.is_some() || decision.ticket.is_some() {
        return Err(failure(Check::Pairing, "the decision refuses, and yet a factory is admitted, chosen or ticketed"));
    }
    Ok(())
}

fn check_pair(record: &DecisionRecord, execution: &ExecutionStatement) -> Result<(), Failure> {
    let decision = &record.statement;
    let chosen = record.verdicts.iter().find(|verdict| Some(&verdict.factory) == decision.factory.as_ref());
    let pairs = [
        (decision.outcome == Outcome::Placed, "the decision did not place anything"),
        (decision.factory.as_ref() == Some(&execution.factory), "another factory ran it than was chosen"),
        (chosen.is_some_and(|verdict| verdict.causes.is_empty()), "the chosen factory was not admitted"),
        (decision.ticket == Some(execution.ticket), "the tickets differ"),
        (decision.id == execution.decision, "the decision ids differ"),
        (decision.home == execution.home, "the homes differ"),
        (decision.body == execution.body, "the request digests differ"),
        (decision.request.tenant == execution.tenant, "the tenants differ"),
        (decision.request.model == execution.model, "the models differ"),
    ];
    match pairs.iter().find(|(holds, _)| !holds) {
        Some((_, message)) => Err(failure(Check::Pairing, *message)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
