//! Where logs are read: a node at a URL or on its socket, a folder with tiles, or a file that was exported.
//!
//! Everything has a limit: how much is read, and how long is waited. Nobody who serves is believed here; that is for whoever asked.

use std::path::{Path, PathBuf};
use std::time::Duration;

use polder_core::canonical::{Digest, bytes_as_hex};
use polder_core::ids::NodeId;
use polder_core::keys::Signed;
use polder_core::keys::history::KeyHistory;
use polder_core::note::NOTE_BYTES_MAX;
use polder_core::statement::commitment;
use polder_core::tiles::{Kind, Place, push_entry};
use reqwest::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::client::{Answer, Client};
use crate::failure::{Failure, of_file};

/// Longest answer that is read of statements or objects, in bytes.
const ANSWER_BYTES_MAX: usize = 256 << 20;
/// Longest tile or bundle, in bytes: 256 entries of 34.
const TILE_BYTES_MAX: usize = 256 * 34;
/// Longest history of keys that is read, in bytes.
const KEYS_BYTES_MAX: usize = 4 << 20;
/// Longest exported file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 4 << 30;
/// Most objects that are asked for at once.
const OBJECTS_MAX: usize = 128;
/// The value of an exported file's own field.
pub const EXPORT_V1: &str = "polder/audit-export/v1";

/// A statement as its node shows it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// Its place.
    pub index: u64,
    /// Its salt.
    #[serde(with = "bytes_as_hex")]
    pub salt: [u8; 32],
    /// Its canonical JSON.
    pub statement: String,
}

/// An entry whose statement is not shown.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hidden {
    /// Its place.
    pub index: u64,
    /// The log entry.
    pub entry: Digest,
}

/// Statements from a place on.
#[derive(Debug, Clone, Deserialize)]
pub struct Page {
    /// The statements.
    pub statements: Vec<Row>,
    /// The place from which to go on.
    pub next: u64,
}

/// What a statement names.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Object {
    /// Its digest.
    pub digest: Digest,
    /// Its text.
    pub text: String,
}

/// When a node was cut short.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CutRun {
    /// The last instant that a leaf names.
    pub recorded_ms: u64,
    /// When the next run began.
    pub next_ms: u64,
}

/// What a node says beside its statements.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Numbers {
    /// The node.
    pub node: NodeId,
    /// When it was cut short.
    #[serde(default)]
    pub cut: Vec<CutRun>,
    /// The rest, for people.
    #[serde(flatten)]
    pub more: serde_json::Map<String, Value>,
}

/// A log and what stands behind it, as a file.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exported {
    /// Always [`EXPORT_V1`].
    pub audit: String,
    /// The checkpoint.
    pub checkpoint: String,
    /// Every statement up to it.
    pub statements: Vec<Row>,
    /// The entries whose statements are not shown.
    pub hidden: Vec<Hidden>,
    /// What decisions name.
    pub objects: Vec<Object>,
    /// What the node says beside.
    pub numbers: Numbers,
    /// The checkpoints of other logs that it has cosigned.
    pub seen: Vec<String>,
    /// The lives of the node's keys, signed by its identity; absent where it told none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<Signed<KeyHistory>>,
}

/// A place where a log is read.
pub struct Source {
    /// Its name for people.
    pub name: String,
    at: At,
    patience: Duration,
}

enum At {
    Node { client: Client, statements: bool },
    Folder(PathBuf),
    File(Box<Exported>),
}

impl Source {
    /// A node; with `statements` it is asked for more than what is public.
    pub fn node(name: String, client: Client, statements: bool, patience: Duration) -> Self {
        Self { name, at: At::Node { client, statements }, patience }
    }

    /// A URL, a socket, a folder or a file.
    pub fn open(text: &str, token: Option<&str>, patience: Duration) -> Result<Self, Failure> {
        let name = text.to_owned();
        if text.starts_with("http://") || text.starts_with("https://") {
            return Ok(Self::node(name, Client::to(text, token)?, token.is_some(), patience));
        }
        let path = Path::new(text);
        let kind = std::fs::metadata(path).map_err(of_file(path))?;
        let at = if kind.is_dir() {
            let inside = ["", "log", "state/log"].map(|inside| path.join(inside));
            let found = inside.into_iter().find(|folder| folder.join("checkpoint").is_file());
            At::Folder(found.ok_or_else(|| {
                Failure::new(format!("`{text}` has no `checkpoint`"))
                    .hint("name the folder in which the tiles lie, or a node's")
            })?)
        } else if kind.is_file() {
            At::File(Box::new(read_file(path, kind.len())?))
        } else {
            At::Node { client: Client::over_socket(path)?, statements: true }
        };
        Ok(Self { name, at, patience })
    }

