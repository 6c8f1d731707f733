//! A policy's own tests: requests at described factories, and what the policy must say of each.
//!
//! A case is one request at one factory. It passes where the answer is the expected one and exactly the named rules of the
//! owner refuse. The format is in `docs/formats.md`. Reading files is absent: whoever calls brings the texts. Choosing among
//! factories is absent, too: a test is about one factory's yes or no.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::ids::{ModelId, NodeId, ProjectId, TenantId};
use crate::labels::{Action, Country, DataClass, Labels, Language, Purpose};
use crate::placement::refusals;
use crate::policy::{Cause, Column, LABELS_POLICY, Layer, LayerKind, PolicyError, PolicySchema};
use crate::request::Request;
use crate::world::{FactoryText, OPEN_POLICY, PolicyText, WorldError};

mod mutations;

pub use mutations::{Mutation, mutations};

/// A file of tests as a person writes it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    policy: String,
    #[serde(default)]
    baseline: Option<String>,
    #[serde(default)]
    request: Asked,
    factories: Vec<FactoryText>,
    cases: Vec<RawCase>,
}

/// What all requests of a file have in common.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    action: Option<Action>,
    tenant: Option<TenantId>,
    project: Option<ProjectId>,
    model: Option<ModelId>,
    class: Option<DataClass>,
    purposes: Option<BTreeSet<Purpose>>,
    countries: Option<BTreeSet<Country>>,
    language: Option<Language>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCase {
    name: String,
    factory: NodeId,
    action: Option<Action>,
    tenant: Option<TenantId>,
    project: Option<ProjectId>,
    model: Option<ModelId>,
    class: Option<DataClass>,
    purposes: Option<BTreeSet<Purpose>>,
    countries: Option<BTreeSet<Country>>,
    language: Option<Language>,
    expect: Expect,
    #[serde(default)]
    by: BTreeSet<String>,
}

/// What a case expects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Expect {
    /// Every layer permits.
    Placed,
    /// Some layer refuses.
    Refused,
}

/// Why a file of tests cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrialError {
    /// The file is not one of tests.
    #[error("{file}:{line}: {message}")]
    File {
        /// The file.
        file: String,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        message: String,
    },
    /// A case cannot be asked.
    #[error("the case `{case}`: {message}")]
    Case {
        /// The case.
        case: String,
        /// What is wrong.
        message: String,
    },
    /// A policy does not hold.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// A factory cannot be asked about.
    #[error(transparent)]
    World(#[from] WorldError),
}

/// A file of tests, read.
#[derive(Debug, Clone)]
pub struct Trial {
    /// The path of the policy, relative to the file of tests.
    pub policy: String,
    /// The path of a baseline beside it, where there is one.
    pub baseline: Option<String>,
    factories: Vec<FactoryText>,
    cases: Vec<Case>,
}

#[derive(Debug, Clone)]
struct Case {
    name: String,
    factory: NodeId,
    request: Request,
    expect: Expect,
    by: BTreeSet<String>,
}

/// What a policy said of a case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CaseReport {
    /// The case's name.
    pub case: String,
    /// The factory that was asked about.
    pub factory: NodeId,
    /// Whether the answer was the expected one, by exactly the expected rules.
    pub passed: bool,
    /// What was expected.
    pub expected: Answer,
    /// What was answered.
    pub answered: Answer,
}

/// A yes, or a no with the rules that say it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Answer {
    /// Yes or no.
    pub outcome: Expect,
    /// The owner's rules that refuse.
    pub by: BTreeSet<String>,
    /// Rules of other layers that refuse, as `LAYER: RULE`.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub others: BTreeSet<String>,
}

/// Tests that are ready to be held against a policy.
#[derive(Debug)]
pub struct Ready<'a> {
    cases: Vec<(&'a Case, &'a NodeId)>,
    factories: BTreeMap<&'a NodeId, (Column, Layer)>,
    baseline: Layer,
    labels: Layer,
    schema: Arc<PolicySchema>,
}

impl Trial {
    /// Reads a file of tests; `file` is its name in messages.
    pub fn parse(file: &str, text: &str) -> Result<Self, TrialError> {
        let raw: Raw = toml::from_str(text).map_err(|error| {
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            let line = before.matches('\n').count() + 1;
            TrialError::File { file: file.to_owned(), line, message: error.message().trim().to_owned() }
        })?;
        let mut names = BTreeSet::new();
        let mut cases = Vec::new();
        for case in raw.cases {
            if !names.insert(case.name.clone()) {
                return Err(TrialError::Case { case: case.name, message: "stands there twice".to_owned() });
            }
            cases.push(case.check(&raw.request)?);
        }
        Ok(Self { policy: raw.policy, baseline: raw.baseline, factories: raw.factories, cases })
    }

