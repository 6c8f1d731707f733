//! Tests of COSE files: their one form, what other tools will see in them, and that nothing breaks the reader.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use proptest::prelude::*;

use super::*;

fn receipt() -> CoseReceipt {
    CoseReceipt {
        origin: "polder/paris".to_owned(),
        key_id: [1, 2, 3, 4],
        kind: "polder/execution/v1".to_owned(),
        salt: [7; 32],
        statement: br#"{"statement":"polder/execution/v1"}"#.to_vec(),
        size: 7,
        index: 4,
        path: vec![Digest([5; 32]), Digest([6; 32])],
        checkpoint: "polder/paris\n7\n".to_owned(),
        statement_signature: [8; 64],
        root_signature: [9; 64],
    }
}

#[test]
fn a_receipt_comes_back() {
    let bytes = receipt().to_bytes().unwrap();
    assert_eq!(CoseReceipt::parse(&bytes), Ok(receipt()));
    let alone = CoseReceipt { path: Vec::new(), size: 1, index: 0, ..receipt() };
    assert_eq!(CoseReceipt::parse(&alone.to_bytes().unwrap()), Ok(alone));
    let large = CoseReceipt { size: u64::MAX, index: u64::MAX - 1, ..receipt() };
    assert_eq!(CoseReceipt::parse(&large.to_bytes().unwrap()), Ok(large));
}

/// RFC 9052's and RFC 9942's structures, byte for byte by hand.
#[test]
fn the_form_is_that_of_the_standards() {
    let bytes = receipt().to_bytes().unwrap();
    // Tag 18, four parts, a protected header that begins with EdDSA and the type of its content.
    assert_eq!(bytes[..2], [0xd2, 0x84]);
    let header = hex::encode(&bytes[..60]);
    assert!(header.starts_with("d2845871a50127") || header.contains("a50127"), "{header}");
    let inner = "d28458"; // The receipt is tagged as well.
    assert!(hex::encode(&bytes[10..]).contains(inner));
    // 394 with one receipt; 395: 1 in its protected header; 396: {-1: [<<[7, 4, [...]]>>]}.
    let text = hex::encode(&bytes);
    for part in ["19018a81", "19018b01", "19018ca12081", "83070482"] {
        assert!(text.contains(part), "{part}");
    }
    // What is signed: ["Signature1", header, '', root].
    let message = root_message("polder/paris", [1, 2, 3, 4], &Digest([3; 32]));
    let text = hex::encode(&message);
    assert!(text.starts_with("846a5369676e617475726531"));
    assert!(text.ends_with(&format!("405820{}", "03".repeat(32))));
}

#[test]
fn every_byte_matters_to_the_form_or_to_what_is_read() {
    let bytes = receipt().to_bytes().unwrap();
    for place in 0..bytes.len() {
        for mask in [1, 0x20, 0x80] {
            let mut changed = bytes.clone();
            changed[place] ^= mask;
            assert_ne!(CoseReceipt::parse(&changed), Ok(receipt()), "byte {place} ^ {mask:#x}");
        }
    }
    for length in 0..bytes.len() {
        assert!(CoseReceipt::parse(&bytes[..length]).is_err());
    }
    assert!(CoseReceipt::parse(&[&bytes, [0].as_slice()].concat()).is_err());
    assert!(CoseReceipt::parse(&vec![0xd2; 17 << 20]).is_err());
    // Deep nesting is an error, not an overflow.
    assert!(CoseReceipt::parse(&vec![0x81; 1 << 20]).is_err());
}

proptest! {
    #[test]
    fn no_bytes_break_the_reader(bytes in proptest::collection::vec(any::<u8>(), 0..300), place in 0_usize..400) {
        let _ = CoseReceipt::parse(&bytes);
        let mut changed = receipt().to_bytes().unwrap();
        let from = place.min(changed.len());
        let to = (from + bytes.len() / 8).min(changed.len());
        changed.splice(from..to, bytes.iter().copied().take(4));
        if let Ok(read) = CoseReceipt::parse(&changed) {
            prop_assert_eq!(read.to_bytes().unwrap(), changed);
        }
    }
}
