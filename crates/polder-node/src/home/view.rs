//! What a home knows of the factories, kept ready as the snapshot that `decide` takes.
//!
//! Load may be stale; facts may not: a snapshot is composed anew as soon as any fact in it begins or ends. A factory that was
//! never heard of, or is not heard of now, stays in the snapshot as a no with its reason.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};

use arc_swap::ArcSwap;
use polder_core::canonical::Digest;
use polder_core::facts::{Held, Profile, TrustedIssuer, believe, facts_root, passport_root};
use polder_core::ids::NodeId;
use polder_core::keys::Role;
use polder_core::labels::Action;
use polder_core::placement::{Factory, Inputs, NO_CAPACITY, Snapshot, UNREACHABLE, Weights};
use polder_core::policy::{Cause, Column, Layer, LayerKind, PolicySchema};

use super::policies::PolicyState;
use crate::config::Member;
use crate::peers::PeerError;
use crate::peers::wire::Status;

/// What is known of one factory.
#[derive(Debug, Clone)]
pub struct Known {
    authority: [u8; 32],
    /// Its last status, where it ever answered.
    pub status: Option<Status>,
    /// What the owner believes of its facts.
    pub held: Vec<Held>,
    /// The last round-trip time, in microseconds.
    pub rtt_us: u64,
    /// Why it cannot be reached; `None` where it can.
    pub gone: Option<String>,
    terms: Result<Arc<Layer>, String>,
    passport: Digest,
}

/// The snapshot, and until when its facts hold.
struct Composed {
    snapshot: Snapshot,
    valid_until_ms: u64,
}

/// What a home knows of the factories.
pub struct View {
    schema: Arc<PolicySchema>,
    trust: Vec<TrustedIssuer>,
    weights: Weights,
    policies: ArcSwap<PolicyState>,
    known: RwLock<BTreeMap<NodeId, Known>>,
    composed: ArcSwap<Composed>,
    /// What stands in for the terms of a factory that was never heard of: it permits nothing.
    no_terms: Arc<Layer>,
}

impl View {
    /// A view in which no factory was heard of yet. Fails only where Polder's own texts do not parse.
    pub fn new(
        members: &[(NodeId, [u8; 32])],
        schema: Arc<PolicySchema>,
        trust: Vec<TrustedIssuer>,
        weights: Weights,
        policies: PolicyState,
    ) -> Result<Self, polder_core::policy::PolicyError> {
        let no_terms = Arc::new(Layer::parse(LayerKind::Terms, "terms", "", &schema)?);
        let unknown = |authority| Known {
            authority,
            status: None,
            held: Vec::new(),
            rtt_us: 0,
            gone: Some("it has not answered yet".to_owned()),
            terms: Err("its terms are not known".to_owned()),
            passport: Digest::default(),
        };
        let known: BTreeMap<_, _> = members.iter().map(|(node, key)| (node.clone(), unknown(*key))).collect();
        let composed = compose(&known, &schema, weights, &policies, &no_terms, 0);
        Ok(Self {
            schema,
            trust,
            weights,
            policies: ArcSwap::from_pointee(policies),
            known: RwLock::new(known),
            composed: ArcSwap::from_pointee(composed),
            no_terms,
        })
    }

    /// The snapshot at an instant.
    pub fn snapshot(&self, now_ms: u64) -> Snapshot {
        if self.composed.load().valid_until_ms <= now_ms {
            self.compose(now_ms);
        }
        Snapshot { at_ms: now_ms, ..self.composed.load().snapshot.clone() }
    }

    /// Takes in what the factories said of themselves, or that they did not.
    pub fn update(&self, seen: Vec<(NodeId, Result<Status, PeerError>, u64)>, now_ms: u64) {
        {
            let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
            for (node, status, rtt_us) in seen {
                let Some(known) = known.get_mut(&node) else { continue };
                match status {
                    Ok(status) if status.node == node => self.take_in(known, status, rtt_us),
                    Ok(status) => known.gone = Some(format!("it says that it is `{}`", status.node)),
                    Err(error) => known.gone = Some(error.to_string()),
                }
            }
        }
        self.compose(now_ms);
    }

    fn take_in(&self, known: &mut Known, status: Status, rtt_us: u64) {
        let before = known.status.as_ref();
        if before.is_none_or(|before| before.passport != status.passport) {
            known.held = believe(&status.node, &status.passport, &known.authority, &self.trust);
            known.passport = passport_root(&status.passport).unwrap_or_default();
        }
        if known.terms.is_err() || before.is_none_or(|before| before.terms != status.terms) {
            let parsed = Layer::parse(LayerKind::Terms, &status.terms_file, &status.terms, &self.schema);
            known.terms = parsed.map(Arc::new).map_err(|e| e.to_string());
        }
        known.rtt_us = rtt_us;
        known.gone = None;
        known.status = Some(status);
    }

