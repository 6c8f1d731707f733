//! COSE files: no panic, one form, and none that verifies without a key.
#![no_main]

use libfuzzer_sys::fuzz_target;
use polder_core::cose::CoseReceipt;
use polder_core::export::{Anchors, verify_cose};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(receipt) = CoseReceipt::parse(bytes) {
        assert_eq!(receipt.to_bytes().as_deref(), Ok(bytes));
    }
    assert!(verify_cose(bytes, &Anchors::default()).is_err());
});
