//! Tests of exported receipts: what each check finds, and what a verifier must bring. Random changes: `tests/verifiers.rs`.
#![allow(clippy::unwrap_used, clippy::panic)]

use super::*;
use crate::canonical::hash;
use crate::merkle::{Tree, leaf_hash};
use crate::note::SignatureLine;
use crate::tests::{key, node};

const STATEMENT: &[u8] = br#"{"at_ms":7,"home":"bank","statement":"polder/activation/v1"}"#;

fn export() -> Export {
    let (salt, mut tree) = ([3; 32], Tree::default());
    tree.push(leaf_hash(b"before"));
    tree.push(leaf_hash(&commitment(&salt, STATEMENT).0));
    tree.push(leaf_hash(b"after"));
    let mut note = Note::parse(&Checkpoint::new("polder/bank", 3, tree.root()).sign(&key(5))).unwrap();
    note.signatures.push(SignatureLine::cosign(&note.text, "polder/delft/witness", &key(6), 1_790_000_000));
    Export {
        log: VerifierKey::of_log(&node("bank"), key(5).verifying_key()),
        salt,
        statement: STATEMENT.to_vec(),
        index: 1,
        path: tree.inclusion(1, 3).unwrap(),
        checkpoint: note.to_string(),
    }
}

fn policy(text: &str) -> Policy {
    let witness = VerifierKey::of_witness(&node("delft"), key(6).verifying_key());
    let other = VerifierKey::of_witness(&node("munich"), key(7).verifying_key());
    let text = format!("log {}\nwitness delft {witness}\nwitness munich {other}\n{text}", export().log);
    Policy::parse(text.as_bytes()).unwrap()
}

fn known() -> Anchors {
    Anchors { keys: vec![export().log], ..Anchors::default() }
}

fn both(anchors: &Anchors) -> [Result<Held, Failure>; 2] {
    let export = export();
    let seals = export.seal(&key(5)).unwrap();
    let (proof, dsse) = (export.tlog_proof().unwrap(), export.dsse(&seals).unwrap());
    let leaf = export.entry().0;
    let beside = Beside { statement: Some(STATEMENT), leaf: Some(&leaf), dsse: Some(&dsse) };
    [verify_tlog_proof(proof.as_bytes(), beside, anchors), verify_cose(&export.cose(&seals).unwrap(), anchors)]
}

fn both_fail(anchors: &Anchors, check: Check) {
    for checked in both(anchors) {
        assert_eq!(checked.unwrap_err().check, check);
    }
}

#[test]
fn what_was_exported_verifies() {
    use Check::{Checkpoint, Format, Inclusion, Keys, Signature, Statement, Witnesses};
    for held in both(&known()) {
        let held = held.unwrap();
        assert_eq!(held.passed, [Format, Keys, Checkpoint, Inclusion, Statement, Signature]);
        assert_eq!((held.log.as_str(), held.index, held.size), ("polder/bank", 1, 3));
        assert_eq!(held.statement.as_deref(), Some(STATEMENT));
    }
    for held in both(&Anchors { policy: Some(policy("quorum delft")), ..Anchors::default() }) {
        let held = held.unwrap();
        assert_eq!(held.passed.last(), Some(&Witnesses));
        assert_eq!(held.witnesses, [("delft".to_owned(), 1_790_000_000)]);
    }
}

#[test]
fn a_verifier_brings_a_key() {
    both_fail(&Anchors::default(), Check::Keys);
    let other = VerifierKey::of_log(&node("bank"), key(9).verifying_key());
    both_fail(&Anchors { keys: vec![other.clone()], ..Anchors::default() }, Check::Checkpoint);
    let with =
        |members: Vec<VerifierKey>, keys: Vec<VerifierKey>| Anchors { members: Some(members), keys, policy: None };
    for held in both(&with(vec![export().log], Vec::new())) {
        assert!(held.unwrap().passed.contains(&Check::Members));
    }
    both_fail(&with(Vec::new(), Vec::new()), Check::Members);
    both_fail(&with(vec![other], vec![export().log]), Check::Members);
}

