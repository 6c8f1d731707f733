//! Receipts before verifiers that others wrote: every good one is accepted, and none that was changed at random.
//!
//! Ours, Rust (`signed_note`, `ct-merkle`) in this process; Go (`sumdb/note`, `sumdb/tlog`), Python (`cwt`), JavaScript
//! (`@auth0/cose`, `@transmute/rfc9162`) and the script of `verify.html` each as one process that reads cases by the line.
//! A verifier that is not installed is named, skipped and counted.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // The core has no files; these tests do.

use std::collections::BTreeMap;

mod corpus;
#[path = "verifiers/foreign.rs"]
mod foreign;
#[path = "verifiers/rust.rs"]
mod rust;

use corpus::mutants::{Chance, cose_mutant, forged_root, proof_mutant};
use corpus::{Good, anchors, good};
use polder_core::export::{Beside, verify_cose, verify_tlog_proof};

/// How many changed receipts each of our own, Go and Rust sees.
const MANY: usize = 100_000;
/// How many Python and JavaScript see.
const FEW: usize = 10_000;

fn accepted_by_us(proof: &[u8], statement: &[u8]) -> bool {
    let beside = Beside { statement: Some(statement), ..Beside::default() };
    verify_tlog_proof(proof, beside, &anchors()).is_ok()
}

/// Changed proofs, the same for everyone.
fn proof_mutants(goods: &[Good], number: usize) -> impl Iterator<Item = (usize, corpus::mutants::ProofMutant)> {
    let mut chance = Chance::new(1);
    (0..number).map(move |_| {
        let which = chance.below(goods.len());
        (which, proof_mutant(&mut chance, &goods[which], goods))
    })
}

fn cose_mutants(goods: &[Good], number: usize) -> impl Iterator<Item = (usize, corpus::mutants::CoseMutant)> {
    let mut chance = Chance::new(2);
    (0..number).map(move |_| {
        let which = chance.below(goods.len());
        (which, cose_mutant(&mut chance, &goods[which], goods))
    })
}

#[test]
fn ours_takes_every_good_one_and_none_that_was_changed() {
    let goods = good();
    let mut ways: BTreeMap<&str, usize> = BTreeMap::new();
    for good in &goods {
        assert_eq!(good.check().passed.len(), 7, "{}", good.name);
        assert!(good.proof.len() + good.dsse.len() < 2_048 + 2 * good.export.statement.len(), "{}", good.name);
    }
    for (which, mutant) in proof_mutants(&goods, MANY) {
        *ways.entry(mutant.how).or_default() += 1;
        assert!(!accepted_by_us(&mutant.proof, &mutant.statement), "{}: {}", goods[which].name, mutant.how);
    }
    for (which, mutant) in cose_mutants(&goods, MANY) {
        *ways.entry(mutant.how).or_default() += 1;
        assert!(verify_cose(&mutant.cose, &anchors()).is_err(), "{}: {}", goods[which].name, mutant.how);
    }
    for good in &goods {
        assert!(verify_cose(&forged_root(good), &anchors()).is_err(), "{}", good.name);
    }
    assert!(ways.len() > 16 && ways.values().all(|times| *times > 100), "every way is tried: {ways:?}");
}

#[test]
fn rust_by_others_agrees() {
    let goods = good();
    for good in &goods {
        assert_eq!(rust::check(good, good.proof.as_bytes(), &good.export.statement), Ok(()), "{}", good.name);
    }
    for (which, mutant) in proof_mutants(&goods, MANY) {
        let good = &goods[which];
        let checked = rust::check(good, &mutant.proof, &mutant.statement);
        assert!(checked.is_err(), "{}: {}", good.name, mutant.how);
    }
}

#[test]
fn go_agrees() {
    let Some(verifier) = foreign::go() else { return };
    let goods = good();
    foreign::proofs(verifier, &goods, proof_mutants(&goods, MANY));
}

#[test]
fn python_agrees() {
    let Some(verifier) = foreign::python() else { return };
    let goods = good();
    foreign::coses(verifier, &goods, cose_mutants(&goods, FEW));
}

#[test]
fn javascript_agrees() {
    let Some(verifier) = foreign::javascript("verify_cose.mjs") else { return };
    let goods = good();
    foreign::coses(verifier, &goods, cose_mutants(&goods, FEW));
}

#[test]
fn the_page_agrees() {
    let Some(verifier) = foreign::javascript("page.mjs") else { return };
    let goods = good();
    foreign::proofs(verifier, &goods, proof_mutants(&goods, FEW));
    let Some(verifier) = foreign::javascript("page.mjs") else { return };
    foreign::coses(verifier, &goods, cose_mutants(&goods, FEW));
}

/// The page as an auditor meets it: a real browser, a file: address, files dropped in.
#[test]
fn the_page_works_from_a_disk() {
    let vectors = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../vectors");
    let names = [
        ("good/bank-home-7-3.tlog-proof", true),
        ("good/paris-1000-999.cose", true),
        ("good/bank-home-70001-69999.tlog-proof", true),
        ("bad/statement.tlog-proof", false),
        ("bad/path.tlog-proof", false),
        ("bad/another-checkpoint.tlog-proof", false),
    ];
    let files: Vec<std::path::PathBuf> = names.iter().map(|(name, _)| vectors.join(name)).collect();
    let Some(answers) = foreign::browser(&files) else { return };
    assert_eq!(answers.len(), names.len(), "{answers:?}");
    for ((name, good), answer) in names.iter().zip(&answers) {
        assert_eq!(answer.contains("VERIFIED:") && !answer.contains("NOT VERIFIED"), *good, "{name}: {answer}");
        assert!(*good || answer.contains("failed"), "{name}: {answer}");
    }
}
