//! `/v1/files`: what applications bring for batches or to keep, and what batches made.
//!
//! A file goes to the content store piece by piece and comes from there the same way, so that its size is no matter of memory.
//! A project finds only its own. Reading what is in a file is absent; a batch does that.

use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use polder_core::ids::ProjectId;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::kept::{Length, Listing, deleted, id_of, of_content, query_of, unknown};
use super::{ApiError, Gateway};
use crate::clock::now_ms;
use crate::content::{ContentReader, Kept, Kind};

mod upload;

/// What the path names.
const ID: &str = "file_id";
/// How many files a list has, where the query does not say and at most, as OpenAI has it.
const LIST: Length = Length { usual: 10_000, most: 10_000 };
/// What a file may be for. All but the first are only kept.
const PURPOSES: [&str; 6] = ["batch", "assistants", "evals", "fine-tune", "user_data", "vision"];
/// What the files are for that batches make.
pub const OUTPUT: &str = "batch_output";

/// What is said of a kept file beside its content.
#[derive(Debug, Serialize, Deserialize)]
pub struct Note {
    /// Its name, as it was brought.
    pub filename: String,
    /// What it is for.
    pub purpose: String,
}

impl Note {
    /// As it is kept.
    pub fn to_bytes(&self) -> Vec<u8> {
        json!(self).to_string().into_bytes()
    }

    fn of(kept: &Kept) -> Result<Self, ApiError> {
        serde_json::from_slice(&kept.note)
            .map_err(|_| ApiError::internal("what is said of a kept file is not understood"))
    }
}

/// A file in OpenAI's shape.
fn object(kept: &Kept, note: &Note) -> Value {
    json!({
        "id": kept.id, "object": "file", "bytes": kept.bytes, "created_at": kept.created_ms / 1000,
        "expires_at": kept.expires_ms / 1000, "filename": note.filename, "purpose": note.purpose,
        "status": "processed", "status_details": null,
    })
}

/// A project's file that a batch may read, or why it may not.
pub async fn batch_input(gateway: &Gateway, project: &ProjectId, id: &str) -> Result<Kept, ApiError> {
    let missing = || ApiError::parameter("input_file_id", "not_found", unknown("file", id).message());
    let found = gateway.content.find(project, Kind::File, id, now_ms()).await.map_err(|e| of_content(&e))?;
    let kept = found.ok_or_else(missing)?;
    match Note::of(&kept)?.purpose == "batch" {
        true => Ok(kept),
        false => {
            let message = "the input of a batch must have been brought with `purpose` batch";
            Err(ApiError::parameter("input_file_id", "invalid_value", message))
        }
    }
}

/// `POST /v1/files`
pub async fn create(State(gateway): State<Gateway>, headers: HeaderMap, body: Body) -> Result<Response, ApiError> {
    let caller = gateway.caller(&headers)?;
    let (kept, note) = upload::receive(&gateway, &caller.project, &headers, body).await?;
    Ok(axum::Json(object(&kept, &note)).into_response())
}

/// `GET /v1/files`
pub async fn list(
    State(gateway): State<Gateway>,
    headers: HeaderMap,
    query: Result<Query<Listing>, QueryRejection>,
) -> Result<Response, ApiError> {
    let caller = gateway.caller(&headers)?;
    let query = query_of(query)?;
    let show = |kept: &Kept| {
        let note = Note::of(kept)?;
        let wanted = query.purpose.as_ref().is_none_or(|purpose| *purpose == note.purpose);
        Ok(wanted.then(|| object(kept, &note)))
    };
    let page = query.page(&gateway, &caller.project, Kind::File, LIST, show).await?;
    Ok(axum::Json(page).into_response())
}

/// `GET /v1/files/{id}`
pub async fn retrieve(
    State(gateway): State<Gateway>,
    headers: HeaderMap,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, ApiError> {
    let caller = gateway.caller(&headers)?;
    let id = id_of(path, ID)?;
    let found = gateway.content.find(&caller.project, Kind::File, &id, now_ms()).await.map_err(|e| of_content(&e))?;
    let kept = found.ok_or_else(|| unknown("file", &id))?;
    Ok(axum::Json(object(&kept, &Note::of(&kept)?)).into_response())
}

/// `GET /v1/files/{id}/content`
pub async fn content(
    State(gateway): State<Gateway>,
    headers: HeaderMap,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, ApiError> {
    let caller = gateway.caller(&headers)?;
    let id = id_of(path, ID)?;
    let found = gateway.content.reader(&caller.project, Kind::File, &id, now_ms()).await.map_err(|e| of_content(&e))?;
    let (kept, reader) = found.ok_or_else(|| unknown("file", &id))?;
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream")),
        (header::CONTENT_LENGTH, HeaderValue::from(kept.bytes)),
        // A browser that is led here shows nothing of it as a page.
        (header::CONTENT_DISPOSITION, HeaderValue::from_static("attachment")),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ];
    let pieces = futures_util::stream::unfold(Some(reader), next_piece);
    Ok((headers, Body::from_stream(pieces)).into_response())
}

/// The next piece of a file. Where one cannot be read the answer breaks off, so that nobody takes a part for the whole.
async fn next_piece(reader: Option<ContentReader>) -> Option<(Result<Vec<u8>, std::io::Error>, Option<ContentReader>)> {
    let mut reader = reader?;
    match reader.next().await {
        Ok(piece) => Some((Ok(piece?), Some(reader))),
        Err(error) => {
            tracing::error!(%error, "a kept file could not be read to its end");
            Some((Err(std::io::Error::other("the file cannot be read")), None))
        }
    }
}

/// `DELETE /v1/files/{id}`
pub async fn delete(
    State(gateway): State<Gateway>,
    headers: HeaderMap,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, ApiError> {
    let caller = gateway.caller(&headers)?;
    let id = id_of(path, ID)?;
    if let Some(batch) = gateway.batches.reading(&caller.project, &id) {
        let message = format!("`{batch}` is still reading this file: cancel it first, or wait for its end");
        return Err(ApiError::new(StatusCode::BAD_REQUEST, "file_in_use", message));
    }
    deleted(&gateway, &caller.project, (Kind::File, "file"), &id).await
}

#[cfg(test)]
mod tests;
