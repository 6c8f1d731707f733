//! Signed notes (C2SP `signed-note`): a text under the signatures of a log and of its witnesses, and the keys for them.
//!
//! A note is read in one form only. Lines of keys that the reader does not know are kept and ignored, as the
//! specification wants it; a line of a key that it knows must hold. Three types of signature are known: plain Ed25519, by
//! which a log signs, and the two cosignatures with their time, by which a witness does (C2SP `tlog-cosignature`): Ed25519,
//! and ML-DSA-44 (`note/ml_dsa.rs`). ECDSA and the tree heads of RFC 6962 are absent: their lines are unknown lines.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use sha2::{Digest as _, Sha256};

use crate::ids::NodeId;

mod checkpoint;
mod ml_dsa;

pub use checkpoint::Checkpoint;
pub use ml_dsa::{MlDsaPublic, MlDsaSigner};

/// The longest note that is read, in bytes; the same bound as that of Go's `sumdb/note`.
pub const NOTE_BYTES_MAX: usize = 1_000_000;

/// The most signature lines of a note; the same bound as that of Go's `sumdb/note`.
pub const SIGNATURES_MAX: usize = 100;

/// What a signature line begins with: an em dash and a space.
const DASH: &str = "\u{2014} ";

/// Why a note cannot be believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// It is not a note, or its text not a checkpoint, in the one form that is read.
    #[error("not a signed checkpoint: {0}")]
    Format(&'static str),
    /// A name or a key in the notation of verifier keys is malformed.
    #[error("not a verifier key: {0}")]
    Key(&'static str),
    /// It is another log's.
    #[error("the checkpoint is of `{0}`")]
    Origin(String),
    /// The log's signature is not there, or it is not the key's.
    #[error("the checkpoint is not signed by the log's key")]
    Signature,
    /// A line under a known witness's name and key hash does not hold.
    #[error("the cosignature of `{0}` does not hold")]
    Cosignature(String),
}

/// The name of a node's log.
pub fn origin(node: &NodeId) -> String {
    format!("polder/{node}")
}

/// The name under which a node cosigns other nodes' checkpoints.
pub fn witness_name(node: &NodeId) -> String {
    format!("polder/{node}/witness")
}

/// Whatever signs with an Ed25519 key: the key itself, or a device that keeps one.
pub trait Signs: Send + Sync {
    /// The public key.
    fn public(&self) -> VerifyingKey;

    /// The signature over a message (RFC 8032, pure); in words why there is none, where a device fails.
    fn sign_bytes(&self, message: &[u8]) -> Result<[u8; 64], String>;
}

impl Signs for SigningKey {
    fn public(&self) -> VerifyingKey {
        self.verifying_key()
    }

    fn sign_bytes(&self, message: &[u8]) -> Result<[u8; 64], String> {
        Ok(self.sign(message).to_bytes())
    }
}

/// What a key signs, the type byte of C2SP `signed-note`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeyKind {
    /// Ed25519 over the text, type 0x01: a log's key.
    Ed25519,
    /// Ed25519 over `cosignature/v1`, a time and the text, type 0x04: a witness's key.
    Cosignature,
    /// ML-DSA-44 over `subtree/v1`, the witness's name, a time, and the checkpoint's origin, size and root, type 0x06: a
    /// witness's key that a quantum computer does not forge.
    MlDsaCosignature,
}

impl KeyKind {
    fn byte(self) -> u8 {
        match self {
            Self::Ed25519 => 1,
            Self::Cosignature => 4,
            Self::MlDsaCosignature => 6,
        }
    }
}

/// A key by which a signature line is checked: its name, its type and its public part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    kind: KeyKind,
    key: Public,
}

/// The public part of a key, by its algorithm.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Public {
    Ed25519(VerifyingKey),
    MlDsa(MlDsaPublic),
}

impl Public {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Ed25519(key) => key.as_bytes(),
            Self::MlDsa(key) => key.bytes(),
        }
    }
}

