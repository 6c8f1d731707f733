//! Tests of the witness: what it cosigns, each way in which it does not, and evidence that convinces someone else.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use ed25519_dalek::SigningKey;
use proptest::prelude::*;

use super::*;
use crate::ids::NodeId;
use crate::merkle::{Tree, leaf_hash};
use crate::note::SignatureLine;

const KEY: [u8; 32] = [7; 32];

fn log() -> VerifierKey {
    VerifierKey::of_log(&NodeId::parse("bank-home").unwrap(), SigningKey::from_bytes(&KEY).verifying_key())
}

/// A tree whose leaves part from the honest one's at `fork`.
fn tree(size: u64, fork: u64) -> Tree {
    let mut tree = Tree::default();
    (0..size).for_each(|i| tree.push(leaf_hash(&[u8::try_from(i).unwrap(), u8::from(i >= fork)])));
    tree
}

fn signed(tree: &Tree) -> (Checkpoint, String) {
    let checkpoint = Checkpoint::new("polder/bank-home", tree.size(), tree.root());
    let note = checkpoint.sign(&SigningKey::from_bytes(&KEY));
    (checkpoint, note)
}

fn submit(old: u64, proof: Vec<Digest>, note: &str) -> Submission {
    let submission = Submission { old, proof, note: Note::parse(note).unwrap() };
    // It travels in between.
    assert_eq!(Submission::parse(&submission.to_string()).unwrap(), submission);
    submission
}

#[test]
fn what_goes_on_is_cosigned_and_nothing_else() {
    let (old, new) = (tree(6, 99), tree(11, 99));
    let ((known, known_note), (next, note)) = (signed(&old), signed(&new));
    let proof = new.consistency(6, 11).unwrap();
    let again = known.clone();
    let known = Some((&known, known_note.as_str()));
    let judge = |submission: &Submission, known| super::judge(submission, &log(), known);
    assert_eq!(judge(&submit(6, proof.clone(), &note), known), Judgement::Cosign(next.clone()));
    assert_eq!(judge(&submit(0, Vec::new(), &note), None), Judgement::Cosign(next.clone()));
    assert_eq!(judge(&submit(6, Vec::new(), &known_note), known), Judgement::Cosign(again), "again");
    assert_eq!(judge(&submit(0, Vec::new(), &note), known), Judgement::Conflict(6, None));
    assert_eq!(judge(&submit(12, Vec::new(), &note), known), Judgement::Backwards);
    assert_eq!(judge(&submit(3, Vec::new(), &note), None), Judgement::Conflict(0, None));
    assert_eq!(judge(&submit(6, Vec::new(), &note), known), Judgement::Unproven(None));
    assert_eq!(judge(&submit(6, [proof.clone(), proof.clone()].concat(), &note), known), Judgement::Unproven(None));
    assert_eq!(judge(&submit(0, proof, &note), None), Judgement::Unproven(None), "a proof from nothing is empty");
    let other = Checkpoint::new("polder/bank-home", 11, new.root()).sign(&SigningKey::from_bytes(&[8; 32]));
    assert!(matches!(judge(&submit(6, Vec::new(), &other), known), Judgement::Unsigned(_)));
    let renamed = Checkpoint::new("polder/other", 11, new.root()).sign(&SigningKey::from_bytes(&KEY));
    assert!(matches!(judge(&submit(6, Vec::new(), &renamed), known), Judgement::Unsigned(_)));
}

#[test]
fn a_second_history_is_proved_to_whoever_holds_the_logs_key() {
    let ((known, known_note), forged) = (signed(&tree(6, 99)), tree(11, 5));
    let known = Some((&known, known_note.as_str()));
    let proof = forged.consistency(6, 11).unwrap();
    let Judgement::Unproven(Some(evidence)) = judge(&submit(6, proof, &signed(&forged).1), &log(), known) else {
        panic!("a proof of the forged tree betrays it");
    };
    assert_eq!(evidence.check(&log()), Ok((6, 11)));
    assert_eq!(evidence.origin().as_deref(), Some("polder/bank-home"));
    let same_size = submit(6, Vec::new(), &signed(&tree(6, 5)).1);
    let Judgement::Conflict(6, Some(split)) = judge(&same_size, &log(), known) else { panic!("two roots of one size") };
    assert_eq!(split.check(&log()), Ok((6, 6)));
    // Whatever it says of sizes.
    for old in [0, 5, 7] {
        let said = judge(&submit(old, Vec::new(), &signed(&tree(6, 5)).1), &log(), known);
        assert!(matches!(said, Judgement::Conflict(6, Some(_))), "{said:?}");
    }
    let json = serde_json::to_string(&evidence).unwrap();
    assert_eq!(serde_json::from_str::<Evidence>(&json).unwrap(), evidence);
    assert_ne!(evidence.id().unwrap(), split.id().unwrap());
}

