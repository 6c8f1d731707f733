//! A world as data: factories described by facts without signatures, and the policies that they are asked about.
//!
//! A request file that carries its world is decided where it is read, without a node: a counterexample of a proof, a
//! question about a policy that is not yet in force, a test. The format is in `docs/formats.md`. Reading files is absent:
//! whoever calls brings the texts. Signatures and dates are absent: what a world says holds, and at the class it says.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::canonical::{self, Digest};
use crate::facts::{Claim, Evidence, Fact, Held, Profile, facts_root};
use crate::ids::{IssuerId, ModelId, NodeId, ProjectId, TenantId};
use crate::labels::{Action, Country, DataClass, Labels, Language, Purpose};
use crate::merkle;
use crate::placement::{Basis, Factory, Ground, Inputs, Snapshot, Weights};
use crate::policy::{Column, LABELS_POLICY, Layer, LayerKind, PolicyError, PolicySchema, Usage};
use crate::request::Request;

/// What permits everything: the policy of whoever has none in a world.
pub const OPEN_POLICY: &str = "permit (principal, action, resource);\n";

/// A question with the world that it is asked in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorldRequest {
    /// A line for people; nothing is decided by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<String>,
    /// What is to be done; `infer` where absent.
    #[serde(default = "infer")]
    pub action: Action,
    /// Whose work it is.
    pub tenant: TenantId,
    /// The part of the tenant's work.
    pub project: ProjectId,
    /// The model, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelId>,
    /// How sensitive the data is.
    pub class: DataClass,
    /// What the work may be for.
    pub purposes: BTreeSet<Purpose>,
    /// Where it may run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub countries: Option<BTreeSet<Country>>,
    /// The language of the text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<Language>,
    /// The world.
    pub world: World,
}

fn infer() -> Action {
    Action::Infer
}

/// Policies and factories.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct World {
    /// The federation's baseline; permits everything where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<PolicyText>,
    /// The owner's policy; permits everything where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<PolicyText>,
    /// The factories.
    pub factories: Vec<FactoryText>,
}

/// A policy: a file, or a text under a file's name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyText {
    /// The file's path, relative to the file that names it.
    pub file: String,
    /// The text; where it is there, no file is read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// A factory of a world. It serves whatever is asked for and has room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FactoryText {
    /// Its name.
    pub name: NodeId,
    /// What is believed of it.
    #[serde(default)]
    pub facts: Vec<FactText>,
    /// Share of the tenant's last 30 days that ran on this factory's chip vendors, in per cent; 0 where absent.
    #[serde(default)]
    pub vendor_share_percent: u8,
    /// Its terms; permit everything where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terms: Option<PolicyText>,
}

/// A fact without signature and dates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FactText {
    /// What it says: `kind` and its fields, as in a fact.
    #[serde(flatten)]
    pub claim: Claim,
    /// How well it is evidenced.
    pub evidence: Evidence,
}

/// Why a world cannot be asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WorldError {
    /// A policy file cannot be read.
    #[error("`{file}`: {message}")]
    Read {
        /// The file.
        file: String,
        /// Why not.
        message: String,
    },
    /// A policy does not hold.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// A factory's facts cannot be asked about.
    #[error("the factory `{factory}`: {message}")]
    Factory {
        /// The factory.
        factory: NodeId,
        /// Why not.
        message: String,
    },
    /// Two factories of one name.
    #[error("the factory `{0}` stands twice in the world")]
    Twice(NodeId),
    /// A question without a purpose, which no rule can be asked about.
    #[error("`purposes` is empty: name at least one")]
    NoPurpose,
}

impl WorldRequest {
    /// The request that is decided about.
    pub fn request(&self) -> Request {
        let labels = Labels {
            class: self.class,
            purposes: self.purposes.clone(),
            countries: self.countries.clone(),
            language: self.language,
        };
        Request {
            action: self.action,
            tenant: self.tenant.clone(),
            project: self.project.clone(),
            model: self.model.clone(),
            labels,
        }
    }

