//! Proofs of leaves and of growth.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| polder_fuzz::proof(bytes));
