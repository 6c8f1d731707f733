//! One node: its parts put together from a configuration, started and stopped.
//!
//! A node is a home, a factory or both. Nothing here decides anything.

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::routing::get;
use axum::{Json, Router};
use http::StatusCode;
use hyper_util::service::TowerToHyperService;
use polder_core::ids::NodeId;
use polder_core::keys::Role;
use polder_core::note::VerifierKey;
use polder_core::policy::PolicySchema;
use polder_core::statement::v1::Source;
use polder_core::usage::{WINDOW_DAYS, Window, day_of};
use serde_json::{Value, json};

use crate::api;
use crate::clock::now_ms;
use crate::config::{Config, EngineConfig, FactoryConfig, Member};
use crate::content::{self, ContentStore};
use crate::engine::embedded::Embedded;
use crate::engine::{EngineLimits, ModelSource};
use crate::factory::Factory;
use crate::gateway::{self, ApiError, Direct, Gateway};
use crate::home::lifecycle::Lifecycle;
use crate::home::{Home, Known, View};
use crate::imports::Imports;
use crate::inference::Engine;
use crate::keys::NodeKeys;
use crate::ledger::{Guesses, Ledger};
use crate::log::alarms::Alarms;
use crate::log::rounds::{self, Rounds};
use crate::log::witness::{self, Witness};
use crate::log::{self, Archive, Log, LogError};
use crate::peers::{Local, Peer, Remote, server, tls};
use crate::serve::{self, Express};
use crate::shutdown::Shutdown;
use crate::store::Store;
use crate::telemetry::Exporter;
use crate::tokens::Tokens;
use crate::upstream::Replicas;

/// How often a home asks the factories how they are, and how often while it has not heard of all of them once.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const LOOK_FIRST_EVERY: Duration = Duration::from_millis(100);

/// How long the end of a node waits for the last spans to go out.
const TELEMETRY_END_MAX: Duration = Duration::from_secs(3);

