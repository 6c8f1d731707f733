//! From the raw shape of a framework to the checked one: ids are unique, weights add up, answers exist, texts are bounded.
//!
//! Each error says where. Whether a scheme is a sensible one is absent: that is its authors' affair.

use std::collections::BTreeSet;

use crate::canonical::Digest;

use super::{Answer, Criterion, Framework, Objective, Rule, SEAL_MAX, raw};

const OBJECTIVES_MAX: usize = 64;
const CRITERIA_MAX: usize = 64;
const ANSWERS_MAX: usize = 32;
const RULES_MAX: usize = 32;
const CONDITIONS_MAX: usize = 16;
const TEXT_BYTES_MAX: usize = 500;
const ID_BYTES_MAX: usize = 63;
/// A thousand objectives' worth of points; keeps every sum far inside its type.
const VALUE_HUNDREDTHS_MAX: u32 = 100_000_000;

/// Why a file is not a framework: where, and what is wrong there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {message}")]
pub struct FrameworkError {
    /// Such as `SOV-1, criterion 3, answer 2`, or the name of a field.
    pub place: String,
    /// What is wrong.
    pub message: String,
}

fn wrong<T>(place: &str, message: impl Into<String>) -> Result<T, FrameworkError> {
    Err(FrameworkError { place: place.to_owned(), message: message.into() })
}

/// Checks a whole framework.
pub(super) fn framework(raw: raw::Framework, base: Option<&Framework>) -> Result<Framework, FrameworkError> {
    let small = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
    id("id", &raw.id, "a-z, 0-9, `-` and `.`", small)?;
    for (place, said) in
        [("title", &raw.title), ("source", &raw.source), ("licence", &raw.licence), ("changes", &raw.changes)]
    {
        text(place, said)?;
    }
    let base = match (&raw.base, base) {
        (Some(name), Some(base)) if base.id == *name => Some(base),
        (Some(name), _) => return wrong("base", format!("`{name}` is not known: name a framework that has no base")),
        (None, _) => None,
    };
    bounded("objectives", raw.objectives.len(), OBJECTIVES_MAX)?;
    let mut seen = BTreeSet::new();
    let mut objectives = Vec::new();
    for one in raw.objectives {
        let capital = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
        id("objectives", &one.id, "letters, digits, `-` and `.`", capital)?;
        if !seen.insert(one.id.clone()) {
            return wrong(&one.id, "stands here twice");
        }
        objectives.push(match base {
            Some(base) => reweighed(one, base)?,
            None => objective(one)?,
        });
    }
    if let Some(left_out) = base.and_then(|base| base.objectives.iter().find(|one| !seen.contains(&one.id))) {
        return wrong(&left_out.id, "stands in the base, so it needs a weight here");
    }
    let sum = objectives.iter().fold(0_u32, |sum, one| sum.saturating_add(one.weight_percent));
    if sum != 100 {
        return wrong("weight_percent", format!("the weights add up to {sum}, not to 100"));
    }
    let raw::Framework { id, title, source, licence, changes, .. } = raw;
    let framework = Framework { id, title, source, licence, changes, objectives, digest: Digest::default() };
    // Its numbers are integers and its keys text, so it always has a canonical form.
    framework.sealed().or_else(|error| wrong("framework", error.to_string()))
}

fn id(place: &str, id: &str, rule: &str, fits: impl Fn(char) -> bool) -> Result<(), FrameworkError> {
    let starts = id.starts_with(|c: char| c.is_ascii_alphanumeric());
    if starts && id.len() <= ID_BYTES_MAX && id.chars().all(fits) {
        return Ok(());
    }
    let id: String = id.chars().take(ID_BYTES_MAX).collect();
    let rule = format!("use 1 to {ID_BYTES_MAX} of {rule}, beginning with a letter or digit");
    wrong(place, format!("`{id}` is not an id: {rule}"))
}

