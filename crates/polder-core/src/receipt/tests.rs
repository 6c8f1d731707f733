//! Tests of receipts: one that holds, and every way in which it must not.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use super::*;
use crate::canonical::hash;
use crate::ids::{DecisionId, ModelId, TenantId};
use crate::labels::{DataClass, Purpose};
use crate::statement::v1::{ActivationStatement, ExecutionOutcome, How};
use crate::tests::{BANK, Log, Site, World, key, node, public, request};

fn decision(class: DataClass) -> DecisionRecord {
    let world = World::new(BANK, vec![Site::new("paris", "FR", "US", 1)]);
    world.statement(&request(class, &[Purpose::Finance]))
}

/// A decision that places, with its ticket, and the execution of it.
fn pair() -> (DecisionRecord, ExecutionStatement) {
    let record = decision(DataClass::Public);
    let ticket = hash("test", &[b"ticket"]);
    let decision = DecisionStatement { ticket: Some(ticket), ..record.statement.clone() };
    let execution = ExecutionStatement {
        factory: node("paris"),
        home: node("home"),
        tenant: decision.request.tenant.clone(),
        decision: decision.id.clone(),
        ticket,
        body: decision.body,
        terms: record.verdicts[0].terms,
        model: decision.request.model.clone(),
        model_digest: Some(hash("test", &[b"model"])),
        backend: "cpu".to_owned(),
        prompt_tokens: 7,
        completion_tokens: 11,
        started_ms: 1_500,
        ended_ms: 1_600,
        outcome: ExecutionOutcome::Completed,
    };
    (DecisionRecord { statement: decision, ..record }, execution)
}

/// A receipt of a decision with its tables.
fn receipt_of(decision: DecisionRecord, execution: Option<Half>) -> Receipt {
    let tables = decision.tables();
    Receipt::new(home().state(Statement::Decision(Box::new(decision.statement))), tables, execution)
}

fn home() -> Log {
    Log::new("home", 20)
}

fn paris() -> Log {
    Log::new("paris", 30)
}

fn placed() -> Receipt {
    let (decision, execution) = pair();
    paired(decision, execution)
}

fn paired(decision: DecisionRecord, execution: ExecutionStatement) -> Receipt {
    receipt_of(decision, Some(paris().state(Statement::Execution(execution))))
}

fn refused() -> Receipt {
    receipt_of(decision(DataClass::Customer), None)
}

fn check(receipt: &Receipt) -> Result<Vec<Check>, Failure> {
    verify(&receipt.to_bytes().unwrap(), None).map(|report| report.passed)
}

fn fails(receipt: &Receipt, expected: Check) -> String {
    match check(receipt) {
        Ok(_) => panic!("it holds, and should fail at {expected:?}"),
        Err(failure) => {
            assert_eq!(failure.check, expected, "{failure}");
            failure.message
        }
    }
}

#[test]
fn receipts_of_placements_and_of_refusals_hold() {
    let passed = [Check::Format, Check::Keys, Check::Checkpoint, Check::Inclusion, Check::Tables, Check::Pairing];
    assert_eq!(check(&placed()).unwrap(), passed);
    assert_eq!(check(&refused()).unwrap(), passed);
    let bytes = placed().to_bytes().unwrap();
    assert_eq!(verify(&bytes, None).unwrap().receipt, placed());
}

#[test]
fn every_flipped_byte_is_noticed() {
    for receipt in [placed(), refused()] {
        let bytes = receipt.to_bytes().unwrap();
        for place in 0..bytes.len() {
            for mask in [1, 0x20, 0x80] {
                let mut flipped = bytes.clone();
                flipped[place] ^= mask;
                match verify(&flipped, None) {
                    Ok(_) => panic!("byte {place} ^ {mask:#x} passed: {}", String::from_utf8_lossy(&flipped)),
                    Err(failure) => assert!(!failure.check.as_str().is_empty() && !failure.message.is_empty()),
                }
            }
        }
    }
}

#[test]
fn every_cut_and_every_added_byte_is_noticed() {
    let bytes = placed().to_bytes().unwrap();
    for length in 0..bytes.len() {
        assert!(verify(&bytes[..length], None).is_err(), "cut at {length}");
    }
    for more in [b"\n".as_slice(), b" ", b"{}", b"\0"] {
        assert!(verify(&[&bytes, more].concat(), None).is_err());
        assert!(verify(&[more, &bytes].concat(), None).is_err());
    }
}

#[test]
fn other_forms_of_the_same_content_are_refused() {
    let bytes = placed().to_bytes().unwrap();
    let value: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    let pretty = serde_json::to_vec_pretty(&value).unwrap();
    assert_eq!(verify(&pretty, None).unwrap_err().check, Check::Format);
    let later = Receipt { receipt: "polder/receipt/v2".to_owned(), ..placed() };
    assert!(fails(&later, Check::Format).contains("polder/receipt/v2"));
}

