//! The files of a node in front of an engine that already runs: made once, the owner's to edit afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use polder_core::canonical::Digest;
use polder_core::ids::{NodeId, ProjectId, TenantId};
use polder_core::labels::{Closed as _, DataClass, Purpose};
use polder_core::placement::Weights;
use polder_node::config::{ApiKey, raw};
use polder_node::keys::write_private;

use crate::demo::new_key;
use crate::failure::{Failure, of_file};

/// What was set up.
pub struct SetUp {
    /// The node's configuration file.
    pub config: PathBuf,
    /// The application's key.
    pub key: String,
}

const POLICY: &str =
    "// Your rules. Each condition is a `forbid` of its own with `@id` and `@reason`; after a change: kill -HUP.
permit (principal, action, resource);
";
const TERMS: &str = "// The terms of this factory, in the same language.
permit (principal, action, resource);
";
const BASELINE: &str = "// One node alone: no federation's baseline to hold to.
permit (principal, action, resource);
";

/// Writes what is missing under `folder`; policies, terms, passport and key stay as they are where they exist.
pub fn set_up(folder: &Path, url: &str, listen: SocketAddr, key_file: Option<&Path>) -> Result<SetUp, Failure> {
    std::fs::create_dir_all(folder).map_err(of_file(folder))?;
    let texts = [
        ("policy.cedar", POLICY),
        ("terms.cedar", TERMS),
        ("baseline.cedar", BASELINE),
        ("passport.json", "[]\n"),
        ("trust.json", "[]\n"),
    ];
    for (name, text) in texts {
        let path = folder.join(name);
        if !path.exists() {
            std::fs::write(&path, text).map_err(of_file(&path))?;
        }
    }
    let path = folder.join("node.toml");
    refuse_while_running(folder)?;
    let key_path = folder.join("key");
    if !key_path.exists() {
        write_private(&key_path, new_key("local")?.as_bytes()).map_err(of_file(&key_path))?;
    }
    let key = std::fs::read_to_string(&key_path).map_err(of_file(&key_path))?.trim().to_owned();
    let before = of_last_start(&path);
    // What the owner wrote of the engine stays, and leaving the option out does not lose its key file.
    let kept = before.as_ref().and_then(|before| before.factory.as_ref()?.upstream.clone()).unwrap_or_default();
    let key_file = match key_file {
        Some(path) => Some(std::fs::canonicalize(path).map_err(of_file(path))?),
        None => kept.key_file.clone(),
    };
    let mut config = node_file(raw::Upstream { url: url.to_owned(), key_file, ..kept }, listen, &key)?;
    if let Some(before) = before {
        (config.serve, config.tokens, config.telemetry) = (before.serve, before.tokens, before.telemetry);
        // A log that moved to another place by itself would be a log without its tiles.
        config.log = before.log;
    }
    let text = toml::to_string(&config).map_err(|e| Failure::new(e.to_string()))?;
    std::fs::write(&path, text).map_err(of_file(&path))?;
    Ok(SetUp { config: path, key })
}

/// The files of a node that runs stay as they are.
fn refuse_while_running(folder: &Path) -> Result<(), Failure> {
    let Ok(lock) = std::fs::File::open(folder.join("state").join("lock")) else { return Ok(()) };
    match lock.try_lock() {
        Err(std::fs::TryLockError::WouldBlock) => {
            Err(Failure::new(format!("another node runs in `{}`", folder.display()))
                .hint("stop it, or name another folder with `--state`"))
        }
        _ => Ok(()),
    }
}

/// The node's file of its last start: how it serves, its operators' tokens, its collector, where its log lies and its engine's key file
/// stay as they are.
fn of_last_start(path: &Path) -> Option<raw::Config> {
    toml::from_str(&std::fs::read_to_string(path).ok()?).ok()
}

fn node_file(upstream: raw::Upstream, listen: SocketAddr, key: &str) -> Result<raw::Config, Failure> {
    let id = |e: polder_core::ids::IdError| Failure::new(e.to_string());
    let project = ProjectId::parse("default").map_err(id)?;
    let home = raw::Home {
        tenant: TenantId::parse("local").map_err(id)?,
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
        keys: vec![ApiKey { sha256: sha256(key), project }],
        guardrails: Vec::new(),
        solver: None,
        frameworks: Vec::new(),
        admission: Default::default(),
        batches: Default::default(),
        jobs: Default::default(),
        content: None,
    };
    let factory = raw::Factory {
        terms: "terms.cedar".into(),
        passport: "passport.json".into(),
        price_microeur_per_mtok: 0,
        places: 64,
        queue: None,
        models: BTreeMap::new(),
        upstream: Some(upstream),
        jobs: None,
    };
    Ok(raw::Config {
        retention: None,
        keys: None,
        node: NodeId::parse("local").map_err(id)?,
        state: "state".into(),
        listen,
        peer_listen: None,
        members: None,
        body_bytes_max: None,
        serve: None,
        log: None,
        tokens: Vec::new(),
        telemetry: None,
        home: Some(home),
        factory: Some(factory),
    })
}

/// The digest by which a node knows a key.
pub fn sha256(key: &str) -> Digest {
    use sha2::Digest as _;
    Digest(sha2::Sha256::digest(key.as_bytes()).into())
}