#[test]
fn evidence_against_an_honest_log_cannot_be_made() {
    let (old, new) = (tree(6, 99), tree(11, 99));
    let (first, second) = (signed(&old).1, Note::parse(&signed(&new).1).unwrap());
    let proof = new.consistency(6, 11).unwrap();
    let accuse = |prefix, proof: &[Digest]| Evidence::new(&first, &second, prefix, proof.to_vec()).check(&log());
    assert_eq!(accuse(old.root(), &proof), Err(EvidenceError::Agree));
    assert_eq!(accuse(new.root(), &proof), Err(EvidenceError::Proof));
    assert_eq!(accuse(Digest([1; 32]), &[]), Err(EvidenceError::Proof));
    let again = Note::parse(&first).unwrap();
    assert_eq!(Evidence::of_one_size(&first, &again, old.root()).check(&log()), Err(EvidenceError::Agree));
    assert_eq!(Evidence::of_one_size(&first, &again, new.root()).check(&log()), Err(EvidenceError::Proof));
    let stranger = Checkpoint::new("polder/bank-home", 6, new.root()).sign(&SigningKey::from_bytes(&[8; 32]));
    let forged = Evidence::of_one_size(&first, &Note::parse(&stranger).unwrap(), new.root());
    assert!(matches!(forged.check(&log()), Err(EvidenceError::Note(_))));
    // Two cosigned copies of one checkpoint agree.
    let mut cosigned = Note::parse(&first).unwrap();
    let line = SignatureLine::cosign(&cosigned.text, "polder/w/witness", &SigningKey::from_bytes(&[9; 32]), 1);
    cosigned.signatures.push(line);
    assert_eq!(Evidence::of_one_size(&first, &cosigned, old.root()).check(&log()), Err(EvidenceError::Agree));
}

#[test]
fn a_submission_has_one_form() {
    let note = signed(&tree(3, 99)).1;
    let hash = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    assert!(Submission::parse(&format!("old 2\n{hash}\n\n{note}")).is_ok());
    let long = format!("old 2\n{}\n\n{note}", vec![hash; 64].join("\n"));
    for wrong in [
        String::new(),
        note.clone(),
        format!("old 02\n\n{note}"),
        format!("old +2\n\n{note}"),
        format!("old 2 \n\n{note}"),
        format!("old\n\n{note}"),
        format!("new 2\n\n{note}"),
        format!("old 2\n{note}"),
        format!("old 2\nAAAA\n\n{note}"),
        format!("old 2\n{hash}\n"),
        format!("old 2\n\n{}", note.trim_end()),
        long,
        format!("old 99999999999999999999\n\n{note}"),
    ] {
        assert!(Submission::parse(&wrong).is_err(), "{wrong}");
    }
}

proptest! {
    #[test]
    fn only_growth_is_cosigned(old in 1u64..60, more in 0u64..60, fork in 0u64..120, flip in 0usize..4096) {
        let (honest, shown) = (tree(old, 200), tree(old + more, fork));
        let (known, known_note) = signed(&honest);
        let proof = shown.consistency(old, old + more).unwrap();
        let said = judge(&submit(old, proof.clone(), &signed(&shown).1), &log(), Some((&known, &known_note)));
        prop_assert_eq!(matches!(said, Judgement::Cosign(_)), fork >= old, "{:?}", said);
        if let Judgement::Unproven(Some(evidence)) | Judgement::Conflict(_, Some(evidence)) = &said {
            prop_assert!(evidence.check(&log()).is_ok());
        }
        // A proof with one bit changed shows nothing, and accuses nobody who is honest.
        if let Some(hash) = proof.get(flip / 256 % proof.len().max(1)).filter(|_| fork >= old) {
            let mut changed = proof.clone();
            let place = proof.iter().position(|one| one == hash).unwrap();
            changed[place].0[flip % 256 / 8] ^= 1 << (flip % 8);
            let said = judge(&submit(old, changed, &signed(&shown).1), &log(), Some((&known, &known_note)));
            prop_assert_eq!(said, Judgement::Unproven(None));
        }
    }

    #[test]
    fn any_text_is_read_without_harm(text in "(old [0-9]{1,3}\n)?[ -~\n\u{2014}]{0,200}") {
        if let Ok(submission) = Submission::parse(&text) {
            prop_assert_eq!(submission.to_string(), text);
        }
    }
}
