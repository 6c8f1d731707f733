//! Receipts in our own form: no panic; what holds is in its one form.
#![no_main]

use libfuzzer_sys::fuzz_target;
use polder_core::receipt;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(report) = receipt::verify(bytes, None) {
        assert_eq!(report.receipt.to_bytes().as_deref(), Ok(bytes));
    }
});
