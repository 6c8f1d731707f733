//! The home: it speaks for one tenant, knows the factories, decides, and sends the work straight to the one it chose.
//!
//! Every attempt is a decision of its own with a leaf of its own; a factory that refuses or is gone is excluded with its reason, and
//! nothing widens. No other node reads what is asked. Retrying without deciding is absent.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use ed25519_dalek::SigningKey;
use futures_util::StreamExt as _;
use polder_core::ids::{DecisionId, ModelId, NodeId, ProjectId, TenantId};
use polder_core::keys::Signed;
use polder_core::labels::{Action, Labels};
use polder_core::placement::{self, Decision, UNREACHABLE};
use polder_core::policy::{Cause, LayerKind};
use polder_core::receipt::Half;
use polder_core::request::Request;
use polder_core::statement::v1::{DecisionStatement, Statement};
use polder_core::ticket::{CAPABILITY_MS_MAX, Capability, Ticket, body_digest};
use polder_core::usage::day_of;
use serde_json::value::RawValue;

use crate::clock::{now_ms, random};
use crate::config::{ApiKey, HomeConfig, Routing};
use crate::inference::EngineError;
use crate::log::{Log, LogError};
use crate::peers::wire::{Envelope, Frame, VERSION, Work};
use crate::peers::{FrameStream, Peer, PeerError};
use crate::route::Retries;
use crate::store::{Store, Used};

mod known;
pub mod lifecycle;
mod policies;
mod retries;
mod routes;
mod view;

use lifecycle::Lifecycle;

pub use known::Known;
pub use policies::PolicyState;
pub use view::View;

