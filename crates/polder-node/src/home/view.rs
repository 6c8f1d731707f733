//! What a home knows of the factories, kept ready as the snapshot that `decide` takes, with the memo of what was decided.
//!
//! Load may be stale; facts may not: a snapshot is composed anew as soon as any fact in it begins or ends, and at once without
//! any fact where the clock is not to be believed. A factory that was never heard of, or is not heard of now, stays in the
//! snapshot as a no with its reason. A decision that has to ask the policies holds no lock while it does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use arc_swap::ArcSwap;
use polder_core::canonical::{self, CanonicalError, Digest};
use polder_core::facts::{FACTS_MAX, Trust, TrustedIssuer, Vendor, believe, facts_root, passport_root};
use polder_core::ids::NodeId;
use polder_core::job::home::Sheet;
use polder_core::placement::{self, Affinity, Basis, Decision, Ground, Memo, Row, Snapshot, Weights};
use polder_core::policy::{Cause, Layer, LayerKind, PolicySchema, Usage};
use polder_core::request::Request;
use polder_core::statement::v1::Grounds;
use polder_core::usage::{Window, day_of};

use super::known::Known;
use super::policies::PolicyState;
use super::routes::Routes;
use crate::clock::{ClockFault, Watch};
use crate::peers::PeerError;
use crate::peers::wire::Status;
use crate::route::smoothed;
use crate::store::Object;

/// The snapshot, and until when its facts hold.
struct Composed {
    snapshot: Snapshot,
    valid_until_ms: u64,
}

/// What is learned from outside, under one lock.
struct Learned {
    factories: BTreeMap<NodeId, Known>,
    window: Window,
    watch: Watch,
    /// The shares that the snapshot was composed with.
    shares: BTreeMap<NodeId, Usage>,
    /// When the shares were last looked at.
    shared_ms: u64,
}

/// How often an answer has the shares looked at, in milliseconds.
const SHARES_EVERY_MS: u64 = 50;

impl Learned {
    /// Who makes the chips of each factory, as far as that is believed.
    fn vendors(&self) -> BTreeMap<NodeId, BTreeSet<Vendor>> {
        self.factories.iter().map(|(node, known)| (node.clone(), known.vendors())).collect()
    }
}

/// What a home knows of the factories.
pub struct View {
    schema: Arc<PolicySchema>,
    trust: Trust,
    trust_digest: Digest,
    weights: Weights,
    policies: ArcSwap<PolicyState>,
    learned: Mutex<Learned>,
    composed: ArcSwap<Composed>,
    memo: RwLock<Memo>,
    /// What came of requests at each factory.
    pub(super) routes: Routes,
    /// What stands in for the terms of a factory that was never heard of: it permits nothing.
    no_terms: Arc<Layer>,
}

impl View {
    /// A view in which no factory was heard of yet. `latest_ms` is the latest instant that this node has recorded. Fails only
    /// where Polder's own texts do not parse.
    pub fn new(
        members: &[(NodeId, [u8; 32])],
        schema: Arc<PolicySchema>,
        trust: Vec<TrustedIssuer>,
        weights: Weights,
        policies: PolicyState,
        window: Window,
        latest_ms: u64,
    ) -> Result<Self, polder_core::policy::PolicyError> {
        let trust = Trust::new(trust, members.iter().cloned());
        let trust_digest = trust.digest().unwrap_or_default();
        let no_terms = Arc::new(Layer::parse(LayerKind::Terms, "terms", "", &schema)?);
        let basis = Basis {
            schema: Arc::clone(&schema),
            baseline: Arc::clone(&policies.baseline),
            owner: Arc::clone(&policies.owner),
            labels: Arc::clone(&policies.labels),
            trust: trust_digest,
            grounds: Vec::new(),
        };
        let nothing = Snapshot::new(0, Arc::new(basis), facts_root(&BTreeMap::new()), weights, Vec::new());
        let factories = members.iter().map(|(node, key)| (node.clone(), Known::unheard(*key))).collect();
        Ok(Self {
            schema,
            trust,
            trust_digest,
            weights,
            policies: ArcSwap::from_pointee(policies),
            learned: Mutex::new(Learned {
                factories,
                window,
                watch: Watch::since(latest_ms),
                shares: BTreeMap::new(),
                shared_ms: 0,
            }),
            // Valid until no instant: composed at the first look.
            composed: ArcSwap::from_pointee(Composed { snapshot: nothing, valid_until_ms: 0 }),
            memo: RwLock::default(),
            routes: Routes::new(members.iter().map(|(node, _)| node.clone())),
            no_terms,
        })
    }

