//! What every parser of what strangers send must hold, whatever the bytes are.
//!
//! One function for each target, used twice: by libFuzzer (`fuzz_targets/`, looking for new paths), and by
//! `crates/polder-core/tests/fuzz.rs`, which changes good files at random in every test run. Finding inputs is absent here.

use std::borrow::Cow;
use std::convert::Infallible;

use polder_core::canonical::{self, Digest};
use polder_core::cose::CoseReceipt;
use polder_core::dsse;
use polder_core::export::{Anchors, Beside, verify_cose, verify_tlog_proof};
use polder_core::facts::Passport;
use polder_core::keys::{NodeCard, Signed};
use polder_core::merkle::{self, Tree};
use polder_core::note::{Checkpoint, Note, SignatureLine, VerifierKey};
use polder_core::receipt::{self, Half, Sealed};
use polder_core::replay::{Sources, SourcesFile};
use polder_core::statement::v1::Statement;
use polder_core::ticket::{Capability, Ticket};
use polder_core::tiles::{self, Kind, Place, TileError};
use polder_core::tlog_policy::Policy;
use polder_core::tlog_proof::TlogProof;
use polder_core::witness::{Evidence, Judgement, Submission, judge};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A target: its name, and what must hold of any bytes.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: [Target; 10] = [
    ("cose", cose),
    ("dsse", dsse_envelope),
    ("note", note),
    ("peer", peer),
    ("proof", proof),
    ("receipt", receipt_file),
    ("submission", submission),
    ("tile", tile),
    ("tlog_policy", tlog_policy),
    ("tlog_proof", tlog_proof),
];

/// A key whose other half nobody here has.
const KEY: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";

