//! A framework's raw shape: what a file can say, nothing about how its parts fit together.
//!
//! Unknown fields are errors. Which notation the file has is absent: whoever reads it knows.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::{Answer, Rule, Touch};

/// A framework's file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Framework {
    /// Name and version in one.
    pub id: String,
    /// A line for people.
    pub title: String,
    /// Whose work it is.
    pub source: String,
    /// Under what terms it may be used.
    pub licence: String,
    /// What differs from the source.
    pub changes: String,
    /// The framework whose criteria it takes over; then the objectives bring only weights.
    pub base: Option<String>,
    /// The objectives.
    pub objectives: Vec<Objective>,
}

/// An objective; without a base it must have a name and criteria, with one it must have neither.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Objective {
    /// Its id.
    pub id: String,
    /// A few words.
    pub name: Option<String>,
    /// Its weight.
    pub weight_percent: u32,
    /// The questions.
    pub criteria: Option<Vec<Criterion>>,
}

/// A question.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Criterion {
    /// Its number.
    pub number: u32,
    /// The question.
    pub asks: String,
    /// What of a request it speaks of.
    #[serde(default)]
    pub touches: BTreeSet<Touch>,
    /// The answers.
    pub answers: Vec<Answer>,
    /// How facts answer it.
    #[serde(default)]
    pub rules: Vec<Rule>,
}
