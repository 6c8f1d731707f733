//! A statement as a COSE_Sign1 with the receipt of its log in RFC 9942's form, over the same RFC 9162 tree.
//!
//! Two signatures by the log's key: one over the statement, one over the tree's root, which is detached and comes from
//! the inclusion proof. The entry that the proof leads from is our salted commitment to the statement, so the salt
//! stands in the statement's protected header. The C2SP checkpoint goes with it unprotected, for its cosignatures.
//! Files are read in the one form that is written; other people's receipts are absent.

use coset::cbor::value::Value;
use coset::{CborSerializable as _, CoseSign1, Header, HeaderBuilder, Label, TaggedCborSerializable as _, iana};

use crate::canonical::Digest;
use crate::note::NOTE_BYTES_MAX;

/// The longest file that is read, in bytes.
pub const COSE_BYTES_MAX: usize = 16 << 20;

/// RFC 9942: the receipts of a statement.
const RECEIPTS: i64 = 394;
/// RFC 9942: the kind of tree.
const VDS: i64 = 395;
/// RFC 9942: the proofs.
const VDP: i64 = 396;
/// RFC 9162's tree with SHA-256.
const RFC9162_SHA256: i64 = 1;
/// Inclusion proofs, among the proofs of such a tree.
const INCLUSION: i64 = -1;
/// RFC 9597: claims about a statement, of which 1 is the issuer and 2 the subject.
const CWT_CLAIMS: i64 = 15;
/// Our own: the salt of the entry's commitment.
const SALT: &str = "polder/salt/v1";
/// Our own: the C2SP checkpoint.
const CHECKPOINT: &str = "polder/checkpoint/v1";

/// Why bytes are not such a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a COSE receipt: {0}")]
pub struct CoseError(pub String);

/// Everything that such a file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CoseReceipt {
    /// The log's name, which is the issuer.
    pub origin: String,
    /// The four bytes of the log's key.
    pub key_id: [u8; 4],
    /// What the statement calls itself, which is the subject.
    pub kind: String,
    /// The salt of the commitment.
    pub salt: [u8; 32],
    /// The statement's bytes.
    pub statement: Vec<u8>,
    /// How many leaves the tree has.
    pub size: u64,
    /// The entry's place, from 0.
    pub index: u64,
    /// The hashes from the entry's sibling upwards.
    pub path: Vec<Digest>,
    /// The checkpoint as a C2SP note.
    pub checkpoint: String,
    /// The signature over the statement.
    pub statement_signature: [u8; 64],
    /// The signature over the root.
    pub root_signature: [u8; 64],
}

fn wrong(error: impl std::fmt::Display) -> CoseError {
    CoseError(error.to_string())
}

fn number(value: u64) -> Value {
    Value::Integer(value.into())
}

fn claims(origin: &str, subject: Option<&str>) -> Value {
    let mut claims = vec![(number(1), Value::Text(origin.to_owned()))];
    claims.extend(subject.map(|subject| (number(2), Value::Text(subject.to_owned()))));
    Value::Map(claims)
}

/// The protected header of the statement.
fn statement_header(origin: &str, key_id: [u8; 4], kind: &str, salt: &[u8; 32]) -> Header {
    HeaderBuilder::new()
        .algorithm(iana::Algorithm::EdDSA)
        .content_type("application/json".to_owned())
        .key_id(key_id.to_vec())
        .value(CWT_CLAIMS, claims(origin, Some(kind)))
        .text_value(SALT.to_owned(), Value::Bytes(salt.to_vec()))
        .build()
}

/// The protected header of the log's receipt.
fn root_header(origin: &str, key_id: [u8; 4]) -> Header {
    HeaderBuilder::new()
        .algorithm(iana::Algorithm::EdDSA)
        .key_id(key_id.to_vec())
        .value(CWT_CLAIMS, claims(origin, None))
        .value(VDS, Value::from(RFC9162_SHA256))
        .build()
}

fn sign1(protected: Header, unprotected: Header, payload: Option<Vec<u8>>, signature: Vec<u8>) -> CoseSign1 {
    let protected = coset::ProtectedHeader { original_data: None, header: protected };
    CoseSign1 { protected, unprotected, payload, signature }
}

/// What the log's key signs of a statement.
pub fn statement_message(origin: &str, key_id: [u8; 4], kind: &str, salt: &[u8; 32], statement: &[u8]) -> Vec<u8> {
    let header = statement_header(origin, key_id, kind, salt);
    sign1(header, Header::default(), Some(statement.to_vec()), Vec::new()).tbs_data(&[])
}

/// What the log's key signs of a root.
pub fn root_message(origin: &str, key_id: [u8; 4], root: &Digest) -> Vec<u8> {
    sign1(root_header(origin, key_id), Header::default(), None, Vec::new()).tbs_detached_data(&root.0, &[])
}

