//! A node's configuration: read raw from TOML, then checked into what the node runs on.
//!
//! Two types on purpose: what a person writes, and what has been looked at. Paths are relative to the file's folder.
//! Absent: environment variables and defaults hidden elsewhere; what is not in the file is in this file.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use polder_core::canonical::Digest;
use polder_core::facts::{Passport, TrustedIssuer};
use polder_core::framework::{Framework, shipped};
use polder_core::ids::{ModelId, NodeId, ProjectId, TenantId};
use polder_core::keys::NodeCard;
use polder_core::labels::Labels;
use polder_core::placement::Weights;
use polder_core::policy::{Layer, LayerKind, PolicySchema, TEXT_BYTES_MAX};
use polder_core::retention::Rules;
use serde::{Deserialize, Serialize};

use crate::content::ContentLimits;
use crate::home::lifecycle::Guardrail;

mod jobs;
mod keys;
mod limits;
mod log;
pub mod raw;
mod retention;
mod routing;
mod telemetry;

pub use routing::{Offered, Routing, UpstreamModel, Upstreams};

pub use jobs::{FactoryJobs, HomeJobs, HomeJobsConfig, JobsConfig};
pub use keys::{Keys, KeysConfig, PIN_VARIABLE};
pub use limits::Limits;
pub use log::{LogConfig, S3, Tiles};
pub use retention::Retention;
pub use telemetry::TelemetryConfig;

/// Largest request body that is read, in bytes, where the file does not say.
pub const BODY_BYTES_MAX: usize = 8 << 20;

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file cannot be read.
    #[error("cannot read `{path}`: {source}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file's contents are not what they should be.
    #[error("`{path}`: {message}")]
    Content {
        /// Which file.
        path: PathBuf,
        /// What is wrong, with line and column where known.
        message: String,
    },
    /// A policy does not hold.
    #[error("{_0}{hint}", hint = hint_of(_0))]
    Policy(#[from] polder_core::policy::PolicyError),
}

/// What to do about a policy error, where that is known.
fn hint_of(error: &polder_core::policy::PolicyError) -> String {
    error.hint.as_ref().map_or_else(String::new, |hint| format!(" ({hint})"))
}

/// A checked configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// The node's name.
    pub node: NodeId,
    /// The folder that holds keys, database and socket.
    pub state: PathBuf,
    /// Where applications and operators connect.
    pub listen: SocketAddr,
    /// Where peers connect.
    pub peer_listen: Option<SocketAddr>,
    /// The other members.
    pub members: Vec<Member>,
    /// Largest request body that is read, in bytes.
    pub body_bytes_max: usize,
    /// How connections are served.
    pub limits: Limits,
    /// Where the log lies and who cosigns it.
    pub log: LogConfig,
    /// Which of its keys lie in a token, if any.
    pub keys: Option<KeysConfig>,
    /// How long statements are kept.
    pub retention: Rules,
    /// Digests of the operators' tokens.
    pub tokens: Vec<Token>,
    /// Where spans and metrics are sent, if anywhere.
    pub telemetry: Option<TelemetryConfig>,
    /// What makes this node a home.
    pub home: Option<HomeConfig>,
    /// What makes this node a factory.
    pub factory: Option<FactoryConfig>,
}

/// Another node of the federation.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// Its public keys.
    pub card: NodeCard,
    /// Where peers reach it.
    pub address: SocketAddr,
    /// Whether it is a factory.
    pub factory: bool,
}

/// A token of the operators' surface.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// What its bearer may do.
    pub role: OperatorRole,
    /// SHA-256 of the token.
    pub sha256: Digest,
}

/// What a bearer of a token may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OperatorRole {
    /// Speaks for the tenant: policies, decisions, receipts.
    Owner,
    /// Runs the node.
    Operator,
    /// Approves or stops what must not run unseen.
    Reviewer,
    /// Reads decisions and receipts.
    Auditor,
}

