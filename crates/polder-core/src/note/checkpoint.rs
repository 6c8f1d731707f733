//! The state of a log as a note (C2SP `tlog-checkpoint`): its name, its size, its root, and lines that others may add.
//!
//! What the further lines mean is absent: they are kept, and signed with the rest.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ed25519_dalek::{SigningKey, VerifyingKey};

use super::{Note, NoteError, SignatureLine, Signs, VerifierKey};
use crate::canonical::Digest;

/// The state of a log: its name, its size and its root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log's name, `polder/<node>`.
    pub origin: String,
    /// How many leaves it has.
    pub size: u64,
    /// The root over them.
    pub root: Digest,
    /// Further lines, none of them empty; our own logs write none.
    pub extensions: Vec<String>,
}

impl Checkpoint {
    /// A log's state without further lines.
    pub fn new(origin: impl Into<String>, size: u64, root: Digest) -> Self {
        Self { origin: origin.into(), size, root, extensions: Vec::new() }
    }

    /// The text that is signed.
    pub fn text(&self) -> String {
        let mut text = format!("{}\n{}\n{}\n", self.origin, self.size, BASE64.encode(self.root.0));
        for line in &self.extensions {
            text.push_str(line);
            text.push('\n');
        }
        text
    }

    /// The checkpoint as a note signed by the log's key.
    pub fn sign(&self, key: &SigningKey) -> String {
        let text = self.text();
        let line = SignatureLine::sign(&text, &self.origin, key);
        Note { text, signatures: vec![line] }.to_string()
    }

    /// The checkpoint as a note with a line of each key.
    pub fn sign_by(&self, keys: &[&dyn Signs]) -> Result<String, String> {
        let text = self.text();
        let lines = keys.iter().map(|key| SignatureLine::sign_by(&text, &self.origin, *key));
        let signatures = lines.collect::<Result<_, _>>()?;
        Ok(Note { text, signatures }.to_string())
    }

    /// Reads a note's text, in its one form.
    pub fn parse(text: &str) -> Result<Self, NoteError> {
        let lines = text.strip_suffix('\n').ok_or(NoteError::Format("no last line feed"))?;
        let mut lines = lines.split('\n');
        let (Some(origin), Some(size), Some(root)) = (lines.next(), lines.next(), lines.next()) else {
            return Err(NoteError::Format("a checkpoint has at least three lines"));
        };
        let extensions: Vec<String> = lines.map(str::to_owned).collect();
        if origin.is_empty() || extensions.iter().any(String::is_empty) {
            return Err(NoteError::Format("a checkpoint has no empty line"));
        }
        let size = size.parse().map_err(|_| NoteError::Format("the size is not a number"))?;
        let root = BASE64.decode(root).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        let root = Digest(root.ok_or(NoteError::Format("the root is not 32 bytes"))?);
        let checkpoint = Self { origin: origin.to_owned(), size, root, extensions };
        // Leading zeros or a plus sign would give one size two texts.
        if checkpoint.text() != text {
            return Err(NoteError::Format("not in its one form"));
        }
        Ok(checkpoint)
    }

    /// Reads a note and checks that it is of `origin` and signed by `key`. Lines of other keys may stand under it.
    pub fn open(note: &str, origin: &str, key: &VerifyingKey) -> Result<Self, NoteError> {
        Self::of_note(&Note::parse(note)?, &VerifierKey::new_log(origin, *key)?)
    }

    /// The checkpoint of a note that must be of the log's name and signed by its key.
    pub fn of_note(note: &Note, log: &VerifierKey) -> Result<Self, NoteError> {
        let checkpoint = Self::parse(&note.text)?;
        if checkpoint.origin != log.name() {
            return Err(NoteError::Origin(checkpoint.origin));
        }
        note.signed_by(log)?.ok_or(NoteError::Signature)?;
        Ok(checkpoint)
    }
}