#[test]
fn witnesses_are_wanted_where_a_policy_says_so() {
    let anchors = |text: &str| Anchors { policy: Some(policy(text)), ..Anchors::default() };
    both_fail(&anchors("quorum munich"), Check::Witnesses);
    both_fail(&anchors("group both all delft munich\nquorum both"), Check::Witnesses);
    assert!(both(&anchors("group one any delft munich\nquorum one")).iter().all(Result::is_ok));
    assert!(witnessed(&export().checkpoint, &export().log, &policy("quorum delft")).is_ok());
    assert_eq!(
        witnessed(&export().checkpoint, &export().log, &policy("quorum munich")).unwrap_err().check,
        Check::Witnesses
    );
}

#[test]
fn each_failure_is_named() {
    let export = export();
    let proof = export.tlog_proof().unwrap();
    let seals = export.seal(&key(5)).unwrap();
    let check = |proof: &str, beside: Beside<'_>| match verify_tlog_proof(proof.as_bytes(), beside, &known()) {
        Ok(held) => panic!("it holds: {held:?}"),
        Err(failure) => failure.check,
    };
    let leaf = export.entry().0;
    let whole = Beside { statement: Some(STATEMENT), leaf: Some(&leaf), dsse: None };
    assert_eq!(check("", whole), Check::Format);
    assert_eq!(check(&proof, Beside::default()), Check::Format);
    assert_eq!(check(&proof, Beside { statement: Some(b"{}"), ..whole }), Check::Statement);
    assert_eq!(check(&proof, Beside { statement: Some(b"{}"), leaf: None, dsse: None }), Check::Inclusion);
    assert_eq!(check(&proof, Beside { leaf: Some(&[0; 32]), ..Beside::default() }), Check::Inclusion);
    assert_eq!(check(&proof.replacen("index 1", "index 0", 1), whole), Check::Inclusion);
    assert_eq!(check(&proof.replacen("\n3\n", "\n4\n", 1), whole), Check::Checkpoint);
    let forged = export.dsse(&export.seal(&key(9)).unwrap()).unwrap();
    assert_eq!(check(&proof, Beside { dsse: Some(&forged), ..whole }), Check::Signature);
    // The entry alone can be proved to stand in the log; what it means is then not said.
    let alone =
        verify_tlog_proof(proof.as_bytes(), Beside { leaf: Some(&leaf), ..Beside::default() }, &known()).unwrap();
    assert!(alone.statement.is_none() && !alone.passed.contains(&Check::Statement));

    let cose = |seals: &Seals, export: &Export| verify_cose(&export.cose(seals).unwrap(), &known()).unwrap_err().check;
    let zero = [0; 64];
    assert_eq!(cose(&Seals { statement: zero, ..seals.clone() }, &export), Check::Signature);
    assert_eq!(cose(&Seals { root: zero, ..seals.clone() }, &export), Check::Signature);
    assert_eq!(cose(&seals, &Export { salt: [4; 32], ..export.clone() }), Check::Inclusion);
    assert_eq!(cose(&seals, &Export { index: 0, ..export.clone() }), Check::Inclusion);
}

/// One key signs four kinds of message; none of them can be taken for another.
#[test]
fn no_message_is_another_kinds() {
    let export = export();
    let root = hash("test", &[b"root"]);
    let messages = [
        Checkpoint::new("polder/bank", 3, root).text().into_bytes(),
        dsse::message(STATEMENT),
        cose::statement_message("polder/bank", export.log.id(), "polder/activation/v1", &export.salt, STATEMENT),
        cose::root_message("polder/bank", export.log.id(), &root),
    ];
    let starts = messages.map(|message| message.get(..24).unwrap().to_vec());
    // The two COSE messages share the beginning; their headers, with and without a tree, tell them apart.
    assert_eq!(starts.iter().collect::<std::collections::BTreeSet<_>>().len(), 4, "{starts:?}");
}

