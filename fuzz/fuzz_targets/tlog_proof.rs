//! Proof files: no panic, one form, and none that verifies without a key.
#![no_main]

use libfuzzer_sys::fuzz_target;
use polder_core::export::{Anchors, Beside, verify_tlog_proof};
use polder_core::tlog_proof::TlogProof;

fuzz_target!(|bytes: &[u8]| {
    if let Some(proof) = std::str::from_utf8(bytes).ok().and_then(|text| TlogProof::parse(text).ok()) {
        assert_eq!(proof.to_string().as_bytes(), bytes);
    }
    let beside = Beside { statement: Some(b"{}"), leaf: Some(&[0; 32]), dsse: Some(bytes) };
    assert!(verify_tlog_proof(bytes, beside, &Anchors::default()).is_err());
});
