//! The description's raw shape: what TOML and the types of single values can say, nothing about how parts fit together.
//!
//! Unknown fields are errors. Defaults are absent: a description says what it means.

use std::collections::BTreeSet;

use polder_core::facts::Evidence;
use polder_core::ids::{IssuerId, ModelId, NodeId, ProjectId, TenantId};
use polder_core::labels::{Country, DataClass, Language, Purpose};
use polder_core::placement::Weights;
use serde::Deserialize;
use toml::Spanned;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Federation {
    pub baseline: Spanned<String>,
    pub issuers: Vec<Issuer>,
    pub factories: Spanned<Vec<Factory>>,
    pub tenants: Spanned<Vec<Tenant>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Issuer {
    pub id: Spanned<IssuerId>,
    pub name: String,
    pub at_most: Evidence,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Factory {
    pub id: Spanned<NodeId>,
    pub place: String,
    pub price_microeur_per_mtok: u64,
    pub places: Spanned<u32>,
    pub models: Spanned<BTreeSet<ModelId>>,
    pub terms: Spanned<String>,
    /// `issuer`, where there is one, beside the fields of a claim.
    pub facts: Vec<Spanned<toml::Table>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tenant {
    pub id: Spanned<TenantId>,
    pub home: Spanned<NodeId>,
    pub policy: Spanned<String>,
    pub trust: Vec<Spanned<IssuerId>>,
    pub weights: Weights,
    pub question: String,
    pub projects: Spanned<Vec<Project>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Project {
    pub id: Spanned<ProjectId>,
    pub class: DataClass,
    pub purposes: Spanned<BTreeSet<Purpose>>,
    pub countries: Option<Spanned<BTreeSet<Country>>>,
    pub language: Option<Language>,
    pub model: Spanned<ModelId>,
}