fn text(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

/// COSE files: one form, and none that verifies without a key.
pub fn cose(bytes: &[u8]) {
    if let Ok(receipt) = CoseReceipt::parse(bytes) {
        assert_eq!(receipt.to_bytes().as_deref(), Ok(bytes));
    }
    assert!(verify_cose(bytes, &Anchors::default()).is_err());
}

/// DSSE envelopes and the statements in them: none that verifies, because nobody has the key's other half.
pub fn dsse_envelope(bytes: &[u8]) {
    let Ok(key) = VerifierKey::parse(KEY) else { return };
    let Some(key) = key.ed25519() else { return };
    assert!(dsse::verify(bytes, key, "polder/bank", &Digest([0; 32]), b"{}").is_err());
    let _ = dsse::payload("polder/bank", &Digest([0; 32]), bytes);
    let _ = dsse::statement_type(bytes);
}

/// Signed notes, checkpoints and verifier keys: what is read is written the same.
pub fn note(bytes: &[u8]) {
    let text = &*text(bytes);
    if let Ok(note) = Note::parse(text) {
        assert_eq!(note.to_string(), text);
        if let Ok(checkpoint) = Checkpoint::parse(&note.text) {
            assert_eq!(checkpoint.text(), note.text);
        }
    }
    if let Ok(key) = VerifierKey::parse(text) {
        assert!(key.to_string().eq_ignore_ascii_case(text));
    }
    let _ = SignatureLine::parse(text);
}

/// Reads JSON as one of our types; what is read is written and read the same again.
fn again<T: DeserializeOwned + Serialize>(bytes: &[u8]) -> Option<T> {
    let read: T = serde_json::from_slice(bytes).ok()?;
    if let Ok(written) = canonical::to_bytes(&read) {
        let once_more = serde_json::from_slice::<T>(&written).ok();
        assert_eq!(once_more.and_then(|read| canonical::to_bytes(&read).ok()), Some(written));
    }
    Some(read)
}

/// What peers send each other, and what replays read: one meaning, and nothing that holds without a key.
pub fn peer(bytes: &[u8]) {
    let Ok(key) = VerifierKey::parse(KEY) else { return };
    if let Some(ticket) = again::<Ticket>(bytes) {
        let _ = ticket.digest();
    }
    if let Some(signed) = again::<Signed<Capability>>(bytes) {
        let _ = signed.check_again(&signed.value.home, &signed.value.factory, 0);
    }
    if let Some(evidence) = again::<Evidence>(bytes) {
        assert!(evidence.check(&key).is_err());
        let _ = evidence.id();
    }
    if let Some(half) = again::<Half>(bytes) {
        let _ = half.export();
    }
    if let Some(file) = again::<SourcesFile>(bytes) {
        let _ = Sources::try_from(file);
    }
    let _ = again::<Passport>(bytes);
    let _ = again::<NodeCard>(bytes);
    let _ = again::<Sealed>(bytes);
    let _ = again::<Statement>(bytes);
}

fn number(bytes: &mut &[u8]) -> u64 {
    let (head, rest) = bytes.split_at(bytes.len().min(8));
    *bytes = rest;
    head.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

fn hashes(bytes: &[u8]) -> Vec<Digest> {
    bytes.as_chunks::<32>().0.iter().map(|hash| Digest(*hash)).collect()
}

/// Proofs of leaves and of growth, of trees of any size: a path leads to a root if and only if it has the length of one.
pub fn proof(mut bytes: &[u8]) {
    let (index, size) = (number(&mut bytes), number(&mut bytes));
    let path = hashes(bytes);
    let nothing = &mut |_, _| Ok::<_, Infallible>(Digest::default());
    let Ok(wanted) = merkle::inclusion(index, size, nothing);
    let root = merkle::root_from_inclusion(&Digest::default(), index, size, &path);
    assert_eq!(root.is_some(), wanted.is_some_and(|wanted| wanted.len() == path.len()));
    let Ok(growth) = merkle::consistency(index, size, nothing);
    let (old, new) = (path.first().copied().unwrap_or_default(), path.last().copied().unwrap_or_default());
    if merkle::is_consistent(index, &old, size, &new, &path) {
        assert_eq!(growth.map(|growth| growth.len()), Some(path.len()));
    }
    if let Some(prefix) = merkle::prefix_root(index, size, &new, &path) {
        assert!(merkle::is_consistent(index, &prefix, size, &new, &path));
    }
    for place in tiles::tiles_of_inclusion(index, size).into_iter().chain(tiles::tiles_of_consistency(index, size)) {
        assert_eq!(place.full().filled(size), Some(place));
    }
}

/// Receipts in our own form: what holds is in its one form.
pub fn receipt_file(bytes: &[u8]) {
    if let Ok(report) = receipt::verify(bytes, None) {
        assert_eq!(report.receipt.to_bytes().as_deref(), Ok(bytes));
    }
}

/// What logs submit to witnesses: one form, and nothing is cosigned that the log's key did not sign.
pub fn submission(bytes: &[u8]) {
    let text = &*text(bytes);
    let Ok(submission) = Submission::parse(text) else { return };
    assert_eq!(submission.to_string(), text);
    let Ok(key) = VerifierKey::parse(KEY) else { return };
    assert!(matches!(judge(&submission, &key, None), Judgement::Unsigned(_)));
}

/// Tiles, bundles and their paths: one form; and a proof is made of a tile that fits, or of none.
pub fn tile(bytes: &[u8]) {
    let (path, body) = bytes.split_at(bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len()));
    let Some(place) = Place::parse(&text(path)) else { return };
    assert_eq!(place.path().as_bytes(), path);
    let body = body.get(1..).unwrap_or_default();
    if let Ok(entries) = tiles::parse_entries(place, body) {
        let mut bundle = Vec::new();
        assert!(entries.iter().all(|entry| tiles::push_entry(&mut bundle, entry).is_ok()));
        assert_eq!(bundle, body);
    }
    let Ok(tile) = tiles::parse_tile(place, body) else { return };
    assert_eq!(tiles::tile_bytes(tile.leaves()), body);
    let size = u64::from(place.width);
    // The root over a full tile lies in the tile above.
    if !place.is_full() && place == (Place { kind: Kind::Hashes(0), index: 0, ..place }) {
        let fetch = &mut |_| Ok::<&Tree, TileError>(&tile);
        assert_eq!(tiles::root(size, fetch), Ok(tile.root()));
        let path = tiles::inclusion(size - 1, size, fetch).ok().flatten().unwrap_or_default();
        let leaf = tile.leaves().last().copied().unwrap_or_default();
        assert_eq!(merkle::root_from_inclusion(&leaf, size - 1, size, &path), Some(tile.root()));
    }
}

/// Witness policies: a group asks for some of its members, and for no more than there are.
pub fn tlog_policy(bytes: &[u8]) {
    if let Ok(policy) = Policy::parse(bytes) {
        for group in &policy.groups {
            assert!((1..=group.members.len()).contains(&group.threshold));
        }
    }
}

/// Proof files: one form, and none that verifies without a key.
pub fn tlog_proof(bytes: &[u8]) {
    if let Some(proof) = std::str::from_utf8(bytes).ok().and_then(|text| TlogProof::parse(text).ok()) {
        assert_eq!(proof.to_string().as_bytes(), bytes);
    }
    let beside = Beside { statement: Some(b"{}"), leaf: Some(&[0; 32]), dsse: Some(bytes) };
    assert!(verify_tlog_proof(bytes, beside, &Anchors::default()).is_err());
}
