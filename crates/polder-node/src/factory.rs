//! The factory's half of a request: check the right to ask, decide again under its own terms, run, record.
//!
//! The factory is its own last word: it asks its terms about every ticket, whatever the home decided. Choosing among factories is
//! absent; that is the home's.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use ed25519_dalek::VerifyingKey;
use polder_core::canonical::Digest;
use polder_core::facts::{Passport, Profile, TrustedIssuer, believe};
use polder_core::ids::{ModelId, NodeId, TenantId};
use polder_core::job::home::Sheet;
use polder_core::keys::{NodeCard, Role, Signed};
use polder_core::placement::{self, NO_CAPACITY};
use polder_core::policy::{Cause, Column, Layer, LayerKind, PolicySchema, Usage};
use polder_core::receipt::{Half, Sealed};
use polder_core::request::Request;
use polder_core::statement::v1::Statement;
use polder_core::ticket::{CAPABILITY_MS_MAX, CLOCK_SKEW_MS_MAX, Capability, Ticket};

use crate::clock::now_ms;
use crate::config::{ConfigError, FactoryConfig, Member};
use crate::inference::Engine;
use crate::log::Log;
use crate::peers::wire::{Envelope, Frame, Offer, Status, VERSION, Work};
use crate::policies::{self, InForce};
use crate::store::Store;

mod run;

pub use run::Frames;
use run::Run;

/// How a tenant used other factories is its home's knowledge: terms that ask for it are answered as if all of it had run
/// here, so that they refuse.
const UNKNOWN_USAGE: Usage = Usage { vendor_share_percent: 100 };

/// A factory: terms, facts, an engine and a log.
pub struct Factory {
    node: NodeId,
    terms_file: PathBuf,
    terms: RwLock<InForce>,
    schema: Arc<PolicySchema>,
    passport: Passport,
    authority: [u8; 32],
    issuers: Vec<TrustedIssuer>,
    engine: Arc<dyn Engine>,
    log: Log,
    store: Store,
    homes: BTreeMap<NodeId, VerifyingKey>,
    price_microeur_per_mtok: u64,
    /// What it offers for jobs.
    jobs: Option<Sheet>,
    places: u32,
    taken_max: u32,
    taken: Arc<AtomicU32>,
    nonces: Mutex<Nonces>,
    /// What the factory's own facts and terms said before.
    answers: Mutex<Answers>,
    /// The last capability of each home and tenant that was found good: it is verified once.
    capabilities: Mutex<BTreeMap<(NodeId, TenantId), Signed<Capability>>>,
}

/// Nonces seen lately, in two generations.
#[derive(Default)]
struct Nonces {
    new: HashSet<[u8; 16]>,
    old: HashSet<[u8; 16]>,
    /// When the new ones become the old ones, in Unix milliseconds.
    until_ms: u64,
}

/// How long a capability, and with it a ticket's nonce, can hold at most, in milliseconds.
const NONCE_MS: u64 = CAPABILITY_MS_MAX + 2 * CLOCK_SKEW_MS_MAX;

/// What the terms answered, as long as they and the factory's facts stay the same.
#[derive(Default)]
struct Answers {
    read: Option<Read>,
    refusals: BTreeMap<Request, Vec<Cause>>,
}

/// What the terms read, and between which instants it stays the same.
#[derive(Clone)]
struct Read {
    terms: Arc<Layer>,
    column: Arc<Column>,
    from_ms: u64,
    until_ms: u64,
}

/// Most requests whose answers are kept; past that all are asked again.
const ANSWERS_MAX: usize = 4096;
/// Most capabilities that are kept as verified.
const CAPABILITIES_MAX: usize = 4096;

/// A request that may run.
struct Admitted {
    ticket: Ticket,
    /// The ticket's digest.
    digest: Digest,
    work: Work,
    /// The digest of the terms that permit it.
    terms: Digest,
    place: Place,
}

