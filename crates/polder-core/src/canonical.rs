//! Canonical JSON, the one byte form of everything that is hashed or signed.
//!
//! RFC 8785 (JCS) narrowed to what Polder uses: object keys are ASCII and sorted, numbers are integers,
//! strings are escaped as JCS says, no white space. Fractions are absent: a value with one is an error,
//! so that no two implementations can disagree about its digits.

use serde::Serialize;
use sha2::{Digest as _, Sha256};

mod ordered;
mod write;

pub use ordered::Ordered;

/// A SHA-256 digest; 64 lower-case hexadecimal digits in JSON.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Digest(pub [u8; 32]);

/// Why a value has no canonical form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CanonicalError {
    /// A number that is not an integer.
    #[error("`{0}` is not an integer, canonical JSON here holds integers only")]
    Fraction(String),
    /// An object key outside ASCII, whose place in the order would be ambiguous.
    #[error("the key `{0}` is not plain ASCII")]
    Key(String),
    /// The value cannot be written as JSON at all.
    #[error("not representable as JSON: {0}")]
    Json(String),
}

/// The canonical bytes of a value.
pub fn to_bytes<T: Serialize>(value: &T) -> Result<Vec<u8>, CanonicalError> {
    let text = serde_json::to_vec(value).map_err(|e| CanonicalError::Json(e.to_string()))?;
    let mut out = Vec::with_capacity(text.len());
    write::Reader::new(&text).value(&mut out)?;
    Ok(out)
}

/// The SHA-256 of a value's canonical bytes after a domain prefix, such as `polder/ticket/v1`, and a zero byte.
pub fn digest<T: Serialize>(domain: &str, value: &T) -> Result<Digest, CanonicalError> {
    Ok(hash(domain, &[&to_bytes(value)?]))
}

/// SHA-256 over a domain prefix, a zero byte and the parts one after another.
pub fn hash(domain: &str, parts: &[&[u8]]) -> Digest {
    let mut hasher = Sha256::new();
    hasher.update(domain.as_bytes());
    hasher.update([0]);
    for part in parts {
        hasher.update(part);
    }
    Digest(hasher.finalize().into())
}

/// Appends bytes as lower-case hexadecimal.
pub fn push_hex(out: &mut Vec<u8>, bytes: &[u8]) {
    let digit = |value: u8| if value < 10 { b'0' + value } else { b'a' - 10 + value };
    // All places at once: a text of digits is not to grow byte by byte.
    let begin = out.len();
    out.resize(begin + 2 * bytes.len(), b'0');
    let places = out.get_mut(begin..).unwrap_or_default();
    for (pair, byte) in places.chunks_exact_mut(2).zip(bytes) {
        pair.copy_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
    }
}

impl Digest {
    /// The digest as 64 lower-case hexadecimal digits.
    pub fn to_hex(self) -> String {
        hex::encode(self.0)
    }
}

impl std::fmt::Debug for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.to_hex())
    }
}

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.to_hex())
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        bytes_as_hex::serialize(&self.0, serializer)
    }
}

impl<'de> serde::Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        bytes_as_hex::deserialize(deserializer).map(Self)
    }
}

/// Fixed-length byte strings as lower-case hexadecimal, for `#[serde(with = …)]`.
pub mod bytes_as_hex {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    /// Writes the bytes as lower-case hexadecimal.
    pub fn serialize<S: Serializer, const N: usize>(bytes: &[u8; N], serializer: S) -> Result<S::Ok, S::Error> {
        let mut text = Vec::with_capacity(2 * N);
        super::push_hex(&mut text, bytes);
        serializer.serialize_str(std::str::from_utf8(&text).unwrap_or_default())
    }

    /// Reads exactly `N` bytes of lower-case hexadecimal; upper case is refused, so that one value has one text.
    pub fn deserialize<'de, D: Deserializer<'de>, const N: usize>(deserializer: D) -> Result<[u8; N], D::Error> {
        let text = String::deserialize(deserializer)?;
        let mut bytes = [0; N];
        if text.bytes().any(|b| b.is_ascii_uppercase()) || hex::decode_to_slice(&text, &mut bytes).is_err() {
            return Err(D::Error::custom(format!("expected {} lower-case hexadecimal digits", 2 * N)));
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests;