/// The four bytes by which C2SP `signed-note` tells keys apart.
fn key_id(name: &str, kind: KeyKind, key: &[u8]) -> [u8; 4] {
    let hash = Sha256::new().chain_update(name).chain_update([b'\n', kind.byte()]).chain_update(key).finalize();
    let [a, b, c, d, ..] = <[u8; 32]>::from(hash);
    [a, b, c, d]
}

/// A key's name is not empty and holds neither spaces nor a plus sign nor control characters.
fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.chars().any(|c| c.is_whitespace() || c.is_control() || c == '+')
}

/// A log's key in the notation that other verifiers read: `name+hash+base64`.
pub fn verifier_key(name: &str, key: &VerifyingKey) -> String {
    VerifierKey { name: name.to_owned(), kind: KeyKind::Ed25519, key: Public::Ed25519(*key) }.to_string()
}

impl VerifierKey {
    /// A log's key under a name.
    pub fn new_log(name: impl Into<String>, key: VerifyingKey) -> Result<Self, NoteError> {
        Self::named(name.into(), KeyKind::Ed25519, Public::Ed25519(key))
    }

    fn named(name: String, kind: KeyKind, key: Public) -> Result<Self, NoteError> {
        if !is_name(&name) {
            return Err(NoteError::Key("a name is not empty and holds no space, control character or `+`"));
        }
        Ok(Self { name, kind, key })
    }

    /// The key of a node's log.
    pub fn of_log(node: &NodeId, key: VerifyingKey) -> Self {
        Self { name: origin(node), kind: KeyKind::Ed25519, key: Public::Ed25519(key) }
    }

    /// The key by which a node cosigns.
    pub fn of_witness(node: &NodeId, key: VerifyingKey) -> Self {
        Self { name: witness_name(node), kind: KeyKind::Cosignature, key: Public::Ed25519(key) }
    }

    /// The key by which a node cosigns with ML-DSA-44 too.
    pub fn of_ml_dsa_witness(node: &NodeId, key: MlDsaPublic) -> Self {
        Self { name: witness_name(node), kind: KeyKind::MlDsaCosignature, key: Public::MlDsa(key) }
    }

    /// Reads `name+hash+base64`.
    pub fn parse(text: &str) -> Result<Self, NoteError> {
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(hash), Some(encoded)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(NoteError::Key("it has the form `name+hash+base64`"));
        };
        let bytes = BASE64.decode(encoded).map_err(|_| NoteError::Key("its last part is not base64"))?;
        let ed25519 = |key: &[u8]| {
            let key = <[u8; 32]>::try_from(key).ok().and_then(|bytes| VerifyingKey::from_bytes(&bytes).ok());
            key.map(Public::Ed25519).ok_or(NoteError::Key("it does not hold an Ed25519 key"))
        };
        let (kind, key) = match bytes.split_first() {
            Some((1, key)) => (KeyKind::Ed25519, ed25519(key)?),
            Some((4, key)) => (KeyKind::Cosignature, ed25519(key)?),
            Some((6, key)) => {
                let key = MlDsaPublic::from_bytes(key).ok_or(NoteError::Key("it does not hold an ML-DSA-44 key"))?;
                (KeyKind::MlDsaCosignature, Public::MlDsa(key))
            }
            _ => {
                let known = "its type is none of 0x01 (Ed25519), 0x04 (cosignature), 0x06 (cosignature by ML-DSA-44)";
                return Err(NoteError::Key(known));
            }
        };
        let key = Self::named(name.to_owned(), kind, key)?;
        if hash.len() != 8 || !hash.eq_ignore_ascii_case(&hex::encode(key.id())) {
            return Err(NoteError::Key("its hash is not that of its name and key"));
        }
        Ok(key)
    }

    /// The key's name; a log's is the origin of its checkpoints.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the key signs.
    pub fn kind(&self) -> KeyKind {
        self.kind
    }

    /// The public key, where it is one of Ed25519: every log's is.
    pub fn ed25519(&self) -> Option<&VerifyingKey> {
        match &self.key {
            Public::Ed25519(key) => Some(key),
            Public::MlDsa(_) => None,
        }
    }

    /// The public key as the notation of verifier keys holds it.
    pub fn public_bytes(&self) -> &[u8] {
        self.key.bytes()
    }

    /// The four bytes that stand before each of its signatures.
    pub fn id(&self) -> [u8; 4] {
        key_id(&self.name, self.kind, self.key.bytes())
    }

    /// The time of a signature over `text`, 0 where its type has none; `None` where it does not hold.
    fn check(&self, text: &str, signature: &[u8]) -> Option<u64> {
        if self.kind == KeyKind::Ed25519 {
            let signature = Signature::from_slice(signature).ok()?;
            return self.ed25519()?.verify_strict(text.as_bytes(), &signature).ok().map(|()| 0);
        }
        let (time, signature) = signature.split_at_checked(8)?;
        let at_s = u64::from_be_bytes(time.try_into().ok()?);
        i64::try_from(at_s).ok()?;
        let holds = match &self.key {
            Public::Ed25519(key) => {
                let signature = Signature::from_slice(signature).ok()?;
                key.verify_strict(cosigned_message(text, at_s).as_bytes(), &signature).is_ok()
            }
            Public::MlDsa(key) => {
                key.holds(&ml_dsa::message(&self.name, at_s, &Checkpoint::parse(text).ok()?)?, signature)
            }
        };
        holds.then_some(at_s)
    }
}