/// What a project's work waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Assurance {
    /// Nothing: the leaf follows within moments, and a crash in between is named.
    Swift,
    /// The leaf of its decision: it is on disk and signed before anything is sent.
    Strict,
}

impl OperatorRole {
    const ALL: [Self; 4] = [Self::Owner, Self::Operator, Self::Reviewer, Self::Auditor];

    /// Its name, as files and calls write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Operator => "operator",
            Self::Reviewer => "reviewer",
            Self::Auditor => "auditor",
        }
    }

    /// The role of a name.
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == name)
    }
}

/// What makes a node a home.
#[derive(Debug, Clone)]
pub struct HomeConfig {
    /// The tenant it speaks for.
    pub tenant: TenantId,
    /// The file of the federation's baseline.
    pub baseline: PathBuf,
    /// The file of the owner's policy.
    pub policy: PathBuf,
    /// The issuers that the owner trusts.
    pub trust: Vec<TrustedIssuer>,
    /// What the owner prefers.
    pub weights: Weights,
    /// How it goes about attempts.
    pub routing: Routing,
    /// The tenant's projects, by name.
    pub projects: BTreeMap<ProjectId, Labels>,
    /// The projects whose work is sent only once its decision is in the log.
    pub strict: BTreeSet<ProjectId>,
    /// The applications' keys.
    pub keys: Vec<ApiKey>,
    /// What must be proved of every policy before it comes into force.
    pub guardrails: Vec<Guardrail>,
    /// The solver's program; `cvc5` on the PATH where absent.
    pub solver: Option<PathBuf>,
    /// Further framework versions that policies may name.
    pub frameworks: Vec<Framework>,
    /// How much content is kept for applications, and how long.
    pub content: ContentLimits,
    /// What is bounded before a request is looked at.
    pub admission: Admission,
    /// How batches run, and how large files may be.
    pub batches: Batches,
    /// How its jobs are gone about.
    pub jobs: HomeJobsConfig,
}

/// The `[home.admission]` table: what is bounded before a request is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Admission {
    /// Failed keys per minute from one address before it is made to wait.
    pub failed_keys_per_minute: u64,
    /// Largest sum of the answers that are kept in memory for repeats, in bytes.
    pub kept_answers_bytes_max: usize,
}

impl Default for Admission {
    fn default() -> Self {
        Self { failed_keys_per_minute: 30, kept_answers_bytes_max: 64 << 20 }
    }
}

/// The `[home.batches]` table: how batches run, and how large the files may be that they read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Batches {
    /// Lines of all batches that run at once.
    pub lines_at_once: usize,
    /// Most lines of one batch.
    pub lines_max: u32,
    /// Largest file that applications bring, in bytes.
    pub file_bytes_max: usize,
    /// How long a batch may take, in seconds; what has not run by then does not run.
    pub window_s: u64,
}

impl Default for Batches {
    fn default() -> Self {
        Self { lines_at_once: 16, lines_max: 50_000, file_bytes_max: 200 << 20, window_s: 86_400 }
    }
}

/// An application's key, without its secret.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiKey {
    /// SHA-256 of the key.
    pub sha256: Digest,
    /// The project it belongs to.
    pub project: ProjectId,
}

/// What makes a node a factory.
#[derive(Debug, Clone)]
pub struct FactoryConfig {
    /// The file of the factory's terms.
    pub terms: PathBuf,
    /// The factory's facts.
    pub passport: Passport,
    /// Price of a million generated tokens, in micro-euro.
    pub price_microeur_per_mtok: u64,
    /// How many requests run at once.
    pub places: usize,
    /// How many more may wait.
    pub queue: usize,
    /// What runs the models.
    pub engine: EngineConfig,
    /// How it runs jobs, where it does.
    pub jobs: Option<JobsConfig>,
}

/// What runs a factory's models.
#[derive(Debug, Clone)]
pub enum EngineConfig {
    /// The engine inside this process, on model files.
    Embedded(BTreeMap<ModelId, PathBuf>),
    /// Engines behind OpenAI's API.
    Upstream(Upstreams),
}

