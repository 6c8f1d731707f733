//! Receipts in other people's forms: made of one statement's place in its log, and verified again.
//!
//! One statement at a time: a decision and its execution are two exports, each under its own node's log. The signatures
//! over a statement itself ([`Seals`]) are made by its node when somebody asks, never while a request runs. Reading and
//! writing files is absent.

use ed25519_dalek::{Signature, VerifyingKey};
use serde::{Deserialize, Serialize};

use crate::canonical::{self, Digest, bytes_as_hex};
use crate::check::{Check, Failure};
use crate::cose::{self, CoseReceipt};
use crate::dsse;
use crate::merkle;
use crate::note::{Checkpoint, Note, Signs, VerifierKey};
use crate::statement::commitment;
use crate::tables::Tables;
use crate::tlog_policy::{Accepted, Policy};
use crate::tlog_proof::TlogProof;

/// A statement with its place in a log: what every form holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Export {
    /// The key of the log.
    pub log: VerifierKey,
    /// The salt of the commitment.
    pub salt: [u8; 32],
    /// The statement's bytes.
    pub statement: Vec<u8>,
    /// The entry's place, from 0.
    pub index: u64,
    /// The hashes from the entry's sibling upwards.
    pub path: Vec<Digest>,
    /// The signed checkpoint, with whatever cosignatures it has.
    pub checkpoint: String,
}

/// A node's signatures over one statement of its own, by its log's key. Each begins with what no other message does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seals {
    /// Over the DSSE envelope's payload.
    #[serde(with = "bytes_as_hex")]
    pub dsse: [u8; 64],
    /// Over the COSE_Sign1 with the statement.
    #[serde(with = "bytes_as_hex")]
    pub statement: [u8; 64],
    /// Over the COSE_Sign1 with the checkpoint's root.
    #[serde(with = "bytes_as_hex")]
    pub root: [u8; 64],
}

/// What stands beside a `.tlog-proof` file.
#[derive(Debug, Clone, Copy, Default)]
pub struct Beside<'a> {
    /// The statement's bytes.
    pub statement: Option<&'a [u8]>,
    /// The log entry's bytes.
    pub leaf: Option<&'a [u8]>,
    /// The DSSE envelope.
    pub dsse: Option<&'a [u8]>,
}

/// What a verifier believes before it looks.
#[derive(Debug, Clone, Default)]
pub struct Anchors {
    /// Keys of logs that were given with the file: what they prove is that the file belongs to them.
    pub keys: Vec<VerifierKey>,
    /// The keys of the members' logs; where they are given, the log is one of them.
    pub members: Option<Vec<VerifierKey>>,
    /// Which logs and witnesses are wanted.
    pub policy: Option<Policy>,
}

/// What an exported receipt that holds says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The checks that it passed.
    pub passed: Vec<Check>,
    /// The log's name.
    pub log: String,
    /// The entry's place, from 0.
    pub index: u64,
    /// The size of the checkpoint's tree.
    pub size: u64,
    /// The statement's bytes, where they were there.
    pub statement: Option<Vec<u8>>,
    /// The witnesses that the policy lists and that signed, each with its time in Unix seconds.
    pub witnesses: Vec<(String, u64)>,
}

fn failed(check: Check) -> impl Fn(&dyn std::fmt::Display) -> Failure {
    move |error| Failure::new(check, error.to_string())
}

impl Export {
    /// The log entry: the commitment to the statement.
    pub fn entry(&self) -> Digest {
        commitment(&self.salt, &self.statement)
    }

    fn kind(&self) -> Result<String, Failure> {
        let kind = dsse::statement_type(&self.statement);
        kind.ok_or_else(|| Failure::new(Check::Format, "the statement does not say what it is"))
    }

    fn payload(&self) -> Result<Vec<u8>, Failure> {
        dsse::payload(self.log.name(), &self.entry(), &self.statement).map_err(|e| failed(Check::Format)(&e))
    }

