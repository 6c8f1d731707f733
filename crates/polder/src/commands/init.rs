//! `polder init`: the folder of a new node: keys, configuration, policies to begin with, checked before anything runs.
//!
//! What lies there already stays as it is, so that running it again changes nothing. Running the node is absent: `polder up` does that.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use polder_core::ids::{IdError, ModelId, NodeId, ProjectId, TenantId};
use polder_core::labels::{Closed as _, DataClass, Purpose};
use polder_core::placement::Weights;
use polder_node::config::{ApiKey, Config, raw};
use polder_node::keys::{NodeKeys, write_private};
use serde_json::json;

use super::up::sha256;
use crate::Output;
use crate::demo::new_key;
use crate::failure::{Exit, Failure, of_file};
use crate::render;

const POLICY: &str =
    "// Your rules. Each condition is a `forbid` of its own with `@id` and `@reason`; after a change: kill -HUP.
permit (principal, action, resource);
";
const TERMS: &str = "// The terms of this factory, in the same language: who may use it, for what, when.
permit (principal, action, resource);
";
const BASELINE: &str = "// The federation's baseline: the same text at each of its homes.
permit (principal, action, resource);
";
/// The node's file in its folder.
const FILE: &str = "polder.toml";

/// Make a new node: its keys, its configuration, and policies to begin with.
///
/// A node is a home with --tenant, a factory with --model or --upstream, or both. What is there
/// already stays as it is: running it again changes nothing.
///
/// Example: polder init paris --node paris --model toy=models/toy --peer-listen 10.0.0.7:7443
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Arguments {
    /// The node's folder.
    folder: PathBuf,
    /// The node's name, which the others will know it by.
    #[arg(long, value_name = "NAME")]
    node: String,
    /// The tenant that it speaks for: it is a home.
    #[arg(long, value_name = "NAME")]
    tenant: Option<String>,
    /// A model that it serves itself, as NAME=FOLDER: it is a factory. Can be given more than once.
    #[arg(long, value_name = "NAME=FOLDER", conflicts_with = "upstream")]
    model: Vec<String>,
    /// The base URL of an engine that it serves: it is a factory.
    #[arg(long, value_name = "URL")]
    upstream: Option<String>,
    /// How many requests a factory runs at once.
    #[arg(long, value_name = "COUNT", default_value_t = 4)]
    places: usize,
    /// Price of a million generated tokens at a factory, in micro-euro.
    #[arg(long, value_name = "MICROEURO", default_value_t = 0)]
    price: u64,
    /// Where applications and operators connect.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Where other members connect; without it the node only connects outwards.
    #[arg(long, value_name = "ADDR")]
    peer_listen: Option<SocketAddr>,
    /// Where other members reach it, where that is not --peer-listen.
    #[arg(long, value_name = "ADDR", requires = "peer_listen")]
    peer_address: Option<SocketAddr>,
}

