//! Tests of statements: a form filled in is the statement itself, byte for byte.
#![allow(clippy::unwrap_used)]

use super::v1::{
    DecisionForm, DecisionStatement, ExecutionOutcome, ExecutionStatement, ImportStatement, Source, Statement,
};
use crate::canonical::{self, Digest};
use crate::facts::passport_root;
use crate::ids::{DecisionId, ModelId, TenantId};
use crate::labels::{DataClass, Purpose};
use crate::placement::{Change, Relaxation};
use crate::policy::LayerKind;
use crate::tests::{Site, World, node, request};

fn world() -> World {
    let sites = vec![Site::new("berlin", "DE", "US", 1), Site::new("paris", "FR", "FR", 2)];
    World::new("permit (principal, action, resource);", sites)
}

fn filled(statement: &DecisionStatement) -> (Vec<u8>, Vec<u8>) {
    let form = DecisionForm::of(statement).unwrap().unwrap();
    let (at_ms, body, ticket) = (1_795_372_221_272, Digest([3; 32]), Digest([4; 32]));
    let id = DecisionId::at(at_ms, [9; 10]);
    let bytes = form.fill(at_ms, &body, &id, &ticket);
    let statement = DecisionStatement { id, body, at_ms, ticket: Some(ticket), ..statement.clone() };
    (bytes, Statement::Decision(Box::new(statement)).to_bytes().unwrap())
}

#[test]
fn a_form_filled_in_is_the_statement() {
    for class in [DataClass::Public, DataClass::Internal, DataClass::Customer] {
        let statement = world().statement(&request(class, &[Purpose::Industry, Purpose::Finance])).statement;
        let (bytes, whole) = filled(&statement);
        assert_eq!(String::from_utf8(bytes).unwrap(), String::from_utf8(whole).unwrap());
    }
}

#[test]
fn texts_that_look_like_a_field_change_nothing() {
    let mut statement = world().statement(&request(DataClass::Public, &[Purpose::Industry])).statement;
    let marked = format!(r#"","id":"{}","ticket":"{}""#, DecisionId::at(0, [0xd0; 10]), Digest([0x71; 32]));
    let change = Change::Rule { layer: LayerKind::Owner, rule: marked };
    statement.nearest.push(Relaxation { factory: node("paris"), changes: vec![change], distance: 1 });
    statement.request.model = ModelId::parse("at_ms").ok();
    let (bytes, whole) = filled(&statement);
    assert_eq!(bytes, whole);
}

#[test]
fn an_execution_written_in_order_is_its_canonical_form() {
    use ExecutionOutcome::{Cancelled, Completed, Failed};
    let numbers = [0, 9, 10, 1_795_372_221_272, u64::MAX];
    for (outcome, backend, number) in [Completed, Cancelled, Failed]
        .iter()
        .flat_map(|outcome| ["cpu", "a \"quoted\"\n\\\u{7f}\u{1}é"].map(|backend| (*outcome, backend)))
        .flat_map(|(outcome, backend)| numbers.map(|number| (outcome, backend, number)))
    {
        let whole = ExecutionStatement {
            factory: node("paris"),
            home: node("berlin"),
            tenant: TenantId::parse("tenant").unwrap(),
            decision: DecisionId::at(7, [9; 10]),
            ticket: Digest([1; 32]),
            body: Digest([0xab; 32]),
            terms: Digest([3; 32]),
            model: ModelId::parse("org/model-1").ok(),
            model_digest: Some(Digest([0xf0; 32])),
            backend: backend.to_owned(),
            prompt_tokens: number,
            completion_tokens: number / 3,
            started_ms: number / 5,
            ended_ms: number / 7,
            outcome,
        };
        for statement in [ExecutionStatement { model: None, model_digest: None, ..whole.clone() }, whole] {
            let statement = Statement::Execution(statement);
            assert_eq!(statement.to_bytes().unwrap(), canonical::to_bytes(&statement).unwrap());
        }
    }
}

#[test]
fn an_import_names_what_came_and_what_went_and_nothing_where_nothing_did() {
    let passport = Site::new("berlin", "DE", "US", 1).passport;
    let (home, berlin, terms) = (node("bank-home"), node("berlin"), Digest([7; 32]));
    let of = |before, passport: &[_], terms| {
        ImportStatement::of((&home, &berlin, Source::Peer), 5, before, passport, terms).unwrap()
    };
    let (first, held) = of(None, &passport, terms).unwrap();
    assert_eq!((first.previous, first.taken.len(), first.dropped.len()), (None, passport.len(), 0));
    assert_eq!(first.root, passport_root(&passport).unwrap());
    assert!(first.taken.iter().all(|fact| passport.iter().any(|signed| signed.key == fact.key)));
    let mut turned = passport.clone();
    turned.reverse();
    assert_eq!(of(Some(&held), &turned, terms), None, "the order of facts says nothing");
    let (fewer, left) = of(Some(&held), &passport[1..], terms).unwrap();
    assert_eq!((fewer.previous, fewer.taken.len(), fewer.dropped.len()), (Some(first.root), 0, 1));
    let (back, _) = of(Some(&left), &passport, terms).unwrap();
    assert_eq!((back.taken[0].digest, back.dropped.len()), (fewer.dropped[0], 0));
    let (other_terms, _) = of(Some(&held), &passport, Digest([8; 32])).unwrap();
    assert_eq!((other_terms.taken.len(), other_terms.root), (0, first.root));
    let bytes = Statement::Import(first.clone()).to_bytes().unwrap();
    assert_eq!(serde_json::from_slice::<Statement>(&bytes).unwrap(), Statement::Import(first));
}
