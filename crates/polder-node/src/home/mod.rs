//! The home: it speaks for one tenant, knows the factories, decides, and sends the work straight to the one it chose.
//!
//! Every attempt is a decision of its own with a leaf of its own; a factory that refuses or is gone is excluded with its reason, and
//! nothing widens. No other node reads what is asked. Retrying without deciding is absent.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use ed25519_dalek::SigningKey;
use futures_util::{FutureExt as _, StreamExt as _};
use polder_core::canonical::{self, Digest};
use polder_core::facts::FACTS_MAX;
use polder_core::ids::{DecisionId, ModelId, NodeId, ProjectId, TenantId};
use polder_core::keys::Signed;
use polder_core::labels::{Action, Labels};
use polder_core::placement::{self, Decision, UNREACHABLE};
use polder_core::policy::{Cause, LayerKind};
use polder_core::receipt::Half;
use polder_core::request::Request;
use polder_core::statement::v1::{DecisionForm, DecisionRecord, Source, Statement};
use polder_core::ticket::{CAPABILITY_MS_MAX, Capability, Ticket, body_digest};
use polder_core::usage::day_of;

use crate::clock::{now_ms, random};
use crate::config::{HomeConfig, Routing};
use crate::imports::Imports;
use crate::inference::EngineError;
use crate::log::{Log, LogError};
use crate::peers::wire::{Envelope, Frame, Sealed, SentHalf, Status, Told, VERSION, Work};
use crate::peers::{FrameStream, Peer, PeerError};
use crate::route::Retries;
use crate::store::{ForeignHalf, Object, Used};

mod for_jobs;
mod forms;
mod known;
pub mod lifecycle;
pub mod named;
mod policies;
mod retries;
mod routes;
mod view;

use forms::{Form, Forms};
use lifecycle::Lifecycle;

pub use for_jobs::{Judged, Ticketed};
pub use known::Known;
pub use policies::PolicyState;
pub use retries::{ENGINE_FAILED, NO_ANSWER, NOT_UNDERSTOOD};
pub use view::View;

/// The home of one tenant.
pub struct Home {
    node: NodeId,
    /// The tenant it speaks for.
    pub tenant: TenantId,
    projects: BTreeMap<ProjectId, Labels>,
    /// Projects whose work waits for the leaf of its decision.
    strict: BTreeSet<ProjectId>,
    authority: SigningKey,
    peers: BTreeMap<NodeId, Arc<dyn Peer>>,
    /// What it knows of the factories.
    pub view: View,
    /// How its owner's policies come into force.
    pub lifecycle: Lifecycle,
    log: Log,
    imports: Arc<Imports>,
    forms: Forms,
    capabilities: Mutex<BTreeMap<NodeId, Signed<Capability>>>,
    routing: Routing,
    retries: Retries,
    /// What makes it impossible to guess from outside where a conversation falls.
    salt: [u8; 32],
}

/// Work that a factory has begun.
pub struct Placed {
    /// The decision that placed it.
    pub decision: DecisionId,
    /// Where it runs.
    pub factory: NodeId,
    /// The first frame: an event or the vectors.
    pub first: Frame,
    /// The frames after the first.
    pub rest: FrameStream,
}

/// Why work was not placed.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// No factory may run it, or all that may are full; the statement holds every reason.
    #[error("no factory may run this request")]
    Refused(Box<DecisionRecord>),
    /// The request itself is at fault, as the chosen factory's engine found.
    #[error("{error}")]
    Request {
        /// The decision that placed it.
        decision: DecisionId,
        /// What the engine said.
        error: EngineError,
    },
    /// This node cannot do its work.
    #[error("this node failed: {0}")]
    Internal(String),
}

impl From<LogError> for HomeError {
    fn from(error: LogError) -> Self {
        Self::Internal(error.to_string())
    }
}

impl From<polder_core::canonical::CanonicalError> for HomeError {
    fn from(error: polder_core::canonical::CanonicalError) -> Self {
        Self::Internal(error.to_string())
    }
}

impl From<std::io::Error> for HomeError {
    fn from(error: std::io::Error) -> Self {
        Self::Internal(error.to_string())
    }
}