    /// The snapshot at an instant.
    pub fn snapshot(&self, now_ms: u64) -> Snapshot {
        let composed = self.composed.load();
        // A clock that was set back finds a snapshot from its future: look again.
        if composed.valid_until_ms <= now_ms || now_ms < composed.snapshot.at_ms {
            self.compose(now_ms);
        }
        self.composed.load().snapshot.at(now_ms)
    }

    /// Decides on a snapshot, by the memo where it knows the answer.
    pub fn decide(&self, snapshot: &Snapshot, request: &Request, excluded: &BTreeMap<NodeId, Vec<Cause>>) -> Decision {
        self.decide_near(snapshot, request, excluded, None)
    }

    /// Decides on a snapshot, near where a conversation's beginning falls.
    pub fn decide_near(
        &self,
        snapshot: &Snapshot,
        request: &Request,
        excluded: &BTreeMap<NodeId, Vec<Cause>>,
        near: Option<Affinity>,
    ) -> Decision {
        placement::decide_near(&self.row(snapshot, request), snapshot, request, excluded, near)
    }

    /// What the owner prefers.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// The dearest price among the factories that every layer admits for a request, in micro-euro for a million tokens.
    pub fn dearest(&self, snapshot: &Snapshot, request: &Request) -> u64 {
        let row = self.row(snapshot, request);
        let factories = snapshot.each().enumerate().filter(|(place, _)| row.admitted().contains(*place));
        factories.map(|(_, (_, factory))| factory.inputs.price_microeur_per_mtok).max().unwrap_or(0)
    }

    /// A factory's price for a million tokens, in micro-euro; 0 where nothing is known of it.
    pub fn price_of(&self, factory: &NodeId, now_ms: u64) -> u64 {
        let snapshot = self.snapshot(now_ms);
        let found = snapshot.each().find(|(ground, _)| ground.id == *factory);
        found.map_or(0, |(_, factory)| factory.inputs.price_microeur_per_mtok)
    }

    /// What the policies say of a request. The lock is held to look and to keep, never to ask.
    pub(super) fn row(&self, snapshot: &Snapshot, request: &Request) -> Arc<Row> {
        let stale = {
            let memo = self.memo.read().unwrap_or_else(PoisonError::into_inner);
            match memo.row(snapshot, request) {
                Some(row) => return Arc::clone(row),
                None => memo.stale(request).cloned(),
            }
        };
        let row = match stale {
            Some(stale) => stale.renew(&snapshot.basis),
            None => Row::new(&snapshot.basis, request),
        };
        let row = Arc::new(row);
        self.memo.write().unwrap_or_else(PoisonError::into_inner).keep(Arc::clone(&row));
        row
    }

    /// Takes in what the factories said of themselves, or that they did not.
    pub fn update(&self, seen: Vec<(NodeId, Result<Status, PeerError>, u64)>, now_ms: u64) {
        {
            let mut learned = self.learned.lock().unwrap_or_else(PoisonError::into_inner);
            let clocks = seen.iter().filter_map(|(_, status, _)| status.as_ref().ok()?.now_ms);
            learned.watch.look(now_ms, clocks.collect());
            for (node, status, rtt_us) in seen {
                let Some(known) = learned.factories.get_mut(&node) else { continue };
                match status {
                    Ok(status) if status.node != node => {
                        known.gone = Some(format!("it says that it is `{}`", status.node))
                    }
                    Ok(status) if status.passport.len() > FACTS_MAX => {
                        let count = status.passport.len();
                        known.gone = Some(format!("its passport has {count} facts; at most {FACTS_MAX} are read"));
                    }
                    Ok(status) => self.take_in(known, status, rtt_us),
                    Err(error) => known.gone = Some(error.to_string()),
                }
            }
        }
        self.compose(now_ms);
    }