    /// Makes the tests ready. `read` gives the text of a policy file.
    pub fn ready(
        &self,
        schema: &Arc<PolicySchema>,
        read: &dyn Fn(&str) -> Result<String, String>,
    ) -> Result<Ready<'_>, TrialError> {
        let layer = |kind: LayerKind, policy: Option<&PolicyText>| -> Result<Layer, TrialError> {
            let (file, text) = match policy {
                None => ("open", OPEN_POLICY.to_owned()),
                Some(PolicyText { file, text: Some(text) }) => (file.as_str(), text.clone()),
                Some(PolicyText { file, text: None }) => {
                    let failed = |message| WorldError::Read { file: file.clone(), message };
                    (file.as_str(), read(file).map_err(failed)?)
                }
            };
            Ok(Layer::parse(kind, file, &text, schema)?)
        };
        let mut factories = BTreeMap::new();
        for described in &self.factories {
            let terms = layer(LayerKind::Terms, described.terms.as_ref())?;
            if factories.insert(&described.name, (described.column(schema)?, terms)).is_some() {
                return Err(WorldError::Twice(described.name.clone()).into());
            }
        }
        let mut cases = Vec::new();
        for case in &self.cases {
            let (name, _) = factories.get_key_value(&case.factory).ok_or_else(|| TrialError::Case {
                case: case.name.clone(),
                message: format!("`{}` is none of the factories", case.factory),
            })?;
            cases.push((case, *name));
        }
        let baseline = self.baseline.clone().map(|file| PolicyText { file, text: None });
        Ok(Ready {
            cases,
            factories,
            baseline: layer(LayerKind::Baseline, baseline.as_ref())?,
            labels: Layer::parse(LayerKind::Labels, "labels", LABELS_POLICY, schema)?,
            schema: Arc::clone(schema),
        })
    }
}

impl RawCase {
    fn check(self, common: &Asked) -> Result<Case, TrialError> {
        let wrong = |message: &str| TrialError::Case { case: self.name.clone(), message: message.to_owned() };
        let odd = |error: crate::ids::IdError| wrong(&error.to_string());
        let purposes = self.purposes.clone().or_else(|| common.purposes.clone()).unwrap_or_default();
        if purposes.is_empty() {
            return Err(wrong("`purposes` is empty: name at least one, here or in `[request]`"));
        }
        let class = self.class.or(common.class).ok_or_else(|| wrong("name its `class`, here or in `[request]`"))?;
        if self.expect == Expect::Placed && !self.by.is_empty() {
            return Err(wrong("what is placed is refused by no rule: leave `by` out"));
        }
        let labels = Labels {
            class,
            purposes,
            countries: self.countries.clone().or_else(|| common.countries.clone()),
            language: self.language.or(common.language),
        };
        let tenant = self.tenant.clone().or_else(|| common.tenant.clone());
        let project = self.project.clone().or_else(|| common.project.clone());
        let request = Request {
            action: self.action.or(common.action).unwrap_or(Action::Infer),
            tenant: tenant.map_or_else(|| TenantId::parse("tenant"), Ok).map_err(odd)?,
            project: project.map_or_else(|| ProjectId::parse("project"), Ok).map_err(odd)?,
            model: self.model.clone().or_else(|| common.model.clone()),
            labels,
        };
        Ok(Case { name: self.name.clone(), factory: self.factory, request, expect: self.expect, by: self.by })
    }
}

impl Ready<'_> {
    /// Holds the cases against an owner's policy, in the order of the file.
    pub fn run(&self, owner: &Layer) -> Vec<CaseReport> {
        self.cases.iter().map(|(case, factory)| self.ask(case, factory, owner)).collect()
    }

    /// Whether every case passes.
    pub fn holds(&self, owner: &Layer) -> bool {
        self.cases.iter().all(|(case, factory)| self.ask(case, factory, owner).passed)
    }

    /// The changes of a policy that no case notices; `text` is the policy's. One that would not be read is noticed by
    /// whoever reads it.
    pub fn unnoticed(&self, owner: &Layer) -> Vec<Mutation> {
        let survives = |mutation: &Mutation| {
            let read = Layer::parse(LayerKind::Owner, "mutation", &mutation.text, &self.schema);
            read.is_ok_and(|changed| self.holds(&changed))
        };
        mutations(owner).into_iter().filter(survives).collect()
    }

    fn ask(&self, case: &Case, factory: &NodeId, owner: &Layer) -> CaseReport {
        let expected = Answer { outcome: case.expect, by: case.by.clone(), others: BTreeSet::new() };
        let mut answered = Answer { outcome: Expect::Placed, by: BTreeSet::new(), others: BTreeSet::new() };
        if let Some((column, terms)) = self.factories.get(factory) {
            for layer in [&self.baseline, owner, &self.labels, terms] {
                for Cause { layer, rule, .. } in refusals(layer, column, &case.request, &self.schema) {
                    answered.outcome = Expect::Refused;
                    let _ = match layer {
                        LayerKind::Owner => answered.by.insert(rule),
                        other => answered.others.insert(format!("{other:?}: {rule}").to_lowercase()),
                    };
                }
            }
        }
        let passed = answered.outcome == expected.outcome && answered.by == expected.by;
        CaseReport { case: case.name.clone(), factory: factory.clone(), passed, expected, answered }
    }
}

#[cfg(test)]
mod tests;