    fn root(&self) -> Result<Checkpoint, Failure> {
        let note = Note::parse(&self.checkpoint).map_err(|e| failed(Check::Checkpoint)(&e))?;
        Checkpoint::parse(&note.text).map_err(|e| failed(Check::Checkpoint)(&e))
    }

    /// The same with no more cosignatures than a policy asks for: each takes 130 bytes of a proof.
    pub fn witnessed_for(self, policy: &Policy) -> Result<Self, Failure> {
        let accept = |note: &Note| policy.accept(note, Some(&self.log));
        let mut note = Note::parse(&self.checkpoint).map_err(|e| failed(Check::Checkpoint)(&e))?;
        accept(&note).map_err(|e| failed(Check::Witnesses)(&e))?;
        for place in (0..note.signatures.len()).rev() {
            let mut fewer = note.clone();
            fewer.signatures.remove(place);
            // The log's own signature always stays: nothing is accepted without it.
            if accept(&fewer).is_ok() {
                note = fewer;
            }
        }
        Ok(Self { checkpoint: note.to_string(), ..self })
    }

    /// The node's signatures, by its log's key.
    pub fn seal(&self, key: &dyn Signs) -> Result<Seals, Failure> {
        let (name, id) = (self.log.name(), self.log.id());
        let statement = cose::statement_message(name, id, &self.kind()?, &self.salt, &self.statement);
        let root = cose::root_message(name, id, &self.root()?.root);
        let sign = |message: &[u8]| key.sign_bytes(message).map_err(|reason| failed(Check::Signature)(&reason));
        Ok(Seals { dsse: sign(&dsse::message(&self.payload()?))?, statement: sign(&statement)?, root: sign(&root)? })
    }

    /// The `.tlog-proof` file.
    pub fn tlog_proof(&self) -> Result<String, Failure> {
        let checkpoint = Note::parse(&self.checkpoint).map_err(|e| failed(Check::Checkpoint)(&e))?;
        let extra = Some(self.salt.to_vec());
        Ok(TlogProof { extra, index: self.index, path: self.path.clone(), checkpoint }.to_string())
    }

    /// The DSSE envelope's file.
    pub fn dsse(&self, seals: &Seals) -> Result<Vec<u8>, Failure> {
        let keyid = self.log.to_string();
        dsse::envelope(&self.payload()?, &keyid, &seals.dsse).map_err(|e| failed(Check::Format)(&e))
    }

    /// The COSE file.
    pub fn cose(&self, seals: &Seals) -> Result<Vec<u8>, Failure> {
        let receipt = CoseReceipt {
            origin: self.log.name().to_owned(),
            key_id: self.log.id(),
            kind: self.kind()?,
            salt: self.salt,
            statement: self.statement.clone(),
            size: self.root()?.size,
            index: self.index,
            path: self.path.clone(),
            checkpoint: self.checkpoint.clone(),
            statement_signature: seals.statement,
            root_signature: seals.root,
        };
        receipt.to_bytes().map_err(|e| failed(Check::Format)(&e))
    }
}

impl Anchors {
    /// The key of the log whose note this is, and the check that found it.
    fn log_key(&self, origin: &str, note: &Note) -> Result<(VerifierKey, Check), Failure> {
        let given = self.keys.iter().find(|key| key.name() == origin);
        if let Some(members) = &self.members {
            // A member whose log changed its key has several.
            let known: Vec<&VerifierKey> = members.iter().filter(|key| key.name() == origin).collect();
            let signed = known.iter().find(|key| note.signatures.iter().any(|line| line.is_of(key)));
            let first = signed.or(known.first()).copied();
            let first = first.ok_or_else(|| Failure::new(Check::Members, format!("`{origin}` is no member's log")))?;
            if given.is_some_and(|given| !known.contains(&given)) {
                let message = format!("the key that was given for `{origin}` is not the member's");
                return Err(Failure::new(Check::Members, message));
            }
            return Ok((given.unwrap_or(first).clone(), Check::Members));
        }
        let logs = self.policy.iter().flat_map(|policy| &policy.logs).map(|log| &log.key);
        let mut listed = logs.filter(|key| key.name() == origin && note.signatures.iter().any(|line| line.is_of(key)));
        let key = given.or_else(|| listed.next()).cloned();
        let message =
            || format!("no key of the log `{origin}` is known; give its verifier key or a policy that lists it");
        key.map(|key| (key, Check::Keys)).ok_or_else(|| Failure::new(Check::Keys, message()))
    }

