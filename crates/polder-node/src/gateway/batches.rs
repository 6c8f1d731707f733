//! `/v1/batches`: many requests in a file, their answers in another.
//!
//! Each line is a request of its own: decided, metered, with its own receipt. What lines came to is on disk before anything
//! says so, so a batch goes on where it was when the node ends, however it ends. Streams are absent, and so is any promise of
//! when a line runs: it takes its turn with all other requests.

use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use http::HeaderMap;
use serde_json::{Map, Value};

use super::body::{Parameters, read_object};
use super::kept::{Length, Listing, id_of, keep_ms, of_content, query_of, unknown};
use super::responses::{check_metadata, digits};
use super::{ApiError, Caller, Gateway, files, labels};
use crate::clock::now_ms;
use crate::content::{Kept, Kind};

mod journal;
mod line;
mod lines;
mod live;
mod outputs;
mod record;
mod run;

pub use live::{Batches, run};
use record::{Batch, Counts, Endpoint, Status};

/// What the path names.
const ID: &str = "batch_id";
/// How many batches a list has, where the query does not say and at most, as OpenAI has it.
const LIST: Length = Length { usual: 20, most: 100 };
/// Largest metadata, in bytes of its JSON: it is kept in a batch's note.
const METADATA_BYTES_MAX: usize = 24 << 10;

/// `POST /v1/batches`
pub async fn create(State(gateway): State<Gateway>, headers: HeaderMap, body: Body) -> Result<Response, ApiError> {
    let caller = gateway.caller(&headers)?;
    let parameters = Parameters(read_object(&headers, body, gateway.body_bytes_max).await?);
    let batch = asked(&gateway, &caller, &headers, parameters)?;
    files::batch_input(&gateway, &caller.project, &batch.input).await?;
    let under = gateway.batches.enter(&caller.project, batch.clone())?;
    if let Err(error) = batch.keep(&gateway.content, &caller.project).await {
        gateway.batches.leave(&under);
        return Err(of_content(&error));
    }
    gateway.batches.begin(under, Vec::new());
    Ok(axum::Json(batch.object()).into_response())
}

/// What a request for a batch says.
fn asked(
    gateway: &Gateway,
    caller: &Caller,
    headers: &HeaderMap,
    mut parameters: Parameters,
) -> Result<Batch, ApiError> {
    let input = parameters.text("input_file_id")?;
    let path = parameters.text("endpoint")?;
    let Some(endpoint) = Endpoint::ALL.into_iter().find(|endpoint| endpoint.as_str() == path) else {
        let paths = Endpoint::ALL.map(Endpoint::as_str).join(", ");
        let message = format!("`endpoint` must be one of {paths}");
        return Err(ApiError::parameter("endpoint", "invalid_value", message));
    };
    if parameters.text("completion_window")? != "24h" {
        return Err(ApiError::parameter("completion_window", "invalid_value", "`completion_window` must be 24h"));
    }
    let metadata = parameters.object("metadata")?;
    check_metadata(&metadata)?;
    if Value::Object(metadata.clone()).to_string().len() > METADATA_BYTES_MAX {
        let message = format!("`metadata` is larger than {METADATA_BYTES_MAX} bytes");
        return Err(ApiError::parameter("metadata", "invalid_value", message));
    }
    // Checked now, so that who made it hears of it, and again with each line.
    labels::labels(&caller.labels, headers, &mut metadata.clone())?;
    let keep_ms = output_keep_ms(parameters.object("output_expires_after")?)?;
    if let Some((name, _)) = parameters.0.into_iter().find(|(_, value)| !value.is_null()) {
        let message = format!("`{name}` is not supported for batches");
        return Err(ApiError::parameter(&name, "unsupported_parameter", message));
    }
    let (created_ms, window_s) = (now_ms(), gateway.batches.limits().window_s);
    Ok(Batch {
        id: format!("batch_{}", digits()?),
        endpoint,
        input,
        key: caller.key.id.clone(),
        labels: labels::named(headers),
        metadata,
        status: Status::Validating,
        created_ms,
        expires_ms: created_ms.saturating_add(window_s.saturating_mul(1_000)),
        times: Default::default(),
        counts: Counts::default(),
        digits: digits()?,
        keep_ms,
        files: (false, false),
        problems: Vec::new(),
        stop: None,
    })
}

fn output_keep_ms(mut after: Map<String, Value>) -> Result<Option<u64>, ApiError> {
    let name = "output_expires_after";
    let anchor = after.remove("anchor");
    let seconds = after.remove("seconds");
    let wrong = after.into_iter().next().is_some()
        || anchor.as_ref().is_some_and(|anchor| !anchor.is_string())
        || seconds.as_ref().is_some_and(|seconds| !seconds.is_u64());
    if wrong {
        let message = format!("`{name}` has an `anchor`, which is a string, and `seconds`, a whole number");
        return Err(ApiError::parameter(name, "invalid_type", message));
    }
    keep_ms(name, anchor.as_ref().and_then(Value::as_str), seconds.as_ref().and_then(Value::as_u64))
}

/// `GET /v1/batches`
pub async fn list(
    State(gateway): State<Gateway>,
    headers: HeaderMap,
    query: Result<Query<Listing>, QueryRejection>,
) -> Result<Response, ApiError> {
    let caller = gateway.caller(&headers)?;
    let query = query_of(query)?;
    let show = |kept: &Kept| {
        let live = gateway.batches.find(&caller.project, &kept.id).map(|under| under.batch());
        let batch = live.map_or_else(|| Batch::of(kept), Ok)?;
        Ok(Some(batch.object()))
    };
    let page = query.page(&gateway, &caller.project, Kind::Batch, LIST, show).await?;
    Ok(axum::Json(page).into_response())
}

/// A project's batch, under way or not.
async fn find(gateway: &Gateway, caller: &Caller, id: &str) -> Result<Batch, ApiError> {
    match gateway.batches.find(&caller.project, id) {
        Some(under) => Ok(under.batch()),
        None => Batch::find(gateway, &caller.project, id).await?.ok_or_else(|| unknown("batch", id)),
    }
}

/// `GET /v1/batches/{id}`
pub async fn retrieve(
    State(gateway): State<Gateway>,
    headers: HeaderMap,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, ApiError> {
    let caller = gateway.caller(&headers)?;
    let id = id_of(path, ID)?;
    Ok(axum::Json(find(&gateway, &caller, &id).await?.object()).into_response())
}

/// `POST /v1/batches/{id}/cancel`
pub async fn cancel(
    State(gateway): State<Gateway>,
    headers: HeaderMap,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, ApiError> {
    let caller = gateway.caller(&headers)?;
    let id = id_of(path, ID)?;
    if let Some(under) = gateway.batches.find(&caller.project, &id) {
        let cancelled = under.cancel().then(|| under.batch());
        if let Some(batch) = cancelled {
            under.save(&gateway.content).await.map_err(|error| of_content(&error))?;
            return Ok(axum::Json(batch.object()).into_response());
        }
    }
    let status = find(&gateway, &caller, &id).await?.object()["status"].take();
    let message = format!("a batch that is {} cannot be cancelled", status.as_str().unwrap_or_default());
    Err(ApiError::parameter(ID, "invalid_value", message))
}

#[cfg(test)]
mod tests;
