//! `/v1/responses`: answers as items and events, kept for later where that is wanted.
//!
//! A request becomes a chat request and is asked like one; what differs is how the answer is written and that it may be kept,
//! followed and continued. What is kept lies sealed in the content store, and a project finds only its own. An answer is sent
//! before the store has it, and is found from that moment on.

use std::convert::Infallible;

use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt as _;
use http::HeaderMap;
use polder_core::ids::{DecisionId, NodeId, ProjectId};
use serde::Deserialize;
use serde_json::{Value, json};

use super::answer::{Answer, Events, ask};
use super::body::{Parameters, read_object};
use super::kept::{Length, deleted, id_of, list_of, newest_first, query_of};
use super::{ApiError, Caller, Gateway, labels, proof_headers, sse};
use crate::clock::now_ms;
use crate::content::Kind;

mod background;
mod items;
mod live;
mod record;
mod request;
mod writing;

pub use items::digits;
pub use live::Live;
use record::{Record, of_content, unknown};
pub use request::check_metadata;
use request::{Asked, in_own_words};
use writing::Writing;

/// What the path names.
const ID: &str = "response_id";
/// What the store must have room for before a response that it is to keep is begun, beside the request.
const ROOM_BYTES: u64 = 256 << 10;

/// `POST /v1/responses`
pub async fn create(State(gateway): State<Gateway>, headers: HeaderMap, body: Body) -> Result<Response, ApiError> {
    let caller = gateway.caller(&headers)?;
    let parameters = Parameters(read_object(&headers, body, gateway.body_bytes_max).await?);
    run(gateway, caller, &headers, parameters).await
}

/// The same for a request that was read before, such as a batch's line.
pub async fn run(
    gateway: Gateway,
    caller: Caller,
    headers: &HeaderMap,
    mut parameters: Parameters,
) -> Result<Response, ApiError> {
    let mut metadata = parameters.object("metadata")?;
    let labels = labels::labels(&caller.labels, headers, &mut metadata)?;
    let asked = Asked::of(parameters, metadata)?;
    let before = match &asked.previous {
        Some(previous) => record::before(&gateway, &caller.project, previous).await?,
        None => Vec::new(),
    };
    let request = asked.chat_request(&before)?;
    if asked.store {
        room(&gateway)?;
    }
    if asked.background {
        return background::start(gateway, caller, labels, asked, request).await;
    }
    let answer = ask(&gateway, &caller, labels, request).await.map_err(in_own_words)?;
    let (_, digits) = answer.decision.as_str().rsplit_once('-').unwrap_or_default();
    let mut writing = Writing::new(&format!("resp_{digits}"), now_ms() / 1000, asked.echo);
    writing.set("polder", proof(&answer.decision, &answer.factory));
    let headers = answer.headers();
    let keeping = Keeping { gateway, project: caller.project, input: asked.input, store: asked.store };
    match asked.stream {
        true => Ok(streamed(headers, answer.events, writing, keeping)),
        false => plain(headers, answer, writing, keeping).await,
    }
}

/// Whether there is room for another response to be kept.
fn room(gateway: &Gateway) -> Result<(), ApiError> {
    let bytes_max = gateway.content.limits().bytes_max;
    match gateway.content.used_bytes().saturating_add(ROOM_BYTES) <= bytes_max {
        true => Ok(()),
        false => Err(of_content(&crate::content::ContentError::Full { bytes_max })),
    }
}

/// What leads from a response to its proof, also when it is read again.
fn proof(decision: &DecisionId, factory: &NodeId) -> Value {
    json!({"decision": decision, "factory": factory, "receipt": format!("/api/v1/receipts/{decision}")})
}

/// What a finished response needs to be kept.
struct Keeping {
    gateway: Gateway,
    project: ProjectId,
    input: Vec<Value>,
    store: bool,
}

impl Keeping {
    /// Keeps a response. It is found at once; the disk has it a moment later.
    fn keep(self, response: Value) {
        let Self { gateway, project, input, store } = self;
        if !store {
            return;
        }
        let record = Record { response, input, events: Vec::new() };
        gateway.live.enter(&project, record.clone(), true, false);
        tokio::spawn(async move {
            if let Err(error) = record.keep(&gateway.content, &project, false).await {
                tracing::error!(%error, "a response could not be kept");
            }
            gateway.live.leave(&project, record.id());
        });
    }
}

async fn plain(
    headers: HeaderMap,
    answer: Answer,
    mut writing: Writing,
    keeping: Keeping,
) -> Result<Response, ApiError> {
    let mut events = answer.events;
    while let Some(event) = events.next().await {
        let event = event.map_err(|error| in_own_words(ApiError::of_engine(&error)))?;
        drop(writing.take(event));
    }
    if !writing.ended() {
        return Err(ApiError::internal("an answer ended without its usage"));
    }
    keeping.keep(writing.object());
    Ok((headers, axum::Json(writing.object())).into_response())
}

fn streamed(headers: HeaderMap, events: Events, mut writing: Writing, keeping: Keeping) -> Response {
    let begun = vec![writing.whole("response.created", None), writing.whole("response.in_progress", None)];
    let rest = futures_util::stream::unfold(Some((events, writing, keeping)), |state| async move {
        let (mut events, mut writing, keeping) = state?;
        let said = match events.next().await? {
            Ok(event) => writing.take(event),
            Err(error) => writing.failed(&in_own_words(ApiError::of_engine(&error))),
        };
        if writing.ended() {
            keeping.keep(writing.object());
            return Some((said, None));
        }
        Some((said, Some((events, writing, keeping))))
    });
    let pieces = futures_util::stream::iter([begun]).chain(rest);
    let pieces = pieces.filter(|said| std::future::ready(!said.is_empty()));
    (sse::head(headers), Body::from_stream(pieces.map(|said| Ok::<_, Infallible>(sse::typed(&said))))).into_response()
}

