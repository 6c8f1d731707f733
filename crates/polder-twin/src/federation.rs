//! A federation as data: its issuers, factories and tenants, checked, and their facts signed on demand.
//!
//! One description serves both the demo's real nodes and the scenarios, so that the two can never tell different
//! stories. Absent: reading files (texts are arguments), making keys (they are arguments too) and clocks.

use std::collections::{BTreeMap, BTreeSet};

use ed25519_dalek::SigningKey;
use polder_core::canonical::CanonicalError;
use polder_core::facts::{Claim, Evidence, Fact, Passport, SignedFact, TrustedIssuer};
use polder_core::ids::{IssuerId, ModelId, NodeId, ProjectId, TenantId};
use polder_core::labels::Labels;
use polder_core::placement::Weights;

mod check;
mod raw;

/// A whole federation. Lists stand in the order of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Federation {
    /// What every member holds to, whoever asks.
    pub baseline: PolicyText,
    /// The third parties that sign facts.
    pub issuers: Vec<Issuer>,
    /// The sites with accelerators; never empty.
    pub factories: Vec<Factory>,
    /// Those whose work runs; never empty.
    pub tenants: Vec<Tenant>,
}

/// A policy or terms file. That Cedar can read it is not checked here: see `polder_core::policy::Layer`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyText {
    /// The path as the description names it, relative to the description, such as `terms/open.cedar`.
    pub path: String,
    /// The file's text.
    pub text: String,
}

/// A third party that signs facts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issuer {
    /// Its name in facts; no factory has the same.
    pub id: IssuerId,
    /// Its name for people.
    pub name: String,
    /// The class of the facts that it signs, and the strongest that a tenant who trusts it takes from it.
    pub at_most: Evidence,
}

/// A site with accelerators and the node that speaks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Factory {
    /// The node's name, which is the factory's too.
    pub id: NodeId,
    /// Where it stands, for people, such as `Paris (FR)`; what policies read is the fact `site`.
    pub place: String,
    /// Price of a million generated tokens, in micro-euro.
    pub price_microeur_per_mtok: u64,
    /// How many requests it runs at once; at least one.
    pub places: u32,
    /// The models it serves, each for every action; never empty.
    pub models: BTreeSet<ModelId>,
    /// Its terms.
    pub terms: PolicyText,
    /// What is said about it.
    pub facts: Vec<FactText>,
}

/// A fact before it has dates and a signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FactText {
    /// The third party that signs it; `None` where the factory itself declares it.
    pub issuer: Option<IssuerId>,
    /// What it says.
    pub claim: Claim,
    /// How well it is evidenced: the issuer's `at_most`, or class C where the factory declares it.
    pub evidence: Evidence,
}

/// Someone whose work runs, with a home node of their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenant {
    /// The tenant.
    pub id: TenantId,
    /// The node that decides for them; no other node has the same name.
    pub home: NodeId,
    /// Their policy.
    pub policy: PolicyText,
    /// The issuers they trust.
    pub trust: Vec<IssuerId>,
    /// What they prefer among admissible factories.
    pub weights: Weights,
    /// A question that they ask in demonstrations.
    pub question: String,
    /// The parts of their work; never empty.
    pub projects: Vec<Project>,
}

/// A part of a tenant's work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Project {
    /// The project.
    pub id: ProjectId,
    /// What its requests say of themselves unless they narrow it.
    pub labels: Labels,
    /// The model that it uses unless a request names another; at least one factory serves it.
    pub model: ModelId,
}

/// Why a description cannot be used: where, which field, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}:{column}: {message}")]
pub struct FederationError {
    /// The description's name, as the caller gave it.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The column, from 1, in characters.
    pub column: usize,
    /// What is wrong, the field's name first.
    pub message: String,
}

/// The keys that sign a federation's facts.
#[derive(Debug, Clone, Default)]
pub struct FederationKeys {
    /// One key for each issuer.
    pub issuers: BTreeMap<IssuerId, SigningKey>,
    /// Each factory's authority key, which signs what the factory declares.
    pub factories: BTreeMap<NodeId, SigningKey>,
}

