//! Signed notes, checkpoints and verifier keys: no panic, and what is read is written the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use polder_core::note::{Checkpoint, Note, SignatureLine, VerifierKey};

fuzz_target!(|text: &str| {
    if let Ok(note) = Note::parse(text) {
        assert_eq!(note.to_string(), text);
        if let Ok(checkpoint) = Checkpoint::parse(&note.text) {
            assert_eq!(checkpoint.text(), note.text);
        }
    }
    if let Ok(key) = VerifierKey::parse(text) {
        assert!(key.to_string().eq_ignore_ascii_case(text));
    }
    let _ = SignatureLine::parse(text);
});
