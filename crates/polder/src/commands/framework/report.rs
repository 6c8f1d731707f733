//! A score in print: objectives, what they rest on, and what the score is not.
//!
//! The numbers are exact: they are written as decimals, never through fractions of a machine.

use std::collections::BTreeMap;

use polder_core::framework::{Combined, Coverage, Criterion, CriterionId, Framework, Objective, Score};
use polder_core::labels::Closed as _;
use serde::Serialize;
use serde_json::value::RawValue;

use super::{number, of_hundredths};
use crate::failure::Failure;
use crate::render;

/// What a score is not; it stands under every one.
const IS_NOT: &str = "This is arithmetic over answers, not a verdict, a certificate or an assessment by anyone else.";

#[derive(Serialize)]
struct Report<'a> {
    framework: &'a str,
    score: Box<RawValue>,
    seal: Option<u8>,
    answered: usize,
    criteria: usize,
    evidence: BTreeMap<&'static str, usize>,
    objectives: Vec<OfObjective<'a>>,
    answers: Vec<OfAnswer<'a>>,
    is_not: &'static str,
}

#[derive(Serialize)]
struct OfObjective<'a> {
    objective: &'a str,
    score: Box<RawValue>,
    seal: Option<u8>,
    weight_percent: u32,
    values: Box<RawValue>,
    answered: usize,
    criteria: usize,
}

#[derive(Serialize)]
struct OfAnswer<'a> {
    objective: &'a str,
    criterion: u32,
    answer: u32,
    seal: u8,
    evidence: Option<&'static str>,
    facts: Vec<&'a str>,
    /// Whether file and facts gave different answers; the lower one stands here.
    differed: bool,
}

/// Prints one JSON document.
pub fn json(framework: &Framework, combined: &Combined, score: &Score, coverage: Coverage) -> Result<(), Failure> {
    render::json(&report(framework, combined, score, coverage)?)
}

fn report<'a>(
    framework: &'a Framework,
    combined: &'a Combined,
    score: &'a Score,
    coverage: Coverage,
) -> Result<Report<'a>, Failure> {
    let mut objectives = Vec::new();
    for (objective, one) in framework.objectives().iter().zip(&score.objectives) {
        objectives.push(OfObjective {
            objective: &one.objective,
            score: number(one.score)?,
            seal: one.seal,
            weight_percent: objective.weight_percent,
            values: number(of_hundredths(one.values_hundredths))?,
            answered: one.answered,
            criteria: one.criteria,
        });
    }
    let Coverage { a, b, c, nothing } = coverage;
    Ok(Report {
        framework: framework.id(),
        score: number(score.score)?,
        seal: score.seal,
        answered: score.answered,
        criteria: score.criteria,
        evidence: BTreeMap::from([("A", a), ("B", b), ("C", c), ("nothing", nothing)]),
        objectives,
        answers: framework.criteria().filter_map(|(o, c)| of_answer(o, c, combined)).collect(),
        is_not: IS_NOT,
    })
}

fn of_answer<'a>(objective: &'a Objective, criterion: &Criterion, combined: &'a Combined) -> Option<OfAnswer<'a>> {
    let id = CriterionId::of(objective, criterion);
    let answer = *combined.answers.get(&id)?;
    let derived = combined.evidenced.get(&id);
    Some(OfAnswer {
        objective: &objective.id,
        criterion: criterion.number,
        answer,
        seal: criterion.answer(answer)?.seal,
        evidence: derived.map(|derived| derived.evidence.as_str()),
        facts: derived.into_iter().flat_map(|derived| &derived.facts).map(String::as_str).collect(),
        differed: combined.differing.contains(&id),
    })
}

/// Prints objectives, then what they rest on and what that is not.
pub fn table(framework: &Framework, combined: &Combined, score: &Score, coverage: Coverage) -> Result<(), Failure> {
    let seal = |seal: Option<u8>| seal.map_or_else(|| "-".to_owned(), |seal| format!("SEAL-{seal}"));
    let mut rows: Vec<Vec<String>> = Vec::new();
    for (objective, one) in framework.objectives().iter().zip(&score.objectives) {
        rows.push(vec![
            format!("{} {}", objective.id, objective.name),
            format!("{} %", objective.weight_percent),
            format!("{}/{}", one.answered, one.criteria),
            seal(one.seal),
            one.score.to_string(),
        ]);
    }
    let answered = format!("{}/{}", score.answered, score.criteria);
    rows.push(vec!["all".to_owned(), "100 %".to_owned(), answered, seal(score.seal), score.score.to_string()]);
    render::table(&["OBJECTIVE", "WEIGHT", "ANSWERED", "LOWEST SEAL", "SCORE"], &rows)?;
    for (objective, criterion) in framework.criteria() {
        let id = CriterionId::of(objective, criterion);
        let Some(derived) = combined.evidenced.get(&id) else { continue };
        let says = criterion.answer(derived.answer).map(|answer| answer.says.as_str()).unwrap_or_default();
        let facts = derived.facts.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        render::line(&format!("{id} is {}: {says}; by {facts}, class {}", derived.answer, derived.evidence.as_str()))?;
    }
    for id in &combined.differing {
        render::line(&format!("{id}: file and facts differ; the lower answer counts"))?;
    }
    let Coverage { a, b, c, nothing } = coverage;
    render::line(&format!(
        "Of {} criteria {a} rest on facts of class A, {b} on B, {c} on C, {nothing} on no fact.",
        score.criteria
    ))?;
    render::line("What is not answered adds nothing and lowers nothing: a SEAL speaks only of what was answered.")?;
    render::line(IS_NOT)
}

#[cfg(test)]
mod tests;