    /// Notes that a factory did not answer, before the next look round would.
    pub fn mark_unreachable(&self, node: &NodeId, reason: &str, now_ms: u64) {
        if let Some(known) = self.known.write().unwrap_or_else(PoisonError::into_inner).get_mut(node) {
            known.gone = Some(reason.to_owned());
        }
        self.compose(now_ms);
    }

    /// Puts new layers in force.
    pub fn set_policies(&self, policies: PolicyState, now_ms: u64) {
        self.policies.store(Arc::new(policies));
        self.compose(now_ms);
    }

    /// The layers in force.
    pub fn policies(&self) -> Arc<PolicyState> {
        self.policies.load_full()
    }

    /// What is known of each factory.
    pub fn known(&self) -> BTreeMap<NodeId, Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The trusted issuers.
    pub fn trust(&self) -> &[TrustedIssuer] {
        &self.trust
    }

    fn compose(&self, now_ms: u64) {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let policies = self.policies.load();
        let composed = compose(&known, &self.schema, self.weights, &policies, &self.no_terms, now_ms);
        self.composed.store(Arc::new(composed));
    }
}

fn compose(
    known: &BTreeMap<NodeId, Known>,
    schema: &Arc<PolicySchema>,
    weights: Weights,
    policies: &PolicyState,
    no_terms: &Arc<Layer>,
    now_ms: u64,
) -> Composed {
    let mut valid_until_ms = u64::MAX;
    let mut factories = Vec::new();
    let mut roots = BTreeMap::new();
    for (node, known) in known {
        let profile = Profile::at(&known.held, now_ms);
        valid_until_ms = valid_until_ms.min(profile.valid_until_ms);
        roots.insert(node.clone(), known.passport);
        factories.extend(factory(node, known, profile, schema, no_terms));
    }
    let snapshot = Snapshot {
        at_ms: now_ms,
        schema: Arc::clone(schema),
        baseline: Arc::clone(&policies.baseline),
        owner: Arc::clone(&policies.owner),
        labels: Arc::clone(&policies.labels),
        facts_root: facts_root(&roots),
        weights,
        factories,
    };
    Composed { snapshot, valid_until_ms }
}

/// `None` only where not even an empty profile makes a column, which is a fault of the schema; the factory is then out of reach.
fn factory(
    node: &NodeId,
    known: &Known,
    profile: Profile,
    schema: &PolicySchema,
    no_terms: &Arc<Layer>,
) -> Option<Factory> {
    let mut unavailable = Vec::new();
    let mut cause = |layer, rule: &str, reason: &str| unavailable.push(Cause::built_in(layer, rule, reason));
    if let Some(reason) = &known.gone {
        cause(LayerKind::Availability, UNREACHABLE, reason);
    }
    let column = Column::new(node, profile, schema).or_else(|error| {
        cause(LayerKind::Baseline, "policy-error", &error);
        Column::new(node, Profile::default(), schema)
    });
    let terms = match &known.terms {
        Ok(terms) => Arc::clone(terms),
        Err(error) => {
            cause(LayerKind::Availability, "terms-unknown", error);
            Arc::clone(no_terms)
        }
    };
    let status = known.status.as_ref();
    let (places, running) = status.map_or((0, 0), |status| (u64::from(status.places), u64::from(status.running)));
    if status.is_some_and(|status| running >= places.saturating_add(u64::from(status.queue))) {
        cause(LayerKind::Availability, NO_CAPACITY, "all places and the queue are taken");
    }
    Some(Factory {
        id: node.clone(),
        column: Arc::new(column.ok()?),
        passport: known.passport,
        terms,
        unavailable,
        models: models(status),
        inputs: Inputs {
            price_microeur_per_mtok: status.map_or(0, |status| status.price_microeur_per_mtok),
            load_ppm: running.saturating_mul(1_000_000).checked_div(places).unwrap_or(0),
            rtt_us: known.rtt_us,
        },
    })
}

fn models(status: Option<&Status>) -> BTreeSet<(polder_core::ids::ModelId, Action)> {
    let mut models = BTreeSet::new();
    for offer in status.iter().flat_map(|status| &status.models) {
        if offer.chat {
            models.insert((offer.model.clone(), Action::Infer));
        }
        if offer.embed {
            models.insert((offer.model.clone(), Action::Embed));
        }
    }
    models
}

impl Known {
    /// The authority key in a member's card.
    pub fn authority_of(member: &Member) -> [u8; 32] {
        member.card.keys.get(&Role::Authority).map_or([0; 32], |held| held.key)
    }
}
