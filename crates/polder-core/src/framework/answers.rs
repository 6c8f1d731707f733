//! Answers by hand: lines of objective, criterion and answer, separated by tabs.
//!
//! Empty lines and lines that begin with `#` are passed over; everything else must fit the framework, or the line is named.
//! Guessing is absent: a wrong line is an error, never an unanswered criterion.

use std::collections::BTreeMap;

use super::{CriterionId, Framework};

/// The number of the answer to each criterion that is answered.
pub type Answers = BTreeMap<CriterionId, u32>;

/// Why a text is not a list of answers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct AnswersError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong.
    pub message: String,
}

/// Reads answers to a framework's criteria.
pub fn parse_answers(framework: &Framework, text: &str) -> Result<Answers, AnswersError> {
    let mut answers = Answers::new();
    let mut lines: BTreeMap<CriterionId, usize> = BTreeMap::new();
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (index, content) in text.lines().enumerate() {
        let line = index + 1;
        let content = content.trim();
        if content.is_empty() || content.starts_with('#') {
            continue;
        }
        let (id, answer) = one(framework, content).map_err(|message| AnswersError { line, message })?;
        if let Some(first) = lines.insert(id.clone(), line) {
            let message = format!("{id} is answered twice, first in line {first}: keep one of the two");
            return Err(AnswersError { line, message });
        }
        answers.insert(id, answer);
    }
    Ok(answers)
}

/// One line's answer, or what is wrong with it.
fn one(framework: &Framework, content: &str) -> Result<(CriterionId, u32), String> {
    let fields: Vec<&str> = content.split('\t').map(str::trim).collect();
    let [objective, criterion, answer] = fields.as_slice() else {
        let found = fields.len();
        return Err(format!("objective, criterion and answer must stand here, separated by tabs; {found} found"));
    };
    let Some(known) = framework.objectives().iter().find(|one| one.id == *objective) else {
        let ids: Vec<&str> = framework.objectives().iter().map(|one| one.id.as_str()).collect();
        return Err(format!("`{}` is no objective: use one of {}", short(objective), ids.join(", ")));
    };
    let Some(question) = number(criterion).and_then(|number| known.criteria.iter().find(|one| one.number == number))
    else {
        let numbers: Vec<String> = known.criteria.iter().map(|one| one.number.to_string()).collect();
        return Err(format!("`{}` is no criterion of {objective}: use {}", short(criterion), numbers.join(", ")));
    };
    let id = CriterionId::of(known, question);
    let Some(answer) = number(answer).filter(|number| question.answer(*number).is_some()) else {
        return Err(format!("`{}` is no answer to {id}: use 1 to {}", short(answer), question.answers.len()));
    };
    Ok((id, answer))
}

/// A number in plain digits.
fn number(text: &str) -> Option<u32> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

/// What the user typed, cut to what a message can hold.
fn short(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(40).collect()
}
