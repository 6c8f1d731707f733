//! Cosignatures by ML-DSA-44 (C2SP `tlog-cosignature`, type 0x06; FIPS 204, pure, without a context): for those who want a
//! checkpoint's witnesses to be believed when Ed25519 no longer is.
//!
//! Unlike the cosignature by Ed25519 it names its witness and says nothing of further lines of a checkpoint. Subtrees that do not
//! begin at the first leaf are absent: nothing here asks for one. Signing takes no chance: the same text gives the same bytes.

use ml_dsa::signature::Keypair as _;
use ml_dsa::{EncodedVerifyingKey, MlDsa44, Signature, SigningKey, VerifyingKey};

use super::Checkpoint;

/// The label of what is signed, with the zero byte that ends it.
const LABEL: &[u8; 12] = b"subtree/v1\n\0";

/// The public key of a witness, as FIPS 204 writes it: 1,312 bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MlDsaPublic(Box<EncodedVerifyingKey<MlDsa44>>);

impl MlDsaPublic {
    /// Takes a key's bytes; `None` where it is not 1,312 of them. Every text of that length is a key.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        EncodedVerifyingKey::<MlDsa44>::try_from(bytes).ok().map(|key| Self(Box::new(key)))
    }

    /// The key's bytes.
    pub fn bytes(&self) -> &[u8] {
        self.0.as_slice()
    }

    /// Whether a signature of 2,420 bytes over a message is this key's.
    pub(super) fn holds(&self, message: &[u8], signature: &[u8]) -> bool {
        let Ok(signature) = Signature::<MlDsa44>::try_from(signature) else { return false };
        VerifyingKey::<MlDsa44>::decode(&self.0).verify_with_context(message, &[], &signature)
    }
}

/// The secret key of a witness.
pub struct MlDsaSigner(Box<SigningKey<MlDsa44>>);

impl MlDsaSigner {
    /// The key of a seed (FIPS 204, 32 bytes).
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self(Box::new(SigningKey::from_seed(&seed.into())))
    }

    /// The public key.
    pub fn public(&self) -> MlDsaPublic {
        MlDsaPublic(Box::new(self.0.verifying_key().encode()))
    }

    /// The signature over a message; the same one each time.
    pub(super) fn sign(&self, message: &[u8]) -> Vec<u8> {
        // A context of no bytes is not too long, which is all that can be wrong.
        let signature = self.0.expanded_key().sign_deterministic(message, &[]);
        signature.map(|signature| signature.encode().to_vec()).unwrap_or_default()
    }
}

/// What is signed (`cosigned_message`): the whole tree at a time in Unix seconds; `None` where a name is empty or longer than its
/// one byte of length can say.
pub(super) fn message(name: &str, at_s: u64, checkpoint: &Checkpoint) -> Option<Vec<u8>> {
    let sized = |text: &str| u8::try_from(text.len()).ok().filter(|length| *length > 0);
    let mut message = LABEL.to_vec();
    message.push(sized(name)?);
    message.extend(name.as_bytes());
    message.extend(at_s.to_be_bytes());
    message.push(sized(&checkpoint.origin)?);
    message.extend(checkpoint.origin.as_bytes());
    message.extend(0u64.to_be_bytes());
    message.extend(checkpoint.size.to_be_bytes());
    message.extend(checkpoint.root.0);
    Some(message)
}

#[cfg(test)]
mod tests;