/// Makes what is missing, and checks all of it.
pub fn run(arguments: &Arguments, output: Output) -> Result<ExitCode, Failure> {
    let node = NodeId::parse(&arguments.node).map_err(usage)?;
    if arguments.tenant.is_none() && arguments.model.is_empty() && arguments.upstream.is_none() {
        let failure = Failure::new("a node is a home, a factory or both").exit(Exit::Usage);
        return Err(
            failure.hint("say `--tenant NAME` for a home, `--model NAME=FOLDER` or `--upstream URL` for a factory")
        );
    }
    let folder = &arguments.folder;
    std::fs::create_dir_all(folder).map_err(of_file(folder))?;
    let file = folder.join(FILE);
    let made = !file.exists();
    if made {
        write_all(arguments, &node)?;
    }
    let config = Config::load(&file).map_err(|error| Failure::new(error.to_string()))?;
    if config.node != node {
        let failure = Failure::new(format!("`{}` is the folder of the node `{}`", folder.display(), config.node));
        return Err(failure.hint("name another folder, or that node"));
    }
    let keys = NodeKeys::open_or_create(&config.state.join("keys"), &node);
    let keys = keys.map_err(|error| Failure::new(error.to_string()))?;
    let identity = hex::encode(keys.card.identity);
    let key_file = config.home.as_ref().map(|_| folder.join("key"));
    match output {
        Output::Json => render::json(&json!({
            "node": node, "identity": identity, "config": file, "made": made, "key_file": key_file,
            "endpoint": config.home.as_ref().map(|_| format!("http://{}/v1", config.listen)),
        }))?,
        Output::Table => {
            let what = if made { "made" } else { "was there already, and nothing was changed" };
            render::line(&format!("`{node}` {what}; its identity is {identity}"))?;
            eprintln!("next:  polder up --config {}", file.display());
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn usage(error: IdError) -> Failure {
    Failure::new(error.to_string()).exit(Exit::Usage)
}

/// Writes what a new node needs; its own file last, so that what broke off is taken up again.
fn write_all(arguments: &Arguments, node: &NodeId) -> Result<(), Failure> {
    let folder = &arguments.folder;
    let factory = factory(arguments)?;
    let home = arguments.tenant.as_ref().map(|tenant| home(folder, tenant)).transpose()?;
    let mut texts = Vec::new();
    if factory.is_some() {
        texts.extend([("terms.cedar", TERMS), ("passport.json", "[]\n")]);
    }
    if home.is_some() {
        texts.extend([("policy.cedar", POLICY), ("baseline.cedar", BASELINE), ("trust.json", "[]\n")]);
    }
    for (name, text) in texts {
        let path = folder.join(name);
        if !path.exists() {
            std::fs::write(&path, text).map_err(of_file(&path))?;
        }
    }
    let config = raw::Config {
        node: node.clone(),
        state: "state".into(),
        listen: arguments.listen,
        peer_listen: arguments.peer_listen,
        peer_address: arguments.peer_address,
        members: None,
        body_bytes_max: None,
        serve: None,
        log: None,
        keys: None,
        retention: None,
        tokens: Vec::new(),
        telemetry: None,
        home,
        factory,
    };
    let text = toml::to_string(&config).map_err(|error| Failure::new(error.to_string()))?;
    let path = folder.join(FILE);
    write_private(&path, text.as_bytes()).map_err(of_file(&path))
}

fn factory(arguments: &Arguments) -> Result<Option<raw::Factory>, Failure> {
    let mut models = BTreeMap::new();
    for model in &arguments.model {
        let pair = model.split_once('=').ok_or_else(|| {
            let failure = Failure::new(format!("`{model}` names no folder")).exit(Exit::Usage);
            failure.hint("write NAME=FOLDER, such as toy=models/toy")
        })?;
        let path = std::fs::canonicalize(pair.1).map_err(of_file(Path::new(pair.1)))?;
        models.insert(ModelId::parse(pair.0).map_err(usage)?, path);
    }
    if models.is_empty() && arguments.upstream.is_none() {
        return Ok(None);
    }
    let upstream = arguments.upstream.clone().map(|url| raw::Upstream { url, ..raw::Upstream::default() });
    Ok(Some(raw::Factory {
        terms: "terms.cedar".into(),
        passport: "passport.json".into(),
        price_microeur_per_mtok: arguments.price,
        places: arguments.places,
        queue: None,
        models,
        upstream,
        jobs: None,
    }))
}

fn home(folder: &Path, tenant: &str) -> Result<raw::Home, Failure> {
    let project = ProjectId::parse("default").map_err(usage)?;
    let path = folder.join("key");
    if !path.exists() {
        write_private(&path, new_key("default")?.as_bytes()).map_err(of_file(&path))?;
    }
    let key = std::fs::read_to_string(&path).map_err(of_file(&path))?.trim().to_owned();
    Ok(raw::Home {
        tenant: TenantId::parse(tenant).map_err(usage)?,
        baseline: "baseline.cedar".into(),
        policy: "policy.cedar".into(),
        trust: "trust.json".into(),
        weights: Weights { price: 1, load: 1, latency: 1, ..Weights::default() },
        routing: raw::Routing::default(),
        projects: vec![raw::Project {
            id: project.clone(),
            class: DataClass::Public,
            purposes: Purpose::all().into_iter().collect::<BTreeSet<_>>(),
            countries: None,
            language: None,
            assurance: None,
        }],
        keys: vec![ApiKey { sha256: sha256(&key), project }],
        guardrails: Vec::new(),
        solver: None,
        frameworks: Vec::new(),
        content: None,
        admission: Default::default(),
        batches: Default::default(),
        jobs: Default::default(),
    })
}
