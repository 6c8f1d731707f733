//! From a federation's description to what homes decide by: facts signed and believed as between nodes, policies read.
//!
//! Keys are made from names, as in scenarios: a study proves nothing to strangers. Absent: anything that decides.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use polder_core::facts::{Profile, Trust, believe, passport_root};
use polder_core::ids::{ModelId, NodeId};
use polder_core::labels::{Action, Closed as _};
use polder_core::placement::{Basis, Ground};
use polder_core::policy::{Column, LABELS_POLICY, Layer, LayerKind, PolicySchema, Usage};

use crate::federation::{Factory, Federation, FederationKeys, PolicyText, Tenant};
use crate::scenario::node::{authority_of, key_of};

/// The texts that a description names, by the names that it gives them; those that are not there are left out.
pub(crate) fn texts(described: &str, read: &dyn Fn(&str) -> Option<String>) -> BTreeMap<String, String> {
    let named = |line: &str| {
        let (field, value) = line.trim().split_once('=')?;
        let policy = matches!(field.trim(), "baseline" | "terms" | "policy");
        let path = value.trim().strip_prefix('"')?.split('"').next()?;
        policy.then(|| path.to_owned())
    };
    let names: BTreeSet<String> = described.lines().filter_map(named).collect();
    names.into_iter().filter_map(|name| Some((name.clone(), read(&name)?))).collect()
}

/// Who decides by what, ready to be changed by events.
pub(crate) struct Grounds<'f> {
    federation: &'f Federation,
    schema: Arc<PolicySchema>,
    labels: Arc<Layer>,
    keys: FederationKeys,
    /// How long every fact holds, in Unix milliseconds.
    span_ms: (u64, u64),
}

impl<'f> Grounds<'f> {
    pub fn new(federation: &'f Federation, span_ms: (u64, u64)) -> Result<Self, String> {
        let schema = PolicySchema::shipped()?;
        let labels = Layer::parse(LayerKind::Labels, "labels.cedar", LABELS_POLICY, &schema);
        let keys = FederationKeys {
            issuers: federation.issuers.iter().map(|one| (one.id.clone(), key_of(one.id.as_str()))).collect(),
            factories: federation.factories.iter().map(|one| (one.id.clone(), authority_of(&one.id))).collect(),
        };
        let labels = Arc::new(labels.map_err(|e| e.to_string())?);
        Ok(Self { federation, labels, schema: Arc::new(schema), keys, span_ms })
    }

    /// A policy under another text, or what is wrong with it.
    pub fn layer(&self, kind: LayerKind, policy: &PolicyText) -> Result<Arc<Layer>, String> {
        let layer = Layer::parse(kind, policy.file_name(), &policy.text, &self.schema);
        layer.map(Arc::new).map_err(|e| e.to_string())
    }

    /// What a tenant decides by; factories in name order.
    pub fn basis(&self, tenant: &Tenant) -> Result<Basis, String> {
        let trusted = self.federation.trust(tenant, &self.keys.issuers_public());
        let (from_ms, until_ms) = self.span_ms;
        let passports = self.federation.passports(&self.keys, from_ms, until_ms).map_err(|e| e.to_string())?;
        let mut grounds = Vec::new();
        for factory in &self.federation.factories {
            let passport = passports.get(&factory.id).map(Vec::as_slice).unwrap_or_default();
            let held = believe(&factory.id, passport, &authority(&factory.id), &trusted);
            let profile = Profile::at(&held, from_ms);
            grounds.push(Ground {
                id: factory.id.clone(),
                column: Arc::new(Column::new(&factory.id, profile, Usage::default(), &self.schema)?),
                passport: passport_root(passport).map_err(|e| e.to_string())?,
                terms: self.layer(LayerKind::Terms, &factory.terms)?,
                offers: Arc::new(offers(factory)),
            });
        }
        grounds.sort_by(|one, other| one.id.cmp(&other.id));
        let members = self.federation.factories.iter().map(|one| (one.id.clone(), authority(&one.id)));
        Ok(Basis {
            schema: Arc::clone(&self.schema),
            baseline: self.layer(LayerKind::Baseline, &self.federation.baseline)?,
            owner: self.layer(LayerKind::Owner, &tenant.policy)?,
            labels: Arc::clone(&self.labels),
            trust: Trust::new(trusted, members).digest().map_err(|e| e.to_string())?,
            grounds,
        })
    }
}

fn authority(id: &NodeId) -> [u8; 32] {
    authority_of(id).verifying_key().to_bytes()
}

/// Every action with each model, and jobs without one.
fn offers(factory: &Factory) -> BTreeSet<(Action, Option<ModelId>)> {
    let models = factory.models.iter().cloned().map(Some).chain([None]);
    models.flat_map(|model| Action::all().into_iter().map(move |action| (action, model.clone()))).collect()
}