impl Home {
    /// A home from its parts.
    #[allow(clippy::too_many_arguments)] // Its parts are what a home is.
    pub fn new(
        node: NodeId,
        config: &HomeConfig,
        authority: SigningKey,
        peers: BTreeMap<NodeId, Arc<dyn Peer>>,
        view: View,
        lifecycle: Lifecycle,
        log: Log,
        imports: Arc<Imports>,
    ) -> Self {
        Self {
            node,
            tenant: config.tenant.clone(),
            projects: config.projects.clone(),
            strict: config.strict.clone(),
            authority,
            peers,
            view,
            lifecycle,
            log,
            imports,
            forms: Forms::default(),
            capabilities: Mutex::new(BTreeMap::new()),
            routing: config.routing,
            retries: Retries::new(config.routing.retry()),
            // Without randomness places can be guessed: that opens nothing.
            salt: random().unwrap_or_default(),
        }
    }

    /// The labels of a project.
    pub fn labels_of(&self, project: &ProjectId) -> Option<&Labels> {
        self.projects.get(project)
    }

    /// The project, where there is only one.
    pub fn only_project(&self) -> Option<&ProjectId> {
        self.projects.keys().next().filter(|_| self.projects.len() == 1)
    }

    /// Whether a project's work waits for the leaf of its decision.
    pub fn is_strict(&self, project: &ProjectId) -> bool {
        self.strict.contains(project)
    }

    /// A factory as this home reaches it.
    pub fn peer(&self, factory: &NodeId) -> Option<Arc<dyn Peer>> {
        self.peers.get(factory).cloned()
    }

    /// Asks every factory for its status once, side by side.
    pub async fn look_round(&self) {
        let look = self.peers.iter().map(|(node, peer)| async move {
            let before = std::time::Instant::now();
            let status = peer.status().await;
            (node.clone(), status, u64::try_from(before.elapsed().as_micros()).unwrap_or(u64::MAX))
        });
        let mut seen = futures_util::future::join_all(look).await;
        for (node, status, _) in &mut seen {
            if let Err(error) = self.record(node, status).await {
                *status = Err(PeerError::Unreachable { peer: node.clone(), reason: error });
            }
        }
        self.view.update(seen, now_ms());
    }

    /// Writes down what a factory publishes, where it is new: what is not in the log is not believed.
    async fn record(&self, node: &NodeId, status: &Result<Status, PeerError>) -> Result<(), String> {
        let Ok(status) = status else { return Ok(()) };
        let readable = status.node == *node && status.passport.len() <= FACTS_MAX;
        if !readable || !self.view.is_news(node, status) {
            return Ok(());
        }
        // What the factory of this very node says comes from its own file.
        let from = if *node == self.node { Source::File } else { Source::Peer };
        let recorded = self.imports.facts(node, from, &status.passport, &status.terms).await;
        recorded.map_err(|error| format!("its facts could not be recorded: {error}"))
    }

    /// Whether some factory offers a model, whoever may use it.
    pub fn offers(&self, model: &ModelId, action: Action) -> bool {
        let snapshot = self.view.snapshot(now_ms());
        snapshot.basis.grounds.iter().any(|ground| ground.offers.contains(&(action, Some(model.clone()))))
    }

    /// Decides without running anything: the decision as it would be made now.
    pub fn decide_only(&self, request: &Request) -> Decision {
        self.view.decide(&self.view.snapshot(now_ms()), request, &BTreeMap::new())
    }

    /// Decides, runs at the chosen factory, and decides again without those that refuse or are gone. `sent` hears of each
    /// decision before its work is sent off.
    pub async fn run(
        &self,
        project: &ProjectId,
        labels: Labels,
        work: Work,
        sent: &(dyn Fn(&DecisionId, &NodeId) + Send + Sync),
    ) -> Result<Placed, HomeError> {
        let (action, model) = work.asks();
        let model = ModelId::parse(model).map_err(|e| HomeError::Internal(e.to_string()))?;
        let tokens_max = work.tokens_max();
        let course = self.set_out(&work);
        let request =
            Request { action, tenant: self.tenant.clone(), project: project.clone(), model: Some(model), labels };
        let work = Sealed::new(work).map_err(|e| HomeError::Internal(e.to_string()))?;
        let salt: [u8; 32] = random()?;
        let body = body_digest(&salt, work.bytes());
        let mut work = Some(work);
        let mut excluded: BTreeMap<NodeId, Vec<Cause>> = BTreeMap::new();
        // Each round excludes a factory, so the rounds end; after the last attempt all are.
        for _ in 0..=self.peers.len() {
            let decided = self.decide(&request, body, tokens_max, &excluded, &course)?;
            let id = decided.id;
            let pending = self.log.append_decision(id.as_str(), decided.bytes, decided.objects).await?;
            let ticket = match decided.next {
                Next::Run(ticket) => {
                    if self.strict.contains(project) {
                        pending.covered().await?;
                    }
                    ticket
                }
                // A refusal is an answer and nothing runs: it can wait until the log covers it.
                Next::Refuse(record) => {
                    pending.covered().await?;
                    return Err(HomeError::Refused(record));
                }
            };
            let factory = ticket.ticket.factory.clone();
            sent(&id, &factory);
            // The work is copied only where another factory may need it.
            let alone = excluded.len().saturating_add(1) >= self.peers.len();
            let Some(sealed) = (if alone { work.take() } else { work.clone() }) else { break };
            match self.guarded(*ticket, salt, sealed, &course).await {
                Ok((first, rest)) => return Ok(Placed { decision: id, factory, first, rest }),
                Err(Attempt::Request(error)) => return Err(HomeError::Request { decision: id, error }),
                Err(Attempt::Excluded(causes)) => drop(excluded.insert(factory.clone(), causes)),
            }
            self.before_retry(&factory, &course, &mut excluded).await;
        }
        Err(HomeError::Internal("every factory was tried and none was excluded".to_owned()))
    }