/// One taken place; dropping it frees the place.
struct Place(Arc<AtomicU32>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Factory {
    /// A factory from its checked configuration.
    pub async fn new(
        card: &NodeCard,
        config: &FactoryConfig,
        members: &[Member],
        schema: Arc<PolicySchema>,
        engine: Arc<dyn Engine>,
        log: Log,
        store: Store,
    ) -> Result<Self, ConfigError> {
        let terms = policies::load(LayerKind::Terms, &config.terms, &schema, &store).await?;
        let own = [card];
        let cards = members.iter().map(|member| &member.card).chain(own);
        let homes = cards.filter_map(|card| Some((card.node.clone(), card.key(Role::Authority).ok()?))).collect();
        // A factory takes its own passport at its word: its terms may read what it says of itself.
        let issuers = config.passport.iter().map(|signed| TrustedIssuer {
            issuer: signed.fact.issuer.clone(),
            key: signed.key,
            at_most: signed.fact.evidence,
            kinds: None,
        });
        Ok(Self {
            node: card.node.clone(),
            terms_file: config.terms.clone(),
            terms: RwLock::new(terms),
            schema,
            authority: card.keys.get(&Role::Authority).map_or([0; 32], |held| held.key),
            issuers: issuers.collect(),
            passport: config.passport.clone(),
            engine,
            log,
            store,
            homes,
            price_microeur_per_mtok: config.price_microeur_per_mtok,
            jobs: config.jobs.as_ref().map(|jobs| jobs.sheet.clone()),
            places: u32::try_from(config.places).unwrap_or(u32::MAX),
            taken_max: u32::try_from(config.places.saturating_add(config.queue)).unwrap_or(u32::MAX),
            taken: Arc::new(AtomicU32::new(0)),
            nonces: Mutex::default(),
            answers: Mutex::default(),
            capabilities: Mutex::default(),
        })
    }

    /// The engine that runs the models.
    pub fn engine(&self) -> &dyn Engine {
        self.engine.as_ref()
    }

    /// Reads the terms file again; the message says where it is broken, and then the terms of before stay in force.
    pub async fn reload_terms(&self) -> Result<Option<String>, ConfigError> {
        let terms = policies::load(LayerKind::Terms, &self.terms_file, &self.schema, &self.store).await?;
        let refused = terms.refused.clone();
        *self.terms.write().unwrap_or_else(PoisonError::into_inner) = terms;
        Ok(refused)
    }

    /// What is wrong with the terms file, where older terms are in force.
    pub fn terms_problem(&self) -> Option<String> {
        self.terms.read().unwrap_or_else(PoisonError::into_inner).refused.clone()
    }

    /// What the factory says of itself now.
    pub fn status(&self) -> Status {
        let terms = self.terms.read().unwrap_or_else(PoisonError::into_inner);
        let offer = |info: crate::inference::ModelInfo| {
            let model = ModelId::parse(&info.id).ok()?;
            let crate::inference::ModelInfo { context_tokens, chat, embed, rerank, image, .. } = info;
            Some(Offer { model, context_tokens, chat, embed, rerank, image })
        };
        Status {
            version: VERSION,
            node: self.node.clone(),
            terms_file: terms.file.clone(),
            terms: terms.text.clone(),
            passport: self.passport.clone(),
            models: self.engine.models().into_iter().filter_map(offer).collect(),
            backend: self.engine.backend(),
            price_microeur_per_mtok: self.price_microeur_per_mtok,
            jobs: self.jobs.clone(),
            places: self.places,
            queue: self.taken_max.saturating_sub(self.places),
            running: self.taken.load(Ordering::Acquire),
            signals: self.engine.signals(),
            now_ms: None,
        }
    }

    /// This factory's half of a receipt, for the home whose decision it was.
    pub async fn execution(&self, home: &NodeId, decision: &str) -> Option<Half> {
        let half = match self.log.half("execution", decision).await {
            Ok(half) => half?,
            Err(error) => {
                tracing::error!(%error, "an execution could not be read");
                return None;
            }
        };
        matches!(&half.statement, Statement::Execution(statement) if statement.home == *home).then_some(half)
    }

    /// The same half under this factory's signatures over its statement.
    pub async fn sealed(&self, home: &NodeId, decision: &str) -> Option<Sealed> {
        self.log.seal(self.execution(home, decision).await?)
    }

    /// Runs an envelope that arrived in the channel of `home`, or says why not. `near` says that the home is this very node,
    /// and shares its log.
    pub fn run(self: &Arc<Self>, home: &NodeId, envelope: Envelope, near: bool) -> Frames {
        match self.admit(home, envelope) {
            Ok(admitted) => Run::begin(self, admitted, near),
            Err(causes) => Box::pin(futures_util::stream::iter([Frame::Refused(causes)])),
        }
    }

    /// Everything that must hold before the engine hears of a request.
    fn admit(&self, home: &NodeId, envelope: Envelope) -> Result<Admitted, Vec<Cause>> {
        let refused = |rule: &str, reason: String| vec![Cause::built_in(LayerKind::Terms, rule, reason)];
        let now = now_ms();
        self.check_capability(home, &envelope.capability, now)?;
        let ticket = &envelope.ticket;
        let named = ticket.home == *home
            && ticket.factory == self.node
            && ticket.request.tenant == envelope.capability.value.tenant
            && ticket.body == envelope.body_digest();
        if !named {
            return Err(refused("ticket", "the ticket names another channel, tenant or request".to_owned()));
        }
        let Envelope { ticket, digest, work, .. } = envelope;
        let work = work.open().map_err(|e| refused("ticket", e.to_string()))?;
        let (action, model) = work.asks();
        let named = ticket.request.model.as_ref().map(ModelId::as_str);
        if ticket.request.action != action || named != Some(model) || work.tokens_max() > ticket.tokens_max {
            return Err(refused("ticket", "the work is not what the ticket allows".to_owned()));
        }
        if !self.first_use(ticket.nonce, now) {
            return Err(refused("ticket", "this ticket was used before".to_owned()));
        }
        let terms = self.decide_again(&ticket.request, now)?;
        let digest = digest.map_or_else(|| ticket.digest(), Ok).map_err(|e| refused("ticket", e.to_string()))?;
        Ok(Admitted { ticket, digest, work, terms, place: self.take_place()? })
    }

    /// Checks a capability; its signature only the first time that it comes.
    pub(crate) fn check_capability(
        &self,
        home: &NodeId,
        capability: &Signed<Capability>,
        now: u64,
    ) -> Result<(), Vec<Cause>> {
        let refused = |rule: &str, reason: String| vec![Cause::built_in(LayerKind::Terms, rule, reason)];
        let authority =
            self.homes.get(home).ok_or_else(|| refused("unknown-home", format!("`{home}` is no member")))?;
        let key = (home.clone(), capability.value.tenant.clone());
        let known = {
            let held = self.capabilities.lock().unwrap_or_else(PoisonError::into_inner);
            held.get(&key).is_some_and(|held| held == capability)
        };
        let checked = match known {
            true => capability.check_again(home, &self.node, now),
            false => capability.check(home, authority, &self.node, now),
        };
        checked.map_err(|e| refused("capability", e.to_string()))?;
        if !known {
            let mut held = self.capabilities.lock().unwrap_or_else(PoisonError::into_inner);
            if held.len() >= CAPABILITIES_MAX {
                held.clear();
            }
            held.insert(key, capability.clone());
        }
        Ok(())
    }

    /// Whether it runs jobs.
    pub fn runs_jobs(&self) -> bool {
        self.jobs.is_some()
    }

    /// Whether the factory's own terms permit a request now: their digest, or every reason against it.
    pub fn permits(&self, request: &Request) -> Result<Digest, Vec<Cause>> {
        self.decide_again(request, now_ms())
    }

    /// The terms in force. They are the very same until they are read again.
    pub fn terms(&self) -> Arc<Layer> {
        Arc::clone(&self.terms.read().unwrap_or_else(PoisonError::into_inner).layer)
    }

    /// Asks the terms, or remembers what they said of the very same request, terms and facts.
    fn decide_again(&self, request: &Request, now: u64) -> Result<Digest, Vec<Cause>> {
        let terms = Arc::clone(&self.terms.read().unwrap_or_else(PoisonError::into_inner).layer);
        let read = {
            let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
            let same = |read: &&Read| Arc::ptr_eq(&read.terms, &terms) && read.from_ms <= now && now < read.until_ms;
            let read = answers.read.as_ref().filter(same).cloned();
            if let (Some(_), Some(causes)) = (&read, answers.refusals.get(request)) {
                return if causes.is_empty() { Ok(terms.digest()) } else { Err(causes.clone()) };
            }
            read
        };
        // The lock is not held while the terms are asked.
        let read = match read {
            Some(read) => read,
            None => {
                let read = self.read_terms(&terms, now)?;
                let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
                *answers = Answers { read: Some(read.clone()), refusals: BTreeMap::new() };
                read
            }
        };
        let causes = placement::refusals(&terms, &read.column, request, &self.schema);
        {
            let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
            if answers.refusals.len() >= ANSWERS_MAX {
                answers.refusals.clear();
            }
            // Others may have read newer terms meanwhile: this answer is not theirs.
            if answers.read.as_ref().is_some_and(|held| Arc::ptr_eq(&held.column, &read.column)) {
                answers.refusals.insert(request.clone(), causes.clone());
            }
        }
        if causes.is_empty() { Ok(terms.digest()) } else { Err(causes) }
    }

    fn read_terms(&self, terms: &Arc<Layer>, now: u64) -> Result<Read, Vec<Cause>> {
        let held = believe(&self.node, &self.passport, &self.authority, &self.issuers);
        let profile = Profile::at(&held, now);
        let until_ms = profile.valid_until_ms;
        let column = Column::new(&self.node, profile, UNKNOWN_USAGE, &self.schema)
            .map_err(|e| vec![Cause::built_in(LayerKind::Terms, "policy-error", e)])?;
        Ok(Read { terms: Arc::clone(terms), column: Arc::new(column), from_ms: now, until_ms })
    }

    fn take_place(&self) -> Result<Place, Vec<Cause>> {
        let place = Place(Arc::clone(&self.taken));
        if self.taken.fetch_add(1, Ordering::AcqRel) < self.taken_max {
            return Ok(place);
        }
        let reason = format!("all {} places and the queue are taken", self.places);
        Err(vec![Cause::built_in(LayerKind::Availability, NO_CAPACITY, reason)])
    }

    /// Whether a nonce is new. It is kept as long as the capability that came with it could hold.
    fn first_use(&self, nonce: [u8; 16], now: u64) -> bool {
        let mut nonces = self.nonces.lock().unwrap_or_else(PoisonError::into_inner);
        // Two generations: each holds what came within one life of a capability, so the older one can be dropped as a whole.
        if now >= nonces.until_ms {
            let gone = now >= nonces.until_ms.saturating_add(NONCE_MS);
            nonces.old = if gone { HashSet::new() } else { std::mem::take(&mut nonces.new) };
            nonces.new.clear();
            nonces.until_ms = now.saturating_add(NONCE_MS);
        }
        !nonces.old.contains(&nonce) && nonces.new.insert(nonce)
    }
}
