//! The factory's half of a request: check the right to ask, decide again under its own terms, run, record.
//!
//! The factory is its own last word: it asks its terms about every ticket, whatever the home decided. Choosing among factories is
//! absent; that is the home's.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use ed25519_dalek::VerifyingKey;
use futures_util::{Stream, StreamExt as _};
use polder_core::canonical::Digest;
use polder_core::facts::{Passport, Profile, TrustedIssuer, believe};
use polder_core::ids::{ModelId, NodeId};
use polder_core::keys::{NodeCard, Role};
use polder_core::labels::Action;
use polder_core::placement::{self, NO_CAPACITY};
use polder_core::policy::{Cause, Column, LayerKind, PolicySchema, Usage};
use polder_core::receipt::Half;
use polder_core::statement::v1::{ExecutionOutcome, ExecutionStatement, Statement};
use polder_core::ticket::{CAPABILITY_MS_MAX, CLOCK_SKEW_MS_MAX, Ticket};
use tokio::sync::mpsc;

use crate::clock::now_ms;
use crate::config::{ConfigError, FactoryConfig, Member};
use crate::inference::{Engine, EngineError, Event};
use crate::log::Log;
use crate::peers::wire::{Envelope, Frame, Offer, Status, VERSION, Work};
use crate::policies::{self, InForce};
use crate::store::Store;

/// Frames that wait for a slow reader before generation waits too.
const FRAMES_WAITING_MAX: usize = 64;

/// What a factory answers with. Dropping it stops the work.
pub type Frames = Pin<Box<dyn Stream<Item = Frame> + Send>>;

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
    places: u32,
    taken_max: u32,
    taken: Arc<AtomicU32>,
    /// Nonces seen, with the instant after which their capability can no longer hold.
    nonces: Mutex<BTreeMap<[u8; 16], u64>>,
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
            places: u32::try_from(config.places).unwrap_or(u32::MAX),
            taken_max: u32::try_from(config.places.saturating_add(config.queue)).unwrap_or(u32::MAX),
            taken: Arc::new(AtomicU32::new(0)),
            nonces: Mutex::new(BTreeMap::new()),
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
            Some(Offer { model, context_tokens: info.context_tokens, chat: info.chat, embed: info.embed })
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

    /// Runs an envelope that arrived in the channel of `home`, or says why not.
    pub async fn run(self: &Arc<Self>, home: &NodeId, envelope: Envelope) -> Frames {
        match self.admit(home, &envelope) {
            Ok((work, terms, place)) => self.start(envelope.ticket, work, terms, place),
            Err(causes) => Box::pin(futures_util::stream::iter([Frame::Refused(causes)])),
        }
    }

    /// Everything that must hold before the engine hears of a request.
    fn admit(&self, home: &NodeId, envelope: &Envelope) -> Result<(Work, Digest, Place), Vec<Cause>> {
        let refused = |rule: &str, reason: String| vec![Cause::built_in(LayerKind::Terms, rule, reason)];
        let ticket = &envelope.ticket;
        let authority =
            self.homes.get(home).ok_or_else(|| refused("unknown-home", format!("`{home}` is no member")))?;
        let now = now_ms();
        let capability = envelope.capability.check(home, authority, &self.node, now);
        capability.map_err(|e| refused("capability", e.to_string()))?;
        let named = ticket.home == *home
            && ticket.factory == self.node
            && ticket.request.tenant == envelope.capability.value.tenant
            && ticket.body == envelope.body_digest();
        if !named {
            return Err(refused("ticket", "the ticket names another channel, tenant or request".to_owned()));
        }
        let work: Work = serde_json::from_str(envelope.work.get()).map_err(|e| refused("ticket", e.to_string()))?;
        let (action, model) = match &work {
            Work::Chat(request) => (Action::Infer, &request.model),
            Work::Embed(request) => (Action::Embed, &request.model),
        };
        let within = match &work {
            Work::Chat(request) => request.max_tokens.unwrap_or(u32::MAX) <= ticket.tokens_max,
            Work::Embed(_) => true,
        };
        let named = ticket.request.model.as_ref().map(ModelId::as_str);
        if ticket.request.action != action || named != Some(model) || !within {
            return Err(refused("ticket", "the work is not what the ticket allows".to_owned()));
        }
        if !self.first_use(ticket.nonce, now) {
            return Err(refused("ticket", "this ticket was used before".to_owned()));
        }
        let terms = self.decide_again(ticket, now)?;
        Ok((work, terms, self.take_place()?))
    }

    fn decide_again(&self, ticket: &Ticket, now: u64) -> Result<Digest, Vec<Cause>> {
        let layer = Arc::clone(&self.terms.read().unwrap_or_else(PoisonError::into_inner).layer);
        let held = believe(&self.node, &self.passport, &self.authority, &self.issuers);
        let error = |e| vec![Cause::built_in(LayerKind::Terms, "policy-error", e)];
        let column = Column::new(&self.node, Profile::at(&held, now), UNKNOWN_USAGE, &self.schema).map_err(error)?;
        let causes = placement::refusals(&layer, &column, &ticket.request, &self.schema);
        if causes.is_empty() { Ok(layer.digest()) } else { Err(causes) }
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
        if nonces.len() > 10_000 {
            nonces.retain(|_, until| *until > now);
        }
        nonces.insert(nonce, now.saturating_add(CAPABILITY_MS_MAX + 2 * CLOCK_SKEW_MS_MAX)).is_none()
    }

    fn start(self: &Arc<Self>, ticket: Ticket, work: Work, terms: Digest, place: Place) -> Frames {
        let (sender, receiver) = mpsc::channel(FRAMES_WAITING_MAX);
        let factory = Arc::clone(self);
        tokio::spawn(async move {
            let run = Run { factory, ticket, terms, started_ms: now_ms(), frames: sender, prompt: 0, generated: 0 };
            run.finish(work, place).await;
        });
        Box::pin(futures_util::stream::unfold(receiver, |mut receiver| async move {
            receiver.recv().await.map(|frame| (frame, receiver))
        }))
    }
}

