//! The check by crates of other authors: notes and cosignatures by `signed_note`, the path by `ct-merkle`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ct_merkle::{InclusionProof, RootHash};
use ed25519_dalek::{Signature, VerifyingKey};
use sha2::{Digest as _, Sha256};
use signed_note::{Note, StandardVerifier, Verifier, VerifierList};

use crate::corpus::{Good, witnesses};

/// A witness for `signed_note`, which leaves this type of signature to its callers.
struct Witness {
    name: String,
    key: VerifyingKey,
}

impl Verifier for Witness {
    fn name(&self) -> &str {
        &self.name
    }

    fn key_id(&self) -> u32 {
        signed_note::key_id(&self.name, &[&[4], self.key.as_bytes().as_slice()].concat())
    }

    fn verify(&self, text: &[u8], signature: &[u8]) -> bool {
        let Some((time, signature)) = signature.split_first_chunk::<8>() else { return false };
        let Ok(signature) = Signature::from_slice(signature) else { return false };
        let message = [format!("cosignature/v1\ntime {}\n", u64::from_be_bytes(*time)).as_bytes(), text].concat();
        self.key.verify_strict(&message, &signature).is_ok()
    }
}

/// Checks a proof and its statement against the log's key and both witnesses.
pub fn check(good: &Good, proof: &[u8], statement: &[u8]) -> Result<(), String> {
    let text = std::str::from_utf8(proof).map_err(|error| error.to_string())?;
    let (head, note) = text.split_once("\n\n").ok_or("no checkpoint")?;
    let mut lines = head.split('\n');
    if lines.next() != Some("c2sp.org/tlog-proof@v1") {
        return Err("another header".to_owned());
    }
    let mut field = |name: &str| lines.next().and_then(|line| line.strip_prefix(name)).ok_or(format!("no `{name}`"));
    let decode = |line: &str| BASE64.decode(line).map_err(|error| error.to_string());
    let salt = decode(field("extra ")?)?;
    let index: u64 = field("index ")?.parse().map_err(|_| "the index is not a number")?;
    let path: Vec<u8> = lines.map(decode).collect::<Result<Vec<_>, _>>()?.concat();

    let note = Note::from_bytes(note.as_bytes()).map_err(|error| error.to_string())?;
    let mut keys: Vec<Box<dyn Verifier>> =
        vec![Box::new(StandardVerifier::new(&good.vkey()).map_err(|e| e.to_string())?)];
    for (_, witness) in witnesses() {
        keys.push(Box::new(Witness { name: witness.name().to_owned(), key: *witness.ed25519().unwrap() }));
    }
    let wanted = keys.len();
    let (verified, _) = note.verify(&VerifierList::new(keys)).map_err(|error| error.to_string())?;
    if verified.len() != wanted {
        return Err("a required signature is missing".to_owned());
    }
    let text = std::str::from_utf8(note.text()).map_err(|error| error.to_string())?;
    let [origin, size, root] = text.trim_end().split('\n').collect::<Vec<_>>()[..] else {
        return Err("not a checkpoint of three lines".to_owned());
    };
    if origin != good.export.log.name() {
        return Err("another origin".to_owned());
    }
    let size: u64 = size.parse().map_err(|_| "the size is not a number")?;
    let root = <[u8; 32]>::try_from(decode(root)?).map_err(|_| "the root is not 32 bytes")?;

    let mut hasher = Sha256::new();
    hasher.update(b"polder/commitment/v1\0");
    hasher.update(&salt);
    hasher.update(statement);
    let entry: [u8; 32] = hasher.finalize().into();
    let proof = InclusionProof::<Sha256>::try_from_bytes(path).map_err(|error| error.to_string())?;
    RootHash::<Sha256>::new(root.into(), size)
        .verify_inclusion(&entry, index, &proof)
        .map_err(|error| error.to_string())
}
