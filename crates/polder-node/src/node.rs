//! One node: its parts put together from a configuration, started and stopped.
//!
//! A node is a home, a factory or both. Nothing here decides anything.

use std::fs::File;
use std::os::unix::fs::DirBuilderExt as _;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use http::StatusCode;
use hyper_util::service::TowerToHyperService;
use polder_core::note::VerifierKey;
use polder_core::statement::v1::Source;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::api;
use crate::clock::{ClockFault, Watch, now_ms};
use crate::config::Config;
use crate::content::{self, ContentStore};
use crate::factory::Factory;
use crate::gateway::{self, ApiError, Direct, Gateway};
use crate::home::Home;
use crate::imports::Imports;
use crate::jobs::Jobs;
use crate::key_care::{self, KeyCare};
use crate::keys::NodeKeys;
use crate::ledger::{Guesses, Ledger};
use crate::log::alarms::Alarms;
use crate::log::rounds;
use crate::log::witness::{self, Witness};
use crate::log::{self, Archive, Log, LogError};
use crate::members::{self, Members};
use crate::peers::Peer as _;
use crate::peers::tls::OwnKey;
use crate::retention::{self, Retention};
use crate::serve::{self, Express};
use crate::shutdown::Shutdown;
use crate::store::Store;
use crate::telemetry::Exporter;
use crate::tokens::Tokens;

mod company;
mod lock;
mod parts;
mod restored;

use lock::lock;
use parts::{open_factory, open_home, open_jobs, open_members, open_token, open_witness};
use restored::open_log;

/// How often a home asks the factories how they are, and how often while it has not heard of all of them once.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const LOOK_FIRST_EVERY: Duration = Duration::from_millis(100);