/// How long a start waits for the lock of a node that has just ended.
const LOCK_TRIES: u32 = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// Why a node cannot run.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// Its configuration, or a file that it names.
    #[error(transparent)]
    Config(#[from] crate::config::ConfigError),
    /// Its key files.
    #[error(transparent)]
    Keys(#[from] crate::keys::KeyError),
    /// Its database.
    #[error(transparent)]
    Store(#[from] crate::store::StoreError),
    /// Its log.
    #[error(transparent)]
    Log(#[from] crate::log::LogError),
    /// What it keeps for applications.
    #[error(transparent)]
    Content(#[from] crate::content::ContentError),
    /// Its TLS keys.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// Something it needs from the system, with the next step.
    #[error("{0}")]
    System(String),
}

/// A node's parts.
pub struct Node {
    /// What it runs on.
    pub config: Config,
    /// Its database.
    pub store: Store,
    /// Its log.
    pub log: Log,
    /// What was found wrong with any log.
    pub alarms: Alarms,
    /// Its home, where it is one.
    pub home: Option<Arc<Home>>,
    /// The keys, budgets and usage of its tenant, where it is a home.
    pub ledger: Option<Arc<Ledger>>,
    /// Its operators' tokens.
    pub tokens: Tokens,
    /// What it keeps for applications, where it is a home.
    pub content: Option<ContentStore>,
    /// Its factory, where it is one.
    pub factory: Option<Arc<Factory>>,
    imports: Arc<Imports>,
    witness: Arc<Witness>,
    reached: BTreeMap<NodeId, Arc<Remote>>,
    keys: NodeKeys,
    /// Held while the node lives: two nodes in one state folder would fork its log.
    _lock: File,
    started_ms: u64,
}

impl Node {
    /// Opens a node's state and puts its parts together.
    pub async fn open(config: Config) -> Result<Arc<Self>, NodeError> {
        let system = |what: &str, error: &dyn std::fmt::Display| NodeError::System(format!("{what}: {error}"));
        let state = &config.state;
        let mut folder = std::fs::DirBuilder::new();
        let made = folder.recursive(true).mode(0o700).create(state);
        made.map_err(|e| system(&format!("cannot make the state folder `{}`", state.display()), &e))?;
        let lock = lock(state).await?;
        let keys = NodeKeys::open_or_create(&state.join("keys"), &config.node)?;
        let store = Store::open(&state.join("node.db")).await?;
        let archive = Archive::open(&config.log.tiles).map_err(LogError::from)?;
        let (log_key, card) = (keys.key(Role::Log)?.clone(), Arc::new(keys.card.clone()));
        let log = Log::open_in(Some(archive), store.clone(), log_key, card).await?;
        let log_key = VerifierKey::of_log(&config.node, keys.key(Role::Log)?.verifying_key());
        let alarms = Alarms::open(store.clone(), log_key, config.node.clone(), &config.members).await?;
        let witness = Witness::new(&config.node, keys.key(Role::Witness)?.clone(), store.clone(), alarms.clone());
        let reached = reached(&config, &keys)?;
        let imports = Arc::new(Imports::open(config.node.clone(), log.clone(), &store).await?);
        let schema = Arc::new(config.schema()?);
        let factory = match &config.factory {
            Some(factory) => {
                let engine = engine(factory).await?;
                let (members, schema) = (&config.members, Arc::clone(&schema));
                let opened =
                    Factory::new(&keys.card, factory, members, schema, engine, log.clone(), store.clone()).await?;
                let said = opened.status();
                imports.facts(&config.node, Source::File, &said.passport, &said.terms).await?;
                Some(Arc::new(opened))
            }
            None => None,
        };
        let ledger = match &config.home {
            Some(home) => {
                let opened = Ledger::open(home, store.clone()).await;
                Some(Arc::new(opened.map_err(|e| NodeError::System(e.to_string()))?))
            }
            None => None,
        };
        // Wrong keys and wrong tokens of one address count together.
        let guesses = ledger.as_ref().map_or_else(Arc::<Guesses>::default, |ledger| Arc::clone(&ledger.guesses));
        let tokens = Tokens::open(&config.tokens, store.clone(), guesses).await?;
        let home = open_home(&config, &keys, (&store, &log, &imports), &schema, factory.as_ref(), &reached).await?;
        let content = match &config.home {
            Some(home) => Some(ContentStore::open(state, &home.tenant, home.content, store.clone(), now_ms()).await?),
            None => None,
        };
        let of_home = home.iter().flat_map(|home| home.view.policies().refused());
        for problem in of_home.chain(factory.as_ref().and_then(|factory| factory.terms_problem())) {
            tracing::error!(problem, "a policy file was refused");
        }
        Ok(Arc::new(Self {
            config,
            store,
            log,
            alarms,
            home,
            ledger,
            tokens,
            content,
            factory,
            imports,
            witness: Arc::new(witness),
            reached,
            keys,
            _lock: lock,
            started_ms: now_ms(),
        }))
    }

    /// Serves until shutdown. `ready` is called once every surface listens and the home has looked round.
    pub async fn serve(self: Arc<Self>, shutdown: Shutdown, ready: impl FnOnce()) -> Result<(), NodeError> {
        let limits = &self.config.limits;
        let bind = |address, setting| serve::bind(address, setting, limits.share_port).map_err(NodeError::System);
        let listener = bind(self.config.listen, "listen")?;
        let peers = match (self.config.peer_listen, &self.factory) {
            (Some(address), Some(_)) => Some(bind(address, "peer_listen")?),
            _ => None,
        };
        let socket_path = self.config.state.join("api.sock");
        let socket = serve::bind_socket(&socket_path).map_err(|e| {
            NodeError::System(format!("cannot make the node's own socket `{}`: {e}", socket_path.display()))
        })?;
        let workers = Arc::new(
            serve::Workers::start(limits.workers)
                .map_err(|e| NodeError::System(format!("cannot start the threads that serve connections: {e}")))?,
        );
        let telemetry = self.config.telemetry.as_ref().and_then(|one| Exporter::open(one, self.config.node.as_str()));
        let (ended, sends) = tokio::sync::oneshot::channel();
        let telemetry = telemetry.map(|exporter| tokio::spawn(exporter.run(Arc::clone(&self), sends)));
        let mut tasks = tokio::task::JoinSet::new();
        if let (Some(listener), Some(factory)) = (peers, &self.factory) {
            let pins = tls::pins(&self.config.members);
            let config = tls::server_config(self.keys.key(Role::Transport)?, pins.clone())?;
            let (parts, limit) = ((Arc::clone(factory), self.peers_log_router()), self.config.body_bytes_max);
            let (limits, workers, stop) = (limits.clone(), Arc::clone(&workers), shutdown.clone());
            tasks.spawn(server::serve(listener, config, pins, parts, limit, limits, workers, stop));
        }
        tasks.spawn(serve::serve_socket(socket, api::socket_router(Arc::clone(&self)), shutdown.clone()));
        if let Some(home) = &self.home {
            home.look_round().await;
            tasks.spawn(look_round(Arc::clone(home), shutdown.clone()));
            if let Some(ledger) = &self.ledger {
                tasks.spawn(Arc::clone(ledger).run(Arc::clone(home), shutdown.clone()));
            }
        }
        tasks.spawn(self.rounds().run(shutdown.clone()));
        let (peers, every) = (self.reached.clone(), self.config.log.every);
        tasks.spawn(rounds::listen(peers, self.alarms.clone(), every, shutdown.clone()));
        if let Some(content) = &self.content {
            tasks.spawn(content::sweeps(content.clone(), shutdown.clone()));
        }
        let gateway = self.gateway();
        if let Some(gateway) = &gateway {
            tasks.spawn(gateway::run_batches(gateway.clone(), shutdown.clone()));
        }
        let (router, express) = self.router(gateway);
        let service = TowerToHyperService::new(router);
        tasks.spawn(serve::serve_tcp(listener, service, express, limits.clone(), Arc::clone(&workers), shutdown));
        ready();
        while let Some(ended) = tasks.join_next().await {
            ended.map_err(|e| NodeError::System(format!("a part of the node ended: {e}")))?;
        }
        if let Some(telemetry) = telemetry {
            // Whoever sends may have ended already.
            let _ = ended.send(());
            drop(tokio::time::timeout(TELEMETRY_END_MAX, telemetry).await);
        }
        if let Some(workers) = Arc::into_inner(workers) {
            workers.end().await;
        }
        // The socket's file is gone with the node; one left by a crash is replaced at the next start.
        drop(std::fs::remove_file(&socket_path));
        if let Some(ledger) = &self.ledger {
            ledger.close().await;
        }
        // What the last requests left behind is written before the database goes.
        self.log.close().await;
        self.store.close().await;
        Ok(())
    }

    /// What applications speak to, where it is a home.
    fn gateway(&self) -> Option<Gateway> {
        let (home, ledger, content) = (self.home.as_ref()?, self.ledger.as_ref()?, self.content.as_ref()?);
        Some(Gateway {
            home: Arc::clone(home),
            ledger: Arc::clone(ledger),
            body_bytes_max: self.config.body_bytes_max,
            content: content.clone(),
            live: gateway::Live::default(),
            batches: gateway::Batches::new(self.config.home.as_ref()?.batches),
        })
    }

    /// Every route, and what ordinary requests reach without a router.
    fn router(self: &Arc<Self>, gateway: Option<Gateway>) -> (Router, Express<Direct>) {
        let mut router = api::router(Arc::clone(self))
            .route("/healthz", get(|| async { "ok\n" }))
            .route("/readyz", {
                let node = Arc::clone(self);
                get(move || async move { node.readiness() })
            })
            .merge(self.log_router());
        let mut express = gateway::nothing();
        if let Some(gateway) = gateway {
            let kept = self.config.home.as_ref().map_or(0, |home| home.admission.kept_answers_bytes_max);
            let (routes, direct) = gateway::router(gateway, kept);
            (router, express) = (router.merge(routes), direct);
        }
        (router.fallback(unknown_route), express)
    }

    /// The rounds in which peers cosign this node's log.
    fn rounds(&self) -> Rounds {
        let key = |member: &Member| {
            let key = member.card.key(Role::Witness).ok()?;
            Some((member.card.node.clone(), VerifierKey::of_witness(&member.card.node, key)))
        };
        let keys = self.config.members.iter().filter_map(key).collect();
        Rounds::new(self.log.clone(), &self.config.log, &self.reached, &keys, self.alarms.clone())
    }

    /// The log and the witness as strangers reach them.
    fn log_router(&self) -> Router {
        log::router(self.log.clone()).merge(witness::router(Arc::clone(&self.witness)))
    }

    /// The same as peers reach them, and what this node tells them of other logs.
    fn peers_log_router(&self) -> Router {
        let alarms = self.alarms.clone();
        let told = move || async move {
            alarms.told().await.map(Json).map_err(|error| {
                tracing::error!(%error, "alarms cannot be told");
                StatusCode::SERVICE_UNAVAILABLE
            })
        };
        self.log_router().route("/peer/v1/alarms", get(told))
    }

    /// Whether the node can do its work: a home hears of some factory, a factory serves some model.
    fn readiness(&self) -> (StatusCode, &'static str) {
        let hears = |home: &Arc<Home>| home.view.known().values().any(|known| known.gone.is_none());
        if self.factory.as_ref().is_some_and(|factory| factory.engine().models().is_empty()) {
            return (StatusCode::SERVICE_UNAVAILABLE, "no model can be served\n");
        }
        match self.home.as_ref().is_none_or(hears) {
            true => (StatusCode::OK, "ok\n"),
            false => (StatusCode::SERVICE_UNAVAILABLE, "no factory answers\n"),
        }
    }

    /// How the node is, for its operators.
    pub fn status(&self) -> Value {
        let home = self.home.as_ref().map(|home| {
            let known = home.view.known();
            let policies = home.view.policies();
            json!({
                "tenant": home.tenant,
                "factories": known.len(),
                "factories_up": known.values().filter(|known| known.gone.is_none()).count(),
                "policy": policies.owner.digest(),
                "baseline": policies.baseline.digest(),
                "policy_version": policies.version.number,
                "policy_file": policies.version.file,
                "guardrails": home.lifecycle.guardrails().iter().map(|one| &one.claim.name).collect::<Vec<_>>(),
                "policy_problems": policies.refused(),
                "clock_problem": home.view.clock_fault(now_ms()).map(|fault| fault.to_string()),
            })
        });
        let factory = self.factory.as_ref().map(|factory| {
            let status = factory.status();
            let failures: Vec<Value> = factory
                .engine()
                .failures()
                .into_iter()
                .map(|(model, error)| json!({"model": model, "error": error.to_string()}))
                .collect();
            json!({
                "models": status.models, "backend": status.backend, "places": status.places,
                "running": status.running, "model_problems": failures, "terms_problem": factory.terms_problem(),
            })
        });
        json!({
            "node": self.config.node,
            "version": env!("CARGO_PKG_VERSION"),
            "up_ms": now_ms().saturating_sub(self.started_ms),
            "log_leaves": self.log.size(),
            "log_published": self.log.published().edge.size(),
            "log_cosignatures": self.log.cosignatures(),
            "alarms": self.alarms.count(),
            "identity": hex::encode(self.keys.card.identity),
            "home": home,
            "factory": factory,
        })
    }

    /// Reads policies and terms again. What is broken stays as it was; the messages say where.
    pub async fn reload(&self) -> Result<(), Vec<String>> {
        let mut problems = Vec::new();
        if let Some(home) = &self.home {
            problems.extend(home.lifecycle.reload(&home.view).await);
        }
        if let Some(factory) = &self.factory {
            match factory.reload_terms().await {
                Ok(refused) => problems.extend(refused),
                Err(error) => problems.push(error.to_string()),
            }
            let said = factory.status();
            let recorded = self.imports.facts(&said.node, Source::File, &said.passport, &said.terms).await;
            problems.extend(recorded.err().map(|error| error.to_string()));
        }
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }
}

/// One node for one state folder. The lock ends with its process, however that ends; the system may take a moment for it.
async fn lock(state: &Path) -> Result<File, NodeError> {
    let path = state.join("lock");
    let failed = |reason: String| NodeError::System(format!("`{}`: {reason}", path.display()));
    let file =
        File::options().create(true).truncate(false).write(true).open(&path).map_err(|e| failed(e.to_string()))?;
    for _ in 0..LOCK_TRIES {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => tokio::time::sleep(LOCK_PAUSE).await,
            Err(TryLockError::Error(error)) => return Err(failed(error.to_string())),
        }
    }
    Err(failed("another node runs in this folder: stop it, or use another `state`".to_owned()))
}

/// Whoever leaves `/v1` out of a base URL arrives here.
async fn unknown_route(uri: http::Uri) -> ApiError {
    let message = format!("`{}` is not offered here; an application's base URL ends in `/v1`", uri.path());
    ApiError::new(StatusCode::NOT_FOUND, "unknown_url", message)
}

async fn look_round(home: Arc<Home>, mut shutdown: Shutdown) {
    loop {
        let heard_of_all = home.view.known().values().all(|known| known.status.is_some());
        let pause = if heard_of_all { LOOK_EVERY } else { LOOK_FIRST_EVERY };
        tokio::select! {
            () = tokio::time::sleep(pause) => home.look_round().await,
            () = shutdown.wait() => return,
        }
    }
}

async fn engine(config: &FactoryConfig) -> Result<Arc<dyn Engine>, NodeError> {
    match &config.engine {
        EngineConfig::Upstream(upstream) => {
            let replicas = Replicas::connect(upstream, config.places).await.map_err(NodeError::System)?;
            Ok(replicas)
        }
        EngineConfig::Embedded(models) => {
            let source = |(id, path): (&polder_core::ids::ModelId, &std::path::PathBuf)| ModelSource {
                id: id.to_string(),
                path: path.clone(),
            };
            let sources: Vec<ModelSource> = models.iter().map(source).collect();
            let (parallel, queue) = (config.places, config.queue);
            let limits = EngineLimits { parallel, queue, ..EngineLimits::default() };
            let loaded = tokio::task::spawn_blocking(move || Embedded::load(&sources, limits)).await;
            let engine = loaded.map_err(|e| NodeError::System(format!("loading the models broke off: {e}")))?;
            for (model, error) in engine.failures() {
                tracing::error!(model, %error, "a model cannot be served");
            }
            Ok(Arc::new(engine))
        }
    }
}

/// The other factories, each over one connection for everything that this node asks of it.
fn reached(config: &Config, keys: &NodeKeys) -> Result<BTreeMap<NodeId, Arc<Remote>>, NodeError> {
    let others = config.members.iter().filter(|member| member.factory && member.card.node != config.node);
    let remote = |member: &Member| {
        let node = member.card.node.clone();
        let pin = member.card.keys.get(&Role::Transport).map_or([0; 32], |held| held.key);
        let remote = Remote::new(node.clone(), member.address, pin, keys.key(Role::Transport)?)?;
        Ok((node, Arc::new(remote)))
    };
    others.map(remote).collect()
}

async fn open_home(
    config: &Config,
    keys: &NodeKeys,
    (store, log, imports): (&Store, &Log, &Arc<Imports>),
    schema: &Arc<PolicySchema>,
    factory: Option<&Arc<Factory>>,
    reached: &BTreeMap<NodeId, Arc<Remote>>,
) -> Result<Option<Arc<Home>>, NodeError> {
    let Some(home) = &config.home else { return Ok(None) };
    let mut peers: BTreeMap<NodeId, Arc<dyn Peer>> = BTreeMap::new();
    let mut authorities = Vec::new();
    for member in config.members.iter().filter(|member| member.factory && member.card.node != config.node) {
        let Some(remote) = reached.get(&member.card.node) else { continue };
        authorities.push((member.card.node.clone(), Known::authority_of(member)));
        peers.insert(member.card.node.clone(), Arc::clone(remote) as Arc<dyn Peer>);
    }
    if let Some(factory) = factory {
        let own = keys.card.keys.get(&Role::Authority).map_or([0; 32], |held| held.key);
        authorities.push((config.node.clone(), own));
        peers.insert(config.node.clone(), Arc::new(Local::new(config.node.clone(), Arc::clone(factory))));
    }
    let (node, schema_, imports_) = (config.node.clone(), Arc::clone(schema), Arc::clone(imports));
    let lifecycle = Lifecycle::new(node, home, schema_, store.clone(), log.clone(), imports_);
    let policies = lifecycle.open().await?;
    let failed = |error: crate::store::StoreError| NodeError::System(error.to_string());
    let mut window = Window::default();
    for (day, factory, tokens) in
        store.usage_since(day_of(now_ms()).saturating_sub(WINDOW_DAYS)).await.map_err(failed)?
    {
        if let Ok(factory) = NodeId::parse(&factory) {
            window.add(day, &factory, tokens);
        }
    }
    let latest_ms = store.latest_ms().await.map_err(failed)?;
    let (schema, trust) = (Arc::clone(schema), home.trust.clone());
    let view = View::new(&authorities, schema, trust, home.weights, policies, window, latest_ms);
    let view = view.map_err(crate::config::ConfigError::from)?;
    imports.grounds(view.grounds()).await?;
    let authority = keys.key(Role::Authority)?.clone();
    let home =
        Home::new(config.node.clone(), home, authority, peers, view, lifecycle, log.clone(), Arc::clone(imports));
    Ok(Some(Arc::new(home)))
}
