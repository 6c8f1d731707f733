//! Tests of proof files: their one form, and that nothing breaks the reader.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;
use crate::merkle::{Tree, leaf_hash};
use crate::tests::key;

fn proof() -> (TlogProof, Checkpoint) {
    let mut tree = Tree::default();
    (0..7_u8).for_each(|n| tree.push(leaf_hash(&[n])));
    let checkpoint = Checkpoint::new("polder/paris", 7, tree.root());
    let note = Note::parse(&checkpoint.sign(&key(5))).unwrap();
    let path = tree.inclusion(4, 7).unwrap();
    (TlogProof { extra: Some(vec![9; 32]), index: 4, path, checkpoint: note }, checkpoint)
}

#[test]
fn a_proof_comes_back_and_leads_to_its_root() {
    let (proof, checkpoint) = proof();
    let text = proof.to_string();
    assert!(text.starts_with("c2sp.org/tlog-proof@v1\nextra CQkJ"));
    assert!(text.contains("=\nindex 4\n"));
    assert_eq!(TlogProof::parse(&text), Ok(proof.clone()));
    assert!(proof.includes(&[4], &checkpoint));
    assert!(!proof.includes(&[5], &checkpoint));
    let without = TlogProof { extra: None, ..proof };
    assert_eq!(TlogProof::parse(&without.to_string()), Ok(without));
}

/// The example of the specification, with keys and signatures of the right length.
#[test]
fn the_specifications_form_is_read() {
    let text = "c2sp.org/tlog-proof@v1\nextra YWdl\nindex 73894\ngSKyXoYZUgZ6jduWYrkDOARinOMGJveXjgMkBTcdPlQ=\n\
                B95lDa8R83lS8n0eG+o0buTxRKQTYFi//1U8anccXmA=\n\nexample.com/fancylog\n109482\n\
                sFodV/vSp5O8n9a8QpW6PRY97tfOSW5bsc2Xl/EQi08=\n\n\u{2014} example.com/fancylog hI2DJwAA\n";
    let proof = TlogProof::parse(text).unwrap();
    assert_eq!((proof.index, proof.path.len(), proof.extra), (73_894, 2, Some(b"age".to_vec())));
}

#[test]
fn other_forms_are_refused() {
    let text = proof().0.to_string();
    for wrong in [
        text.replacen("@v1", "@v2", 1),
        text.replacen("index 4", "index 04", 1),
        text.replacen("index 4", "index +4", 1),
        text.replacen("index 4", "index -4", 1),
        text.replacen("index 4", "index 4 ", 1),
        text.replacen("index 4\n", "", 1),
        text.replacen("index 4", "index 99999999999999999999", 1),
        text.replacen("extra ", "extra  ", 1),
        text.replacen('\n', "\r\n", 1),
        text.replacen("\n\n", "\n", 1),
        text.trim_end().to_owned(),
        format!("\n{text}"),
        format!("{text}\n"),
        String::new(),
    ] {
        assert!(TlogProof::parse(&wrong).is_err(), "{wrong:?}");
    }
    let mut long = proof().0;
    long.path = vec![Digest([0; 32]); 65];
    assert!(TlogProof::parse(&long.to_string()).is_err());
    assert!(TlogProof::parse(&"A".repeat(10_000_000)).is_err());
}

proptest! {
    /// Whatever arrives: an answer, never a panic; and what is read is written the same.
    #[test]
    fn no_text_breaks_the_reader(place in 0_usize..600, with in "\\PC{0,6}|\n{1,3}", cut in 0_usize..40) {
        let mut text: Vec<char> = proof().0.to_string().chars().collect();
        let from = place.min(text.len());
        let to = (from + cut).min(text.len());
        text.splice(from..to, with.chars());
        let text: String = text.into_iter().collect();
        if let Ok(read) = TlogProof::parse(&text) {
            prop_assert_eq!(read.to_string(), text);
        }
    }
}
