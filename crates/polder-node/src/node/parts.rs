//! The parts of a node that need more than one line to be opened: its token, its engine, its peers and its home.
//!
//! What they do together is absent: that is `node.rs`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use polder_core::ids::NodeId;
use polder_core::keys::Role;
use polder_core::note::{MlDsaSigner, Signs};
use polder_core::policy::PolicySchema;
use polder_core::statement::v1::Source;
use polder_core::usage::{WINDOW_DAYS, Window, day_of};

use super::NodeError;
use crate::clock::now_ms;
use crate::config::{Config, EngineConfig, FactoryConfig, JobsConfig, Member};
use crate::engine::embedded::Embedded;
use crate::engine::{EngineLimits, ModelSource};
use crate::factory::Factory;
use crate::home::lifecycle::Lifecycle;
use crate::home::{Home, Known, View};
use crate::imports::Imports;
use crate::inference::Engine;
use crate::jobs::{self, Jobs};
use crate::keys::NodeKeys;
use crate::log::Log;
use crate::peers::{Local, Peer, Remote};
use crate::pkcs11::Token;
use crate::store::Store;
use crate::upstream::Replicas;

/// The token, where there is one, and the key of the witness.
type Opened = (Option<Arc<Token>>, Arc<dyn Signs>);

/// The key by which the node cosigns with ML-DSA-44 too, where the configuration asks for it; made where it is missing.
pub(super) fn open_ml_dsa(config: &Config, keys: &Path) -> Result<Option<MlDsaSigner>, NodeError> {
    if !config.log.ml_dsa_44 {
        return Ok(None);
    }
    Ok(Some(MlDsaSigner::from_seed(crate::keys::secret(&keys.join("witness-ml-dsa.key"))?)))
}

/// The token, where the configuration names one, and the witness's key. The card names keys in a token instead of those in files.
pub(super) fn open_token(config: &Config, keys: &mut NodeKeys) -> Result<Opened, NodeError> {
    let witness: Arc<dyn Signs> = Arc::new(keys.key(Role::Witness)?.clone());
    let Some(settings) = &config.keys else { return Ok((None, witness)) };
    let token = Token::open(settings.token.clone())?;
    if let Some(label) = &settings.log {
        keys.name(Role::Log, token.by_label(label)?.public())?;
    }
    let Some(label) = &settings.witness else { return Ok((Some(token), witness)) };
    let key = token.by_label(label)?;
    keys.name(Role::Witness, key.public())?;
    Ok((Some(token), Arc::new(key)))
}

/// The factory, where the configuration makes the node one; its own facts and terms are written down first.
pub(super) async fn open_factory(
    config: &Config,
    keys: &NodeKeys,
    (store, log, imports): (&Store, &Log, &Imports),
    schema: &Arc<PolicySchema>,
) -> Result<Option<Arc<Factory>>, NodeError> {
    let Some(factory) = &config.factory else { return Ok(None) };
    let engine = engine(factory).await?;
    let (members, schema) = (&config.members, Arc::clone(schema));
    let opened = Factory::new(&keys.card, factory, members, schema, engine, log.clone(), store.clone()).await?;
    let said = opened.status();
    imports.facts(&config.node, Source::File, &said.passport, &said.terms).await?;
    Ok(Some(Arc::new(opened)))
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
pub(super) fn reached(config: &Config, keys: &NodeKeys) -> Result<BTreeMap<NodeId, Arc<Remote>>, NodeError> {
    let others = config.members.iter().filter(|member| member.factory && member.card.node != config.node);
    let remote = |member: &Member| {
        let node = member.card.node.clone();
        let pin = member.card.keys.get(&Role::Transport).map_or([0; 32], |held| held.key);
        let remote = Remote::new(node.clone(), member.address, pin, keys.key(Role::Transport)?)?;
        Ok((node, Arc::new(remote)))
    };
    others.map(remote).collect()
}

pub(super) async fn open_home(
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

/// The jobs of a home, and the runs at a factory. They begin once the node serves.
pub(super) fn open_jobs(
    config: &Config,
    keys: &NodeKeys,
    (store, log): (&Store, &Log),
    (home, factory): (Option<&Arc<Home>>, Option<&Arc<Factory>>),
    reached: &BTreeMap<NodeId, Arc<Remote>>,
) -> Result<Jobs, NodeError> {
    let settings = config.home.as_ref().map(|home| home.jobs.settings).unwrap_or_default();
    let runs = config.factory.as_ref().and_then(|factory| factory.jobs.as_ref());
    let parts = jobs::Parts::new(
        config.node.clone(),
        (home.cloned(), settings),
        (factory.cloned(), runs.map(JobsConfig::settings)),
        keys.key(Role::Authority)?.clone(),
        (store.clone(), log.clone()),
        reached.clone(),
    );
    jobs::open(parts, runs).map_err(NodeError::System)
}