    fn take_in(&self, known: &mut Known, status: Status, rtt_us: u64) {
        let before = known.status.as_ref();
        // Terms that do not hold are not read again until they are others.
        let other_terms = before.is_none_or(|before| before.terms != status.terms);
        if before.is_none_or(|before| before.passport != status.passport) {
            known.held = believe(&status.node, &status.passport, &known.authority, &self.trust.issuers);
            known.passport = passport_root(&status.passport).unwrap_or_default();
            known.forget_column();
        }
        if other_terms {
            let parsed = Layer::parse(LayerKind::Terms, &status.terms_file, &status.terms, &self.schema);
            known.terms = parsed.map(Arc::new).map_err(|e| e.to_string());
        }
        known.rtt_us = smoothed(known.rtt_us, rtt_us);
        known.gone = None;
        known.offers_of(&status);
        known.status = Some(status);
    }

    /// Notes that a factory did not answer, before the next look round would.
    pub fn mark_unreachable(&self, node: &NodeId, reason: &str, now_ms: u64) {
        if let Some(known) = self.learned.lock().unwrap_or_else(PoisonError::into_inner).factories.get_mut(node) {
            known.gone = Some(reason.to_owned());
        }
        self.compose(now_ms);
    }

    /// Counts tokens that ran at a factory, for rules that look at the last 30 days. They read a whole per cent: what is known
    /// is put together again only when one changes, and that is looked at every [`SHARES_EVERY_MS`] and at each look round.
    pub fn count(&self, factory: &NodeId, tokens: u64, now_ms: u64) {
        let changed = {
            let mut learned = self.learned.lock().unwrap_or_else(PoisonError::into_inner);
            let today = day_of(now_ms);
            learned.window.add(today, factory, tokens);
            if now_ms.abs_diff(learned.shared_ms) < SHARES_EVERY_MS {
                return;
            }
            learned.shared_ms = now_ms;
            let vendors = learned.vendors();
            let shares = learned.window.shares(today, &vendors);
            let changed = shares != learned.shares;
            learned.shares = shares;
            changed
        };
        if changed {
            self.compose(now_ms);
        }
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
        self.learned.lock().unwrap_or_else(PoisonError::into_inner).factories.clone()
    }

    /// What each factory offers for jobs, as it was last heard to.
    pub fn sheets(&self) -> Vec<(NodeId, Option<Sheet>)> {
        let learned = self.learned.lock().unwrap_or_else(PoisonError::into_inner);
        let of = |(node, known): (&NodeId, &Known)| Some((node.clone(), known.status.as_ref()?.jobs.clone()));
        learned.factories.iter().filter_map(of).collect()
    }

    /// Whether a factory has ever answered this process.
    pub fn has_heard_of(&self, factory: &NodeId) -> bool {
        let learned = self.learned.lock().unwrap_or_else(PoisonError::into_inner);
        learned.factories.get(factory).is_some_and(|known| known.status.is_some())
    }

    /// The key by which a factory signs for itself.
    pub fn authority_of(&self, factory: &NodeId) -> Option<[u8; 32]> {
        let learned = self.learned.lock().unwrap_or_else(PoisonError::into_inner);
        learned.factories.get(factory).map(|known| known.authority)
    }

    /// What policies and facts are read by, apart from the owner's policy.
    pub fn grounds(&self) -> Grounds {
        let (baseline, schema) = (self.policies.load().baseline.digest(), self.schema.digest());
        Grounds { baseline, schema, trust: self.trust_digest }
    }

    /// Whether a factory publishes other facts or terms than it was last heard to.
    pub fn is_news(&self, node: &NodeId, status: &Status) -> bool {
        let learned = self.learned.lock().unwrap_or_else(PoisonError::into_inner);
        let before = learned.factories.get(node).and_then(|known| known.status.as_ref());
        before.is_none_or(|before| before.passport != status.passport || before.terms != status.terms)
    }

