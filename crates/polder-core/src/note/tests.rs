//! Tests of signed checkpoints: the format of C2SP `signed-note`, and that no byte can change.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::*;
use crate::canonical::hash;
use crate::tests::key;

const LOG: &str = "polder/paris";

fn checkpoint() -> Checkpoint {
    Checkpoint { origin: LOG.to_owned(), size: 20_852_163, root: hash("test", &[b"root"]) }
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
