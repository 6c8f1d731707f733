//! Witness policies: the program that libFuzzer drives. What must hold of any bytes stands in `fuzz/src/lib.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| polder_fuzz::tlog_policy(bytes));
