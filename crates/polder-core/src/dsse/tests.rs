//! Tests of DSSE envelopes: the form of others, and what is refused.
#![allow(clippy::unwrap_used)]

use ed25519_dalek::Signer as _;
use proptest::prelude::*;

use super::*;
use crate::tests::key;

const STATEMENT: &[u8] = br#"{"at_ms":7,"home":"bank","statement":"polder/activation/v1"}"#;
const ENTRY: Digest = Digest([0xab; 32]);

fn signed() -> Vec<u8> {
    let payload = payload("polder/bank", &ENTRY, STATEMENT).unwrap();
    envelope(&payload, "a key", &key(5).sign(&message(&payload)).to_bytes()).unwrap()
}

fn check(envelope: &[u8]) -> Result<(), DsseError> {
    verify(envelope, &key(5).verifying_key(), "polder/bank", &ENTRY, STATEMENT)
}

/// in-toto's Statement v1 and DSSE's encoding, as their specifications have them.
#[test]
fn the_form_is_that_of_the_specifications() {
    let expected = format!(
        r#"{{"_type":"https://in-toto.io/Statement/v1","predicate":{},"predicateType":"polder:activation/v1","subject":[{{"digest":{{"sha256":"{}"}},"name":"polder/bank"}}]}}"#,
        std::str::from_utf8(STATEMENT).unwrap(),
        "ab".repeat(32)
    );
    let payload = payload("polder/bank", &ENTRY, STATEMENT).unwrap();
    assert_eq!(std::str::from_utf8(&payload).unwrap(), expected);
    assert_eq!(message(b"hello"), b"DSSEv1 28 application/vnd.in-toto+json 5 hello");
    assert_eq!(check(&signed()), Ok(()));
    assert_eq!(statement_type(STATEMENT).as_deref(), Some("polder/activation/v1"));
    assert_eq!(statement_type(b"[]"), None);
}

#[test]
fn others_are_refused() {
    let verify_with = |key_number, origin, entry: &Digest, statement| {
        verify(&signed(), &key(key_number).verifying_key(), origin, entry, statement)
    };
    assert_eq!(verify_with(6, "polder/bank", &ENTRY, STATEMENT), Err(DsseError::Signature));
    assert_eq!(verify_with(5, "polder/paris", &ENTRY, STATEMENT), Err(DsseError::Other));
    assert_eq!(verify_with(5, "polder/bank", &Digest([1; 32]), STATEMENT), Err(DsseError::Other));
    let other = br#"{"at_ms":8,"home":"bank","statement":"polder/activation/v1"}"#;
    assert_eq!(verify_with(5, "polder/bank", &ENTRY, other), Err(DsseError::Other));
    let text = String::from_utf8(signed()).unwrap();
    for wrong in [
        text.replacen("in-toto+json", "in-toto+xml", 1),
        text.replacen("\"sig\"", "\"sig2\"", 1),
        text.replacen("[{", "[{\"keyid\":\"\",\"sig\":\"\"},{", 1),
        text.replacen("payload\":\"ey", "payload\":\"ez", 1),
        String::new(),
    ] {
        assert!(check(wrong.as_bytes()).is_err(), "{wrong}");
    }
}

proptest! {
    #[test]
    fn no_bytes_break_the_reader(bytes in proptest::collection::vec(any::<u8>(), 0..200), place in 0_usize..500) {
        prop_assert!(check(&bytes).is_err());
        let mut changed = signed();
        if let Some(byte) = changed.get_mut(place) {
            *byte = bytes.first().copied().unwrap_or(0);
        }
        let _ = check(&changed);
        let _ = statement_type(&bytes);
        let _ = payload("polder/bank", &ENTRY, &bytes);
    }
}