/// How long the end of a node waits for the last spans to go out.
const TELEMETRY_END_MAX: Duration = Duration::from_secs(3);

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
    /// The lives of its keys.
    #[error(transparent)]
    Care(#[from] crate::key_care::CareError),
    /// The token that keeps its keys.
    #[error(transparent)]
    Token(#[from] crate::pkcs11::TokenError),
    /// Its log.
    #[error(transparent)]
    Log(#[from] crate::log::LogError),
    /// Its memberships.
    #[error(transparent)]
    Members(#[from] crate::members::MembersError),
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
    /// Its jobs: those of its home, and the runs at its factory.
    pub jobs: Jobs,
    /// The care of the node's own keys.
    pub key_care: KeyCare,
    /// What is kept, and for how long.
    pub retention: Retention,
    imports: Arc<Imports>,
    witness: Arc<Witness>,
    /// Who is a member, and how each is reached.
    pub members: Arc<Members>,
    keys: NodeKeys,
    /// What is shown to whoever comes to the peers' port.
    shown: Arc<OwnKey>,
    /// Tells when everything has followed another directory or other keys.
    followed: watch::Sender<u64>,
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
        let mut keys = NodeKeys::open_or_create(&state.join("keys"), &config.node)?;
        let token = open_token(&config, &mut keys)?;
        let store = Store::open(&state.join("node.db")).await?;
        let archive = Archive::open(&config.log.tiles).map_err(LogError::from)?;
        let (key_care, signing) = KeyCare::open(&state.join("keys"), &keys, token, store.clone()).await?;
        keys.card = key_care.card()?;
        let own_keys = signing.ever.iter().map(|key| VerifierKey::of_log(&config.node, *key)).collect();
        let log = open_log(&config, &store, &key_care, (archive, signing)).await?;
        let alarms = Alarms::open(store.clone(), own_keys, config.node.clone()).await?;
        let witness = open_witness(&config, &key_care, &store, &alarms)?;
        let members = open_members(&config, (&keys, &key_care), (&store, &log)).await?;
        let imports = Arc::new(Imports::open(config.node.clone(), log.clone(), &store).await?);
        let schema = Arc::new(config.schema()?);
        let rules = config.retention.clone();
        let retention = Retention::open(config.node.clone(), rules, log.clone(), store.clone()).await?;
        let factory = open_factory(&config, &keys, (&store, &log, &imports), &schema).await?;
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
        let home =
            open_home(&config, (&keys, &key_care), (&store, &log, &imports), &schema, factory.as_ref(), &members)
                .await?;
        let jobs = open_jobs(&config, &key_care, (&store, &log), (home.as_ref(), factory.as_ref()), &members)?;
        let content = match &config.home {
            Some(home) => Some(ContentStore::open(state, &home.tenant, home.content, store.clone(), now_ms()).await?),
            None => None,
        };
        let of_home = home.iter().flat_map(|home| home.view.policies().refused());
        for problem in of_home.chain(factory.as_ref().and_then(|factory| factory.terms_problem())) {
            tracing::error!(problem, "a policy file was refused");
        }
        let shown = OwnKey::new(&key_care.channel_key()?)?;
        let node = Arc::new(Self {
            config,
            store,
            log,
            alarms,
            home,
            ledger,
            tokens,
            content,
            factory,
            jobs,
            key_care,
            retention,
            imports,
            witness,
            members,
            keys,
            shown,
            followed: watch::channel(0).0,
            _lock: lock,
            started_ms: now_ms(),
        });
        node.follow().await.map(|()| node)
    }

    /// Serves until shutdown. `ready` is called once every surface listens and the home has looked round.
    pub async fn serve(self: Arc<Self>, shutdown: Shutdown, ready: impl FnOnce()) -> Result<(), NodeError> {
        let limits = &self.config.limits;
        let bind = |address, setting| serve::bind(address, setting, limits.share_port).map_err(NodeError::System);
        let listener = bind(self.config.listen, "listen")?;
        let peers = self.config.peer_listen.map(|address| bind(address, "peer_listen")).transpose()?;
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
        self.serve_peers(peers, &workers, &mut tasks, &shutdown)?;
        let own = api::socket_router(Arc::clone(&self), self.log_router());
        tasks.spawn(serve::serve_socket(socket, own, shutdown.clone()));
        if let Some(home) = &self.home {
            home.look_round().await;
            tasks.spawn(look_round(Arc::clone(home), shutdown.clone()));
            if let Some(ledger) = &self.ledger {
                tasks.spawn(Arc::clone(ledger).run(Arc::clone(home), shutdown.clone()));
            }
        }
        self.keep_watch(&mut tasks, &shutdown);
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
        self.jobs.close().await;
        // What the last requests left behind is written before the database goes.
        self.log.close().await;
        self.store.close().await;
        Ok(())
    }

    /// What goes on beside requests: cosignatures, what peers tell, keys, and what has had its time.
    fn keep_watch(self: &Arc<Self>, tasks: &mut tokio::task::JoinSet<()>, shutdown: &Shutdown) {
        tasks.spawn(Arc::clone(self).hold_rounds(shutdown.clone()));
        tasks.spawn(key_care::tell(Arc::clone(self), shutdown.clone()));
        tasks.spawn(members::keep(Arc::clone(self), shutdown.clone()));
        tasks.spawn(rounds::listen(Arc::clone(self), shutdown.clone()));
        if let Some(content) = &self.content {
            tasks.spawn(content::sweeps(content.clone(), shutdown.clone()));
        }
        if self.config.retention.by_age {
            tasks.spawn(retention::sweeps(Arc::clone(self), shutdown.clone()));
        }
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

    /// The log, the lives of its keys and the witness as strangers reach them.
    fn log_router(self: &Arc<Self>) -> Router {
        let keys = Router::new().route("/log/keys", get(api::key_history)).with_state(Arc::clone(self));
        log::router(self.log.clone()).merge(witness::router(Arc::clone(&self.witness))).merge(keys)
    }

    /// What is wrong with this machine's clock: by what the home knows, or else by what the peers say now.
    pub async fn clock_fault(&self, now_ms: u64) -> Option<ClockFault> {
        if let Some(home) = &self.home {
            return home.view.clock_fault(now_ms);
        }
        let mut clocks = Vec::new();
        for peer in self.members.reached.all().values() {
            clocks.extend(peer.status().await.ok().and_then(|status| status.now_ms));
        }
        let mut watch = Watch::since(self.store.latest_ms().await.unwrap_or(u64::MAX));
        watch.look(now_ms, clocks);
        watch.fault(now_ms)
    }

    /// Whether the node can do its work: a home hears of some factory, a factory serves some model.
    fn readiness(&self) -> (StatusCode, &'static str) {
        let hears = |home: &Arc<Home>| home.view.known().values().any(|known| known.gone.is_none());
        let idle = |factory: &Arc<Factory>| !factory.runs_jobs() && factory.engine().models().is_empty();
        if self.factory.as_ref().is_some_and(idle) {
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
            "members": self.members.directory().members.len(),
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
