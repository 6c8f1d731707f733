//! How a home goes about attempts, and what engines elsewhere a factory has: two tables of the configuration.
//!
//! Numbers only: where something may run is the policies' affair and stands in none of these.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use polder_core::ids::ModelId;
use polder_core::{breaker, retry};
use serde::{Deserialize, Serialize};

use super::{ConfigError, UpstreamConfig, read_text};

/// Most engines behind one factory.
pub const REPLICAS_MAX: usize = 64;

/// The `[home.routing]` table; each value stands for itself where it is absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Routing {
    /// Most attempts for a request, the first among them.
    pub attempts: u32,
    /// Retries for each hundred requests.
    pub retry_percent: u32,
    /// Retries a second, whatever the requests.
    pub retries_per_s: u32,
    /// Longest wait for the first piece of a stream, in milliseconds.
    pub first_token_ms: u64,
    /// Longest wait for an answer that is no stream, in milliseconds.
    pub answer_ms: u64,
    /// No attempt begins later than this after the request came, in milliseconds.
    pub deadline_ms: u64,
    /// Failures in a row after which a factory is left alone.
    pub breaker_failures: u32,
    /// For how long the first time, in milliseconds; each failed probe doubles it.
    pub breaker_open_ms: u64,
    /// For how long at most, in milliseconds.
    pub breaker_open_ms_max: u64,
}

impl Default for Routing {
    fn default() -> Self {
        Self {
            attempts: 3,
            retry_percent: 20,
            retries_per_s: 10,
            first_token_ms: 60_000,
            answer_ms: 600_000,
            deadline_ms: 120_000,
            breaker_failures: 3,
            breaker_open_ms: 5_000,
            breaker_open_ms_max: 60_000,
        }
    }
}

impl Routing {
    /// Whether nothing differs from what is taken anyway.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// What its breakers go by.
    pub fn breaker(&self) -> breaker::Limits {
        breaker::Limits {
            failures: self.breaker_failures,
            forget_ms: 60_000,
            open_ms: self.breaker_open_ms,
            open_ms_max: self.breaker_open_ms_max,
            // A probe ends with its time-out; this is for one that never says how it ended.
            probe_ms: self.first_token_ms,
        }
    }

    /// What its retry budget goes by.
    pub fn retry(&self) -> retry::Limits {
        retry::Limits { percent: self.retry_percent, per_s: self.retries_per_s }
    }

    pub(super) fn check(self, content: &dyn Fn(String) -> ConfigError) -> Result<Self, ConfigError> {
        let at_least = [
            ("attempts", u64::from(self.attempts)),
            ("first_token_ms", self.first_token_ms),
            ("answer_ms", self.answer_ms),
            ("breaker_failures", u64::from(self.breaker_failures)),
            ("breaker_open_ms", self.breaker_open_ms),
        ];
        if let Some((name, _)) = at_least.into_iter().find(|(_, value)| *value == 0) {
            return Err(content(format!("home.routing: `{name}` must be at least 1")));
        }
        if self.breaker_open_ms_max < self.breaker_open_ms {
            return Err(content("home.routing: `breaker_open_ms_max` is less than `breaker_open_ms`".to_owned()));
        }
        Ok(self)
    }
}

/// The `[factory.upstream]` table.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Upstream {
    /// The engine's base URL, such as `http://127.0.0.1:8000/v1`.
    pub url: String,
    /// The file that holds the key it asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_file: Option<PathBuf>,
    /// Longest wait for the first piece of a stream before another replica is asked, in milliseconds; 50 s where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_token_ms: Option<u64>,
    /// Further engines that serve the same models.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replicas: Vec<Replica>,
    /// The models that are offered; all that the engines serve where absent.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub models: BTreeMap<ModelId, UpstreamModel>,
}

/// One entry of `[[factory.upstream.replicas]]`. A key goes to its own URL and to no other replica's.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Replica {
    /// Its base URL.
    pub url: String,
    /// The file that holds the key it asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_file: Option<PathBuf>,
}

/// One `[factory.upstream.models."name"]` table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpstreamModel {
    /// What the engine calls it, where that is another name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alias_of: Option<String>,
    /// Longest prompt plus answer, in tokens; what the engine says where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_tokens: Option<u32>,
    /// Most tokens of an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_tokens_max: Option<u32>,
    /// How many requests for it run at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrent: Option<u32>,
    /// What the engine does with it; chat and embeddings where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offers: Option<BTreeSet<Offered>>,
}

/// What an engine does with a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Offered {
    /// Answers conversations.
    Chat,
    /// Turns texts into vectors.
    Embed,
    /// Orders texts by a query.
    Rerank,
    /// Makes pictures.
    Image,
}

impl UpstreamModel {
    /// Whether the engine does this with it.
    pub fn does(&self, what: Offered) -> bool {
        self.offers.as_ref().map_or(matches!(what, Offered::Chat | Offered::Embed), |offers| offers.contains(&what))
    }
}

/// Engines behind OpenAI's API that serve the same models.
#[derive(Debug, Clone)]
pub struct Upstreams {
    /// The engines, at least one.
    pub replicas: Vec<UpstreamConfig>,
    /// The models that are offered; all where empty.
    pub models: BTreeMap<ModelId, UpstreamModel>,
    /// Longest wait for the first piece of a stream before another replica is asked, in milliseconds.
    pub first_token_ms: u64,
}

impl Upstream {
    pub(super) fn check(
        self,
        folder: &Path,
        content: &dyn Fn(String) -> ConfigError,
    ) -> Result<Upstreams, ConfigError> {
        let first = Replica { url: self.url, key_file: self.key_file };
        let mut replicas: Vec<UpstreamConfig> = Vec::new();
        for replica in std::iter::once(first).chain(self.replicas) {
            if replica.url.contains('@') {
                // Not shown: it may hold a password.
                return Err(content("an upstream's `url` must not hold a name or password: use `key_file`".to_owned()));
            }
            let same = |other: &&UpstreamConfig| other.url.trim_end_matches('/') == replica.url.trim_end_matches('/');
            if let Some(other) = replicas.iter().find(same) {
                return Err(content(format!("the upstream `{}` stands there twice", other.url)));
            }
            let key = replica.key_file.map(|file| read_text(&folder.join(file))).transpose()?;
            replicas.push(UpstreamConfig { url: replica.url, key: key.map(|key| key.trim().to_owned()) });
        }
        if replicas.len() > REPLICAS_MAX {
            return Err(content(format!("{} upstreams: a factory has at most {REPLICAS_MAX}", replicas.len())));
        }
        for (name, model) in &self.models {
            let zero = [model.context_tokens, model.output_tokens_max, model.concurrent].contains(&Some(0));
            if zero || model.alias_of.as_deref() == Some("") {
                return Err(content(format!("the model `{name}`: a limit must be at least 1, a name not empty")));
            }
        }
        let first_token_ms = self.first_token_ms.unwrap_or(50_000).max(1);
        Ok(Upstreams { replicas, models: self.models, first_token_ms })
    }
}

#[cfg(test)]
mod tests;
