//! Proofs that something stands in a log, as files that other people's tools read (C2SP `tlog-proof`).
//!
//! The extra data of our proofs is the salt of the entry's commitment. What the entry means is absent here.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::canonical::Digest;
use crate::merkle;
use crate::note::{Checkpoint, NOTE_BYTES_MAX, Note, NoteError};

/// A proof's first line.
pub const HEADER: &str = "c2sp.org/tlog-proof@v1";

/// The longest proof that is read, in bytes.
pub const PROOF_BYTES_MAX: usize = NOTE_BYTES_MAX + 100_000;

/// The most hashes of a path: the height of the largest tree whose size has 64 bits.
const PATH_MAX: usize = 64;

/// Why a text is not a proof.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// It is not in the one form that is read.
    #[error("not a proof: {0}")]
    Format(&'static str),
    /// Its checkpoint is not a note.
    #[error(transparent)]
    Note(#[from] NoteError),
}

/// A place in a log, the way from there to the root, and the checkpoint with that root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlogProof {
    /// Data that the application adds; ours is the entry's salt.
    pub extra: Option<Vec<u8>>,
    /// The entry's place, from 0.
    pub index: u64,
    /// The hashes from the entry's sibling upwards.
    pub path: Vec<Digest>,
    /// The signed checkpoint.
    pub checkpoint: Note,
}

impl TlogProof {
    /// Reads a proof: its form, neither its signatures nor its path.
    pub fn parse(text: &str) -> Result<Self, ProofError> {
        if text.len() > PROOF_BYTES_MAX {
            return Err(ProofError::Format("it is too long"));
        }
        let (head, note) = text.split_once("\n\n").ok_or(ProofError::Format("no blank line before the checkpoint"))?;
        let mut lines = head.split('\n');
        if lines.next() != Some(HEADER) {
            return Err(ProofError::Format("its first line is another"));
        }
        let mut line = lines.next();
        let mut extra = None;
        if let Some(encoded) = line.and_then(|line| line.strip_prefix("extra ")) {
            extra = Some(BASE64.decode(encoded).map_err(|_| ProofError::Format("the extra data are not base64"))?);
            line = lines.next();
        }
        let index = line.and_then(|line| line.strip_prefix("index ")).and_then(|index| index.parse().ok());
        let index = index.ok_or(ProofError::Format("it has no index"))?;
        let mut path = Vec::new();
        for line in lines {
            let hash = BASE64.decode(line).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
            path.push(Digest(hash.ok_or(ProofError::Format("a line of the path is not 32 bytes"))?));
            if path.len() > PATH_MAX {
                return Err(ProofError::Format("the path is longer than any tree is high"));
            }
        }
        let proof = Self { extra, index, path, checkpoint: Note::parse(note)? };
        // Leading zeros or a plus sign would give one index two texts.
        if proof.to_string() != text {
            return Err(ProofError::Format("not in its one form"));
        }
        Ok(proof)
    }

    /// Whether the path leads from an entry to a checkpoint's root.
    pub fn includes(&self, entry: &[u8], checkpoint: &Checkpoint) -> bool {
        let root = merkle::root_from_inclusion(&merkle::leaf_hash(entry), self.index, checkpoint.size, &self.path);
        root == Some(checkpoint.root)
    }
}

/// The proof as it is kept.
impl std::fmt::Display for TlogProof {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{HEADER}")?;
        if let Some(extra) = &self.extra {
            writeln!(f, "extra {}", BASE64.encode(extra))?;
        }
        writeln!(f, "index {}", self.index)?;
        for hash in &self.path {
            writeln!(f, "{}", BASE64.encode(hash.0))?;
        }
        write!(f, "\n{}", self.checkpoint)
    }
}

#[cfg(test)]
mod tests;