    fn decide(
        &self,
        request: &Request,
        body: Digest,
        tokens_max: u32,
        excluded: &BTreeMap<NodeId, Vec<Cause>>,
        course: &retries::Course,
    ) -> Result<Decided, HomeError> {
        let snapshot = self.view.snapshot(now_ms());
        let id = DecisionId::at(snapshot.at_ms, random()?);
        // Where the owner weighs affinity, each conversation is decided by itself.
        let alike = excluded.is_empty() && course.near.is_none();
        let known = if alike { self.forms.get(&snapshot, request) } else { None };
        let known = match known {
            Some(known) => known,
            None => {
                let decision = self.view.decide_near(&snapshot, request, excluded, course.near);
                let chosen = decision.factory.clone();
                let (node, request_) = (self.node.clone(), request.clone());
                let record = DecisionRecord::of(id.clone(), node, &snapshot, request_, body, decision)?;
                let objects = named::objects(&self.view, &record, |digest| self.log.has_object(digest))?;
                // Only a placement has a form: a refusal is written as it is.
                let Some(factory) = chosen else {
                    let bytes = Statement::Decision(Box::new(record.statement.clone())).to_bytes()?;
                    return Ok(Decided { id, bytes, objects, next: Next::Refuse(Box::new(record)) });
                };
                let form = DecisionForm::of(&record.statement)?.ok_or_else(HomeError::unformed)?;
                let request_bytes = canonical::to_bytes(request)?;
                let known = Arc::new(Form { factory, form, request: request_bytes, objects });
                if alike {
                    self.forms.keep(&snapshot, request, &known);
                }
                known
            }
        };
        let ticket = Ticket {
            nonce: random()?,
            decision: id.clone(),
            home: self.node.clone(),
            factory: known.factory.clone(),
            body,
            request: request.clone(),
            tokens_max,
        };
        let digest = ticket.digest_with(&known.request);
        let bytes = known.form.fill(snapshot.at_ms, &body, &id, &digest);
        let objects = Arc::clone(&known.objects);
        Ok(Decided { id, bytes, objects, next: Next::Run(Box::new(Digested { ticket, digest })) })
    }

    async fn attempt(&self, ticket: Digested, salt: [u8; 32], work: Sealed) -> Result<(Frame, FrameStream), Attempt> {
        let factory = ticket.ticket.factory.clone();
        let peer = self.peers.get(&factory).ok_or_else(|| Attempt::gone("it is no member"))?;
        let capability = self.capability(&factory).map_err(|e| Attempt::gone(&e.to_string()))?;
        let Digested { ticket, digest } = ticket;
        let envelope = Envelope { version: VERSION, capability, ticket, digest: Some(digest), salt, work };
        let lost = |error: PeerError| match &error {
            PeerError::Unreachable { .. } => {
                self.view.mark_unreachable(&factory, &error.to_string(), now_ms());
                Attempt::gone(&error.to_string())
            }
            PeerError::Protocol { .. } => Attempt::out(retries::NOT_UNDERSTOOD, &error.to_string()),
        };
        let mut frames = peer.run(envelope).await.map_err(lost)?;
        match frames.next().await {
            Some(Ok(Frame::Refused(causes))) => Err(Attempt::Excluded(causes)),
            Some(Ok(Frame::Failed(error))) => Err(Attempt::of_engine(error)),
            Some(Ok(frame)) => Ok((frame, frames)),
            Some(Err(error)) => Err(lost(error)),
            None => Err(Attempt::gone("it ended without an answer")),
        }
    }

