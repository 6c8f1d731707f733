//! Tests of signed checkpoints: the format of C2SP `signed-note`, and that no byte can change.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use proptest::prelude::*;

use super::*;
use crate::canonical::hash;
use crate::tests::{key, node};

const LOG: &str = "polder/paris";

fn checkpoint() -> Checkpoint {
    Checkpoint::new(LOG, 20_852_163, hash("test", &[b"root"]))
}

#[test]
fn a_note_comes_back() {
    for size in [0, 1, 20_852_163, u64::MAX] {
        let checkpoint = Checkpoint { size, ..checkpoint() };
        let note = checkpoint.sign(&key(5));
        assert_eq!(Checkpoint::open(&note, LOG, &key(5).verifying_key()), Ok(checkpoint));
    }
}

#[test]
fn every_changed_byte_is_noticed() {
    let note = checkpoint().sign(&key(5)).into_bytes();
    for place in 0..note.len() {
        for mask in [1, 2, 0x20, 0x40] {
            let mut changed = note.clone();
            changed[place] ^= mask;
            let Ok(changed) = String::from_utf8(changed) else { continue };
            let opened = Checkpoint::open(&changed, LOG, &key(5).verifying_key());
            assert!(opened.is_err(), "byte {place} ^ {mask}: {changed:?}");
        }
    }
}

#[test]
fn other_forms_other_logs_and_other_keys_are_refused() {
    let note = checkpoint().sign(&key(5));
    let open = |note: &str| Checkpoint::open(note, LOG, &key(5).verifying_key());
    for wrong in [
        note.replacen("20852163", "+20852163", 1),
        note.replacen("20852163", "020852163", 1),
        note.replacen("20852163\n", "20852163\n\n", 1),
        note.replacen("\n\n", "\nmore\n\n", 1),
        format!("{note}\n"),
        format!("\n{note}"),
        note.replace('\n', "\r\n"),
        note.trim_end().to_owned(),
        String::new(),
    ] {
        assert!(open(&wrong).is_err(), "{wrong:?}");
    }
    let opened = Checkpoint::open(&note, "polder/munich", &key(5).verifying_key());
    assert_eq!(opened, Err(NoteError::Origin(LOG.to_owned())));
    assert_eq!(Checkpoint::open(&note, LOG, &key(6).verifying_key()), Err(NoteError::Signature));
}

/// C2SP `signed-note`: the key hash is SHA-256(name, 0x0A, 0x01, key)[:4], a signature line is an em dash, the name
/// and the base64 of key hash and signature, and the signature is over the text with its last line feed. All of it by
/// hand.
#[test]
fn the_format_is_that_of_other_verifiers() {
    let public = key(5).verifying_key();
    let mut bytes = b"polder/paris\x0a\x01".to_vec();
    bytes.extend_from_slice(public.as_bytes());
    let id = &Sha256::digest(&bytes)[..4];
    let mut encoded = vec![1u8];
    encoded.extend_from_slice(public.as_bytes());
    let expected = format!("polder/paris+{}+{}", hex::encode(id), BASE64.encode(&encoded));
    assert_eq!(verifier_key(LOG, &public), expected);

    let note = checkpoint().sign(&key(5));
    let text = format!("polder/paris\n20852163\n{}\n", BASE64.encode(checkpoint().root.0));
    let line = note.strip_prefix(&format!("{text}\n")).unwrap();
    let blob = BASE64.decode(line.strip_prefix("\u{2014} polder/paris ").unwrap().trim_end()).unwrap();
    assert_eq!(&blob[..4], id);
    let signature = Signature::from_slice(&blob[4..]).unwrap();
    assert!(public.verify_strict(text.as_bytes(), &signature).is_ok());
}

/// The key and its hash as Go's `golang.org/x/mod/sumdb/note` documents them.
#[test]
fn a_known_key_has_its_known_hash() {
    let bytes = BASE64.decode("ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW").unwrap();
    let public = VerifyingKey::from_bytes(&<[u8; 32]>::try_from(&bytes[1..]).unwrap()).unwrap();
    let expected = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    assert_eq!(verifier_key("PeterNeumann", &public), expected);
}

fn witness() -> VerifierKey {
    VerifierKey::of_witness(&node("munich"), key(6).verifying_key())
}

/// The checkpoint under the log's signature, a stranger's line and a witness's cosignature.
fn cosigned() -> Note {
    let mut note = Note::parse(&checkpoint().sign(&key(5))).unwrap();
    let stranger = SignatureLine { name: "stranger.example/w".to_owned(), id: [1, 2, 3, 4], signature: vec![0xee; 70] };
    let line = SignatureLine::cosign(&note.text, "polder/munich/witness", &key(6), 1_679_315_147);
    note.signatures.extend([stranger, line]);
    note
}

