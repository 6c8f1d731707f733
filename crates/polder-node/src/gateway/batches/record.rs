//! A batch as it is kept: what was asked for, how far it is, and how it reads in OpenAI's shape.
//!
//! It stands sealed in the note of its place in the content store, small and whole, so that a change is one write. What its
//! lines came to is absent: the journal's.

use std::collections::BTreeMap;

use polder_core::ids::ProjectId;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::super::kept::of_content;
use super::super::{ApiError, Gateway};
use crate::clock::now_ms;
use crate::content::{ContentError, ContentStore, Kept, Kind, New};

/// Where a batch's lines go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Endpoint {
    /// Conversations.
    #[serde(rename = "/v1/chat/completions")]
    Chat,
    /// Raw texts.
    #[serde(rename = "/v1/completions")]
    Completions,
    /// Vectors.
    #[serde(rename = "/v1/embeddings")]
    Embeddings,
    /// Answers as items.
    #[serde(rename = "/v1/responses")]
    Responses,
}

impl Endpoint {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Chat, Self::Completions, Self::Embeddings, Self::Responses];

    /// Its path.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Chat => "/v1/chat/completions",
            Self::Completions => "/v1/completions",
            Self::Embeddings => "/v1/embeddings",
            Self::Responses => "/v1/responses",
        }
    }
}

/// How far a batch is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Its lines are being read for the first time.
    Validating,
    /// Its lines run.
    InProgress,
    /// Its files are being written.
    Finalizing,
    /// Every line ran.
    Completed,
    /// It could not begin, or had to end early.
    Failed,
    /// Its time ended before its lines did.
    Expired,
    /// It was told to stop.
    Cancelling,
    /// It stopped because it was told to.
    Cancelled,
}

impl Status {
    /// Whether nothing more will happen.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Expired | Self::Cancelled)
    }
}

/// Why lines of a batch did not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stop {
    /// Whoever made it wants it no longer.
    Cancelled,
    /// Its time ended.
    Expired,
    /// The key that made it no longer holds.
    Key,
    /// The file that they stand in is no longer kept.
    Input,
}

impl Stop {
    /// How a batch that stopped so ends.
    pub fn status(self) -> Status {
        match self {
            Self::Cancelled => Status::Cancelled,
            Self::Expired => Status::Expired,
            Self::Key | Self::Input => Status::Failed,
        }
    }

    /// What is wrong with a batch that ends so.
    pub fn problem(self) -> Option<Problem> {
        let (message, param) = match self {
            Self::Cancelled | Self::Expired => return None,
            Self::Key => ("the key that made this batch no longer holds", None),
            Self::Input => ("the input file is no longer kept", Some("input_file_id".to_owned())),
        };
        Some(Problem { code: self.said().0.to_owned(), message: message.to_owned(), param, line: None })
    }

    /// The code and words for a line that did not run.
    pub fn said(self) -> (&'static str, &'static str) {
        match self {
            Self::Cancelled => ("batch_cancelled", "this line did not run before the batch was cancelled"),
            Self::Expired => ("batch_expired", "this line did not run before the batch's time ended"),
            Self::Key => ("invalid_api_key", "this line did not run: the key that made the batch no longer holds"),
            Self::Input => ("input_file_gone", "this line did not run: its file is no longer kept"),
        }
    }
}

/// What is wrong with a batch or with one of its lines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// For programs.
    pub code: String,
    /// For people; without any of the line's text.
    pub message: String,
    /// Which field.
    pub param: Option<String>,
    /// Which line, from 1.
    pub line: Option<u32>,
}

/// How many lines there are, and what became of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// All lines.
    pub total: u32,
    /// Those with an answer.
    pub completed: u32,
    /// Those that ran, or were refused, and have an error.
    pub failed: u32,
}

