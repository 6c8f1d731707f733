//! The configuration as a person writes it: TOML, unknown keys refused.
//!
//! The demo writes these files through the same types, so that what it writes is what a node reads.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use polder_core::facts::{FACTS_MAX, Passport};
use polder_core::framework::Framework;
use polder_core::ids::{ModelId, NodeId, ProjectId, TenantId};
use polder_core::labels::{Country, DataClass, Labels, Language, Purpose};
use polder_core::placement::Weights;
use serde::{Deserialize, Serialize};

pub use super::jobs::{FactoryJobs, HomeJobs};
pub use super::keys::Keys;
pub use super::limits::Serve;
pub use super::log::Log;
pub use super::retention::Retention;
pub use super::routing::{Routing, Upstream};
pub use super::telemetry::Telemetry;
use super::{
    Admission, ApiKey, Assurance, Batches, ConfigError, EngineConfig, FactoryConfig, HomeConfig, Token, read_json,
    read_text,
};
use crate::content::ContentLimits;
use crate::frameworks;
use crate::home::lifecycle::Guardrail;
use crate::proof::SHIPPED_CLAIMS;

/// A node's file.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The node's name.
    pub node: NodeId,
    /// The folder that holds keys, database and socket.
    pub state: PathBuf,
    /// Where applications and operators connect.
    pub listen: SocketAddr,
    /// Where peers connect; absent for a node that needs none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer_listen: Option<SocketAddr>,
    /// The file of the other members.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub members: Option<PathBuf>,
    /// Largest request body that is read, in bytes; 8 MiB where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_bytes_max: Option<usize>,
    /// How connections are served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serve: Option<Serve>,
    /// Where the log lies and who cosigns it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<Log>,
    /// Which of its keys lie in a token; in files where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<Keys>,
    /// How long statements are kept; without it none is deleted by its age.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<Retention>,
    /// Digests of the operators' tokens.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tokens: Vec<Token>,
    /// Where spans and metrics are sent; nowhere where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub telemetry: Option<Telemetry>,
    /// What makes this node a home.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub home: Option<Home>,
    /// What makes this node a factory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub factory: Option<Factory>,
}

/// The `[home]` table.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Home {
    /// The tenant it speaks for.
    pub tenant: TenantId,
    /// The file of the federation's baseline.
    pub baseline: PathBuf,
    /// The file of the owner's policy.
    pub policy: PathBuf,
    /// The file of trusted issuers.
    pub trust: PathBuf,
    /// What the owner prefers.
    pub weights: Weights,
    /// How it goes about attempts.
    #[serde(default, skip_serializing_if = "Routing::is_default")]
    pub routing: Routing,
    /// The tenant's projects.
    pub projects: Vec<Project>,
    /// The applications' keys; those that the node made itself are not among them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<ApiKey>,
    /// Claims that must be proved of every policy before it comes into force: names, or paths of files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub guardrails: Vec<String>,
    /// The solver's program; `cvc5` on the PATH where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub solver: Option<PathBuf>,
    /// The files of further framework versions that policies may name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub frameworks: Vec<PathBuf>,
    /// How much content is kept for applications, and how long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<Content>,
    /// What is bounded before a request is looked at.
    #[serde(default, skip_serializing_if = "is_default")]
    pub admission: Admission,
    /// How batches run, and how large files may be.
    #[serde(default, skip_serializing_if = "is_default")]
    pub batches: Batches,
    /// How its jobs are gone about.
    #[serde(default, skip_serializing_if = "is_default")]
    pub jobs: HomeJobs,
}

fn is_default<T: Default + PartialEq>(table: &T) -> bool {
    *table == T::default()
}

impl Batches {
    fn check(self, content: &dyn Fn(String) -> ConfigError) -> Result<Self, ConfigError> {
        let ranges = [
            ("lines_at_once", u64::try_from(self.lines_at_once).unwrap_or(u64::MAX), 1..=4_096),
            ("lines_max", self.lines_max.into(), 1..=1_000_000),
            ("file_bytes_max", u64::try_from(self.file_bytes_max).unwrap_or(u64::MAX), 1..=1 << 36),
            ("window_s", self.window_s, 1..=30 * 86_400),
        ];
        match ranges.iter().find(|(_, value, range)| !range.contains(value)) {
            Some((name, _, range)) => {
                let (least, most) = (range.start(), range.end());
                Err(content(format!("`{name}` of `[home.batches]` must be {least} to {most}")))
            }
            None => Ok(self),
        }
    }
}

/// The `[home.content]` table.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Content {
    /// Most bytes that are kept for the tenant; 8 GiB where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_max: Option<u64>,
    /// Longest time that anything is kept, in days; 30 where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub days: Option<u32>,
}

impl Content {
    fn check(self, content: &dyn Fn(String) -> ConfigError) -> Result<ContentLimits, ConfigError> {
        let limits = ContentLimits { bytes_max: self.bytes_max.unwrap_or(8 << 30), days: self.days.unwrap_or(30) };
        match limits {
            ContentLimits { days: 0 | 3651.., .. } => {
                Err(content("`days` of `[home.content]` must be 1 to 3650".to_owned()))
            }
            ContentLimits { bytes_max: 0..0x0010_0000, .. } => {
                Err(content("`bytes_max` of `[home.content]` must be at least 1048576".to_owned()))
            }
            limits => Ok(limits),
        }
    }
}