/// One execution under way.
struct Run {
    factory: Arc<Factory>,
    ticket: Ticket,
    terms: Digest,
    started_ms: u64,
    frames: mpsc::Sender<Frame>,
    prompt: u64,
    generated: u64,
}

impl Run {
    async fn finish(mut self, work: Work, place: Place) {
        let outcome = match work {
            Work::Chat(request) => self.chat(request).await,
            Work::Embed(request) => self.embed(request).await,
        };
        drop(place);
        self.record(outcome).await;
    }

    async fn chat(&mut self, request: crate::inference::ChatRequest) -> ExecutionOutcome {
        let factory = Arc::clone(&self.factory);
        let mut events = match factory.engine.chat(request).await {
            Ok(events) => events,
            Err(error) => return self.failed(error).await,
        };
        loop {
            let event = tokio::select! {
                event = events.next() => event,
                () = self.frames.closed() => return ExecutionOutcome::Cancelled,
            };
            match event {
                Some(Ok(event)) => {
                    match &event {
                        Event::Usage(usage) => {
                            self.prompt = usage.prompt_tokens;
                            self.generated = usage.completion_tokens;
                        }
                        // Until the engine's own count comes, a delta is counted as a token.
                        Event::Delta(_) => self.generated += 1,
                        Event::Finish { .. } => {}
                    }
                    if self.frames.send(Frame::Event(event)).await.is_err() {
                        return ExecutionOutcome::Cancelled;
                    }
                }
                Some(Err(error)) => return self.failed(error).await,
                None => return ExecutionOutcome::Completed,
            }
        }
    }

    async fn embed(&mut self, request: crate::inference::EmbedRequest) -> ExecutionOutcome {
        let factory = Arc::clone(&self.factory);
        match factory.engine.embed(request).await {
            Ok(embeddings) => {
                self.prompt = embeddings.prompt_tokens;
                match self.frames.send(Frame::Embeddings(embeddings)).await {
                    Ok(()) => ExecutionOutcome::Completed,
                    Err(_) => ExecutionOutcome::Cancelled,
                }
            }
            Err(error) => self.failed(error).await,
        }
    }

    async fn failed(&self, error: EngineError) -> ExecutionOutcome {
        // Nobody reads any more: then the failure is only for the record.
        drop(self.frames.send(Frame::Failed(error)).await);
        ExecutionOutcome::Failed
    }

    /// Records what happened, whether or not anyone still listens, and sends the receipt's half to whoever does.
    async fn record(&self, outcome: ExecutionOutcome) {
        if let Err(error) = self.try_record(outcome).await {
            tracing::error!(%error, decision = %self.ticket.decision, "an execution could not be recorded");
        }
    }

    async fn try_record(&self, outcome: ExecutionOutcome) -> Result<(), crate::log::LogError> {
        let factory = &self.factory;
        let infos = factory.engine.models();
        let model = self.ticket.request.model.as_ref().map(ModelId::as_str);
        let info = infos.iter().find(|info| Some(info.id.as_str()) == model);
        let mut digest = [0; 32];
        let known = info.is_some_and(|info| hex::decode_to_slice(&info.digest, &mut digest).is_ok());
        let statement = Statement::Execution(ExecutionStatement {
            factory: factory.node.clone(),
            home: self.ticket.home.clone(),
            tenant: self.ticket.request.tenant.clone(),
            decision: self.ticket.decision.clone(),
            ticket: self.ticket.digest()?,
            body: self.ticket.body,
            terms: self.terms,
            model: self.ticket.request.model.clone(),
            model_digest: known.then_some(Digest(digest)),
            backend: factory.engine.backend(),
            prompt_tokens: self.prompt,
            completion_tokens: self.generated,
            started_ms: self.started_ms,
            ended_ms: now_ms(),
            outcome,
        });
        let decision = self.ticket.decision.as_str();
        factory.log.append(decision, &statement).await?.covered().await?;
        if let Some(half) = factory.log.half("execution", decision).await? {
            drop(self.frames.send(Frame::Receipt(Box::new(half))).await);
        }
        Ok(())
    }
}