    /// The right to use a factory, signed once for up to a minute.
    pub(crate) fn capability(&self, factory: &NodeId) -> Result<Signed<Capability>, HomeError> {
        let now = now_ms();
        let mut held = self.capabilities.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(capability) = held.get(factory).filter(|held| held.value.until_ms > now.saturating_add(5_000)) {
            return Ok(capability.clone());
        }
        let capability = Capability {
            home: self.node.clone(),
            factory: factory.clone(),
            tenant: self.tenant.clone(),
            from_ms: now,
            until_ms: now.saturating_add(CAPABILITY_MS_MAX),
        };
        let signed = capability.sign(&self.authority)?;
        held.insert(factory.clone(), signed.clone());
        Ok(signed)
    }

    /// Keeps what comes after an answer's last event: the factory's half of the receipt, or the word that it stands in the log
    /// of this very node.
    pub async fn keep_receipt(&self, decision: &DecisionId, rest: &mut FrameStream) {
        while let Some(Ok(frame)) = rest.next().await {
            match frame {
                Frame::Recorded(used) => self.view.count(&used.factory, used.tokens, now_ms()),
                Frame::Receipt(half) => {
                    if let Err(error) = self.keep_sent(decision.as_str(), half).await {
                        tracing::error!(error, %decision, "a receipt's half could not be kept");
                    }
                }
                _ => {}
            }
        }
    }

    /// The same for an answer whose client need not wait for it. A factory of this very node is through at once; another one's log
    /// may take a moment, and a task waits for it.
    pub fn keep_rest(self: Arc<Self>, decision: DecisionId, mut rest: FrameStream) {
        let mut keep = Box::pin(async move { self.keep_receipt(&decision, &mut rest).await });
        if keep.as_mut().now_or_never().is_none() {
            tokio::spawn(keep);
        }
    }

    /// Keeps the factory's half of a receipt, and counts what it used.
    pub async fn keep_half(&self, decision: &str, half: &Half) -> Result<(), String> {
        let sent = SentHalf::new(half).map_err(|e| e.to_string())?;
        Ok(self.keep_sent(decision, sent).await?)
    }

    async fn keep_sent(&self, decision: &str, half: SentHalf) -> Result<(), &'static str> {
        let Told { factory, tokens } = half.told().ok_or("the half is not an execution's")?;
        let now = now_ms();
        self.view.count(&factory, tokens, now);
        let used = Used { day: day_of(now), factory, tokens };
        self.log.keep(ForeignHalf { decision: decision.to_owned(), half: half.into_bytes(), used }).await;
        Ok(())
    }
}

/// A decision in the bytes that its leaf stands for, and what comes next.
struct Decided {
    id: DecisionId,
    bytes: Vec<u8>,
    objects: Arc<[Object]>,
    next: Next,
}

enum Next {
    Run(Box<Digested>),
    Refuse(Box<DecisionRecord>),
}

/// A ticket with its digest.
struct Digested {
    ticket: Ticket,
    digest: Digest,
}

impl HomeError {
    fn unformed() -> Self {
        Self::Internal("a decision's statement has no form".to_owned())
    }
}

/// Why one attempt came to nothing.
enum Attempt {
    /// The factory is out; decide again.
    Excluded(Vec<Cause>),
    /// No factory could answer this request.
    Request(EngineError),
}

impl Attempt {
    fn gone(reason: &str) -> Self {
        Self::out(UNREACHABLE, reason)
    }

    fn out(rule: &str, reason: &str) -> Self {
        Self::Excluded(vec![Cause::built_in(LayerKind::Availability, rule, reason)])
    }

    fn of_engine(error: EngineError) -> Self {
        let rule = match &error {
            EngineError::ContextLength { .. } | EngineError::Unsupported { .. } | EngineError::Invalid { .. } => {
                return Self::Request(error);
            }
            EngineError::UnknownModel { .. } => placement::MODEL_NOT_SERVED,
            EngineError::Busy { .. } => placement::NO_CAPACITY,
            EngineError::ModelFile { .. } | EngineError::Stopped { .. } | EngineError::Failed { .. } => {
                retries::ENGINE_FAILED
            }
        };
        Self::out(rule, &error.to_string())
    }
}
