//! What is known of one factory, and what policies and scores read of it.
//!
//! A column is kept until a fact in it begins or ends, the tenant's use of its vendors changes by a per cent, or the clock
//! is no longer believed. Asking the factory is absent.

use std::collections::BTreeSet;
use std::sync::Arc;

use polder_core::canonical::Digest;
use polder_core::facts::{Claim, Held, Profile, Vendor};
use polder_core::ids::{ModelId, NodeId};
use polder_core::keys::Role;
use polder_core::labels::Action;
use polder_core::placement::{CLOCK_WRONG, Factory, Ground, Inputs, NO_CAPACITY, UNREACHABLE};
use polder_core::policy::{Cause, Column, Layer, LayerKind, PolicySchema, Usage};

use crate::clock::ClockFault;
use crate::config::Member;
use crate::peers::wire::Status;

/// What is known of one factory.
#[derive(Debug, Clone)]
pub struct Known {
    /// The key that it signs its own facts with.
    pub authority: [u8; 32],
    /// Its last status, where it ever answered.
    pub status: Option<Status>,
    /// What the owner believes of its facts.
    pub held: Vec<Held>,
    /// The root over its facts.
    pub passport: Digest,
    /// Its terms, or why they cannot be used.
    pub terms: Result<Arc<Layer>, String>,
    /// The last round-trip time, in microseconds.
    pub rtt_us: u64,
    /// Why it cannot be reached; `None` where it can.
    pub gone: Option<String>,
    offers: Arc<BTreeSet<(Action, Option<ModelId>)>>,
    profile: Option<Settled>,
    column: Option<Arc<Column>>,
}

/// A profile, and how long it is one.
#[derive(Debug, Clone)]
struct Settled {
    profile: Profile,
    from_ms: u64,
    distrusted: bool,
}

impl Known {
    /// A factory that was never heard of.
    pub fn unheard(authority: [u8; 32]) -> Self {
        Self {
            authority,
            status: None,
            held: Vec::new(),
            passport: Digest::default(),
            terms: Err("its terms are not known".to_owned()),
            rtt_us: 0,
            gone: Some("it has not answered yet".to_owned()),
            offers: Arc::default(),
            profile: None,
            column: None,
        }
    }

    /// The authority key in a member's card.
    pub fn authority_of(member: &Member) -> [u8; 32] {
        member.card.keys.get(&Role::Authority).map_or([0; 32], |held| held.key)
    }

    /// Its facts have changed.
    pub fn forget_column(&mut self) {
        (self.profile, self.column) = (None, None);
    }

    /// What it offers by its status; kept as it is where that is the same.
    pub fn offers_of(&mut self, status: &Status) {
        let mut offers = BTreeSet::new();
        for offer in &status.models {
            if offer.chat {
                offers.insert((Action::Infer, Some(offer.model.clone())));
            }
            if offer.embed || offer.rerank {
                offers.insert((Action::Embed, Some(offer.model.clone())));
            }
            if offer.image {
                offers.insert((Action::GenerateImage, Some(offer.model.clone())));
            }
        }
        if status.jobs.is_some() {
            offers.extend([Action::RunJob, Action::Train].map(|action| (action, None)));
        }
        if *self.offers != offers {
            self.offers = Arc::new(offers);
        }
    }

    /// Brings the profile to an instant. Where the clock is not to be believed no fact counts.
    pub fn settle(&mut self, now_ms: u64, distrusted: bool) {
        let holds = |settled: &Settled| {
            settled.distrusted == distrusted && settled.from_ms <= now_ms && now_ms < settled.profile.valid_until_ms
        };
        if self.profile.as_ref().is_some_and(holds) {
            return;
        }
        let profile = if distrusted {
            Profile { valid_until_ms: u64::MAX, ..Profile::default() }
        } else {
            Profile::at(&self.held, now_ms)
        };
        self.profile = Some(Settled { profile, from_ms: now_ms, distrusted });
        self.column = None;
    }

