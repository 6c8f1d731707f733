//! A claim as data: one readable TOML file says what is claimed, in words and in Cedar, and of which policies.
//!
//! What Cedar makes of the expressions is absent: they are checked when the claim is asked.

use serde::Deserialize;

use super::ProofError;

/// Something that is said about a set of policies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Its name.
    pub name: String,
    /// What it says, in plain words.
    pub says: String,
    /// The policies that it speaks of; all of them must permit.
    pub policies: Vec<String>,
    /// What it says, for the solver.
    pub goal: Goal,
}

/// What a claim says, for the solver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Goal {
    /// Whatever the policies permit satisfies this Cedar expression.
    PermittedOnlyWhen(String),
    /// Nothing that satisfies this Cedar expression is permitted.
    NeverPermittedWhen(String),
    /// Whatever the policies permit, the policy of this name permits too.
    NoWiderThan(String),
    /// Something that satisfies this Cedar expression is permitted.
    CanPermit(String),
    /// No policy can end in an evaluation error.
    NeverErrors,
    /// For each rule there is something that it forbids.
    NoDeadRule,
    /// For each rule there is something that it alone, within its policy, decides.
    NoRedundantRule,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    name: String,
    says: String,
    policies: Vec<String>,
    permitted_only_when: Option<String>,
    never_permitted_when: Option<String>,
    no_wider_than: Option<String>,
    can_permit: Option<String>,
    #[serde(default)]
    never_errors: bool,
    #[serde(default)]
    no_dead_rule: bool,
    #[serde(default)]
    no_redundant_rule: bool,
}

impl Claim {
    /// Reads a claim. `file` is its name in messages.
    pub fn parse(file: &str, text: &str) -> Result<Self, ProofError> {
        let wrong = |message: String| ProofError::Claim { claim: file.to_owned(), message };
        let raw: Raw = toml::from_str(text).map_err(|error| {
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            wrong(format!("line {}: {}", before.matches('\n').count() + 1, error.message().trim()))
        })?;
        let goals = [
            raw.permitted_only_when.map(Goal::PermittedOnlyWhen),
            raw.never_permitted_when.map(Goal::NeverPermittedWhen),
            raw.no_wider_than.map(Goal::NoWiderThan),
            raw.can_permit.map(Goal::CanPermit),
            raw.never_errors.then_some(Goal::NeverErrors),
            raw.no_dead_rule.then_some(Goal::NoDeadRule),
            raw.no_redundant_rule.then_some(Goal::NoRedundantRule),
        ];
        let mut goals = goals.into_iter().flatten();
        let (Some(goal), None) = (goals.next(), goals.next()) else {
            let words = "`permitted_only_when`, `never_permitted_when`, `no_wider_than`, `can_permit`, `never_errors`, \
                         `no_dead_rule` and `no_redundant_rule`";
            return Err(wrong(format!("it says nothing, or several things: write exactly one of {words}")));
        };
        Ok(Self { name: raw.name, says: raw.says, policies: raw.policies, goal })
    }
}