fn text(place: &str, said: &str) -> Result<(), FrameworkError> {
    if said.trim().is_empty() {
        return wrong(place, "is empty");
    }
    if said.len() > TEXT_BYTES_MAX {
        return wrong(place, format!("is longer than {TEXT_BYTES_MAX} bytes"));
    }
    if said.chars().any(char::is_control) { wrong(place, "has a control character") } else { Ok(()) }
}

fn bounded(place: &str, count: usize, most: usize) -> Result<(), FrameworkError> {
    if count == 0 {
        return wrong(place, "is empty");
    }
    if count > most { wrong(place, format!("there are {count}, at most {most} can be")) } else { Ok(()) }
}

/// An objective of the base with another weight.
fn reweighed(raw: raw::Objective, base: &Framework) -> Result<Objective, FrameworkError> {
    let Some(known) = base.objectives.iter().find(|one| one.id == raw.id) else {
        return wrong(&raw.id, format!("is no objective of the base `{}`", base.id));
    };
    if raw.name.is_some() || raw.criteria.is_some() {
        return wrong(&raw.id, "comes from the base: give only its weight, or leave `base` out");
    }
    Ok(Objective { weight_percent: raw.weight_percent, ..known.clone() })
}

fn objective(raw: raw::Objective) -> Result<Objective, FrameworkError> {
    let (Some(name), Some(criteria)) = (raw.name, raw.criteria) else {
        return wrong(&raw.id, "needs `name` and `criteria`, because there is no `base`");
    };
    text(&format!("{}, name", raw.id), &name)?;
    bounded(&format!("{}, criteria", raw.id), criteria.len(), CRITERIA_MAX)?;
    let mut seen = BTreeSet::new();
    let mut checked = Vec::new();
    for one in criteria {
        let place = format!("{}, criterion {}", raw.id, one.number);
        if one.number == 0 {
            return wrong(&place, "numbers begin with 1");
        }
        if !seen.insert(one.number) {
            return wrong(&place, "stands here twice");
        }
        checked.push(criterion(&place, one)?);
    }
    Ok(Objective { id: raw.id, name, weight_percent: raw.weight_percent, criteria: checked })
}

fn criterion(place: &str, raw: raw::Criterion) -> Result<Criterion, FrameworkError> {
    text(&format!("{place}, asks"), &raw.asks)?;
    bounded(&format!("{place}, answers"), raw.answers.len(), ANSWERS_MAX)?;
    for (index, one) in raw.answers.iter().enumerate() {
        answer(&format!("{place}, answer {}", index + 1), one)?;
    }
    if raw.rules.len() > RULES_MAX {
        return wrong(place, format!("more than {RULES_MAX} rules"));
    }
    let raw::Criterion { number, asks, touches, answers, rules } = raw;
    let criterion = Criterion { number, asks, touches, answers, rules };
    for (index, one) in criterion.rules.iter().enumerate() {
        rule(&format!("{place}, rule {}", index + 1), one, &criterion)?;
    }
    Ok(criterion)
}

fn answer(place: &str, answer: &Answer) -> Result<(), FrameworkError> {
    text(&format!("{place}, says"), &answer.says)?;
    if answer.seal > SEAL_MAX {
        return wrong(place, format!("SEAL {} does not exist: use 0 to {SEAL_MAX}", answer.seal));
    }
    if answer.value_hundredths > VALUE_HUNDREDTHS_MAX {
        return wrong(place, format!("the value is above {VALUE_HUNDREDTHS_MAX} hundredths"));
    }
    Ok(())
}

fn rule(place: &str, rule: &Rule, criterion: &Criterion) -> Result<(), FrameworkError> {
    if criterion.answer(rule.answer).is_none() {
        let last = criterion.answers.len();
        return wrong(place, format!("answer {} does not exist: use 1 to {last}", rule.answer));
    }
    bounded(&format!("{place}, when"), rule.when.len(), CONDITIONS_MAX)
}