    /// The trusted issuers.
    pub fn trust(&self) -> &[TrustedIssuer] {
        &self.trust.issuers
    }

    /// The trusted issuers and the members' own keys.
    pub fn trust_of_all(&self) -> &Trust {
        &self.trust
    }

    /// The schema that policies are read by.
    pub fn schema(&self) -> &PolicySchema {
        &self.schema
    }

    /// The terms and passports among `wanted` digests, as factories published them.
    pub fn published(&self, wanted: &BTreeSet<Digest>) -> Result<Vec<Object>, CanonicalError> {
        let mut found = Vec::new();
        if wanted.is_empty() {
            return Ok(found);
        }
        let learned = self.learned.lock().unwrap_or_else(PoisonError::into_inner);
        for known in learned.factories.values() {
            let Some(status) = &known.status else { continue };
            let digest = known.terms.as_ref().ok().map(|terms| terms.digest());
            if let Some(digest) = digest.filter(|digest| wanted.contains(digest)) {
                found.push(Object { digest, bytes: status.terms.clone().into_bytes() });
            }
            if wanted.contains(&known.passport) {
                found.push(Object { digest: known.passport, bytes: canonical::to_bytes(&status.passport)? });
            }
        }
        Ok(found)
    }

    /// What is wrong with this machine's clock, as far as the peers and the node's own records tell.
    pub fn clock_fault(&self, now_ms: u64) -> Option<ClockFault> {
        self.learned.lock().unwrap_or_else(PoisonError::into_inner).watch.fault(now_ms)
    }

    pub(super) fn compose(&self, now_ms: u64) {
        let mut learned = self.learned.lock().unwrap_or_else(PoisonError::into_inner);
        let learned = &mut *learned;
        let today = day_of(now_ms);
        learned.window.forget(today);
        let fault = learned.watch.fault(now_ms);
        learned.factories.values_mut().for_each(|known| known.settle(now_ms, fault.is_some()));
        let vendors = learned.vendors();
        learned.shares = learned.window.shares(today, &vendors);
        let (mut grounds, mut factories, mut roots) = (Vec::new(), Vec::new(), BTreeMap::new());
        let mut valid_until_ms = u64::MAX;
        for (node, known) in &mut learned.factories {
            valid_until_ms = valid_until_ms.min(known.valid_until_ms());
            roots.insert(node.clone(), known.passport);
            let usage = learned.shares.get(node).copied().unwrap_or_default();
            let known = known.ground(node, usage, &self.schema, &self.no_terms, fault.as_ref());
            if let Some((ground, mut factory)) = known {
                valid_until_ms = valid_until_ms.min(self.routes.tell(node, now_ms, &mut factory));
                grounds.push(ground);
                factories.push(factory);
            }
        }
        placement::weigh_carbon(&grounds, &mut factories);
        let basis = self.basis(grounds);
        let snapshot = Snapshot::new(now_ms, basis, facts_root(&roots), self.weights, factories);
        self.composed.store(Arc::new(Composed { snapshot, valid_until_ms }));
    }

    /// The basis of before where nothing in it changed, so that the memo goes on answering.
    fn basis(&self, grounds: Vec<Ground>) -> Arc<Basis> {
        let policies = self.policies.load();
        let before = Arc::clone(&self.composed.load().snapshot.basis);
        let same = Arc::ptr_eq(&before.baseline, &policies.baseline)
            && Arc::ptr_eq(&before.owner, &policies.owner)
            && Arc::ptr_eq(&before.labels, &policies.labels)
            && before.grounds.len() == grounds.len()
            && before.grounds.iter().zip(&grounds).all(|(one, other)| one.same(other));
        if same {
            return before;
        }
        Arc::new(Basis {
            schema: Arc::clone(&self.schema),
            baseline: Arc::clone(&policies.baseline),
            owner: Arc::clone(&policies.owner),
            labels: Arc::clone(&policies.labels),
            trust: self.trust_digest,
            grounds,
        })
    }
}
