//! Replay: a decision derived again, byte for byte, from its statement and what the statement names.
//!
//! This is the product's own `decide` on the snapshot of that time; `audit` is the other way to check, which shares nothing
//! with it. What was measured and not derived is taken as the tables give it: who could not be reached or had no room, what
//! a factory itself refused, and what every score is made of. Absent: any word on whether those were so.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::audit::{FactoryRecord, Records};
use crate::canonical::{CanonicalError, Digest};
use crate::facts::{Passport, Profile, Trust, believe, facts_root, passport_root};
use crate::framework::Framework;
use crate::ids::{ModelId, NodeId};
use crate::labels::Action;
use crate::placement::{
    ACTION_NOT_OFFERED, Basis, CLOCK_WRONG, Factory, Ground, MODEL_NOT_SERVED, Row, Snapshot, Verdict, decide_by,
};
use crate::policy::{Cause, Column, LABELS_POLICY, Layer, LayerKind, PolicyError, PolicySchema, Usage, policy_digest};
use crate::statement::v1::{DecisionRecord, DecisionStatement, Statement};
use crate::tables::Tables;

/// What a statement names by digest, opened.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// Policy texts (baseline, owner, terms) by their digests.
    pub policies: BTreeMap<Digest, String>,
    /// Passports by their roots.
    pub passports: BTreeMap<Digest, Passport>,
    /// Whose facts count.
    pub trust: Trust,
    /// The framework versions that policies could name.
    pub frameworks: Vec<Framework>,
}

/// The value of a sources file's own field.
pub const SOURCES_V1: &str = "polder/sources/v1";

/// Sources as a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourcesFile {
    /// Always [`SOURCES_V1`].
    pub sources: String,
    /// Policy texts.
    pub policies: Vec<String>,
    /// Passports.
    pub passports: Vec<Passport>,
    /// Whose facts count.
    pub trust: Trust,
    /// Framework versions.
    pub frameworks: Vec<Framework>,
}

impl From<Sources> for SourcesFile {
    fn from(sources: Sources) -> Self {
        let Sources { policies, passports, trust, frameworks } = sources;
        let (policies, passports) = (policies.into_values().collect(), passports.into_values().collect());
        Self { sources: SOURCES_V1.to_owned(), policies, passports, trust, frameworks }
    }
}

impl TryFrom<SourcesFile> for Sources {
    type Error = CanonicalError;

    /// Names everything by the digest that it has.
    fn try_from(file: SourcesFile) -> Result<Self, CanonicalError> {
        let mut passports = BTreeMap::new();
        for passport in file.passports {
            passports.insert(passport_root(&passport)?, passport);
        }
        let policies = file.policies.into_iter().map(|text| (policy_digest(&text), text)).collect();
        Ok(Self { policies, passports, trust: file.trust, frameworks: file.frameworks })
    }
}

/// Why a decision cannot be derived again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    /// Something that the statement names was not given.
    #[error("the {what} with the digest {digest} is missing: fetch it from the node that decided")]
    Missing {
        /// What it is.
        what: &'static str,
        /// Its digest.
        digest: Digest,
    },
    /// Something was given that is not what the statement names.
    #[error("the {0} that was given is not the one that the statement names")]
    Other(&'static str),
    /// A text that cannot be read, though a decision was made by it.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// A statement or table without canonical form.
    #[error(transparent)]
    Canonical(#[from] CanonicalError),
    /// The schema or a factory's facts cannot be put to Cedar.
    #[error("{0}")]
    Schema(String),
}

/// A decision that was derived again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replayed {
    /// The statement's canonical bytes as they come out.
    pub bytes: Vec<u8>,
    /// What was taken as the tables give it, as `factory: rule`.
    pub given: Vec<String>,
    /// In what the outcome differs from the statement; empty where it is the same, byte for byte.
    pub differs: Vec<String>,
}

/// What is named, or an error that says what is missing.
fn named<'a, T>(all: &'a BTreeMap<Digest, T>, what: &'static str, digest: Digest) -> Result<&'a T, ReplayError> {
    all.get(&digest).ok_or(ReplayError::Missing { what, digest })
}

impl Sources {
    fn text(&self, what: &'static str, digest: Digest) -> Result<&str, ReplayError> {
        // Who was never heard of has terms that permit nothing: the empty text.
        if digest == policy_digest("") {
            return Ok("");
        }
        let text = named(&self.policies, what, digest)?;
        if policy_digest(text) == digest { Ok(text) } else { Err(ReplayError::Other(what)) }
    }