/// An engine behind OpenAI's API.
#[derive(Debug, Clone)]
pub struct UpstreamConfig {
    /// Its base URL, such as `http://127.0.0.1:8000/v1`.
    pub url: String,
    /// The key it asks for; never sent anywhere else.
    pub key: Option<String>,
}

/// Reads a file as text, with the error that names it.
pub fn read_text(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })
}

/// Reads a JSON file, with the error that names it and the place in it.
pub fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, ConfigError> {
    let text = read_text(path)?;
    serde_json::from_str(&text).map_err(|e| ConfigError::Content { path: path.to_owned(), message: e.to_string() })
}

/// Reads and checks a policy file.
pub fn read_layer(kind: LayerKind, path: &Path, schema: &PolicySchema) -> Result<(Layer, String), ConfigError> {
    let text = read_policy(path)?;
    Ok((Layer::parse(kind, &file_name(path), &text, schema)?, text))
}

/// Reads the text of a policy file, if it is no larger than a policy may be.
pub fn read_policy(path: &Path) -> Result<String, ConfigError> {
    use std::io::Read as _;
    let failed = |source| ConfigError::Read { path: path.to_owned(), source };
    let (file, mut text) = (std::fs::File::open(path).map_err(failed)?, String::new());
    file.take(TEXT_BYTES_MAX as u64 + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() > TEXT_BYTES_MAX {
        let message = format!("larger than a policy may be, which is {TEXT_BYTES_MAX} bytes");
        return Err(ConfigError::Content { path: path.to_owned(), message });
    }
    Ok(text)
}

/// A file's name, without its folder.
pub fn file_name(path: &Path) -> String {
    path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}

impl Config {
    /// The schema of every policy: over the frameworks that Polder brings, and the home's own.
    pub fn schema(&self) -> Result<PolicySchema, ConfigError> {
        let own = self.home.iter().flat_map(|home| home.frameworks.iter().cloned());
        let made = shipped().and_then(|shipped| PolicySchema::new(shipped.into_iter().chain(own).collect()));
        made.map_err(|message| ConfigError::Content {
            path: PathBuf::from("frameworks"),
            message: format!("no policy schema can be made of these frameworks: {message}"),
        })
    }

    /// Reads and checks a configuration file.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let content = |message: String| ConfigError::Content { path: path.to_owned(), message };
        let raw: raw::Config = toml::from_str(&read_text(path)?).map_err(|e| content(e.to_string()))?;
        let folder = path.parent().map_or_else(PathBuf::new, Path::to_owned);
        let members: Vec<Member> = match &raw.members {
            Some(members) => read_json(&folder.join(members))?,
            None => Vec::new(),
        };
        for member in &members {
            member.card.check().map_err(|e| content(format!("members: {e}")))?;
        }
        if raw.home.is_none() && raw.factory.is_none() {
            return Err(content("a node is a home, a factory or both: add `[home]` or `[factory]`".to_owned()));
        }
        let state = folder.join(raw.state);
        let log = raw.log.unwrap_or_default().check(&raw.node, (&folder, &state), &members, &content)?;
        let home = raw.home.map(|home| home.check(&folder, &content)).transpose()?;
        let retention = raw.retention.map(|table| table.check(home.as_ref(), &content)).transpose()?;
        Ok(Self {
            home,
            keys: raw.keys.map(|keys| keys.check(&folder, &content)).transpose()?,
            retention: retention.unwrap_or_default(),
            factory: raw.factory.map(|factory| factory.check(&folder, &state, &content)).transpose()?,
            node: raw.node,
            state,
            log,
            listen: raw.listen,
            peer_listen: raw.peer_listen,
            members,
            limits: raw.serve.unwrap_or_default().check(&content)?,
            body_bytes_max: raw.body_bytes_max.unwrap_or(BODY_BYTES_MAX),
            tokens: raw.tokens,
            telemetry: raw.telemetry.map(|telemetry| telemetry.check(&folder, &content)).transpose()?,
        })
    }
}

#[cfg(test)]
mod tests;