/// Why facts cannot be signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PassportError {
    /// Someone who signs has no key.
    #[error("there is no key for `{0}`: make one before signing its facts")]
    Key(String),
    /// A fact has no canonical form.
    #[error("a fact of `{0}` cannot be signed: {1}")]
    Fact(NodeId, CanonicalError),
}

impl Federation {
    /// Reads a description in TOML. `file` is its name in messages; `read` gives the text behind a path that the
    /// description names (`baseline`, `policy`, `terms`), or `None` where there is no such file.
    pub fn parse<'t>(file: &str, text: &str, read: impl Fn(&str) -> Option<&'t str>) -> Result<Self, FederationError> {
        check::Source { file, text }.federation(&read)
    }

    /// The factory of that name.
    pub fn factory(&self, id: &str) -> Option<&Factory> {
        self.factories.iter().find(|factory| factory.id.as_str() == id)
    }

    /// The tenant of that name.
    pub fn tenant(&self, id: &str) -> Option<&Tenant> {
        self.tenants.iter().find(|tenant| tenant.id.as_str() == id)
    }

    /// Every factory's facts, dated and signed: third parties' by their keys, declared ones by the factory's authority
    /// key under the factory's own name. They hold from `from_ms` until just before `until_ms`, in Unix milliseconds.
    pub fn passports(
        &self,
        keys: &FederationKeys,
        from_ms: u64,
        until_ms: u64,
    ) -> Result<BTreeMap<NodeId, Passport>, PassportError> {
        let mut passports = BTreeMap::new();
        for factory in &self.factories {
            let mut passport = Vec::new();
            for fact in &factory.facts {
                passport.push(factory.sign(fact, keys, from_ms, until_ms)?);
            }
            passports.insert(factory.id.clone(), passport);
        }
        Ok(passports)
    }

    /// The issuers that a tenant trusts, with their public keys. `issuers` holds every issuer's public key; one without
    /// a key there is left out, and so not believed.
    pub fn trust(&self, tenant: &Tenant, issuers: &BTreeMap<IssuerId, [u8; 32]>) -> Vec<TrustedIssuer> {
        let trusted = self.issuers.iter().filter(|issuer| tenant.trust.contains(&issuer.id));
        trusted
            .filter_map(|issuer| {
                let key = *issuers.get(&issuer.id)?;
                Some(TrustedIssuer { issuer: issuer.id.clone(), key, at_most: issuer.at_most, kinds: None })
            })
            .collect()
    }
}

impl Factory {
    fn sign(
        &self,
        fact: &FactText,
        keys: &FederationKeys,
        from_ms: u64,
        until_ms: u64,
    ) -> Result<SignedFact, PassportError> {
        let no_key = || PassportError::Key(self.id.to_string());
        let (issuer, key) = match &fact.issuer {
            Some(issuer) => (issuer.clone(), keys.issuers.get(issuer)),
            None => (IssuerId::parse(self.id.as_str()).map_err(|_| no_key())?, keys.factories.get(&self.id)),
        };
        let key = key.ok_or_else(|| PassportError::Key(issuer.to_string()))?;
        let dated = Fact {
            subject: self.id.clone(),
            claim: fact.claim.clone(),
            evidence: fact.evidence,
            issuer,
            from_ms,
            until_ms,
        };
        SignedFact::sign(dated, key).map_err(|e| PassportError::Fact(self.id.clone(), e))
    }
}

impl Tenant {
    /// The project of that name.
    pub fn project(&self, id: &str) -> Option<&Project> {
        self.projects.iter().find(|project| project.id.as_str() == id)
    }
}

impl PolicyText {
    /// The file's name without its folder, as refusals cite it.
    pub fn file_name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }
}

impl FederationKeys {
    /// The issuers' public keys.
    pub fn issuers_public(&self) -> BTreeMap<IssuerId, [u8; 32]> {
        self.issuers.iter().map(|(issuer, key)| (issuer.clone(), key.verifying_key().to_bytes())).collect()
    }
}

#[cfg(test)]
mod tests;