    fn witnessed(&self, note: &Note, log: &VerifierKey) -> Result<Option<Accepted>, Failure> {
        let accept = |policy: &Policy| policy.accept(note, Some(log)).map_err(|e| failed(Check::Witnesses)(&e));
        self.policy.as_ref().map(accept).transpose()
    }
}

/// A note's checkpoint under a key that the verifier believes, with the checks that it passed.
fn open(note: &Note, anchors: &Anchors) -> Result<(Checkpoint, VerifierKey, Vec<Check>), Failure> {
    let claimed = Checkpoint::parse(&note.text).map_err(|e| failed(Check::Format)(&e))?;
    let (key, found) = anchors.log_key(&claimed.origin, note)?;
    let checkpoint = Checkpoint::of_note(note, &key).map_err(|e| failed(Check::Checkpoint)(&e))?;
    Ok((checkpoint, key, vec![Check::Format, found, Check::Checkpoint]))
}

/// Adds the witnesses' check, where a policy asks for one.
fn finish(mut held: Held, note: &Note, key: &VerifierKey, anchors: &Anchors) -> Result<Held, Failure> {
    if let Some(accepted) = anchors.witnessed(note, key)? {
        held.passed.push(Check::Witnesses);
        held.witnesses = accepted.witnesses;
    }
    Ok(held)
}

/// Verifies a `.tlog-proof` file with what stands beside it.
pub fn verify_tlog_proof(file: &[u8], beside: Beside<'_>, anchors: &Anchors) -> Result<Held, Failure> {
    let text = std::str::from_utf8(file).map_err(|e| failed(Check::Format)(&e))?;
    let proof = TlogProof::parse(text).map_err(|e| failed(Check::Format)(&e))?;
    let (checkpoint, key, mut passed) = open(&proof.checkpoint, anchors)?;
    let entry = entry(&proof, beside)?;
    if !proof.includes(&entry, &checkpoint) {
        return Err(Failure::new(Check::Inclusion, "the entry does not lead to the checkpoint's root"));
    }
    passed.push(Check::Inclusion);
    if let Some(statement) = beside.statement {
        passed.push(Check::Statement);
        if let Some(envelope) = beside.dsse {
            let commitment = Digest(<[u8; 32]>::try_from(entry.as_slice()).unwrap_or_default());
            let checked = dsse::verify(envelope, ed25519(&key)?, key.name(), &commitment, statement);
            checked.map_err(|e| failed(Check::Signature)(&e))?;
            passed.push(Check::Signature);
        }
    }
    let (log, index, size) = (checkpoint.origin, proof.index, checkpoint.size);
    let statement = beside.statement.map(<[u8]>::to_vec);
    let held = Held { passed, log, index, size, statement, witnesses: Vec::new() };
    finish(held, &proof.checkpoint, &key, anchors)
}

/// A log's key for what it signs beside its checkpoints.
fn ed25519(log: &VerifierKey) -> Result<&VerifyingKey, Failure> {
    log.ed25519().ok_or_else(|| Failure::new(Check::Signature, "the log's key is not one of Ed25519"))
}

/// The log entry: the commitment to the statement, or the leaf where there is no statement.
fn entry(proof: &TlogProof, beside: Beside<'_>) -> Result<Vec<u8>, Failure> {
    let Some(statement) = beside.statement else {
        let message = "neither the statement nor the log entry is there, so there is nothing that the proof is of";
        return beside.leaf.map(<[u8]>::to_vec).ok_or_else(|| Failure::new(Check::Format, message));
    };
    let salt = proof.extra.as_deref().and_then(|extra| <[u8; 32]>::try_from(extra).ok());
    let salt = salt.ok_or_else(|| Failure::new(Check::Format, "its extra data are not a salt of 32 bytes"))?;
    let entry = commitment(&salt, statement);
    match beside.leaf {
        Some(leaf) if leaf != entry.0 => {
            Err(Failure::new(Check::Statement, "the log entry does not commit to this statement under this salt"))
        }
        _ => Ok(entry.0.to_vec()),
    }
}

