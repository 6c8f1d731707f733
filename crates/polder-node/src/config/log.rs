//! Where the log lies and who cosigns it: the `[log]` table as a person writes it, and what is made of it.
//!
//! Every setting has a value that suits a node by itself, so that a file need not name any. Keys of the log and of the witness
//! are absent: they lie with the node's others.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use polder_core::ids::NodeId;
use serde::{Deserialize, Serialize};

use super::{ConfigError, Member, read_text};

/// Most witnesses that are asked where the file does not name them.
const WITNESSES_MAX: usize = 16;
/// Pause between two rounds of cosignatures, in milliseconds: with the round itself a leaf is cosigned within a second.
const EVERY_MS: u64 = 900;
/// How long a round waits for its witnesses, in milliseconds.
const WAIT_MS: u64 = 1_000;
/// Longest pause between two rounds of cosignatures, in milliseconds.
const EVERY_MS_MAX: u64 = 3_600_000;

/// The `[log]` table.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// Where tiles lie; on disk where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<Place>,
    /// The folder of the tiles; `log` in the state folder where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<PathBuf>,
    /// The bucket of the tiles.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub s3: Option<S3>,
    /// Members that are asked to cosign; every other factory where absent, at most 16.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub witnesses: Option<BTreeSet<NodeId>>,
    /// Whether this node cosigns other logs by ML-DSA-44 too; no where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ml_dsa_44: Option<bool>,
    /// Milliseconds between two checkpoints that go to witnesses, at least; 900 where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every_ms: Option<u64>,
    /// Milliseconds that a round waits for its witnesses, at most; 1000 where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_ms: Option<u64>,
}

/// Where tiles lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// In a folder.
    Disk,
    /// In a bucket.
    S3,
}

/// The `[log.s3]` table: a bucket of anything that speaks S3.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct S3 {
    /// The server's address, such as `https://s3.example.org`.
    pub endpoint: String,
    /// The bucket.
    pub bucket: String,
    /// The region; `us-east-1` where absent, which servers without regions take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// What stands before every name, such as `logs/bank`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// The id of the access key.
    pub key_id: String,
    /// The file that holds the secret of the access key.
    pub secret_file: PathBuf,
}

/// Where the log lies and who cosigns it.
#[derive(Debug, Clone)]
pub struct LogConfig {
    /// Where its tiles lie.
    pub tiles: Tiles,
    /// Members that are asked to cosign.
    pub witnesses: BTreeSet<NodeId>,
    /// Whether this node cosigns other logs by ML-DSA-44 too.
    pub ml_dsa_44: bool,
    /// Between two checkpoints that go to witnesses, at least.
    pub every: Duration,
    /// How long a round waits for its witnesses.
    pub wait: Duration,
}

/// Where tiles lie.
#[derive(Clone)]
pub enum Tiles {
    /// In a folder.
    Disk(PathBuf),
    /// In a bucket, with the secret of its key.
    S3(S3, String),
}

/// Without the secret.
impl std::fmt::Debug for Tiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Disk(folder) => write!(f, "{}", folder.display()),
            Self::S3(s3, _) => write!(f, "{}/{}", s3.endpoint, s3.bucket),
        }
    }
}

impl Log {
    pub(super) fn check(
        self,
        node: &NodeId,
        (folder, state): (&Path, &Path),
        members: &[Member],
        content: &dyn Fn(String) -> ConfigError,
    ) -> Result<LogConfig, ConfigError> {
        let tiles = match (self.store.unwrap_or(Place::Disk), self.s3) {
            (Place::S3, Some(_)) if self.folder.is_some() => {
                return Err(content(
                    "log: `folder` is of `store = \"disk\"`: leave it out beside `[log.s3]`".to_owned(),
                ));
            }
            (Place::S3, Some(s3)) => {
                let secret = read_text(&folder.join(&s3.secret_file))?.trim().to_owned();
                Tiles::S3(s3, secret)
            }
            (Place::S3, None) => return Err(content("log: `store = \"s3\"` needs `[log.s3]`".to_owned())),
            (Place::Disk, Some(_)) => {
                return Err(content("log: `[log.s3]` needs `store = \"s3\"`".to_owned()));
            }
            (Place::Disk, None) => Tiles::Disk(self.folder.map_or_else(|| state.join("log"), |path| folder.join(path))),
        };
        let others = || members.iter().filter(|member| member.card.node != *node && member.factory);
        let witnesses = match self.witnesses {
            Some(named) => {
                let known = |name: &NodeId| others().any(|member| member.card.node == *name);
                if let Some(name) = named.iter().find(|name| !known(name)) {
                    return Err(content(format!("log: the witness `{name}` is not a factory among the other members")));
                }
                named
            }
            None => others().map(|member| member.card.node.clone()).take(WITNESSES_MAX).collect(),
        };
        let span = |name: &str, value: Option<u64>, default| match value.unwrap_or(default) {
            ms @ 1..=EVERY_MS_MAX => Ok(Duration::from_millis(ms)),
            other => Err(content(format!("log: `{name}` is {other}: choose 1 to {EVERY_MS_MAX} milliseconds"))),
        };
        Ok(LogConfig {
            tiles,
            witnesses,
            ml_dsa_44: self.ml_dsa_44.unwrap_or(false),
            every: span("every_ms", self.every_ms, EVERY_MS)?,
            wait: span("wait_ms", self.wait_ms, WAIT_MS)?,
        })
    }
}