#[test]
fn unknown_lines_are_kept_and_ignored() {
    let note = cosigned();
    let text = note.to_string();
    assert_eq!(Note::parse(&text), Ok(note.clone()));
    assert_eq!(Checkpoint::open(&text, LOG, &key(5).verifying_key()), Ok(checkpoint()));
    assert_eq!(note.signed_by(&witness()), Ok(Some(1_679_315_147)));
    let other = VerifierKey::of_witness(&node("delft"), key(7).verifying_key());
    assert_eq!(note.signed_by(&other), Ok(None));
    // The same key and name, but as a log's: another hash, so not this line.
    let as_log = VerifierKey::new_log("polder/munich/witness", key(6).verifying_key()).unwrap();
    assert_eq!(note.signed_by(&as_log), Ok(None));
}

#[test]
fn a_known_line_must_hold() {
    for place in 0..72 {
        let mut note = cosigned();
        note.signatures[2].signature[place] ^= 1;
        assert_eq!(
            note.signed_by(&witness()),
            Err(NoteError::Cosignature("polder/munich/witness".to_owned())),
            "{place}"
        );
    }
    let mut cut = cosigned();
    cut.signatures[2].signature.pop();
    assert!(cut.signed_by(&witness()).is_err());
    // One good line of the log beside a bad one is not a signed checkpoint.
    let mut twice = cosigned();
    let mut bad = twice.signatures[0].clone();
    bad.signature[0] ^= 1;
    twice.signatures.push(bad);
    let opened = Checkpoint::open(&twice.to_string(), LOG, &key(5).verifying_key());
    assert_eq!(opened, Err(NoteError::Signature));
}

/// C2SP `tlog-cosignature`, by hand: the message, the time in eight bytes, the type 0x04 in the key's hash.
#[test]
fn a_cosignature_is_that_of_other_witnesses() {
    let public = key(6).verifying_key();
    let mut bytes = b"polder/munich/witness\x0a\x04".to_vec();
    bytes.extend_from_slice(public.as_bytes());
    let line = cosigned().signatures[2].clone();
    assert_eq!(line.id, Sha256::digest(&bytes)[..4]);
    assert_eq!(line.signature[..8], 1_679_315_147_u64.to_be_bytes());
    let message =
        format!("cosignature/v1\ntime 1679315147\npolder/paris\n20852163\n{}\n", BASE64.encode(checkpoint().root.0));
    let signature = Signature::from_slice(&line.signature[8..]).unwrap();
    assert!(public.verify_strict(message.as_bytes(), &signature).is_ok());
    // A time beyond the format's bound is refused, though the signature is the key's.
    let mut late = cosigned();
    late.signatures[2] = SignatureLine::cosign(&late.text, "polder/munich/witness", &key(6), 1 << 63);
    assert!(late.signed_by(&witness()).is_err());
}

#[test]
fn further_lines_are_signed_with_the_rest() {
    let extended = Checkpoint { extensions: vec!["a line".to_owned(), "timestamp 7".to_owned()], ..checkpoint() };
    let note = extended.sign(&key(5));
    let open = |note: &str| Checkpoint::open(note, LOG, &key(5).verifying_key());
    assert_eq!(open(&note), Ok(extended));
    assert_eq!(open(&note.replacen("timestamp 7", "timestamp 8", 1)), Err(NoteError::Signature));
    assert!(open(&note.replacen("a line\n", "", 1)).is_err());
}

#[test]
fn verifier_keys_come_back() {
    for key in [witness(), VerifierKey::of_log(&node("paris"), key(5).verifying_key())] {
        assert_eq!(VerifierKey::parse(&key.to_string()), Ok(key));
    }
    let text = witness().to_string();
    for wrong in [
        text.replacen("munich", "delft", 1),
        text.replacen('+', " ", 1),
        text.replacen('+', "", 1),
        format!("{text}="),
        format!(" {text}"),
        "polder/a+00000000+".to_owned(),
        "polder/a+00000000+BA==".to_owned(),
        String::new(),
    ] {
        assert!(VerifierKey::parse(&wrong).is_err(), "{wrong:?}");
    }
    for name in ["", "a b", "a+b", "a\tb", "a\u{a0}b", "a\u{7f}b"] {
        assert!(VerifierKey::new_log(name, key(5).verifying_key()).is_err(), "{name:?}");
    }
}

#[test]
fn too_much_is_refused() {
    let mut note = cosigned();
    let line = note.signatures[1].clone();
    note.signatures.resize(SIGNATURES_MAX, line.clone());
    assert!(Note::parse(&note.to_string()).is_ok());
    note.signatures.push(line);
    assert!(Note::parse(&note.to_string()).is_err());
    assert!(Note::parse(&"x".repeat(10_000_000)).is_err());
}

proptest! {
    /// Whatever arrives: an answer, never a panic; and what is read is written the same.
    #[test]
    fn no_bytes_break_the_reader(text in "\\PC{0,40}|(\u{2014} [a-z+/ =]{0,30}|[a-z0-9]{0,8}|\n){0,20}") {
        if let Ok(note) = Note::parse(&text) {
            prop_assert_eq!(note.to_string(), text.clone());
        }
        let _ = Checkpoint::parse(&text);
        let _ = VerifierKey::parse(&text);
        let _ = SignatureLine::parse(&text);
    }
}
