//! DSSE envelopes and the statements in them: no panic, and none that verifies, because nobody has the key's other half.
#![no_main]

use libfuzzer_sys::fuzz_target;
use polder_core::canonical::Digest;
use polder_core::dsse;
use polder_core::note::VerifierKey;

const KEY: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";

fuzz_target!(|bytes: &[u8]| {
    let Ok(key) = VerifierKey::parse(KEY) else { return };
    assert!(dsse::verify(bytes, key.key(), "polder/bank", &Digest([0; 32]), b"{}").is_err());
    let _ = dsse::payload("polder/bank", &Digest([0; 32]), bytes);
    let _ = dsse::statement_type(bytes);
});