/// The home of one tenant.
pub struct Home {
    node: NodeId,
    /// The tenant it speaks for.
    pub tenant: TenantId,
    projects: BTreeMap<ProjectId, Labels>,
    keys: Vec<ApiKey>,
    authority: SigningKey,
    peers: BTreeMap<NodeId, Arc<dyn Peer>>,
    /// What it knows of the factories.
    pub view: View,
    /// How its owner's policies come into force.
    pub lifecycle: Lifecycle,
    log: Log,
    store: Store,
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
    Refused(Box<DecisionStatement>),
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
        store: Store,
    ) -> Self {
        Self {
            node,
            tenant: config.tenant.clone(),
            projects: config.projects.clone(),
            keys: config.keys.clone(),
            authority,
            peers,
            view,
            lifecycle,
            log,
            store,
            capabilities: Mutex::new(BTreeMap::new()),
            routing: config.routing,
            retries: Retries::new(config.routing.retry()),
            // Without randomness places can be guessed: that opens nothing.
            salt: random().unwrap_or_default(),
        }
    }

    /// The project that an application's key belongs to, with its labels.
    pub fn project_of(&self, key: &str) -> Option<(&ProjectId, &Labels)> {
        use sha2::Digest as _;
        let digest: [u8; 32] = sha2::Sha256::digest(key.as_bytes()).into();
        // Comparing digests: how long it takes says nothing about a key.
        let held = self.keys.iter().find(|held| held.sha256.0 == digest)?;
        self.projects.get_key_value(&held.project)
    }

    /// The labels of a project.
    pub fn labels_of(&self, project: &ProjectId) -> Option<&Labels> {
        self.projects.get(project)
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
        let seen = futures_util::future::join_all(look).await;
        self.view.update(seen, now_ms());
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

    /// Decides, runs at the chosen factory, and decides again without those that refuse or are gone.
    pub async fn run(
        &self,
        project: &ProjectId,
        labels: Labels,
        work: &Work,
        tokens_max: u32,
    ) -> Result<Placed, HomeError> {
        let (action, model) = match work {
            Work::Chat(request) => (Action::Infer, &request.model),
            Work::Embed(request) => (Action::Embed, &request.model),
        };
        let model = ModelId::parse(model).map_err(|e| HomeError::Internal(e.to_string()))?;
        let course = self.set_out(work);
        let request =
            Request { action, tenant: self.tenant.clone(), project: project.clone(), model: Some(model), labels };
        let work = RawValue::from_string(serde_json::to_string(work).map_err(|e| HomeError::Internal(e.to_string()))?)
            .map_err(|e| HomeError::Internal(e.to_string()))?;
        let salt: [u8; 32] = random()?;
        let mut excluded: BTreeMap<NodeId, Vec<Cause>> = BTreeMap::new();
        // Each round excludes a factory, so the rounds end; after the last attempt all are.
        for _ in 0..=self.peers.len() {
            let (statement, ticket) = self.decide(&request, &salt, &work, tokens_max, &excluded, &course)?;
            let pending =
                self.log.append(statement.id.as_str(), &Statement::Decision(Box::new(statement.clone()))).await?;
            let Some(ticket) = ticket else {
                // A refusal is an answer and nothing runs: it can wait until the log covers it.
                pending.covered().await?;
                return Err(HomeError::Refused(Box::new(statement)));
            };
            let factory = ticket.factory.clone();
            match self.guarded(ticket, salt, &work, &course).await {
                Ok((first, rest)) => return Ok(Placed { decision: statement.id, factory, first, rest }),
                Err(Attempt::Request(error)) => return Err(HomeError::Request { decision: statement.id, error }),
                Err(Attempt::Excluded(causes)) => drop(excluded.insert(factory.clone(), causes)),
            }
            self.before_retry(&factory, &course, &mut excluded).await;
        }
        Err(HomeError::Internal("every factory was tried and none was excluded".to_owned()))
    }

    fn decide(
        &self,
        request: &Request,
        salt: &[u8; 32],
        work: &RawValue,
        tokens_max: u32,
        excluded: &BTreeMap<NodeId, Vec<Cause>>,
        course: &retries::Course,
    ) -> Result<(DecisionStatement, Option<Ticket>), HomeError> {
        let snapshot = self.view.snapshot(now_ms());
        let decision = self.view.decide_near(&snapshot, request, excluded, course.near);
        let id = DecisionId::from_bytes(random()?);
        let body = body_digest(salt, work.get().as_bytes());
        let ticket = match &decision.factory {
            Some(factory) => Some(Ticket {
                nonce: random()?,
                decision: id.clone(),
                home: self.node.clone(),
                factory: factory.clone(),
                body,
                request: request.clone(),
                tokens_max,
            }),
            None => None,
        };
        let mut statement = DecisionStatement::of(id, self.node.clone(), &snapshot, request.clone(), body, decision);
        statement.ticket = ticket.as_ref().map(Ticket::digest).transpose()?;
        Ok((statement, ticket))
    }

    async fn attempt(&self, ticket: Ticket, salt: [u8; 32], work: &RawValue) -> Result<(Frame, FrameStream), Attempt> {
        let factory = ticket.factory.clone();
        let peer = self.peers.get(&factory).ok_or_else(|| Attempt::gone("it is no member"))?;
        let capability = self.capability(&factory).map_err(|e| Attempt::gone(&e.to_string()))?;
        let envelope = Envelope { version: VERSION, capability, ticket, salt, work: work.to_owned() };
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
    fn capability(&self, factory: &NodeId) -> Result<Signed<Capability>, HomeError> {
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

    /// Keeps what comes after an answer's last event: the factory's half of the receipt.
    pub async fn keep_receipt(&self, decision: &DecisionId, rest: &mut FrameStream) {
        while let Some(Ok(frame)) = rest.next().await {
            if let Frame::Receipt(half) = frame
                && let Err(error) = self.keep_half(decision.as_str(), &half).await
            {
                tracing::error!(error, %decision, "a receipt's half could not be kept");
            }
        }
    }

    /// Keeps the factory's half of a receipt, and counts what it used.
    pub async fn keep_half(&self, decision: &str, half: &Half) -> Result<(), String> {
        let Statement::Execution(execution) = &half.statement else {
            return Err("the half is not an execution's".to_owned());
        };
        let now = now_ms();
        let tokens = execution.prompt_tokens.saturating_add(execution.completion_tokens);
        let used = Used { day: day_of(now), factory: execution.factory.as_str(), tokens };
        let bytes = serde_json::to_vec(half).map_err(|e| e.to_string())?;
        let kept = self.store.keep_execution_half(decision, &bytes, &used).await;
        if kept.map_err(|e| e.to_string())? {
            self.view.count(&execution.factory, tokens, now);
        }
        Ok(())
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
            EngineError::ModelFile { .. } | EngineError::Failed { .. } => retries::ENGINE_FAILED,
        };
        Self::out(rule, &error.to_string())
    }
}