/// One `[[home.projects]]` table.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Project {
    /// The project's name.
    pub id: ProjectId,
    /// How sensitive its data is at least.
    pub class: DataClass,
    /// What its work may be for.
    pub purposes: BTreeSet<Purpose>,
    /// Where it may run; anywhere the policies allow where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub countries: Option<BTreeSet<Country>>,
    /// The language of its texts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<Language>,
    /// What its work waits for; nothing where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assurance: Option<Assurance>,
}

/// The `[factory]` table.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Factory {
    /// The file of the factory's terms.
    pub terms: PathBuf,
    /// The file of the factory's facts.
    pub passport: PathBuf,
    /// Price of a million generated tokens, in micro-euro.
    pub price_microeur_per_mtok: u64,
    /// How many requests run at once.
    pub places: usize,
    /// How many more may wait; four times the places where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<usize>,
    /// Model files for the engine inside this process, by model name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub models: BTreeMap<ModelId, PathBuf>,
    /// An engine behind OpenAI's API, instead of model files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream: Option<Upstream>,
    /// What it offers for jobs; a factory that only runs jobs needs no model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jobs: Option<FactoryJobs>,
}

impl Home {
    pub(super) fn check(
        self,
        folder: &Path,
        content: &dyn Fn(String) -> ConfigError,
    ) -> Result<HomeConfig, ConfigError> {
        let (mut projects, mut strict) = (BTreeMap::new(), BTreeSet::new());
        for project in self.projects {
            if project.purposes.is_empty() {
                return Err(content(format!("project `{}` has no purpose: name at least one", project.id)));
            }
            let Project { id, class, purposes, countries, language, assurance } = project;
            if assurance == Some(Assurance::Strict) {
                strict.insert(id.clone());
            }
            if projects.insert(id.clone(), Labels { class, purposes, countries, language }).is_some() {
                return Err(content(format!("project `{id}` stands there twice")));
            }
        }
        if let Some(key) = self.keys.iter().find(|key| !projects.contains_key(&key.project)) {
            return Err(content(format!("a key names the project `{}`, which is not there", key.project)));
        }
        Ok(HomeConfig {
            tenant: self.tenant,
            baseline: folder.join(self.baseline),
            policy: folder.join(self.policy),
            trust: read_json(&folder.join(self.trust))?,
            weights: self.weights,
            routing: self.routing.check(content)?,
            projects,
            strict,
            keys: self.keys,
            guardrails: self
                .guardrails
                .iter()
                .map(|name| guardrail(name, folder, content))
                .collect::<Result<_, _>>()?,
            solver: self.solver.map(|solver| folder.join(solver)),
            frameworks: self
                .frameworks
                .iter()
                .map(|file| framework(&folder.join(file), content))
                .collect::<Result<_, _>>()?,
            admission: self.admission,
            batches: self.batches.check(content)?,
            jobs: self.jobs.check(content)?,
            content: self.content.unwrap_or_default().check(content)?,
        })
    }
}

fn framework(path: &Path, content: &dyn Fn(String) -> ConfigError) -> Result<Framework, ConfigError> {
    frameworks::of_file(path).map_err(|error| {
        let hint = error.hint().map_or_else(String::new, |hint| format!(" ({hint})"));
        content(format!("frameworks: {error}{hint}"))
    })
}

/// The claim of a name that Polder brings, or of a file.
fn guardrail(name: &str, folder: &Path, content: &dyn Fn(String) -> ConfigError) -> Result<Guardrail, ConfigError> {
    let shipped = SHIPPED_CLAIMS.iter().find(|(known, _)| *known == name);
    let parsed = match shipped {
        Some((name, text)) => Guardrail::parse(name, text),
        None if name.contains('/') || name.ends_with(".toml") => {
            Guardrail::parse(name, &read_text(&folder.join(name))?)
        }
        None => {
            let next = "`polder policy prove --list` shows the names; or give the path of a claim's file";
            return Err(content(format!("guardrails: no claim `{name}`: {next}")));
        }
    };
    parsed.map_err(|e| content(format!("guardrails: {e}")))
}

impl Factory {
    pub(super) fn check(
        self,
        folder: &Path,
        state: &Path,
        content: &dyn Fn(String) -> ConfigError,
    ) -> Result<FactoryConfig, ConfigError> {
        let engine = match self.upstream {
            Some(_) if !self.models.is_empty() => {
                return Err(content("a factory has `models` or `upstream`, not both".to_owned()));
            }
            Some(upstream) => EngineConfig::Upstream(upstream.check(folder, content)?),
            None if self.models.is_empty() && self.jobs.is_none() => {
                let next = "add `[factory.models]`, `[factory.upstream]` or `[factory.jobs]`";
                return Err(content(format!("a factory needs models or jobs: {next}")));
            }
            None => EngineConfig::Embedded(self.models.into_iter().map(|(id, path)| (id, folder.join(path))).collect()),
        };
        if self.places == 0 {
            return Err(content("`places` must be at least 1".to_owned()));
        }
        let passport: Passport = read_json(&folder.join(&self.passport))?;
        if passport.len() > FACTS_MAX {
            let (file, count) = (self.passport.display(), passport.len());
            return Err(content(format!("`{file}` has {count} facts: a passport has at most {FACTS_MAX}")));
        }
        Ok(FactoryConfig {
            terms: folder.join(self.terms),
            passport,
            price_microeur_per_mtok: self.price_microeur_per_mtok,
            places: self.places,
            queue: self.queue.unwrap_or(self.places.saturating_mul(4)),
            jobs: self.jobs.map(|jobs| jobs.check(folder, state, content)).transpose()?,
            engine,
        })
    }
}
