//! The demo's files: keys, facts, policies, configurations, and the model.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use ed25519_dalek::SigningKey;
use polder_core::facts::Passport;
use polder_core::ids::{ModelId, NodeId};
use polder_core::keys::Role;
use polder_node::config::{ApiKey, Member, raw};
use polder_node::keys::{NodeKeys, write_private};
use polder_twin::federation::{Factory, Federation, FederationKeys, PolicyText, Tenant};
use serde::Serialize;

use super::{config_path, new_key};
use crate::address::{ProjectRecord, TenantRecord};
use crate::commands::up::sha256;
use crate::failure::{Failure, of_file};

const FEDERATION: &str = include_str!("../../../../demo/federation.toml");
/// The texts that the federation's description names.
const TEXTS: &[(&str, &str)] = &[
    ("policies/baseline.cedar", include_str!("../../../../demo/policies/baseline.cedar")),
    ("policies/bank.cedar", include_str!("../../../../demo/policies/bank.cedar")),
    ("policies/defence.cedar", include_str!("../../../../demo/policies/defence.cedar")),
    ("policies/image-lab.cedar", include_str!("../../../../demo/policies/image-lab.cedar")),
    ("policies/start-up.cedar", include_str!("../../../../demo/policies/start-up.cedar")),
    ("terms/open.cedar", include_str!("../../../../demo/terms/open.cedar")),
    ("terms/bologna.cedar", include_str!("../../../../demo/terms/bologna.cedar")),
];
/// The toy model, in the Hugging Face layout.
const MODEL: &[(&str, &[u8])] = &[
    ("config.json", include_bytes!("../../../../demo/model/config.json")),
    ("generation_config.json", include_bytes!("../../../../demo/model/generation_config.json")),
    ("tokenizer.json", include_bytes!("../../../../demo/model/tokenizer.json")),
    ("tokenizer_config.json", include_bytes!("../../../../demo/model/tokenizer_config.json")),
    ("model.safetensors", include_bytes!("../../../../demo/model/model.safetensors")),
];
/// The facts hold from the day before until a year after the demo was made, in milliseconds.
const DAY_MS: u64 = 86_400_000;
const YEAR_MS: u64 = 365 * DAY_MS;

/// What was laid out.
pub struct Plan {
    /// The demo's folder.
    pub dir: PathBuf,
    /// Every node, factories first, with its place for people; empty for a home.
    pub nodes: Vec<(NodeId, String)>,
    /// The tenants with their endpoints and keys.
    pub tenants: Vec<TenantRecord>,
}

/// Lays the demo out in a folder. `model` replaces the toy model.
pub fn lay_out(dir: &Path, model: Option<&Path>) -> Result<Plan, Failure> {
    let read = |path: &str| TEXTS.iter().find(|(name, _)| *name == path).map(|(_, text)| *text);
    let federation =
        Federation::parse("demo/federation.toml", FEDERATION, read).map_err(|e| Failure::new(e.to_string()))?;
    let model = match model {
        Some(path) => std::fs::canonicalize(path).map_err(of_file(path))?,
        None => write_model(&dir.join("model"))?,
    };
    let homes = federation.tenants.iter().map(|tenant| (tenant.home.clone(), String::new()));
    let nodes: Vec<(NodeId, String)> =
        federation.factories.iter().map(|factory| (factory.id.clone(), factory.place.clone())).chain(homes).collect();
    let mut keys = BTreeMap::new();
    for (node, _) in &nodes {
        let folder = node_folder(dir, node).join("state").join("keys");
        keys.insert(node.clone(), NodeKeys::open_or_create(&folder, node).map_err(|e| Failure::new(e.to_string()))?);
    }
    let signers = signers(&federation, &keys)?;
    let now = polder_node::clock::now_ms();
    let passports = federation
        .passports(&signers, now.saturating_sub(DAY_MS), now.saturating_add(YEAR_MS))
        .map_err(|e| Failure::new(e.to_string()))?;
    let mut ports = free_ports(nodes.len() * 2)?.into_iter();
    let mut port = || ports.next().ok_or_else(|| Failure::new("no free port is left"));
    let mut members = Vec::new();
    let (mut listens, mut tenants) = (BTreeMap::new(), Vec::new());
    for (node, place) in &nodes {
        let (listen, address) = (port()?, port()?);
        listens.insert(node.clone(), (listen, address));
        let card = keys.get(node).map(|keys| keys.card.clone()).ok_or_else(|| Failure::new("a node has no keys"))?;
        members.push(Member { card, address, factory: !place.is_empty() });
    }
    write_json(&dir.join("members.json"), &members)?;
    for factory in &federation.factories {
        let listen = listens.get(&factory.id).copied();
        let passport = passports.get(&factory.id).cloned().unwrap_or_default();
        write_factory(dir, factory, listen, &passport, &model)?;
    }
    for tenant in &federation.tenants {
        let listen = listens.get(&tenant.home).copied();
        tenants.push(write_home(dir, &federation, tenant, listen, &signers)?);
    }
    Ok(Plan { dir: dir.to_owned(), nodes, tenants })
}

fn node_folder(dir: &Path, node: &NodeId) -> PathBuf {
    dir.join("nodes").join(node.as_str())
}

fn write_model(folder: &Path) -> Result<PathBuf, Failure> {
    std::fs::create_dir_all(folder).map_err(of_file(folder))?;
    for (name, bytes) in MODEL {
        let path = folder.join(name);
        std::fs::write(&path, bytes).map_err(of_file(&path))?;
    }
    Ok(folder.to_owned())
}

