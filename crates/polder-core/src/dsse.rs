//! A statement as an in-toto Statement in a DSSE envelope, for tools that know those.
//!
//! The predicate is the statement itself, and its type is the statement's own with a colon: `polder/decision/v1` becomes
//! `polder:decision/v1`. The subject is the log entry. Envelopes with several signatures are absent: a node signs alone.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ed25519_dalek::{Signature, VerifyingKey};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::canonical::{self, CanonicalError, Digest};

/// The payload type of in-toto statements.
pub const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";

/// The type of an in-toto statement of version 1.
const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";

/// Why an envelope does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DsseError {
    /// It is not an envelope in the one form that is read.
    #[error("not a DSSE envelope around an in-toto statement: {0}")]
    Format(String),
    /// It is signed by another key, or changed since.
    #[error("the envelope is not signed by the log's key")]
    Signature,
    /// It holds another statement, or is about another log entry.
    #[error("the envelope does not hold this log entry's statement")]
    Other,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope {
    payload: String,
    #[serde(rename = "payloadType")]
    payload_type: String,
    signatures: Vec<EnvelopeSignature>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EnvelopeSignature {
    keyid: String,
    sig: String,
}

#[derive(Serialize)]
struct InToto<'a> {
    #[serde(rename = "_type")]
    kind: &'a str,
    subject: [Subject<'a>; 1],
    #[serde(rename = "predicateType")]
    predicate_type: String,
    predicate: Value,
}

#[derive(Serialize)]
struct Subject<'a> {
    name: &'a str,
    digest: SubjectDigest,
}

#[derive(Serialize)]
struct SubjectDigest {
    sha256: Digest,
}

/// What a statement calls itself, such as `polder/decision/v1`; `None` where it is no JSON object that says so.
pub fn statement_type(statement: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Named {
        statement: String,
    }
    serde_json::from_slice::<Named>(statement).ok().map(|named| named.statement)
}

/// The in-toto statement, canonical JSON: `origin` is the log's name, `entry` the log entry that commits to the statement.
pub fn payload(origin: &str, entry: &Digest, statement: &[u8]) -> Result<Vec<u8>, CanonicalError> {
    let json = |error: serde_json::Error| CanonicalError::Json(error.to_string());
    let predicate: Value = serde_json::from_slice(statement).map_err(json)?;
    let named = predicate.get("statement").and_then(Value::as_str).unwrap_or_default();
    let predicate_type = named.replacen('/', ":", 1);
    let subject = [Subject { name: origin, digest: SubjectDigest { sha256: *entry } }];
    canonical::to_bytes(&InToto { kind: STATEMENT_TYPE, subject, predicate_type, predicate })
}

/// What is signed of an envelope: DSSE's pre-authentication encoding.
pub fn message(payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {PAYLOAD_TYPE} {} ", PAYLOAD_TYPE.len(), payload.len());
    [head.as_bytes(), payload].concat()
}

/// The envelope's file.
pub fn envelope(payload: &[u8], keyid: &str, signature: &[u8; 64]) -> Result<Vec<u8>, CanonicalError> {
    let signature = EnvelopeSignature { keyid: keyid.to_owned(), sig: BASE64.encode(signature) };
    let payload = BASE64.encode(payload);
    let envelope = Envelope { payload, payload_type: PAYLOAD_TYPE.to_owned(), signatures: vec![signature] };
    let mut bytes = canonical::to_bytes(&envelope)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// Checks that an envelope holds exactly this statement about this log entry, signed by `key`.
pub fn verify(
    envelope: &[u8],
    key: &VerifyingKey,
    origin: &str,
    entry: &Digest,
    statement: &[u8],
) -> Result<(), DsseError> {
    let format = |error: &dyn std::fmt::Display| DsseError::Format(error.to_string());
    let read: Envelope = serde_json::from_slice(envelope).map_err(|error| format(&error))?;
    let [signature] = read.signatures.as_slice() else { return Err(format(&"it has other than one signature")) };
    if read.payload_type != PAYLOAD_TYPE {
        return Err(format(&"its payload is of another type"));
    }
    let held = BASE64.decode(&read.payload).map_err(|error| format(&error))?;
    let bytes = BASE64.decode(&signature.sig).map_err(|error| format(&error))?;
    let bytes = Signature::from_slice(&bytes).map_err(|error| format(&error))?;
    key.verify_strict(&message(&held), &bytes).map_err(|_| DsseError::Signature)?;
    let expected = payload(origin, entry, statement).map_err(|error| format(&error))?;
    if held == expected { Ok(()) } else { Err(DsseError::Other) }
}

#[cfg(test)]
mod tests;
