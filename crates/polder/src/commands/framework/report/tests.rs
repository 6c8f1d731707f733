//! Tests of a score in JSON: exact decimals, a null SEAL without answers, and objectives in order.
#![allow(clippy::unwrap_used)]

use polder_core::framework::{Answers, Evidenced, combine, parse_answers, score};
use serde_json::{Value, json};

use super::*;
use crate::frameworks::find;

fn text_of(framework: &Framework, answers: &Answers) -> String {
    let combined = combine(framework, answers, &Evidenced::new());
    let result = score(framework, &combined.answers);
    let coverage = Coverage::of(framework, &combined.evidenced);
    serde_json::to_string(&report(framework, &combined, &result, coverage).unwrap()).unwrap()
}

#[test]
fn a_maximal_answer_is_printed_exactly() {
    let framework = find("csf-calculator-2026-06-01").unwrap();
    let last = |criterion: &Criterion| u32::try_from(criterion.answers.len()).unwrap();
    let all = framework.criteria().map(|(objective, one)| (CriterionId::of(objective, one), last(one))).collect();
    let text = text_of(&framework, &all);
    assert!(text.contains("\"score\":100.0756,\"seal\":4,\"answered\":48,\"criteria\":48,"), "{text}");
    assert!(text.contains("{\"objective\":\"SOV-1\",\"score\":20.0006,\"seal\":4,"), "{text}");
}

#[test]
fn without_answers_the_seal_is_null() {
    let framework = find("csf-1.2.1-2025-10").unwrap();
    let value: Value = serde_json::from_str(&text_of(&framework, &Answers::new())).unwrap();
    assert_eq!((&value["score"], &value["seal"]), (&json!(0), &Value::Null));
    assert_eq!(value["evidence"], json!({"A": 0, "B": 0, "C": 0, "nothing": 48}));
    let objectives = value["objectives"].as_array().unwrap();
    assert_eq!(objectives.len(), 8);
    assert!(objectives.iter().all(|one| one["seal"].is_null() && one["score"] == json!(0)));
}

#[test]
fn an_answer_by_hand_rests_on_nothing() {
    let framework = find("csf-calculator-2026-06-01").unwrap();
    let answers = parse_answers(&framework, "SOV-1\t8\t3").unwrap();
    let value: Value = serde_json::from_str(&text_of(&framework, &answers)).unwrap();
    assert_eq!((&value["score"], &value["seal"]), (&json!(1.25), &json!(2)));
    let one = json!({"objective": "SOV-1", "criterion": 8, "answer": 3, "seal": 2, "evidence": null, "facts": [], "differed": false});
    assert_eq!(value["answers"], json!([one]));
    assert_eq!(value["evidence"]["nothing"], json!(48));
}
