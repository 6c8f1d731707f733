//! What peers send each other.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| polder_fuzz::peer(bytes));
