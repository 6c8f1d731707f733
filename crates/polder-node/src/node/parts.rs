//! The parts of a node that need more than one line to be opened: its token, its engine, its peers and its home.
//!
//! What they do together is absent: that is `node.rs`.

use std::collections::BTreeMap;
use std::sync::Arc;

use polder_core::ids::NodeId;
use polder_core::keys::Role;
use polder_core::note::{MlDsaSigner, Signs as _};
use polder_core::policy::PolicySchema;
use polder_core::statement::v1::Source;
use polder_core::usage::{WINDOW_DAYS, Window, day_of};

use super::NodeError;
use crate::clock::now_ms;
use crate::config::{Config, EngineConfig, FactoryConfig, JobsConfig};
use crate::engine::embedded::Embedded;
use crate::engine::{EngineLimits, ModelSource};
use crate::factory::Factory;
use crate::home::lifecycle::Lifecycle;
use crate::home::{Home, View};
use crate::imports::Imports;
use crate::inference::Engine;
use crate::jobs::{self, Jobs};
use crate::key_care::KeyCare;
use crate::keys::NodeKeys;
use crate::log::Log;
use crate::log::alarms::Alarms;
use crate::log::witness::Witness;
use crate::members::Members;
use crate::peers::{Local, Peer};
use crate::pkcs11::Token;
use crate::store::Store;
use crate::upstream::Replicas;

/// The witness, with the keys that count now; by ML-DSA-44 too where the configuration asks for it, with a key that is made where it
/// is missing.
pub(super) fn open_witness(
    config: &Config,
    care: &KeyCare,
    store: &Store,
    alarms: &Alarms,
) -> Result<Arc<Witness>, NodeError> {
    let ml_dsa = match config.log.ml_dsa_44 {
        true => {
            Some(MlDsaSigner::from_seed(crate::keys::secret(&config.state.join("keys").join("witness-ml-dsa.key"))?))
        }
        false => None,
    };
    let keys = (care.ring().witness.clone(), ml_dsa);
    Ok(Arc::new(Witness::new(&config.node, keys, store.clone(), alarms.clone())))
}

/// The token, where the configuration names one. The card of a new node names keys in the token instead of those in files.
pub(super) fn open_token(config: &Config, keys: &mut NodeKeys) -> Result<Option<Arc<Token>>, NodeError> {
    let Some(settings) = &config.keys else { return Ok(None) };
    let token = Token::open(settings.token.clone())?;
    for (role, label) in [(Role::Log, &settings.log), (Role::Witness, &settings.witness)] {
        if let Some(label) = label {
            keys.name(role, token.by_label(label)?.public())?;
        }
    }
    Ok(Some(token))
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
    let schema = Arc::clone(schema);
    let opened = Factory::new(&keys.card, factory, schema, engine, log.clone(), store.clone()).await?;
    opened.rights().remember(&store.revoked().await?, now_ms());
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

/// The members as they were kept, and the channels to them.
pub(super) async fn open_members(
    config: &Config,
    (keys, care): (&NodeKeys, &KeyCare),
    (store, log): (&Store, &Log),
) -> Result<Arc<Members>, NodeError> {
    let own = (&keys.card, keys.identity.clone());
    let place = (config.peer_address, config.factory.is_some());
    let members = Members::open(own, place, &config.members, store.clone(), log.clone()).await?;
    members.reached.follow(&members.directory(), &care.channel_key()?)?;
    Ok(Arc::new(members))
}

/// The factories, by name.
type Peers = BTreeMap<NodeId, Arc<dyn Peer>>;

/// The factories that a home may choose among, and the keys that they sign their own facts with.
pub(super) fn factories(
    members: &Members,
    (node, own): (&NodeId, [u8; 32]),
    factory: Option<&Arc<Factory>>,
) -> (Peers, Vec<(NodeId, [u8; 32])>) {
    let (mut peers, mut authorities) = (Peers::new(), Vec::new());
    let (directory, remotes) = (members.directory(), members.reached.all());
    for held in directory.members.iter().filter(|held| held.member.factory) {
        let other = &held.member.card.node;
        let Some(remote) = remotes.get(other) else { continue };
        authorities.push((other.clone(), held.key(Role::Authority)));
        peers.insert(other.clone(), Arc::clone(remote) as Arc<dyn Peer>);
    }
    if let Some(factory) = factory {
        authorities.push((node.clone(), own));
        peers.insert(node.clone(), Arc::new(Local::new(node.clone(), Arc::clone(factory))));
    }
    (peers, authorities)
}

pub(super) async fn open_home(
    config: &Config,
    (keys, care): (&NodeKeys, &KeyCare),
    (store, log, imports): (&Store, &Log, &Arc<Imports>),
    schema: &Arc<PolicySchema>,
    factory: Option<&Arc<Factory>>,
    members: &Members,
) -> Result<Option<Arc<Home>>, NodeError> {
    let Some(home) = &config.home else { return Ok(None) };
    let own = keys.card.keys.get(&Role::Authority).map_or([0; 32], |held| held.key);
    let (peers, authorities) = factories(members, (&config.node, own), factory);
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
    let authority = care.authority()?;
    let home =
        Home::new(config.node.clone(), home, authority, peers, view, lifecycle, log.clone(), Arc::clone(imports));
    Ok(Some(Arc::new(home)))
}

/// The jobs of a home, and the runs at a factory. They begin once the node serves.
pub(super) fn open_jobs(
    config: &Config,
    care: &KeyCare,
    (store, log): (&Store, &Log),
    (home, factory): (Option<&Arc<Home>>, Option<&Arc<Factory>>),
    members: &Members,
) -> Result<Jobs, NodeError> {
    let settings = config.home.as_ref().map(|home| home.jobs.settings).unwrap_or_default();
    let runs = config.factory.as_ref().and_then(|factory| factory.jobs.as_ref());
    let parts = jobs::Parts::new(
        config.node.clone(),
        (home.cloned(), settings),
        (factory.cloned(), runs.map(JobsConfig::settings)),
        care.authority()?,
        (store.clone(), log.clone()),
        BTreeMap::clone(&members.reached.all()),
    );
    jobs::open(parts, runs).map_err(NodeError::System)
}