    /// The world as `decide` takes it. `read` gives the text of a policy file.
    pub fn snapshot(
        &self,
        schema: &Arc<PolicySchema>,
        read: &dyn Fn(&str) -> Result<String, String>,
    ) -> Result<Snapshot, WorldError> {
        if self.purposes.is_empty() {
            return Err(WorldError::NoPurpose);
        }
        let layer = |kind: LayerKind, policy: Option<&PolicyText>| parse(kind, policy, schema, read);
        let mut factories: BTreeMap<NodeId, (Ground, Factory)> = BTreeMap::new();
        for described in &self.world.factories {
            let terms = layer(LayerKind::Terms, described.terms.as_ref())?;
            let ground = described.ground(terms, (self.action, self.model.clone()), schema)?;
            let inputs = Inputs { vendor_share_percent: described.vendor_share_percent, ..Inputs::default() };
            let factory = Factory { unavailable: Vec::new(), inputs };
            if factories.insert(ground.id.clone(), (ground, factory)).is_some() {
                return Err(WorldError::Twice(described.name.clone()));
            }
        }
        let roots = factories.values().map(|(ground, _)| (ground.id.clone(), ground.passport)).collect();
        let labels = Layer::parse(LayerKind::Labels, "labels", LABELS_POLICY, schema)?;
        let (grounds, factories) = factories.into_values().unzip();
        let basis = Basis {
            schema: schema.clone(),
            baseline: layer(LayerKind::Baseline, self.world.baseline.as_ref())?,
            owner: layer(LayerKind::Owner, self.world.owner.as_ref())?,
            labels: Arc::new(labels),
            // A world's facts are believed as they stand.
            trust: Digest::default(),
            grounds,
        };
        let weights = Weights::default();
        Ok(Snapshot::new(0, Arc::new(basis), facts_root(&roots), weights, factories))
    }
}

fn parse(
    kind: LayerKind,
    policy: Option<&PolicyText>,
    schema: &PolicySchema,
    read: &dyn Fn(&str) -> Result<String, String>,
) -> Result<Arc<Layer>, WorldError> {
    let (file, text) = match policy {
        None => ("open", OPEN_POLICY.to_owned()),
        Some(PolicyText { file, text: Some(text) }) => (file.as_str(), text.clone()),
        Some(PolicyText { file, text: None }) => {
            let failed = |message| WorldError::Read { file: file.clone(), message };
            (file.as_str(), read(file).map_err(failed)?)
        }
    };
    let name = file.rsplit('/').next().unwrap_or(file);
    Ok(Arc::new(Layer::parse(kind, name, &text, schema)?))
}

impl FactoryText {
    /// What is believed of the factory: all that the world says, for all time.
    pub fn profile(&self) -> Result<Profile, WorldError> {
        let held = self.facts.iter().map(|fact| self.held(fact)).collect::<Result<Vec<_>, _>>()?;
        Ok(Profile::at(&held, 0))
    }

    fn held(&self, said: &FactText) -> Result<Held, WorldError> {
        let failed = |message: String| WorldError::Factory { factory: self.name.clone(), message };
        said.claim.check().map_err(|e| failed(e.to_string()))?;
        if self.vendor_share_percent > 100 {
            return Err(failed("`vendor_share_percent` is more than 100".to_owned()));
        }
        let issuer = if said.evidence == Evidence::C { self.name.as_str() } else { "world" };
        let fact = Fact {
            subject: self.name.clone(),
            claim: said.claim.clone(),
            evidence: said.evidence,
            issuer: IssuerId::parse(issuer).map_err(|e| failed(e.to_string()))?,
            from_ms: 0,
            until_ms: u64::MAX,
        };
        let digest = canonical::digest("polder/world-fact/v1", &fact).map_err(|e| failed(e.to_string()))?;
        Ok(Held { fact, evidence: said.evidence, digest, key: [0; 32] })
    }

    /// The factory as policies read it.
    pub fn column(&self, schema: &PolicySchema) -> Result<Column, WorldError> {
        let usage = Usage { vendor_share_percent: self.vendor_share_percent };
        let failed = |message| WorldError::Factory { factory: self.name.clone(), message };
        Column::new(&self.name, self.profile()?, usage, schema).map_err(failed)
    }

    fn ground(
        &self,
        terms: Arc<Layer>,
        offer: (Action, Option<ModelId>),
        schema: &PolicySchema,
    ) -> Result<Ground, WorldError> {
        let column = self.column(schema)?;
        let digests: BTreeSet<_> = column.profile().facts.values().map(|held| held.digest).collect();
        let passport = merkle::root_of(digests.iter().map(|digest| digest.0.as_slice()));
        Ok(Ground {
            id: self.name.clone(),
            column: Arc::new(column),
            passport,
            terms,
            offers: Arc::new(BTreeSet::from([offer])),
        })
    }
}

#[cfg(test)]
mod tests;