/// A batch.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Batch {
    /// Its id.
    pub id: String,
    /// Where its lines go.
    pub endpoint: Endpoint,
    /// The file that they stand in.
    pub input: String,
    /// The id of the key that made it: its lines are that key's.
    pub key: String,
    /// The `polder-*` headers that it was made with: labels of every line.
    pub labels: BTreeMap<String, String>,
    /// What whoever made it says of it; `polder.*` among it are labels of every line.
    pub metadata: Map<String, Value>,
    /// How far it is.
    pub status: Status,
    /// When it was made, in Unix milliseconds.
    pub created_ms: u64,
    /// When its time ends, in Unix milliseconds.
    pub expires_ms: u64,
    /// When it came to a status, in Unix seconds, by the name of OpenAI's field.
    pub times: BTreeMap<String, u64>,
    /// What became of its lines.
    pub counts: Counts,
    /// The digits of its files' ids, known before they are there.
    pub digits: String,
    /// How long its files are kept, in milliseconds.
    pub keep_ms: Option<u64>,
    /// Whether there is a file of answers, and one of errors.
    pub files: (bool, bool),
    /// What is wrong with it.
    pub problems: Vec<Problem>,
    /// Why lines did not run.
    pub stop: Option<Stop>,
}

impl Batch {
    /// The id of the file of its answers.
    pub fn output_id(&self) -> String {
        format!("file-{}0", self.digits)
    }

    /// The id of the file of its errors.
    pub fn error_id(&self) -> String {
        format!("file-{}1", self.digits)
    }

    /// It has come to a status.
    pub fn come_to(&mut self, status: Status) {
        let name = match status {
            Status::Validating => return,
            Status::InProgress => "in_progress_at",
            Status::Finalizing => "finalizing_at",
            Status::Completed => "completed_at",
            Status::Failed => "failed_at",
            Status::Expired => "expired_at",
            Status::Cancelling => "cancelling_at",
            Status::Cancelled => "cancelled_at",
        };
        self.status = status;
        self.times.insert(name.to_owned(), now_ms() / 1000);
    }

    /// It in OpenAI's shape.
    pub fn object(&self) -> Value {
        let at = |name: &str| self.times.get(name);
        let errors = match self.problems.is_empty() {
            true => Value::Null,
            false => json!({"object": "list", "data": self.problems}),
        };
        json!({
            "id": self.id, "object": "batch", "endpoint": self.endpoint, "errors": errors,
            "input_file_id": self.input, "completion_window": "24h", "status": self.status,
            "output_file_id": self.files.0.then(|| self.output_id()),
            "error_file_id": self.files.1.then(|| self.error_id()),
            "created_at": self.created_ms / 1000, "in_progress_at": at("in_progress_at"),
            "expires_at": self.expires_ms / 1000, "finalizing_at": at("finalizing_at"),
            "completed_at": at("completed_at"), "failed_at": at("failed_at"), "expired_at": at("expired_at"),
            "cancelling_at": at("cancelling_at"), "cancelled_at": at("cancelled_at"),
            "request_counts": self.counts,
            "metadata": (!self.metadata.is_empty()).then_some(&self.metadata),
        })
    }

    /// Keeps it as it is made.
    pub async fn keep(&self, content: &ContentStore, project: &ProjectId) -> Result<(), ContentError> {
        let (project, id) = (project.clone(), self.id.clone());
        let new = New { kind: Kind::Batch, project, id, note: self.to_bytes()?, keep_ms: None };
        content.put(new, &[], self.created_ms).await.map(drop)
    }

    /// Keeps it as it has become.
    pub async fn save(&self, content: &ContentStore, project: &ProjectId) -> Result<(), ContentError> {
        content.set_note(project, Kind::Batch, &self.id, &self.to_bytes()?, now_ms()).await.map(drop)
    }

    fn to_bytes(&self) -> Result<Vec<u8>, ContentError> {
        Ok(serde_json::to_vec(self).map_err(std::io::Error::other)?)
    }

    /// A kept one.
    pub fn of(kept: &Kept) -> Result<Self, ApiError> {
        serde_json::from_slice(&kept.note).map_err(|_| ApiError::internal("a kept batch is not understood"))
    }

    /// Finds a project's batch at rest.
    pub async fn find(gateway: &Gateway, project: &ProjectId, id: &str) -> Result<Option<Self>, ApiError> {
        let found = gateway.content.find(project, Kind::Batch, id, now_ms()).await.map_err(|e| of_content(&e))?;
        found.as_ref().map(Self::of).transpose()
    }
}