/// A project's response, at rest or not.
async fn find(gateway: &Gateway, project: &ProjectId, id: &str) -> Result<Option<Record>, ApiError> {
    match gateway.live.find(project, id) {
        Some(under) => Ok(Some(under.record())),
        None => Record::find(&gateway.content, project, id).await,
    }
}

/// A response as it is read again.
fn answered(record: &Record) -> Response {
    let decision = record.response.pointer("/polder/decision").and_then(Value::as_str);
    let headers = decision.and_then(|id| DecisionId::parse(id).ok()).map(|id| {
        let factory = record.response.pointer("/polder/factory").and_then(Value::as_str);
        proof_headers(&id, factory.and_then(|id| NodeId::parse(id).ok()).as_ref())
    });
    (headers.unwrap_or_default(), axum::Json(&record.response)).into_response()
}

/// How a response is to be read again.
#[derive(Debug, Deserialize)]
pub struct Retrieval {
    #[serde(default)]
    stream: bool,
    starting_after: Option<usize>,
}

/// `GET /v1/responses/{id}`
pub async fn retrieve(
    State(gateway): State<Gateway>,
    headers: HeaderMap,
    path: Result<Path<String>, PathRejection>,
    query: Result<Query<Retrieval>, QueryRejection>,
) -> Result<Response, ApiError> {
    let caller = gateway.caller(&headers)?;
    let (id, query) = (id_of(path, ID)?, query_of(query)?);
    let from = query.starting_after.map_or(0, |after| after.saturating_add(1));
    let not_followed = || {
        let message = "`stream` needs a response that was made with `background` and `stream`";
        ApiError::parameter("stream", "invalid_value", message)
    };
    if let Some(under) = gateway.live.find(&caller.project, &id) {
        return match (query.stream, under.followed()) {
            (false, _) => Ok(answered(&under.record())),
            (true, true) => Ok(background::follow(under, from)),
            (true, false) => Err(not_followed()),
        };
    }
    let record = Record::find(&gateway.content, &caller.project, &id).await?.ok_or_else(|| unknown(&id))?;
    if !query.stream {
        return Ok(answered(&record));
    }
    if record.events.is_empty() {
        return Err(not_followed());
    }
    let events = record.events.get(from..).unwrap_or_default();
    Ok((sse::head(HeaderMap::new()), sse::typed(events)).into_response())
}

/// `POST /v1/responses/{id}/cancel`
pub async fn cancel(
    State(gateway): State<Gateway>,
    headers: HeaderMap,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, ApiError> {
    let caller = gateway.caller(&headers)?;
    let id = id_of(path, ID)?;
    let record = find(&gateway, &caller.project, &id).await?.ok_or_else(|| unknown(&id))?;
    if record.response.get("background") != Some(&json!(true)) {
        let message = "only a response that was made with `background` can be cancelled";
        return Err(ApiError::parameter("response_id", "invalid_value", message));
    }
    match gateway.live.find(&caller.project, &id) {
        Some(under) => {
            under.cancel();
            Ok(answered(&under.wait_for_rest().await))
        }
        None => Ok(answered(&record)),
    }
}

/// `DELETE /v1/responses/{id}`
pub async fn delete(
    State(gateway): State<Gateway>,
    headers: HeaderMap,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, ApiError> {
    let caller = gateway.caller(&headers)?;
    let id = id_of(path, ID)?;
    if let Some(under) = gateway.live.find(&caller.project, &id) {
        under.cancel();
        under.wait_for_rest().await;
    }
    deleted(&gateway, &caller.project, (Kind::Response, "response"), &id).await
}

/// How many items a list has.
const LIST: Length = Length { usual: 20, most: 100 };

/// Which items are listed.
#[derive(Debug, Deserialize)]
pub struct Listing {
    after: Option<String>,
    limit: Option<usize>,
    order: Option<String>,
}

/// `GET /v1/responses/{id}/input_items`
pub async fn input_items(
    State(gateway): State<Gateway>,
    headers: HeaderMap,
    path: Result<Path<String>, PathRejection>,
    query: Result<Query<Listing>, QueryRejection>,
) -> Result<Response, ApiError> {
    let caller = gateway.caller(&headers)?;
    let (id, query) = (id_of(path, ID)?, query_of(query)?);
    let limit = LIST.limit(query.limit)?;
    let record = find(&gateway, &caller.project, &id).await?.ok_or_else(|| unknown(&id))?;
    let mut items = record::generated_from(&gateway, &caller.project, record).await?;
    if newest_first(query.order.as_deref())? {
        items.reverse();
    }
    let id_is = |item: &Value, id: &str| item.get("id").and_then(Value::as_str) == Some(id);
    let skipped = match &query.after {
        Some(after) => items.iter().position(|item| id_is(item, after)).map_or(items.len(), |place| place + 1),
        None => 0,
    };
    let rest = items.get(skipped..).unwrap_or_default();
    let page = rest.get(..limit).unwrap_or(rest);
    Ok(axum::Json(list_of(page, rest.len() > page.len())).into_response())
}

#[cfg(test)]
mod tests;