    /// The file itself, where this is one.
    pub fn into_file(self) -> Result<Box<Exported>, Self> {
        match self.at {
            At::File(file) => Ok(file),
            _ => Err(self),
        }
    }

    /// How many places factories have, where a home that answers knows; nothing where nobody does.
    pub async fn places(&self) -> Vec<(NodeId, u64)> {
        #[derive(Deserialize)]
        struct Told {
            factories: Vec<OneFactory>,
        }
        #[derive(Deserialize)]
        struct OneFactory {
            factory: NodeId,
            places: Option<u64>,
        }
        let At::Node { client, statements: true } = &self.at else { return Vec::new() };
        let told: Result<Told, String> = self.json(client, "/api/v1/factories", None).await;
        told.map(|told| told.factories.into_iter().filter_map(|one| Some((one.factory, one.places?))).collect())
            .unwrap_or_default()
    }

    /// Whether statements can be read here.
    pub fn shows_statements(&self) -> bool {
        match &self.at {
            At::Node { statements, .. } => *statements,
            At::Folder(_) => false,
            At::File(_) => true,
        }
    }

    async fn call(&self, client: &Client, path: &str, body: Option<&Value>, max: usize) -> Result<Answer, String> {
        let answer = client.bounded(path, body, max, self.patience).await;
        answer.map_err(|failure| failure.message().to_owned())
    }

    async fn json<T: serde::de::DeserializeOwned>(
        &self,
        client: &Client,
        path: &str,
        body: Option<&Value>,
    ) -> Result<T, String> {
        let answer = self.call(client, path, body, ANSWER_BYTES_MAX).await?;
        if !answer.status.is_success() {
            return Err(format!("`{path}`: it answered {}", answer.status));
        }
        serde_json::from_slice(&answer.body).map_err(|e| format!("`{path}`: its answer is not understood: {e}"))
    }

    /// The checkpoint as it is shown now.
    pub async fn checkpoint(&self) -> Result<String, String> {
        let bytes = match &self.at {
            At::Node { client, .. } => {
                let answer = self.call(client, "/log/checkpoint", None, NOTE_BYTES_MAX).await?;
                if !answer.status.is_success() {
                    return Err(format!("`/log/checkpoint`: it answered {}", answer.status));
                }
                answer.body
            }
            At::Folder(folder) => read_bounded(&folder.join("checkpoint"), NOTE_BYTES_MAX)?.unwrap_or_default(),
            At::File(file) => file.checkpoint.clone().into_bytes(),
        };
        String::from_utf8(bytes).map_err(|_| "its checkpoint is not text".to_owned())
    }

    /// A tile or bundle; where only the full one is there, its beginning.
    pub async fn tile(&self, place: Place) -> Result<Option<Vec<u8>>, String> {
        let width = if place.kind == Kind::Entries { 34 } else { 32 };
        let begin = |mut bytes: Vec<u8>| {
            bytes.truncate(usize::from(place.width) * width);
            bytes
        };
        match &self.at {
            At::Node { client, .. } => {
                let answer = self.call(client, &format!("/log/{}", place.path()), None, TILE_BYTES_MAX).await?;
                match answer.status {
                    StatusCode::OK => Ok(Some(answer.body)),
                    StatusCode::NOT_FOUND => Ok(None),
                    status => Err(format!("`{}`: it answered {status}", place.path())),
                }
            }
            At::Folder(folder) => match read_bounded(&folder.join(place.path()), TILE_BYTES_MAX)? {
                Some(bytes) => Ok(Some(bytes)),
                None => Ok(read_bounded(&folder.join(place.full().path()), TILE_BYTES_MAX)?.map(begin)),
            },
            At::File(file) => Ok(entries_of(file, place)),
        }
    }

    /// Statements from a place on.
    pub async fn statements(&self, from: u64) -> Result<Page, String> {
        match &self.at {
            At::Node { client, .. } => self.json(client, &format!("/api/v1/log/statements?from={from}"), None).await,
            At::Folder(_) => Err("a folder has no statements".to_owned()),
            At::File(file) => {
                let statements: Vec<Row> = file.statements.iter().filter(|row| row.index >= from).cloned().collect();
                let hidden = file.hidden.iter().map(|hidden| hidden.index);
                let last = statements.iter().map(|row| row.index).chain(hidden.filter(|index| *index >= from)).max();
                Ok(Page { statements, next: last.map_or(from, |last| last.saturating_add(1)) })
            }
        }
    }