    fn passport(&self, root: Digest) -> Result<&[crate::facts::SignedFact], ReplayError> {
        if root == Digest::default() {
            return Ok(&[]);
        }
        let passport = named(&self.passports, "passport", root)?;
        if passport_root(passport)? == root { Ok(passport) } else { Err(ReplayError::Other("passport")) }
    }

    /// The same for `audit`, which reads everything anew.
    pub fn records(&self, statement: &DecisionStatement, tables: &Tables) -> Result<Records, ReplayError> {
        let mut factories = BTreeMap::new();
        for ruling in &tables.verdicts {
            let record = FactoryRecord {
                terms: self.text("terms", ruling.terms)?.to_owned(),
                passport: self.passport(ruling.passport)?.to_vec(),
                authority: self.trust.key_of(&ruling.factory),
            };
            factories.insert(ruling.factory.clone(), record);
        }
        Ok(Records {
            baseline: self.text("baseline", statement.policies.baseline)?.to_owned(),
            owner: self.text("owner's policy", statement.policies.owner)?.to_owned(),
            factories,
            trust: self.trust.issuers.clone(),
            frameworks: self.frameworks.clone(),
        })
    }
}

/// Derives a decision again.
pub fn replay(statement: &DecisionStatement, tables: &Tables, sources: &Sources) -> Result<Replayed, ReplayError> {
    let record = DecisionRecord::joined(statement.clone(), tables).ok_or(ReplayError::Other("set of tables"))?;
    if sources.trust.digest()? != statement.policies.trust {
        return Err(ReplayError::Other("trust"));
    }
    let Then { snapshot, row, excluded, given } = then(&record, sources)?;
    let decision = decide_by(&row, &snapshot, &statement.request, &excluded);
    let (id, home, body) = (statement.id.clone(), statement.home.clone(), statement.body);
    let mut again = DecisionRecord::of(id, home, &snapshot, statement.request.clone(), body, decision)?;
    again.statement.ticket = statement.ticket;
    let differs = differences(&record, &again);
    let bytes = Statement::Decision(Box::new(again.statement)).to_bytes()?;
    Ok(Replayed { bytes, given, differs })
}

/// What `decide` was asked with at that time: whoever holds it can ask again, as it was or with something changed.
#[derive(Debug, Clone)]
pub struct Then {
    /// What the home knew.
    pub snapshot: Snapshot,
    /// What the policies say of the request.
    pub row: Row,
    /// Who had been excluded.
    pub excluded: BTreeMap<NodeId, Vec<Cause>>,
    /// What of all this was taken as given, as `factory: rule`.
    pub given: Vec<String>,
}

/// Puts together what `decide` was asked with. An error says what is missing.
pub fn then(record: &DecisionRecord, sources: &Sources) -> Result<Then, ReplayError> {
    let statement = &record.statement;
    let schema = Arc::new(PolicySchema::new(sources.frameworks.clone()).map_err(ReplayError::Schema)?);
    if schema.digest() != statement.policies.schema {
        return Err(ReplayError::Other("set of frameworks"));
    }
    let mut layers = Layers { record, sources, schema: &schema, terms: BTreeMap::new() };
    let (mut grounds, mut factories, mut excluded, mut given) = (Vec::new(), Vec::new(), BTreeMap::new(), Vec::new());
    let mut roots = BTreeMap::new();
    for verdict in &record.verdicts {
        let passport = sources.passport(verdict.passport)?;
        let held = believe(&verdict.factory, passport, &sources.trust.key_of(&verdict.factory), &sources.trust.issuers);
        // While a home does not believe its clock, no fact counts.
        let clock = |cause: &Cause| cause.layer == LayerKind::Availability && cause.rule == CLOCK_WRONG;
        let distrusted = verdict.causes.iter().any(clock);
        let profile = if distrusted { Profile::default() } else { Profile::at(&held, statement.at_ms) };
        let usage = Usage { vendor_share_percent: verdict.inputs.vendor_share_percent };
        let column = Column::new(&verdict.factory, profile, usage, &schema).map_err(ReplayError::Schema)?;
        roots.insert(verdict.factory.clone(), verdict.passport);
        grounds.push(Ground {
            id: verdict.factory.clone(),
            column: Arc::new(column),
            passport: verdict.passport,
            terms: layers.terms(verdict.terms)?,
            offers: offers(verdict, statement),
        });
        factories.push(Factory { unavailable: Vec::new(), inputs: verdict.inputs });
    }
    let basis = Basis {
        baseline: layers.layer(LayerKind::Baseline, "baseline", statement.policies.baseline)?,
        owner: layers.layer(LayerKind::Owner, "owner's policy", statement.policies.owner)?,
        labels: Arc::new(Layer::parse(LayerKind::Labels, "labels", LABELS_POLICY, &schema)?),
        trust: statement.policies.trust,
        schema,
        grounds,
    };
    let basis = Arc::new(basis);
    let row = Row::new(&basis, &statement.request);
    for (place, verdict) in record.verdicts.iter().enumerate() {
        let derived = row.causes(place);
        let open = |cause: &&Cause| matches!(cause.layer, LayerKind::Availability | LayerKind::Terms);
        let told: Vec<Cause> =
            verdict.causes.iter().filter(open).filter(|cause| !derived.contains(cause)).cloned().collect();
        given.extend(told.iter().map(|cause| format!("{}: {}", verdict.factory, cause.rule)));
        if !told.is_empty() {
            excluded.insert(verdict.factory.clone(), told);
        }
    }
    let snapshot = Snapshot::new(statement.at_ms, basis, facts_root(&roots), statement.weights, factories);
    Ok(Then { snapshot, row, excluded, given })
}

