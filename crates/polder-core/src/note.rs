//! Signed checkpoints of a log: C2SP `signed-note` around C2SP `tlog-checkpoint`.
//!
//! A note is read in one form only, so that changing any byte of it is noticed. Cosignatures are absent until
//! witnesses exist.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use sha2::{Digest as _, Sha256};

use crate::canonical::Digest;
use crate::ids::NodeId;

/// The signature type of plain Ed25519 in C2SP `signed-note`.
const ED25519: u8 = 1;

/// The state of a log: its name, its size and its root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log's name, `polder/<node>`.
    pub origin: String,
    /// How many leaves it has.
    pub size: u64,
    /// The root over them.
    pub root: Digest,
}

/// Why a signed checkpoint cannot be believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// It is not a checkpoint in the one form that is read.
    #[error("not a signed checkpoint: {0}")]
    Format(&'static str),
    /// It is another log's.
    #[error("the checkpoint is of `{0}`")]
    Origin(String),
    /// The signature is not the key's.
    #[error("the checkpoint is not signed by the log's key")]
    Signature,
}

/// The name of a node's log.
pub fn origin(node: &NodeId) -> String {
    format!("polder/{node}")
}

/// The four bytes by which C2SP `signed-note` tells keys apart.
fn key_id(name: &str, key: &VerifyingKey) -> [u8; 4] {
    let hash = Sha256::new().chain_update(name).chain_update([b'\n', ED25519]).chain_update(key.as_bytes()).finalize();
    let [a, b, c, d, ..] = <[u8; 32]>::from(hash);
    [a, b, c, d]
}

/// The key in the notation that other verifiers read: `name+hash+base64`.
pub fn verifier_key(name: &str, key: &VerifyingKey) -> String {
    let bytes = [&[ED25519], key.as_bytes().as_slice()].concat();
    format!("{name}+{}+{}", hex::encode(key_id(name, key)), BASE64.encode(bytes))
}

impl Checkpoint {
    fn text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, BASE64.encode(self.root.0))
    }

    /// The checkpoint as a note signed by the log's key.
    pub fn sign(&self, key: &SigningKey) -> String {
        let text = self.text();
        let signature = key.sign(text.as_bytes()).to_bytes();
        let blob = [key_id(&self.origin, &key.verifying_key()).as_slice(), &signature].concat();
        format!("{text}\n\u{2014} {} {}\n", self.origin, BASE64.encode(blob))
    }

    /// Reads a note and checks that it is of `origin` and signed by `key`.
    pub fn open(note: &str, origin: &str, key: &VerifyingKey) -> Result<Self, NoteError> {
        let (text, signatures) = note.split_once("\n\n").ok_or(NoteError::Format("no blank line"))?;
        let mut lines = text.split('\n');
        let (Some(name), Some(size), Some(root), None) = (lines.next(), lines.next(), lines.next(), lines.next())
        else {
            return Err(NoteError::Format("a checkpoint has three lines"));
        };
        let size = size.parse().map_err(|_| NoteError::Format("the size is not a number"))?;
        let root = BASE64.decode(root).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        let root = Digest(root.ok_or(NoteError::Format("the root is not 32 bytes"))?);
        if name != origin {
            return Err(NoteError::Origin(name.to_owned()));
        }
        let checkpoint = Self { origin: name.to_owned(), size, root };
        let prefix = format!("\u{2014} {origin} ");
        let blob = signatures.strip_prefix(&prefix).and_then(|rest| rest.strip_suffix('\n'));
        let blob =
            blob.and_then(|text| BASE64.decode(text).ok()).ok_or(NoteError::Format("no signature of the log"))?;
        let (id, signature) = blob.split_at_checked(4).ok_or(NoteError::Format("the signature is too short"))?;
        let signature =
            Signature::from_slice(signature).map_err(|_| NoteError::Format("the signature is not 64 bytes"))?;
        let signed = format!("{text}\n");
        // Leading zeros or a plus sign would give one size two texts.
        if checkpoint.text() != signed {
            return Err(NoteError::Format("not in its one form"));
        }
        if id != key_id(origin, key) || key.verify_strict(signed.as_bytes(), &signature).is_err() {
            return Err(NoteError::Signature);
        }
        Ok(checkpoint)
    }
}

#[cfg(test)]
mod tests;