#[test]
fn a_receipt_is_small() {
    let export = export();
    let seals = export.seal(&key(5)).unwrap();
    let deep = Export { path: vec![hash("test", &[b"x"]); 27], ..export };
    assert!(deep.tlog_proof().unwrap().len() <= 2_048, "a proof in a log of 100 million entries");
    assert!(deep.cose(&seals).unwrap().len() <= 2_048 + STATEMENT.len());
}

#[test]
fn a_proof_keeps_the_cosignatures_that_a_policy_asks_for() {
    // A log of 2^27 entries, which every one of sixteen witnesses has cosigned.
    let (mut export, index) = (export(), (1 << 27) - 1);
    export.path = vec![Digest([8; 32]); 27];
    export.index = index;
    let root = merkle::root_from_inclusion(&leaf_hash(&export.entry().0), index, 1 << 27, &export.path).unwrap();
    let mut note = Note::parse(&Checkpoint::new("polder/bank", 1 << 27, root).sign(&key(5))).unwrap();
    let witnesses: Vec<(String, VerifierKey)> = (100..116)
        .map(|number| {
            let name = node(&format!("witness-{number}"));
            let line =
                SignatureLine::cosign(&note.text, &crate::note::witness_name(&name), &key(number), 1_790_000_000);
            note.signatures.push(line);
            (
                ["DE", "FI", "NL"][usize::from(number % 3)].to_owned(),
                VerifierKey::of_witness(&name, key(number).verifying_key()),
            )
        })
        .collect();
    export.checkpoint = note.to_string();
    let policy = Policy::of_countries(&[export.log.clone()], &witnesses, 3);
    let anchors = Anchors { policy: Some(Policy::parse(policy.as_bytes()).unwrap()), ..Anchors::default() };
    let beside = Beside { statement: Some(STATEMENT), ..Beside::default() };
    let whole = export.tlog_proof().unwrap();
    assert_eq!(verify_tlog_proof(whole.as_bytes(), beside, &anchors).unwrap().witnesses.len(), 16);
    assert!((3_000..4_200).contains(&whole.len()), "{}", whole.len());
    let spared = export.clone().witnessed_for(anchors.policy.as_ref().unwrap()).unwrap();
    let proof = spared.tlog_proof().unwrap();
    assert_eq!(verify_tlog_proof(proof.as_bytes(), beside, &anchors).unwrap().witnesses.len(), 3);
    assert!(proof.len() <= 2_048, "{}", proof.len());
    let nobody =
        Policy::parse(format!("log {}\nwitness w {}\nquorum w\n", export.log, witnesses[0].1).as_bytes()).unwrap();
    export.checkpoint = Checkpoint::new("polder/bank", 1 << 27, root).sign(&key(5));
    assert_eq!(export.witnessed_for(&nobody).unwrap_err().check, Check::Witnesses);
}

#[test]
fn tables_are_those_that_the_statement_names() {
    let tables = Tables::default();
    let bytes = canonical::to_bytes(&tables).unwrap();
    let named = tables.digests().unwrap().digest().unwrap();
    let statement = format!("{{\"tables\":\"{}\"}}", named.to_hex());
    assert_eq!(check_tables(statement.as_bytes(), &bytes), Ok(()));
    let padded = [&bytes[..], b"\n"].concat();
    for (statement, tables) in [
        (STATEMENT, &bytes[..]),
        (statement.as_bytes(), &padded),
        (statement.as_bytes(), b"{}"),
        (b"{\"tables\":1}", &bytes),
    ] {
        assert_eq!(check_tables(statement, tables).unwrap_err().check, Check::Tables);
    }
    let other = format!("{{\"tables\":\"{}\"}}", Digest([1; 32]).to_hex());
    assert_eq!(check_tables(other.as_bytes(), &bytes).unwrap_err().check, Check::Tables);
}
