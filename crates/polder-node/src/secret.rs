//! Secrets that this node gives out, for applications and for operators: made once, kept as a digest, compared in constant time.
//!
//! A secret is a prefix that says what it is for, 16 hexadecimal digits that are its id, `-`, and 43 characters that are 256
//! random bits. Its digest is SHA-256: nobody can try so many, so a slow digest would protect nothing. Absent: what a secret
//! opens.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::clock::random;

const ID_DIGITS: usize = 16;

/// A new id: 16 hexadecimal digits.
pub fn new_id() -> std::io::Result<String> {
    Ok(hex::encode(random::<8>()?))
}

/// A new secret with an id.
pub fn new(prefix: &str, id: &str) -> std::io::Result<String> {
    Ok(format!("{prefix}{id}-{}", URL_SAFE_NO_PAD.encode(random::<32>()?)))
}

/// The id in a secret's text, where it is one of this kind.
pub fn id_of<'a>(prefix: &str, text: &'a str) -> Option<&'a str> {
    let rest = text.strip_prefix(prefix)?;
    let id = rest.get(..ID_DIGITS)?;
    rest.get(ID_DIGITS..)?.starts_with('-').then_some(id)
}

/// The digest by which a secret is known.
pub fn digest_of(text: &str) -> [u8; 32] {
    use sha2::Digest as _;
    sha2::Sha256::digest(text.as_bytes()).into()
}

/// Compares in a time that does not depend on where two digests differ.
pub fn same(one: &[u8; 32], other: &[u8; 32]) -> bool {
    let differing = one.iter().zip(other).fold(0, |sum, (one, other)| sum | (one ^ other));
    std::hint::black_box(differing) == 0
}