    /// First instant at which the profile may change.
    pub fn valid_until_ms(&self) -> u64 {
        self.profile.as_ref().map_or(u64::MAX, |settled| settled.profile.valid_until_ms)
    }

    /// Who makes its chips, as far as that is believed.
    pub fn vendors(&self) -> BTreeSet<Vendor> {
        let chips = self.profile.iter().flat_map(|settled| settled.profile.of_attribute("chips"));
        let vendor = |held: &Held| match held.fact.claim {
            Claim::Chip { vendor, .. } => Some(vendor),
            _ => None,
        };
        chips.filter_map(vendor).collect()
    }

    /// What policies read of it, and what changes faster. `None` only where not even an empty profile makes a column, which is a
    /// fault of the schema; the factory is then out of reach.
    pub fn ground(
        &mut self,
        node: &NodeId,
        usage: Usage,
        schema: &PolicySchema,
        no_terms: &Arc<Layer>,
        fault: Option<&ClockFault>,
    ) -> Option<(Ground, Factory)> {
        let mut unavailable = Vec::new();
        let mut cause = |layer, rule: &str, reason: &str| unavailable.push(Cause::built_in(layer, rule, reason));
        if let Some(fault) = fault {
            cause(LayerKind::Availability, CLOCK_WRONG, &fault.to_string());
        }
        if let Some(reason) = &self.gone {
            cause(LayerKind::Availability, UNREACHABLE, reason);
        }
        let column = match &self.column {
            Some(column) if column.usage() == usage => Arc::clone(column),
            _ => {
                let profile = self.profile.as_ref().map(|settled| settled.profile.clone()).unwrap_or_default();
                let made = Column::new(node, profile, usage, schema).or_else(|error| {
                    cause(LayerKind::Baseline, "policy-error", &error);
                    Column::new(node, Profile::default(), usage, schema)
                });
                Arc::new(made.ok()?)
            }
        };
        self.column = Some(Arc::clone(&column));
        let terms = match &self.terms {
            Ok(terms) => Arc::clone(terms),
            Err(error) => {
                cause(LayerKind::Availability, "terms-unknown", error);
                Arc::clone(no_terms)
            }
        };
        let status = self.status.as_ref();
        let (places, running) = status.map_or((0, 0), |status| (u64::from(status.places), u64::from(status.running)));
        if status.is_some_and(|status| running >= places.saturating_add(u64::from(status.queue))) {
            cause(LayerKind::Availability, NO_CAPACITY, "all places and the queue are taken");
        }
        let inputs = Inputs { rtt_us: self.rtt_us, ..status.map(inputs).unwrap_or_default() };
        let offers = Arc::clone(&self.offers);
        let ground = Ground { id: node.clone(), column, passport: self.passport, terms, offers };
        Some((ground, Factory { unavailable, inputs }))
    }
}

/// What a factory's status gives to its score. Where its engine tells more than its places do, the worse counts.
fn inputs(status: &Status) -> Inputs {
    let signals = &status.signals;
    let (places, taken) = (u64::from(status.places), u64::from(status.running));
    let of_places = |count: u64| count.saturating_mul(1_000_000).checked_div(places).unwrap_or(0);
    let at_engine = signals.running.unwrap_or(0).saturating_add(signals.waiting.unwrap_or(0));
    let of_memory = signals.kv_used_permille.unwrap_or(0).saturating_mul(1_000);
    let told_ms = signals.ttft_ms.unwrap_or(0).saturating_add(signals.prefill_backlog_ms.unwrap_or(0));
    Inputs {
        price_microeur_per_mtok: status.price_microeur_per_mtok,
        load_ppm: of_places(taken.max(at_engine)).max(of_memory),
        queue_ppm: of_places(taken.saturating_sub(places).max(signals.waiting.unwrap_or(0))),
        first_token_us: told_ms.saturating_mul(1_000),
        ..Inputs::default()
    }
}