impl CoseReceipt {
    /// The file's bytes.
    pub fn to_bytes(&self) -> Result<Vec<u8>, CoseError> {
        let path = self.path.iter().map(|hash| Value::Bytes(hash.0.to_vec())).collect();
        let proof = Value::Array(vec![number(self.size), number(self.index), Value::Array(path)]);
        let proof = Value::Bytes(proof.to_vec().map_err(wrong)?);
        let proofs = Value::Map(vec![(Value::from(INCLUSION), Value::Array(vec![proof]))]);
        let unprotected = HeaderBuilder::new().value(VDP, proofs).build();
        let header = root_header(&self.origin, self.key_id);
        let receipt = sign1(header, unprotected, None, self.root_signature.to_vec()).to_tagged_vec().map_err(wrong)?;
        let unprotected = HeaderBuilder::new()
            .value(RECEIPTS, Value::Array(vec![Value::Bytes(receipt)]))
            .text_value(CHECKPOINT.to_owned(), Value::Text(self.checkpoint.clone()))
            .build();
        let header = statement_header(&self.origin, self.key_id, &self.kind, &self.salt);
        let payload = Some(self.statement.clone());
        sign1(header, unprotected, payload, self.statement_signature.to_vec()).to_tagged_vec().map_err(wrong)
    }

    /// Reads a file: its form, neither its signatures nor its path.
    pub fn parse(bytes: &[u8]) -> Result<Self, CoseError> {
        if bytes.len() > COSE_BYTES_MAX {
            return Err(wrong("it is too long"));
        }
        let outer = CoseSign1::from_tagged_slice(bytes).map_err(wrong)?;
        let header = &outer.protected.header;
        let claims = entries(find(header, &Label::Int(CWT_CLAIMS))?)?;
        let checkpoint = text(find(&outer.unprotected, &Label::Text(CHECKPOINT.to_owned()))?)?;
        if checkpoint.len() > NOTE_BYTES_MAX {
            return Err(wrong("its checkpoint is too long"));
        }
        let [receipt] = list(find(&outer.unprotected, &Label::Int(RECEIPTS))?)? else {
            return Err(wrong("it has other than one receipt"));
        };
        let receipt = CoseSign1::from_tagged_slice(binary(receipt)?).map_err(wrong)?;
        let (size, index, path) = inclusion(&receipt)?;
        let read = Self {
            origin: text(claim(claims, 1)?)?,
            key_id: fixed(&header.key_id)?,
            kind: text(claim(claims, 2)?)?,
            salt: fixed(binary(find(header, &Label::Text(SALT.to_owned()))?)?)?,
            statement: outer.payload.clone().ok_or_else(|| wrong("it has no payload"))?,
            size,
            index,
            path,
            checkpoint,
            statement_signature: fixed(&outer.signature)?,
            root_signature: fixed(&receipt.signature)?,
        };
        // Whatever was passed over, or can be written in two ways, shows here.
        if read.to_bytes()? == bytes { Ok(read) } else { Err(wrong("not in its one form")) }
    }
}

/// The one inclusion proof of a receipt: size, index and path.
fn inclusion(receipt: &CoseSign1) -> Result<(u64, u64, Vec<Digest>), CoseError> {
    let [(_, proofs)] = entries(find(&receipt.unprotected, &Label::Int(VDP))?)? else {
        return Err(wrong("it has other than one kind of proof"));
    };
    let [proof] = list(proofs)? else { return Err(wrong("it has other than one inclusion proof")) };
    let proof = Value::from_slice(binary(proof)?).map_err(wrong)?;
    let [size, index, path] = list(&proof)? else { return Err(wrong("an inclusion proof has three parts")) };
    let unsigned = |value: &Value| value.as_integer().and_then(|value| u64::try_from(value).ok());
    let (Some(size), Some(index)) = (unsigned(size), unsigned(index)) else {
        return Err(wrong("size and index are not numbers"));
    };
    let path = list(path)?.iter().map(|hash| fixed(binary(hash)?).map(Digest)).collect::<Result<_, _>>()?;
    Ok((size, index, path))
}

fn find<'a>(header: &'a Header, label: &Label) -> Result<&'a Value, CoseError> {
    let found = header.rest.iter().find(|(name, _)| name == label).map(|(_, value)| value);
    found.ok_or_else(|| wrong(format!("it lacks the header {label:?}")))
}

fn claim(claims: &[(Value, Value)], name: u64) -> Result<&Value, CoseError> {
    let found = claims.iter().find(|(key, _)| *key == number(name)).map(|(_, value)| value);
    found.ok_or_else(|| wrong("a claim is missing"))
}

fn entries(value: &Value) -> Result<&[(Value, Value)], CoseError> {
    value.as_map().map(Vec::as_slice).ok_or_else(|| wrong("a map is expected"))
}

fn list(value: &Value) -> Result<&[Value], CoseError> {
    value.as_array().map(Vec::as_slice).ok_or_else(|| wrong("a list is expected"))
}

fn text(value: &Value) -> Result<String, CoseError> {
    value.as_text().map(str::to_owned).ok_or_else(|| wrong("a text is expected"))
}

fn binary(value: &Value) -> Result<&[u8], CoseError> {
    value.as_bytes().map(Vec::as_slice).ok_or_else(|| wrong("bytes are expected"))
}

fn fixed<const N: usize>(bytes: &[u8]) -> Result<[u8; N], CoseError> {
    bytes.try_into().map_err(|_| wrong(format!("{N} bytes are expected, not {}", bytes.len())))
}

#[cfg(test)]
mod tests;
