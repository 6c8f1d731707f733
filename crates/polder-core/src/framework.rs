//! Frameworks: versioned scoring schemes kept as data, such as the EU Cloud Sovereignty Framework's calculator.
//!
//! A framework has objectives with weights, an objective has criteria, a criterion has numbered answers, each with a value
//! and a SEAL. Scores are exact: values are hundredths, weights are per cent, so a score is a whole number of
//! hundred-thousandths. Reading files and TOML is absent: [`raw`] is what a reader fills. A verdict is absent too: a score
//! is arithmetic over answers, and nothing here decides where something runs.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::canonical::{self, CanonicalError, Digest};
use crate::facts::Certification;
use crate::labels::Country;

mod answers;
mod check;
mod derive;
pub mod raw;
mod score;
mod seals;
mod shipped;

pub use answers::{Answers, AnswersError, parse_answers};
pub use check::FrameworkError;
pub use derive::{Combined, Coverage, Derived, Evidenced, combine, derive};
pub use score::{ObjectiveScore, Score, score};
pub use seals::{FrameworkSeals, seals};
pub use shipped::{SHIPPED, shipped};

/// The highest SEAL there is.
pub const SEAL_MAX: u8 = 4;

/// A versioned scoring scheme, checked. Read back from its own JSON it is not checked anew: its digest says whether it is the
/// one that was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Content")]
pub struct Framework {
    id: String,
    title: String,
    source: String,
    licence: String,
    changes: String,
    objectives: Vec<Objective>,
    #[serde(skip)]
    digest: Digest,
}

/// A framework as its JSON has it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    id: String,
    title: String,
    source: String,
    licence: String,
    changes: String,
    objectives: Vec<Objective>,
}

impl TryFrom<Content> for Framework {
    type Error = CanonicalError;

    fn try_from(content: Content) -> Result<Self, CanonicalError> {
        let Content { id, title, source, licence, changes, objectives } = content;
        Self { id, title, source, licence, changes, objectives, digest: Digest::default() }.sealed()
    }
}

/// What is asked about, and how much it weighs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Objective {
    /// Its id, such as `SOV-1`.
    pub id: String,
    /// A few words.
    pub name: String,
    /// Its weight; those of a framework add up to 100.
    pub weight_percent: u32,
    /// The questions; never empty.
    pub criteria: Vec<Criterion>,
}

/// One question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Criterion {
    /// Its number within the objective, from 1.
    pub number: u32,
    /// The question, in our words.
    pub asks: String,
    /// What of a request it speaks of; empty where it speaks of the provider as a whole.
    pub touches: BTreeSet<Touch>,
    /// The answers, numbered from 1 in this order; never empty.
    pub answers: Vec<Answer>,
    /// How facts answer it: the first rule that holds.
    pub rules: Vec<Rule>,
}

/// One answer to a criterion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// What it adds to its objective, times 100.
    pub value_hundredths: u32,
    /// The level that it supports.
    pub seal: u8,
    /// The answer, in our words.
    pub says: String,
}

/// What of a request a criterion speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Touch {
    /// Who runs the factory, and who owns them.
    Operator,
    /// The model.
    Model,
    /// The accelerators.
    Chip,
    /// Where the data goes.
    Route,
}

/// Facts that amount to an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// The answer's number.
    pub answer: u32,
    /// The conditions, all of which must hold; never empty.
    pub when: Vec<Condition>,
}

/// Something that facts say or do not say. What is unknown, expired or contested makes every condition false.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Condition {
    /// The machines stand in the EU.
    SiteInEu,
    /// The machines stand outside the EU.
    SiteOutsideEu,
    /// The machines stand in the EEA.
    SiteInEea,
    /// The machines stand outside the EEA.
    SiteOutsideEea,
    /// The operator is under the law of a member state.
    OperatorInEu,
    /// The operator is under other law.
    OperatorOutsideEu,
    /// Operator and every owner are in the EU.
    ControlInEu,
    /// Operator and every owner are outside the EU.
    ControlOutsideEu,
    /// The ultimate parent, or the operator where nobody owns it, is in the EU.
    UltimateOwnerInEu,
    /// The ultimate parent, or the operator where nobody owns it, is outside the EU.
    UltimateOwnerOutsideEu,
    /// Every accelerator was designed in the EU.
    ChipsFromEu,
    /// Every accelerator was designed outside the EU.
    ChipsFromOutsideEu,
    /// A certificate of this scheme is held.
    Certified(Certification),
    /// The people with access are cleared by this country.
    ClearedBy(Country),
}

/// Which criterion: `SOV-1` and its number.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CriterionId {
    /// The objective.
    pub objective: String,
    /// The criterion's number.
    pub criterion: u32,
}

/// An exact number of hundred-thousandths.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Points(pub u64);

impl Framework {
    /// Checks what a reader has read. `base` is the framework that `raw.base` names, if it names one.
    pub fn new(raw: raw::Framework, base: Option<&Self>) -> Result<Self, FrameworkError> {
        check::framework(raw, base)
    }

    /// With the digest of its content.
    fn sealed(mut self) -> Result<Self, CanonicalError> {
        self.digest = canonical::digest("polder/framework/v1", &self)?;
        Ok(self)
    }

    /// Its name and version in one, such as `csf-calculator-2026-06-01`.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The digest of its whole content, so that a name can never stand for two contents.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// A line for people.
    pub fn title(&self) -> &str {
        &self.title
    }

    /// Whose work it is.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Under what terms it may be used.
    pub fn licence(&self) -> &str {
        &self.licence
    }

    /// What differs from the source.
    pub fn changes(&self) -> &str {
        &self.changes
    }

    /// The objectives, in the order of the source.
    pub fn objectives(&self) -> &[Objective] {
        &self.objectives
    }

    /// Every criterion with its objective, in order.
    pub fn criteria(&self) -> impl Iterator<Item = (&Objective, &Criterion)> {
        self.objectives.iter().flat_map(|objective| objective.criteria.iter().map(move |one| (objective, one)))
    }

    /// The criterion of that id.
    pub fn criterion(&self, id: &CriterionId) -> Option<&Criterion> {
        let objective = self.objectives.iter().find(|objective| objective.id == id.objective)?;
        objective.criteria.iter().find(|criterion| criterion.number == id.criterion)
    }

    /// The criteria that speak of any of these parts of a request.
    pub fn touched_by(&self, parts: &BTreeSet<Touch>) -> BTreeSet<CriterionId> {
        let touched = self.criteria().filter(|(_, criterion)| !criterion.touches.is_disjoint(parts));
        touched.map(|(objective, criterion)| CriterionId::of(objective, criterion)).collect()
    }
}

impl Criterion {
    /// The answer of that number, from 1.
    pub fn answer(&self, number: u32) -> Option<&Answer> {
        self.answers.get(usize::try_from(number.checked_sub(1)?).ok()?)
    }
}

impl CriterionId {
    /// The id of a criterion within its objective.
    pub fn of(objective: &Objective, criterion: &Criterion) -> Self {
        Self { objective: objective.id.clone(), criterion: criterion.number }
    }
}

impl std::fmt::Display for CriterionId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.objective, self.criterion)
    }
}

impl std::fmt::Display for Points {
    /// The number in decimal, with no digit too few and none too many.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = format!("{}.{:05}", self.0 / 100_000, self.0 % 100_000);
        f.write_str(text.trim_end_matches('0').trim_end_matches('.'))
    }
}

#[cfg(test)]
mod tests;
