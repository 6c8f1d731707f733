//! Against a second implementation of FIPS 204, and against a message put together by hand.

use fips204::ml_dsa_44;
use fips204::traits::{SerDes as _, Verifier as _};

use super::*;
use crate::canonical::Digest;
use crate::ids::NodeId;
use crate::note::{Note, NoteError, SignatureLine, VerifierKey};

const NAME: &str = "polder/munich/witness";

fn signer() -> MlDsaSigner {
    MlDsaSigner::from_seed([7; 32])
}

fn checkpoint() -> Checkpoint {
    Checkpoint::new("polder/bank", 20_852_163, Digest([9; 32]))
}

fn key() -> VerifierKey {
    VerifierKey::of_ml_dsa_witness(&NodeId::try_from("munich".to_owned()).unwrap(), signer().public())
}

fn cosigned() -> Note {
    let text = checkpoint().text();
    let line = SignatureLine::cosign_by_ml_dsa(&text, NAME, &signer(), 1_790_000_000).unwrap();
    Note { text, signatures: vec![line] }
}

#[test]
fn another_implementation_accepts_what_is_signed() {
    let mut message = b"subtree/v1\n\0\x15polder/munich/witness".to_vec();
    message.extend([0, 0, 0, 0, 0x6a, 0xb1, 0x3b, 0x80]);
    message.extend(b"\x0bpolder/bank");
    message.extend([0; 8]);
    message.extend([0, 0, 0, 0, 0x01, 0x3e, 0x2d, 0xc3]);
    message.extend([9; 32]);
    let line = cosigned().signatures.remove(0);
    assert_eq!(line.signature.len(), 8 + 2_420);
    assert_eq!(line.signature[..8], 1_790_000_000u64.to_be_bytes());
    let public = ml_dsa_44::PublicKey::try_from_bytes(key().public_bytes().try_into().unwrap()).unwrap();
    let signature: [u8; 2_420] = line.signature[8..].try_into().unwrap();
    assert!(public.verify(&message, &signature, &[]));
    message[0] ^= 1;
    assert!(!public.verify(&message, &signature, &[]));
}

#[test]
fn what_another_implementation_signs_is_accepted() {
    use fips204::traits::{KeyGen as _, Signer as _};
    let (public, secret) = ml_dsa_44::KG::keygen_from_seed(&[8; 32]);
    let message = message(NAME, 5, &checkpoint()).unwrap();
    let signature = secret.try_sign_with_seed(&[3; 32], &message, &[]).unwrap();
    let key = MlDsaPublic::from_bytes(&public.into_bytes()).unwrap();
    assert!(key.holds(&message, &signature));
    assert_eq!(MlDsaSigner::from_seed([8; 32]).public(), key);
}

#[test]
fn a_line_holds_for_its_time_its_tree_and_its_witness_only() {
    let note = cosigned();
    assert_eq!(note.signed_by(&key()), Ok(Some(1_790_000_000)));
    let refused = Err(NoteError::Cosignature(NAME.to_owned()));
    for place in (0..8 + 2_420).step_by(11) {
        let mut note = note.clone();
        note.signatures[0].signature[place] ^= 0x10;
        assert_eq!(note.signed_by(&key()), refused, "{place}");
    }
    for other in [
        Checkpoint::new("polder/bank", 20_852_164, Digest([9; 32])),
        Checkpoint::new("polder/bank", 20_852_163, Digest([8; 32])),
        Checkpoint::new("polder/tank", 20_852_163, Digest([9; 32])),
    ] {
        assert_eq!(Note { text: other.text(), ..note.clone() }.signed_by(&key()), refused);
    }
    for length in [0, 7, 8, 72, 2_427, 2_429] {
        let mut note = note.clone();
        note.signatures[0].signature.resize(length, 0);
        assert_eq!(note.signed_by(&key()), refused, "{length}");
    }
    // A line under another witness's name is another line.
    let other = VerifierKey::of_ml_dsa_witness(&NodeId::try_from("delft".to_owned()).unwrap(), signer().public());
    assert_eq!(note.signed_by(&other), Ok(None));
    assert_eq!(Note { text: "no checkpoint\n".to_owned(), ..note }.signed_by(&key()), refused);
}

#[test]
fn a_key_is_read_as_it_is_written() {
    let text = key().to_string();
    assert_eq!(VerifierKey::parse(&text), Ok(key()));
    assert!(text.starts_with("polder/munich/witness+"));
    let cut = &text[..text.len() - 4];
    assert_eq!(VerifierKey::parse(cut), Err(NoteError::Key("it does not hold an ML-DSA-44 key")));
}

#[test]
fn names_that_do_not_fit_are_not_signed() {
    let long = Checkpoint::new("x".repeat(256), 1, Digest([0; 32])).text();
    assert_eq!(SignatureLine::cosign_by_ml_dsa(&long, NAME, &signer(), 1), None);
    assert_eq!(SignatureLine::cosign_by_ml_dsa("text\n", NAME, &signer(), 1), None);
    assert_eq!(SignatureLine::cosign_by_ml_dsa(&checkpoint().text(), "", &signer(), 1), None);
}
