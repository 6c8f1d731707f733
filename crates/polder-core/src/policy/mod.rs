//! Policy: Cedar, one layer at a time, with every refusal's cause named.
//!
//! Four layers (federation baseline, owner, request labels, factory terms) are parsed, checked against one schema and
//! evaluated each on its own; all must permit. House rule, checked when a layer is parsed: a permit has no
//! conditions, every condition is a `forbid` of its own with `@id` and `@reason`. An evaluation error refuses, because
//! Cedar skips a policy that errors. Choosing among factories is absent: see `placement`.

use serde::{Deserialize, Serialize};

use crate::canonical::{Digest, hash};

mod attributes;
mod axioms;
mod changes;
mod column;
mod hazards;
mod layer;
mod limits;
mod narrower;
mod schema;

pub use axioms::{Axiom, axioms, axioms_about, paths};
pub use changes::{RuleChanges, rule_changes};
pub use column::{Case, Column, Question, Usage, touches};
pub use layer::{Layer, PolicyError, Refusal, Rule, ask};
pub use limits::{ENTRIES_MAX, NESTING_MAX, OPERATORS_MAX, POLICIES_MAX, TEXT_BYTES_MAX};
pub use narrower::is_only_narrower;
pub use schema::{NUMBERS, PolicySchema, SEALS};

/// Whose rules a layer holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LayerKind {
    /// The federation's own: what every member holds to.
    Baseline,
    /// The owner's policy.
    Owner,
    /// What the request says of itself.
    Labels,
    /// The factory's terms.
    Terms,
    /// No policy: whether the factory can be used at all now.
    Availability,
}

/// The labels layer: the same everywhere, because it only carries out what a request says.
pub const LABELS_POLICY: &str = r#"permit (principal, action, resource);

@id("outside-the-named-countries")
@reason("the request, or its project, names the countries where it may run, and this site is in none of them")
forbid (principal, action, resource)
when { context has countries }
unless { resource has site && context.countries.contains(resource.site.country) };
"#;

/// The digest by which statements name a policy's text.
pub fn policy_digest(text: &str) -> Digest {
    hash("polder/policy/v1", &[text.as_bytes()])
}

/// The rule of a layer with a policy that cannot be evaluated. Its clause says which.
pub const POLICY_ERROR: &str = "policy-error";
/// The rule of a layer without a permit for the action.
pub const NOT_PERMITTED: &str = "not-permitted";
/// Ids that no rule of a policy may have, because causes that are Polder's own have them.
pub const RESERVED: [&str; 11] = [
    POLICY_ERROR, NOT_PERMITTED, "no-purpose", "no-capacity", "unreachable", "model-not-served", "action-not-offered",
    "clock-wrong", "circuit-open", "job-unfit", "job-too-dear",
];

/// One reason for a factory's no.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cause {
    /// Whose rule it is.
    pub layer: LayerKind,
    /// The rule's `@id`.
    pub rule: String,
    /// The rule's `@reason`.
    pub reason: String,
    /// Where the rule stands; empty where it is Polder's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clause: Option<Clause>,
    /// The facts that the rule reads.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub facts: Vec<FactRead>,
}

/// Where a rule stands.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Clause {
    /// The file's name, without its folder.
    pub file: String,
    /// The line of the rule's `@id`, from 1.
    pub line: u32,
}

/// A fact as a rule read it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FactRead {
    /// The attribute that was read, such as `control`.
    pub kind: String,
    /// What it says, in a few words; `absent` or `contested` where nothing may be believed.
    pub says: String,
    /// The evidence class that the owner grants it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<crate::facts::Evidence>,
    /// Who says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<crate::ids::IssuerId>,
    /// Since when, in Unix milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_ms: Option<u64>,
}

impl Cause {
    /// A cause that is Polder's own rather than a policy's.
    pub fn built_in(layer: LayerKind, rule: &str, reason: impl Into<String>) -> Self {
        Self { layer, rule: rule.to_owned(), reason: reason.into(), clause: None, facts: Vec::new() }
    }
}

#[cfg(test)]
mod tests;
