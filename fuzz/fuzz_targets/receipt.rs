//! Receipts in our own form.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| polder_fuzz::receipt_file(bytes));
