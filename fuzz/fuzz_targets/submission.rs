//! What logs submit to witnesses.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| polder_fuzz::submission(bytes));