impl std::fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let bytes = [&[self.kind.byte()], self.key.bytes()].concat();
        write!(f, "{}+{}+{}", self.name, hex::encode(self.id()), BASE64.encode(bytes))
    }
}

/// What a witness signs (C2SP `tlog-cosignature`, Ed25519).
fn cosigned_message(text: &str, at_s: u64) -> String {
    format!("cosignature/v1\ntime {at_s}\n{text}")
}

/// One line under a note: whose it says it is, and the signature's bytes after the key's four.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignatureLine {
    /// The key's name.
    pub name: String,
    /// The key's four bytes.
    pub id: [u8; 4],
    /// The signature in the form of its type.
    pub signature: Vec<u8>,
}

impl SignatureLine {
    /// A log's signature over a note's text, which ends with a line feed.
    pub fn sign(text: &str, name: &str, key: &SigningKey) -> Self {
        let signature = key.sign(text.as_bytes()).to_bytes().to_vec();
        Self { name: name.to_owned(), id: key_id(name, KeyKind::Ed25519, key.verifying_key().as_bytes()), signature }
    }

    /// A witness's signature over a checkpoint's text at a time in Unix seconds, at most `i64::MAX`.
    pub fn cosign(text: &str, name: &str, key: &SigningKey, at_s: u64) -> Self {
        let signature = key.sign(cosigned_message(text, at_s).as_bytes()).to_bytes();
        let signature = [at_s.to_be_bytes().as_slice(), &signature].concat();
        Self {
            name: name.to_owned(),
            id: key_id(name, KeyKind::Cosignature, key.verifying_key().as_bytes()),
            signature,
        }
    }

    /// A log's signature by whatever signs for it.
    pub fn sign_by(text: &str, name: &str, key: &dyn Signs) -> Result<Self, String> {
        let signature = key.sign_bytes(text.as_bytes())?.to_vec();
        Ok(Self { name: name.to_owned(), id: key_id(name, KeyKind::Ed25519, key.public().as_bytes()), signature })
    }

    /// A witness's signature by whatever signs for it.
    pub fn cosign_by(text: &str, name: &str, key: &dyn Signs, at_s: u64) -> Result<Self, String> {
        let signature = key.sign_bytes(cosigned_message(text, at_s).as_bytes())?;
        let signature = [at_s.to_be_bytes().as_slice(), &signature].concat();
        Ok(Self { name: name.to_owned(), id: key_id(name, KeyKind::Cosignature, key.public().as_bytes()), signature })
    }

