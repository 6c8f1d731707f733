//! What a scenario prints: decisions, causes, facts and relaxations in plain words.
//!
//! The structures behind them are core's. Colour and width are absent: a transcript is compared byte by byte.

use polder_core::placement::{
    Change, Decision, FactChange, MODEL_NOT_SERVED, NO_CAPACITY, Outcome, Relaxation, UNREACHABLE, Verdict,
};
use polder_core::policy::{Cause, FactRead, LayerKind, NOT_PERMITTED};
use polder_core::receipt::Failure;

/// The outcome, then one line for each refusing factory, then the nearest relaxations.
pub(super) fn decision(decision: &Decision) -> Vec<String> {
    let mut lines = vec![match (&decision.outcome, &decision.factory) {
        (Outcome::Placed, Some(factory)) => format!("placed in {factory}"),
        (Outcome::NoCapacity, _) => "no capacity".to_owned(),
        _ => "refused".to_owned(),
    }];
    for verdict in decision.verdicts.iter().filter(|verdict| !verdict.causes.is_empty()) {
        let causes: Vec<String> = verdict.causes.iter().map(short).collect();
        lines.push(format!("  {}: {}", verdict.factory, causes.join("; ")));
    }
    lines.extend(decision.nearest.iter().map(|one| format!("  nearest: {}", relaxation(one))));
    lines
}

/// Why one factory refused, in full: each rule with its place and reason, then the facts that it read.
pub(super) fn verdict(verdict: &Verdict) -> Vec<String> {
    if verdict.causes.is_empty() {
        return vec![format!("{} is admitted", verdict.factory)];
    }
    let mut lines = vec![format!("{} refuses, or is refused:", verdict.factory)];
    for cause in &verdict.causes {
        let clause = cause.clause.as_ref().map(|clause| format!(" ({}:{})", clause.file, clause.line));
        lines.push(format!("  {}{} — {}", cause.rule, clause.unwrap_or_default(), cause.reason));
        lines.extend(cause.facts.iter().map(|read| format!("    {}", fact(read))));
    }
    lines
}

/// A rule with the facts that it read, or with its reason where it read none.
fn short(cause: &Cause) -> String {
    if cause.facts.is_empty() {
        return format!("{} — {}", cause.rule, cause.reason);
    }
    format!("{} — {}", cause.rule, cause.facts.iter().map(fact).collect::<Vec<_>>().join(", "))
}

fn fact(read: &FactRead) -> String {
    match (&read.evidence, &read.issuer) {
        (Some(class), Some(issuer)) => format!("{}: {} [{class:?}, {issuer}]", read.kind, read.says),
        _ => format!("{}: {}", read.kind, read.says),
    }
}

fn relaxation(one: &Relaxation) -> String {
    let changes: Vec<String> = one.changes.iter().map(change).collect();
    format!("{}, if {}", one.factory, changes.join(" and "))
}

fn change(change: &Change) -> String {
    let (layer, rule) = match change {
        Change::Rule { layer, rule } => (layer, rule.as_str()),
        Change::Fact { fact } => return known(fact),
    };
    let who = match layer {
        LayerKind::Availability if rule == UNREACHABLE => return "it answered again".to_owned(),
        LayerKind::Availability if rule == NO_CAPACITY => return "it had a place free".to_owned(),
        LayerKind::Availability if rule == MODEL_NOT_SERVED => return "it served the model".to_owned(),
        LayerKind::Availability => return format!("{rule} were mended"),
        LayerKind::Owner => "the owner",
        LayerKind::Labels => "the request",
        LayerKind::Terms => "the factory",
        LayerKind::Baseline => "the federation",
    };
    if rule == NOT_PERMITTED { format!("{who} permitted it") } else { format!("{who} gave up {rule}") }
}

fn known(fact: &FactChange) -> String {
    let FactChange { slot, says, issuer, from, to } = fact;
    match (says, issuer, from) {
        (Some(says), Some(issuer), _) => format!("{slot} were settled as {says} [{to:?}, {issuer}]"),
        (Some(says), None, _) => format!("{slot} were settled as {says} [{to:?}]"),
        (None, _, Some(from)) => format!("{slot} were known at {to:?} instead of {from:?}"),
        (None, _, None) => format!("it had {slot} at {to:?}"),
    }
}

/// How many facts, in words.
pub(super) fn facts(count: usize) -> String {
    if count == 1 { "1 fact".to_owned() } else { format!("{count} facts") }
}

/// A duration in its largest whole unit.
pub(super) fn duration(ms: u64) -> String {
    let units = [(86_400_000, "day"), (3_600_000, "hour"), (60_000, "minute"), (1_000, "second")];
    let (unit_ms, name) =
        units.into_iter().find(|(unit_ms, _)| ms.is_multiple_of(*unit_ms)).unwrap_or((1, "millisecond"));
    let count = ms / unit_ms;
    if count == 1 { format!("1 {name}") } else { format!("{count} {name}s") }
}

/// A failed verification with the check that failed.
pub(super) fn failure(failure: &Failure) -> String {
    format!("the receipt fails the check `{}`: {}", failure.check.as_str(), failure.message)
}
