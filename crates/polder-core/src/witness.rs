//! What a witness says to a checkpoint that a log submits (C2SP `tlog-witness`), and what proves that a log has two histories.
//!
//! A witness remembers one checkpoint of each log and cosigns only what goes on from it. What it remembers is the caller's to keep,
//! in one step with the answer; sending and storing are absent.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};

use crate::canonical::{self, CanonicalError, Digest};
use crate::merkle::{is_consistent, prefix_root};
use crate::note::{Checkpoint, Note, NoteError, VerifierKey};

/// Most hashes of a consistency proof in a submission.
pub const PROOF_MAX: usize = 63;
/// Longest submission that is read, in bytes.
pub const SUBMISSION_BYTES_MAX: usize = 64 << 10;

/// A checkpoint on its way to a witness: the body of `add-checkpoint`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submission {
    /// The size that the witness is thought to know; 0 for none.
    pub old: u64,
    /// The proof that the checkpoint goes on from there.
    pub proof: Vec<Digest>,
    /// The signed checkpoint.
    pub note: Note,
}

/// Why a body is no submission.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubmissionError {
    /// It has not the form.
    #[error("not a submission: {0}")]
    Format(&'static str),
    /// The note has not the form.
    #[error(transparent)]
    Note(#[from] NoteError),
}

/// Reads a number in its one decimal form.
pub fn parse_size(text: &str) -> Option<u64> {
    text.parse::<u64>().ok().filter(|number| number.to_string() == text)
}

impl Submission {
    /// Reads a body, in its one form.
    pub fn parse(body: &str) -> Result<Self, SubmissionError> {
        if body.len() > SUBMISSION_BYTES_MAX {
            return Err(SubmissionError::Format("it is longer than 65536 bytes"));
        }
        let (head, note) = body.split_once("\n\n").ok_or(SubmissionError::Format("no blank line after the proof"))?;
        let mut lines = head.split('\n');
        let old = lines.next().and_then(|line| line.strip_prefix("old ")).and_then(parse_size);
        let old = old.ok_or(SubmissionError::Format("the first line is `old` and a size"))?;
        let mut proof = Vec::new();
        for line in lines {
            let hash = BASE64.decode(line).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
            proof.push(Digest(hash.ok_or(SubmissionError::Format("a line of the proof is not 32 bytes in base64"))?));
            if proof.len() > PROOF_MAX {
                return Err(SubmissionError::Format("the proof has more than 63 lines"));
            }
        }
        Ok(Self { old, proof, note: Note::parse(note)? })
    }
}

/// The body as it travels.
impl std::fmt::Display for Submission {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "old {}", self.old)?;
        self.proof.iter().try_for_each(|hash| writeln!(f, "{}", BASE64.encode(hash.0)))?;
        write!(f, "\n{}", self.note)
    }
}

/// What a witness says to a submission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judgement {
    /// It goes on from what is known: once it is remembered, it may be cosigned.
    Cosign(Checkpoint),
    /// The log's key did not sign it (403).
    Unsigned(NoteError),
    /// The size that it says is known is above its own (400).
    Backwards,
    /// Another size is known (409). It may come with evidence, whatever it said of sizes.
    Conflict(u64, Option<Evidence>),
    /// It is not shown to go on from what is known (422).
    Unproven(Option<Evidence>),
}

/// Judges a submission by the latest checkpoint that the witness has cosigned of this log, and its note.
pub fn judge(submission: &Submission, log: &VerifierKey, known: Option<(&Checkpoint, &str)>) -> Judgement {
    let checkpoint = match Checkpoint::of_note(&submission.note, log) {
        Ok(checkpoint) => checkpoint,
        Err(error) => return Judgement::Unsigned(error),
    };
    let (old, size) = (submission.old, checkpoint.size);
    let nothing = Checkpoint::new(log.name(), 0, crate::merkle::nothing());
    let (last, note) = known.unwrap_or((&nothing, ""));
    // Two roots of one size are two histories, whatever else is wrong.
    if size == last.size && checkpoint.root != last.root {
        let evidence = Evidence::new(note, &submission.note, checkpoint.root, Vec::new());
        return Judgement::Conflict(last.size, Some(evidence));
    }
    if old > size {
        return Judgement::Backwards;
    }
    if old != last.size {
        return Judgement::Conflict(last.size, None);
    }
    if is_consistent(old, &last.root, size, &checkpoint.root, &submission.proof) {
        return Judgement::Cosign(checkpoint);
    }
    let prefix = prefix_root(old, size, &checkpoint.root, &submission.proof);
    let forged = prefix.map(|prefix| Evidence::new(note, &submission.note, prefix, submission.proof.clone()));
    Judgement::Unproven(forged)
}

/// Two checkpoints that one log has signed and that cannot both be of one history: what the second commits to as the first's tree
/// has another root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    /// The note of the smaller checkpoint, or of the one that was seen first.
    pub first: String,
    /// The note of the other.
    pub second: String,
    /// The root that the second's tree has over as many leaves as the first's.
    pub prefix: Digest,
    /// The consistency proof from that root to the second's; empty where both are of one size.
    pub proof: Vec<Digest>,
}

/// Why evidence proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EvidenceError {
    /// A note is not signed by the log.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// The two are not shown to disagree.
    #[error("the two checkpoints are not shown to disagree")]
    Agree,
    /// The proof does not lead from the one to the other.
    #[error("the proof does not lead to the second checkpoint")]
    Proof,
}

impl Evidence {
    /// Evidence of two notes; nothing is checked yet.
    pub fn new(first: &str, second: &Note, prefix: Digest, proof: Vec<Digest>) -> Self {
        Self { first: first.to_owned(), second: second.to_string(), prefix, proof }
    }

    /// Evidence of two notes of one size, whichever way round.
    pub fn of_one_size(first: &str, second: &Note, second_root: Digest) -> Self {
        Self::new(first, second, second_root, Vec::new())
    }

    /// The name of the log that it says it is about.
    pub fn origin(&self) -> Option<String> {
        Some(Checkpoint::parse(&Note::parse(&self.second).ok()?.text).ok()?.origin)
    }

    /// The sizes of both checkpoints, where it proves that the log with this key has two histories.
    pub fn check(&self, log: &VerifierKey) -> Result<(u64, u64), EvidenceError> {
        let first = Checkpoint::of_note(&Note::parse(&self.first)?, log)?;
        let second = Checkpoint::of_note(&Note::parse(&self.second)?, log)?;
        if first.size == 0 || first.size > second.size || self.prefix == first.root || self.proof.len() > PROOF_MAX {
            return Err(EvidenceError::Agree);
        }
        if !is_consistent(first.size, &self.prefix, second.size, &second.root, &self.proof) {
            return Err(EvidenceError::Proof);
        }
        Ok((first.size, second.size))
    }

    /// The digest by which nodes know it again.
    pub fn id(&self) -> Result<Digest, CanonicalError> {
        canonical::digest("polder/fork-evidence/v1", self)
    }
}

#[cfg(test)]
mod tests;