    /// A witness's signature by ML-DSA-44 over a note's text, which is a checkpoint's; `None` where it is none, or a name in it
    /// is longer than 255 bytes.
    pub fn cosign_by_ml_dsa(text: &str, name: &str, key: &MlDsaSigner, at_s: u64) -> Option<Self> {
        let signature = key.sign(&ml_dsa::message(name, at_s, &Checkpoint::parse(text).ok()?)?);
        let signature = [at_s.to_be_bytes().as_slice(), &signature].concat();
        let id = key_id(name, KeyKind::MlDsaCosignature, key.public().bytes());
        Some(Self { name: name.to_owned(), id, signature })
    }

    /// Reads one line without its line feed.
    pub fn parse(line: &str) -> Result<Self, NoteError> {
        let rest = line.strip_prefix(DASH).ok_or(NoteError::Format("a signature line begins with an em dash"))?;
        let (name, encoded) = rest.split_once(' ').ok_or(NoteError::Format("a signature line has two parts"))?;
        if !is_name(name) {
            return Err(NoteError::Format("a signature line has no name"));
        }
        let bytes = BASE64.decode(encoded).map_err(|_| NoteError::Format("a signature is not base64"))?;
        match bytes.split_first_chunk::<4>() {
            Some((id, signature)) if !signature.is_empty() => {
                Ok(Self { name: name.to_owned(), id: *id, signature: signature.to_vec() })
            }
            _ => Err(NoteError::Format("a signature is too short")),
        }
    }

    /// Whether it says that it is the key's.
    pub fn is_of(&self, key: &VerifierKey) -> bool {
        self.name == key.name && self.id == key.id()
    }
}

/// The line without its line feed.
impl std::fmt::Display for SignatureLine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let blob = [self.id.as_slice(), &self.signature].concat();
        write!(f, "{DASH}{} {}", self.name, BASE64.encode(blob))
    }
}

/// A text and the lines under it. Nothing is believed of it until a known key's line was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The text, with its last line feed.
    pub text: String,
    /// The lines in their order, those of unknown keys among them.
    pub signatures: Vec<SignatureLine>,
}

impl Note {
    /// Reads a note: its form, not its signatures.
    pub fn parse(note: &str) -> Result<Self, NoteError> {
        if note.len() > NOTE_BYTES_MAX {
            return Err(NoteError::Format("it is longer than 1,000,000 bytes"));
        }
        if note.bytes().any(|byte| byte < 0x20 && byte != b'\n') {
            return Err(NoteError::Format("it holds a control character"));
        }
        // The text may hold empty lines; the last one parts it from the signatures.
        let at = note.rfind("\n\n").ok_or(NoteError::Format("no blank line"))?;
        let (text, lines) = (note.get(..=at).unwrap_or_default(), note.get(at + 2..).unwrap_or_default());
        let lines = lines.strip_suffix('\n').ok_or(NoteError::Format("no signature line, or an unfinished one"))?;
        let signatures = lines.split('\n').map(SignatureLine::parse).collect::<Result<Vec<_>, _>>()?;
        if signatures.len() > SIGNATURES_MAX {
            return Err(NoteError::Format("it has more than 100 signatures"));
        }
        Ok(Self { text: text.to_owned(), signatures })
    }

    /// The time in Unix seconds at which the key signed, 0 for a log's key; `None` where no line says that it is the
    /// key's. Every line that says so must hold: one that does not is an error.
    pub fn signed_by(&self, key: &VerifierKey) -> Result<Option<u64>, NoteError> {
        let mut first = None;
        for line in self.signatures.iter().filter(|line| line.is_of(key)) {
            let checked = key.check(&self.text, &line.signature);
            let at_s = checked.ok_or_else(|| match key.kind {
                KeyKind::Ed25519 => NoteError::Signature,
                KeyKind::Cosignature | KeyKind::MlDsaCosignature => NoteError::Cosignature(key.name.clone()),
            })?;
            first = first.or(Some(at_s));
        }
        Ok(first)
    }
}

/// The note as it travels.
impl std::fmt::Display for Note {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{}", self.text)?;
        self.signatures.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

#[cfg(test)]
mod tests;