/// Verifies a COSE file.
pub fn verify_cose(file: &[u8], anchors: &Anchors) -> Result<Held, Failure> {
    let receipt = CoseReceipt::parse(file).map_err(|e| failed(Check::Format)(&e))?;
    let note = Note::parse(&receipt.checkpoint).map_err(|e| failed(Check::Format)(&e))?;
    let (checkpoint, key, mut passed) = open(&note, anchors)?;
    if receipt.origin != key.name() || receipt.key_id != key.id() || receipt.size != checkpoint.size {
        return Err(Failure::new(Check::Checkpoint, "the checkpoint beside the receipt is another one"));
    }
    let leaf = merkle::leaf_hash(&commitment(&receipt.salt, &receipt.statement).0);
    let root = merkle::root_from_inclusion(&leaf, receipt.index, receipt.size, &receipt.path);
    if root != Some(checkpoint.root) {
        return Err(Failure::new(Check::Inclusion, "the statement does not lead to the checkpoint's root"));
    }
    passed.push(Check::Inclusion);
    if dsse::statement_type(&receipt.statement).as_deref() != Some(receipt.kind.as_str()) {
        return Err(Failure::new(Check::Statement, "the statement is of another type than its header says"));
    }
    passed.push(Check::Statement);
    let (name, id) = (key.name(), key.id());
    let messages = [
        (
            cose::statement_message(name, id, &receipt.kind, &receipt.salt, &receipt.statement),
            receipt.statement_signature,
        ),
        (cose::root_message(name, id, &checkpoint.root), receipt.root_signature),
    ];
    for (message, signature) in messages {
        if ed25519(&key)?.verify_strict(&message, &Signature::from_bytes(&signature)).is_err() {
            return Err(Failure::new(Check::Signature, "a COSE signature is not the log key's"));
        }
    }
    passed.push(Check::Signature);
    let (log, index, size) = (checkpoint.origin, receipt.index, checkpoint.size);
    let held = Held { passed, log, index, size, statement: Some(receipt.statement), witnesses: Vec::new() };
    finish(held, &note, &key, anchors)
}

/// Checks that tables, as they stand beside an exported decision, are those that its statement names.
pub fn check_tables(statement: &[u8], tables: &[u8]) -> Result<(), Failure> {
    #[derive(Deserialize)]
    struct Naming {
        tables: Digest,
    }
    let wrong = failed(Check::Tables);
    let read: Tables = serde_json::from_slice(tables).map_err(|e| wrong(&e))?;
    if canonical::to_bytes(&read).map_err(|e| wrong(&e))? != tables {
        return Err(Failure::new(Check::Tables, "the tables are not in canonical form"));
    }
    let named: Naming =
        serde_json::from_slice(statement).map_err(|_| Failure::new(Check::Tables, "the statement names no tables"))?;
    let digest = read.digests().and_then(|digests| digests.digest()).map_err(|e| wrong(&e))?;
    if digest == named.tables {
        Ok(())
    } else {
        Err(Failure::new(Check::Tables, "the tables are not the ones that the decision's statement names"))
    }
}

/// Whether a checkpoint, such as that of a receipt's half, is witnessed as a policy wants; by whom, and when.
pub fn witnessed(checkpoint: &str, log: &VerifierKey, policy: &Policy) -> Result<Vec<(String, u64)>, Failure> {
    let note = Note::parse(checkpoint).map_err(|e| failed(Check::Checkpoint)(&e))?;
    let accepted = policy.accept(&note, Some(log)).map_err(|e| failed(Check::Witnesses)(&e))?;
    Ok(accepted.witnesses)
}

#[cfg(test)]
mod tests;
