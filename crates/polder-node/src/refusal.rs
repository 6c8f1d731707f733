//! The refusal object: one shape in the 403 body, in `why` and in the demo's JSON (`docs/formats.md`).

use polder_core::facts::Evidence;
use polder_core::placement::{Change, Decision, FactChange, Outcome, Relaxation, UNREACHABLE, Verdict};
use polder_core::policy::{LayerKind, NOT_PERMITTED};
use polder_core::request::Request;
use polder_core::statement::v1::DecisionStatement;
use serde_json::{Value, json};

/// A decision as `polder decide` prints it: every verdict, and what became of the request.
pub fn answer(request: &Request, decision: &Decision) -> Value {
    json!({
        "request": request,
        "outcome": decision.outcome,
        "factory": decision.factory,
        "refusals": refusals(&decision.verdicts),
        "nearest": nearest(&decision.nearest),
        "verdicts": decision.verdicts,
    })
}

/// One entry for each factory and rule that says no: `factory`, `layer`, `rule`, `reason`, and, where a policy says it, `clause` and `facts`.
pub fn refusals(verdicts: &[Verdict]) -> Value {
    let mut entries = Vec::new();
    for verdict in verdicts {
        for cause in &verdict.causes {
            let mut entry = json!({
                "factory": verdict.factory, "layer": cause.layer, "rule": cause.rule, "reason": cause.reason,
            });
            if let Some(clause) = &cause.clause {
                entry["clause"] = json!(clause);
            }
            if !cause.facts.is_empty() {
                entry["facts"] = json!(cause.facts);
            }
            entries.push(entry);
        }
    }
    Value::Array(entries)
}

/// The nearest relaxations: `factory`, `changes[]` with `layer` and `rule` or with `fact`, `distance`, and a sentence.
pub fn nearest(relaxations: &[Relaxation]) -> Value {
    let one = |relaxation: &Relaxation| {
        let mut entry = json!(relaxation);
        entry["sentence"] = relaxation_sentence(relaxation).into();
        entry
    };
    relaxations.iter().map(one).collect()
}

/// A relaxation in words.
pub fn relaxation_sentence(relaxation: &Relaxation) -> String {
    let change = |change: &Change| match change {
        Change::Rule { layer, rule } => gave_way(*layer, rule),
        Change::Fact { fact } => became_known(fact),
    };
    let changes: Vec<String> = relaxation.changes.iter().map(change).collect();
    format!("{} would run it if {}", relaxation.factory, changes.join(" and "))
}

/// What whoever wrote a rule would have done. A lack of permission is mended, not given up.
fn gave_way(layer: LayerKind, rule: &str) -> String {
    let who = match layer {
        LayerKind::Availability if rule == UNREACHABLE => return "it answered again".to_owned(),
        LayerKind::Availability => return format!("`{rule}` no longer held"),
        LayerKind::Owner => "you",
        LayerKind::Labels => "the request",
        LayerKind::Terms => "the factory",
        LayerKind::Baseline => "the federation",
    };
    if rule == NOT_PERMITTED { format!("{who} permitted it") } else { format!("{who} gave up `{rule}`") }
}

/// What would have to be known of the factory: the same, better evidenced; or what is contradicted now; or a certificate
/// or clearance that it does not have.
fn became_known(fact: &FactChange) -> String {
    let how = match fact.to {
        Evidence::C => "declared (C)",
        Evidence::B => "attested by a third party (B)",
        Evidence::A => "measured (A)",
    };
    let slot = &fact.slot;
    match (&fact.says, &fact.issuer, fact.from) {
        (Some(says), Some(issuer), _) => format!("nobody contradicted `{issuer}` that its `{slot}` is {says}"),
        (Some(says), None, _) => format!("nobody contradicted that its `{slot}` is {says}"),
        (None, _, Some(_)) => format!("its `{slot}` were {how}"),
        (None, _, None) => format!("it had `{slot}`, {how}"),
    }
}

/// A refusal in one sentence.
pub fn sentence(statement: &DecisionStatement) -> String {
    let head = match statement.outcome {
        Outcome::NoCapacity => "every factory that may run this request is full",
        Outcome::Refused | Outcome::Placed => "no factory may run this request",
    };
    match statement.nearest.first() {
        Some(nearest) => format!("{head}; nearest: {}", relaxation_sentence(nearest)),
        None => head.to_owned(),
    }
}

#[cfg(test)]
mod tests;