#[test]
fn keys_checkpoints_and_places_are_checked() {
    let mut receipt = placed();
    receipt.decision.card.identity = public(99);
    fails(&receipt, Check::Keys);
    let mut receipt = placed();
    receipt.decision.checkpoint = receipt.execution.as_ref().unwrap().checkpoint.clone();
    fails(&receipt, Check::Checkpoint);
    let mut receipt = placed();
    receipt.decision.index += 1;
    fails(&receipt, Check::Inclusion);
    let mut receipt = placed();
    receipt.decision.path.pop();
    fails(&receipt, Check::Inclusion);
    let mut receipt = placed();
    receipt.execution.as_mut().unwrap().salt[0] ^= 1;
    fails(&receipt, Check::Inclusion);
    let mut receipt = placed();
    if let Statement::Execution(execution) = &mut receipt.execution.as_mut().unwrap().statement {
        execution.completion_tokens += 1;
    }
    fails(&receipt, Check::Inclusion);
}

#[test]
fn members_are_an_anchor() {
    let bytes = placed().to_bytes().unwrap();
    let members = [home().card, paris().card];
    assert!(verify(&bytes, Some(&members)).unwrap().passed.contains(&Check::Members));
    let fail = |members: &[NodeCard]| verify(&bytes, Some(members)).unwrap_err();
    assert_eq!(fail(&members[..1]).check, Check::Members);
    assert!(fail(&[]).message.contains("`home` is not among the members"));
    // Somebody who makes a whole federation of their own, with the same names, is found out here and only here.
    let impostor = fail(&[Log::new("home", 60).card, paris().card]);
    assert!(impostor.message.contains("another identity"), "{impostor}");
}

#[test]
fn a_pair_speaks_of_one_ticket() {
    type Change = fn(&mut DecisionStatement, &mut ExecutionStatement);
    let changes: [(Change, &str); 11] = [
        (|_, e| e.ticket = Digest([9; 32]), "tickets"),
        (|d, _| d.ticket = None, "tickets"),
        (|_, e| e.body = Digest([9; 32]), "request digests"),
        (|_, e| e.decision = DecisionId::at(9, [9; 10]), "decision ids"),
        (|_, e| e.home = node("other"), "homes"),
        (|_, e| e.tenant = TenantId::parse("defence").unwrap(), "tenants"),
        (|_, e| e.model = Some(ModelId::parse("other").unwrap()), "models"),
        (|_, e| e.factory = node("munich"), "not its factory's own"),
        (|d, _| d.home = node("other"), "not its home's own"),
        (|d, _| d.factory = None, "another factory"),
        (|d, _| d.outcome = Outcome::Refused, "did not place"),
    ];
    for (change, expected) in changes {
        let (mut decision, mut execution) = pair();
        change(&mut decision.statement, &mut execution);
        let message = fails(&paired(decision, execution), Check::Pairing);
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn what_ran_must_have_been_admitted() {
    let (mut decision, execution) = pair();
    let refused = self::decision(DataClass::Customer);
    (decision.verdicts, decision.seals) = (refused.verdicts, refused.seals);
    decision.statement.tables = refused.statement.tables;
    assert!(fails(&paired(decision, execution), Check::Pairing).contains("not admitted"));
    let mut swapped = placed();
    swapped.tables = self::refused().tables;
    fails(&swapped, Check::Tables);
}

#[test]
fn a_placement_has_an_execution_and_a_refusal_has_none() {
    let (decision, execution) = pair();
    let alone = receipt_of(decision.clone(), None);
    assert!(fails(&alone, Check::Pairing).contains("execution is missing"));
    let statement = DecisionStatement { outcome: Outcome::Refused, ..decision.statement };
    let denied = receipt_of(DecisionRecord { statement, ..decision }, None);
    assert!(fails(&denied, Check::Pairing).contains("yet a factory is admitted"));
    let mut ran = refused();
    ran.execution = Some(paris().state(Statement::Execution(execution.clone())));
    fails(&ran, Check::Pairing);
    let swapped = Receipt::new(paris().state(Statement::Execution(execution)), Tables::default(), None);
    assert!(fails(&swapped, Check::Pairing).contains("not a decision"));
}

#[test]
fn one_nodes_keys_do_not_sign_for_another() {
    let (decision, execution) = pair();
    let tables = decision.tables();
    let decision = paris().state(Statement::Decision(Box::new(decision.statement)));
    let receipt = Receipt::new(decision, tables, Some(paris().state(Statement::Execution(execution))));
    assert!(fails(&receipt, Check::Pairing).contains("not its home's own"));
    let mut receipt = placed();
    receipt.decision.checkpoint = Checkpoint::new("polder/home", 7, Digest([0; 32])).sign(&key(99));
    fails(&receipt, Check::Checkpoint);
}

#[test]
fn an_activation_proves_itself_and_is_no_receipt() {
    let digest = hash("test", &[b"policy"]);
    let activation = ActivationStatement {
        home: node("home"),
        file: "bank.cedar".to_owned(),
        digest,
        previous: None,
        baseline: digest,
        at_ms: 1_000,
        how: How::Start,
        narrower: false,
        proofs: Vec::new(),
    };
    let statement = Statement::Activation(activation);
    let text = String::from_utf8(statement.to_bytes().unwrap()).unwrap();
    assert!(text.contains("\"how\":\"start\"") && text.contains("\"statement\":\"polder/activation/v1\""), "{text}");
    assert!(!text.contains("previous"), "{text}");
    assert_eq!(serde_json::from_str::<Statement>(&text).unwrap(), statement);
    assert!(serde_json::from_str::<Statement>(&text.replace("\"narrower\"", "\"broader\"")).is_err());
    let receipt = Receipt::new(home().state(statement), Tables::default(), None);
    assert!(fails(&receipt, Check::Pairing).contains("not a decision"));
}