/// Whether a factory offers what was asked for is its own word, and taken as such.
fn offers(verdict: &Verdict, statement: &DecisionStatement) -> Arc<BTreeSet<(Action, Option<ModelId>)>> {
    let not = |cause: &Cause| {
        let rule = cause.rule.as_str();
        cause.layer == LayerKind::Availability && (rule == MODEL_NOT_SERVED || rule == ACTION_NOT_OFFERED)
    };
    let asked = (statement.request.action, statement.request.model.clone());
    Arc::new(if verdict.causes.iter().any(not) { BTreeSet::new() } else { BTreeSet::from([asked]) })
}

/// Layers as they were read then. The names of their files stand nowhere but in the clauses that they gave.
struct Layers<'a> {
    record: &'a DecisionRecord,
    sources: &'a Sources,
    schema: &'a PolicySchema,
    terms: BTreeMap<(Digest, String), Arc<Layer>>,
}

impl Layers<'_> {
    fn file(&self, kind: LayerKind, terms: Option<Digest>) -> String {
        let asked = self.record.verdicts.iter().filter(|verdict| terms.is_none_or(|terms| verdict.terms == terms));
        let mut causes = asked.flat_map(|verdict| &verdict.causes).filter(|cause| cause.layer == kind);
        let file = causes.find_map(|cause| Some(cause.clause.as_ref()?.file.clone()));
        file.unwrap_or_else(|| "policy".to_owned())
    }

    fn layer(&self, kind: LayerKind, what: &'static str, digest: Digest) -> Result<Arc<Layer>, ReplayError> {
        let text = self.sources.text(what, digest)?;
        Ok(Arc::new(Layer::parse(kind, &self.file(kind, None), text, self.schema)?))
    }

    /// Terms that several factories share are read once.
    fn terms(&mut self, digest: Digest) -> Result<Arc<Layer>, ReplayError> {
        let key = (digest, self.file(LayerKind::Terms, Some(digest)));
        if let Some(known) = self.terms.get(&key) {
            return Ok(Arc::clone(known));
        }
        let text = self.sources.text("terms", digest)?;
        let layer = Arc::new(Layer::parse(LayerKind::Terms, &key.1, text, self.schema)?);
        self.terms.insert(key, Arc::clone(&layer));
        Ok(layer)
    }
}

fn differences(said: &DecisionRecord, again: &DecisionRecord) -> Vec<String> {
    let (one, other) = (&said.statement, &again.statement);
    let mut found = Vec::new();
    for (before, after) in said.verdicts.iter().zip(&again.verdicts) {
        if before != after {
            found.push(format!("the verdict of `{}`", before.factory));
        }
    }
    let parts = [
        (one.outcome == other.outcome, "the outcome"),
        (one.factory == other.factory, "the chosen factory"),
        (one.facts == other.facts, "the root over the facts"),
        (one.policies == other.policies, "the policies"),
        (one.nearest == other.nearest, "the advice"),
        (said.seals == again.seals, "the SEALs"),
    ];
    found.extend(parts.iter().filter(|(same, _)| !same).map(|(_, what)| (*what).to_owned()));
    if found.is_empty() && one != other {
        found.push("the statement".to_owned());
    }
    found
}

#[cfg(test)]
mod tests;
