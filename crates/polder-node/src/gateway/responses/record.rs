//! A response as it is kept, and the chain of those that it follows.
//!
//! A record holds a response and its own input; what came before stands with the response before, so that a long conversation is
//! kept once. Only the content store holds records, sealed.

use polder_core::ids::ProjectId;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::super::{ApiError, Gateway};
use crate::clock::now_ms;
use crate::content::{ContentError, ContentStore, Kind, New};
use crate::gateway::kept;

/// Longest chain of responses.
const CHAIN_MAX: usize = 1_000;

/// What is kept of a response.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    /// The response.
    pub response: Value,
    /// The items of its own input.
    pub input: Vec<Value>,
    /// Its events, where it was made to be followed in the background.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<Value>,
}

/// What is said of a kept response beside its content.
#[derive(Debug, Serialize, Deserialize)]
pub struct Note {
    /// Whether it was still under way when it was kept.
    pub open: bool,
    /// Why there is no more of it, where it could not be kept at its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost: Option<String>,
}

/// A response that is not there, or is another project's.
pub fn unknown(id: &str) -> ApiError {
    kept::unknown("response", id)
}

/// What went wrong with the content store, as an application hears it.
pub fn of_content(error: &ContentError) -> ApiError {
    match error {
        ContentError::Full { .. } => {
            let message = format!("{error}; or ask with `store` false");
            // Not 507: the SDKs try any 5xx again, which makes no room.
            ApiError::parameter("store", "storage_full", message)
        }
        other => kept::of_content(other),
    }
}

impl Record {
    /// The response's id.
    pub fn id(&self) -> &str {
        self.response.get("id").and_then(Value::as_str).unwrap_or_default()
    }

    /// Keeps it; an older state of it gives way.
    pub async fn keep(&self, content: &ContentStore, project: &ProjectId, open: bool) -> Result<(), ContentError> {
        let bytes = |value: Result<Vec<u8>, serde_json::Error>| value.map_err(std::io::Error::other);
        let note = bytes(serde_json::to_vec(&Note { open, lost: None }))?;
        let (project, id) = (project.clone(), self.id().to_owned());
        let new = New { kind: Kind::Response, project, id, note, keep_ms: None };
        content.put(new, &bytes(serde_json::to_vec(self))?, now_ms()).await.map(drop)
    }

    /// Finds a kept one. What was under way when the node ended has failed.
    pub async fn find(content: &ContentStore, project: &ProjectId, id: &str) -> Result<Option<Self>, ApiError> {
        let found = content.get(project, Kind::Response, id, now_ms()).await.map_err(|e| of_content(&e))?;
        let Some((kept, bytes)) = found else { return Ok(None) };
        let odd = |e: serde_json::Error| {
            ApiError::internal(&format!("a kept response is not understood: {}", e.classify() as u8))
        };
        let note: Note = serde_json::from_slice(&kept.note).map_err(odd)?;
        let mut record: Self = serde_json::from_slice(&bytes).map_err(odd)?;
        if note.open {
            let message = note.lost.as_deref().unwrap_or("the node was started anew while this response was under way");
            record.response["status"] = "failed".into();
            record.response["error"] = json!({"code": "server_error", "message": message});
        }
        Ok(Some(record))
    }
}

/// The items before a response that follows `previous`: inputs and outputs of the whole chain, oldest first.
pub async fn before(gateway: &Gateway, project: &ProjectId, previous: &str) -> Result<Vec<Value>, ApiError> {
    let name = "previous_response_id";
    let refused = |code: &str, message: &str| ApiError::parameter(name, code, format!("`{name}` {message}"));
    let (mut chain, mut next, mut bytes) = (Vec::new(), Some(previous.to_owned()), 0usize);
    while let Some(id) = next {
        let record = super::find(gateway, project, &id).await?;
        let Some(record) = record else {
            let message = match chain.is_empty() {
                true => "names a response that is not kept for this project",
                false => "follows a response that is no longer kept",
            };
            return Err(refused("previous_response_not_found", message));
        };
        let status = record.response.get("status").and_then(Value::as_str);
        if !matches!(status, Some("completed" | "incomplete")) {
            return Err(refused("previous_response_unfinished", "names a response that did not come to its end"));
        }
        next = record.response.get("previous_response_id").and_then(Value::as_str).map(str::to_owned);
        let output = record.response.get("output").and_then(Value::as_array).cloned().unwrap_or_default();
        let items: Vec<Value> = record.input.into_iter().chain(output).collect();
        bytes = bytes.saturating_add(items.iter().map(weight).sum());
        chain.push(items);
        if bytes > gateway.body_bytes_max || chain.len() > CHAIN_MAX {
            return Err(refused("invalid_value", "leads to a longer conversation than is read here"));
        }
    }
    Ok(chain.into_iter().rev().flatten().collect())
}

/// The items that a response was generated from: those before it, and its own input. Where the chain is no longer whole, only its own.
pub async fn generated_from(gateway: &Gateway, project: &ProjectId, record: Record) -> Result<Vec<Value>, ApiError> {
    let previous = record.response.get("previous_response_id").and_then(Value::as_str);
    let mut items = match previous {
        Some(previous) => match before(gateway, project, previous).await {
            Err(error) if error.is_server_error() => return Err(error),
            before => before.unwrap_or_default(),
        },
        None => Vec::new(),
    };
    items.extend(record.input);
    Ok(items)
}

/// About how many bytes an item is.
fn weight(item: &Value) -> usize {
    match item {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(weight).sum(),
        Value::Object(fields) => fields.iter().map(|(key, value)| key.len().saturating_add(weight(value))).sum(),
        _ => 8,
    }
}