/// The keys that sign facts: new ones for the third parties, the nodes' own for what they declare.
fn signers(federation: &Federation, keys: &BTreeMap<NodeId, NodeKeys>) -> Result<FederationKeys, Failure> {
    let mut signers = FederationKeys::default();
    for issuer in &federation.issuers {
        let seed = polder_node::clock::random().map_err(|e| Failure::new(format!("no randomness: {e}")))?;
        signers.issuers.insert(issuer.id.clone(), SigningKey::from_bytes(&seed));
    }
    for factory in &federation.factories {
        if let Some(keys) = keys.get(&factory.id) {
            let key = keys.key(Role::Authority).map_err(|e| Failure::new(e.to_string()))?;
            signers.factories.insert(factory.id.clone(), key.clone());
        }
    }
    Ok(signers)
}

/// Loopback ports that are free now, all different because all are held while they are chosen.
fn free_ports(count: usize) -> Result<Vec<SocketAddr>, Failure> {
    let no_port = |e: std::io::Error| Failure::new(format!("no free port on loopback: {e}"));
    let mut held = Vec::new();
    for _ in 0..count {
        held.push(TcpListener::bind(("127.0.0.1", 0)).map_err(no_port)?);
    }
    held.iter().map(|listener| listener.local_addr().map_err(no_port)).collect()
}

fn write_text(folder: &Path, policy: &PolicyText) -> Result<PathBuf, Failure> {
    let path = folder.join(policy.file_name());
    std::fs::write(&path, &policy.text).map_err(of_file(&path))?;
    Ok(policy.file_name().into())
}

fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(|e| Failure::new(e.to_string()))?;
    std::fs::write(path, text).map_err(of_file(path))
}

/// Many nodes on one machine: a thread each, and an end that a person waits for.
fn serve() -> raw::Serve {
    raw::Serve { workers: Some(1), drain_s: Some(8), ..raw::Serve::default() }
}

fn write_config(dir: &Path, config: &raw::Config) -> Result<(), Failure> {
    let text = toml::to_string(config).map_err(|e| Failure::new(e.to_string()))?;
    let path = config_path(dir, &config.node);
    write_private(&path, text.as_bytes()).map_err(of_file(&path))
}

fn write_factory(
    dir: &Path,
    factory: &Factory,
    listen: Option<(SocketAddr, SocketAddr)>,
    passport: &Passport,
    model: &Path,
) -> Result<(), Failure> {
    let folder = node_folder(dir, &factory.id);
    let (listen, peer_listen) = listen.ok_or_else(|| Failure::new("a factory has no port"))?;
    write_json(&folder.join("passport.json"), passport)?;
    let models: BTreeMap<ModelId, PathBuf> = factory.models.iter().map(|id| (id.clone(), model.to_owned())).collect();
    let config = raw::Config {
        retention: None,
        keys: None,
        node: factory.id.clone(),
        state: "state".into(),
        listen,
        peer_listen: Some(peer_listen),
        members: Some("../../members.json".into()),
        body_bytes_max: None,
        serve: Some(serve()),
        log: None,
        tokens: Vec::new(),
        telemetry: None,
        home: None,
        factory: Some(raw::Factory {
            terms: write_text(&folder, &factory.terms)?,
            passport: "passport.json".into(),
            price_microeur_per_mtok: factory.price_microeur_per_mtok,
            places: usize::try_from(factory.places).unwrap_or(1),
            queue: None,
            models,
            upstream: None,
            // A core or two of this machine, so that `polder run` has somewhere to go.
            jobs: Some(raw::FactoryJobs { cores: Some(2), ..raw::FactoryJobs::default() }),
        }),
    };
    write_config(dir, &config)
}

fn write_home(
    dir: &Path,
    federation: &Federation,
    tenant: &Tenant,
    listen: Option<(SocketAddr, SocketAddr)>,
    signers: &FederationKeys,
) -> Result<TenantRecord, Failure> {
    let folder = node_folder(dir, &tenant.home);
    let (listen, _) = listen.ok_or_else(|| Failure::new("a home has no port"))?;
    write_json(&folder.join("trust.json"), &federation.trust(tenant, &signers.issuers_public()))?;
    let (mut projects, mut keys, mut records) = (Vec::new(), Vec::new(), Vec::new());
    for project in &tenant.projects {
        let key = new_key(project.id.as_str())?;
        keys.push(ApiKey { sha256: sha256(&key), project: project.id.clone() });
        let labels = project.labels.clone();
        projects.push(raw::Project {
            id: project.id.clone(),
            class: labels.class,
            purposes: labels.purposes,
            countries: labels.countries,
            language: labels.language,
            assurance: None,
        });
        records.push(ProjectRecord { project: project.id.clone(), key, model: project.model.clone() });
    }
    let config = raw::Config {
        retention: None,
        keys: None,
        node: tenant.home.clone(),
        state: "state".into(),
        listen,
        peer_listen: None,
        members: Some("../../members.json".into()),
        body_bytes_max: None,
        serve: Some(serve()),
        log: None,
        tokens: Vec::new(),
        telemetry: None,
        home: Some(raw::Home {
            tenant: tenant.id.clone(),
            baseline: write_text(&folder, &federation.baseline)?,
            policy: write_text(&folder, &tenant.policy)?,
            trust: "trust.json".into(),
            weights: tenant.weights,
            routing: raw::Routing::default(),
            projects,
            keys,
            guardrails: Vec::new(),
            solver: None,
            frameworks: Vec::new(),
            admission: Default::default(),
            batches: Default::default(),
            jobs: Default::default(),
            content: None,
        }),
        factory: None,
    };
    write_config(dir, &config)?;
    Ok(TenantRecord {
        tenant: tenant.id.clone(),
        home: tenant.home.clone(),
        endpoint: format!("http://{listen}/v1"),
        key: records.first().map(|record| record.key.clone()).unwrap_or_default(),
        question: tenant.question.clone(),
        projects: records,
    })
}