    /// What decisions name, as far as it is there.
    pub async fn objects(&self, digests: &[Digest]) -> Result<Vec<Object>, String> {
        #[derive(Deserialize)]
        struct Given {
            objects: Vec<Object>,
        }
        match &self.at {
            At::Node { client, .. } => {
                let mut all = Vec::new();
                for some in digests.chunks(OBJECTS_MAX) {
                    let given: Given =
                        self.json(client, "/api/v1/log/objects", Some(&json!({"digests": some}))).await?;
                    all.extend(given.objects);
                }
                Ok(all)
            }
            At::Folder(_) => Ok(Vec::new()),
            At::File(file) => Ok(file.objects.iter().filter(|one| digests.contains(&one.digest)).cloned().collect()),
        }
    }

    /// What the node says beside its statements.
    pub async fn numbers(&self) -> Result<Numbers, String> {
        match &self.at {
            At::Node { client, .. } => self.json(client, "/api/v1/log/numbers", None).await,
            At::Folder(_) => Err("a folder has no statements".to_owned()),
            At::File(file) => Ok(file.numbers.clone()),
        }
    }

    /// The lives of the node's keys; none where it tells none. Who answers nothing is found when its log is read.
    pub async fn keys(&self) -> Option<Signed<KeyHistory>> {
        match &self.at {
            At::Node { client, .. } => {
                let answer = self.call(client, "/log/keys", None, KEYS_BYTES_MAX).await.ok()?;
                serde_json::from_slice(&answer.body).ok().filter(|_| answer.status.is_success())
            }
            At::Folder(_) => None,
            At::File(file) => file.keys.clone(),
        }
    }

    /// The checkpoints of other logs that the node has cosigned.
    pub async fn seen(&self) -> Result<Vec<String>, String> {
        #[derive(Deserialize)]
        struct Told {
            seen: Vec<String>,
        }
        match &self.at {
            At::Node { client, statements: true } => {
                Ok(self.json::<Told>(client, "/api/v1/log/seen", None).await?.seen)
            }
            At::File(file) => Ok(file.seen.clone()),
            At::Node { .. } | At::Folder(_) => Ok(Vec::new()),
        }
    }
}

fn read_bounded(path: &Path, bytes_max: usize) -> Result<Option<Vec<u8>>, String> {
    match std::fs::metadata(path) {
        Ok(file) if file.len() > bytes_max as u64 => {
            Err(format!("`{}` has more than {bytes_max} bytes", path.display()))
        }
        Ok(_) => std::fs::read(path).map(Some).map_err(|e| format!("`{}`: {e}", path.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("`{}`: {error}", path.display())),
    }
}

fn read_file(path: &Path, size: u64) -> Result<Exported, Failure> {
    if size > FILE_BYTES_MAX {
        return Err(Failure::new(format!("`{}` has more than {FILE_BYTES_MAX} bytes", path.display())));
    }
    let bytes = std::fs::read(path).map_err(of_file(path))?;
    let wrong = |says: String| {
        Failure::new(format!("`{}` is not what `polder audit export` writes: {says}", path.display()))
            .hint("write one with `polder audit export --socket state/api.sock --out FILE`")
    };
    let mut file: Exported = serde_json::from_slice(&bytes).map_err(|e| wrong(e.to_string()))?;
    if file.audit != EXPORT_V1 {
        return Err(wrong(format!("`{}` is not a version that is known here", file.audit)));
    }
    file.statements.sort_by_key(|row| row.index);
    Ok(file)
}

/// A bundle of the entries that an exported file's statements make; it has no tiles.
fn entries_of(file: &Exported, place: Place) -> Option<Vec<u8>> {
    if place.kind != Kind::Entries {
        return None;
    }
    let first = place.index.checked_mul(256)?;
    let mut bytes = Vec::new();
    for index in first..first.checked_add(u64::from(place.width))? {
        let shown = file.statements.binary_search_by_key(&index, |row| row.index).ok();
        let entry = match shown.and_then(|at| file.statements.get(at)) {
            Some(row) => commitment(&row.salt, row.statement.as_bytes()),
            None => file.hidden.iter().find(|hidden| hidden.index == index)?.entry,
        };
        push_entry(&mut bytes, &entry.0).ok()?;
    }
    Some(bytes)
}
