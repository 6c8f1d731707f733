//! The applications' surface: `/v1/*` as the SDKs of OpenAI and Anthropic speak it. The only place that knows their JSON.
//!
//! A request is read, checked, stripped of its labels and handed to the home; what comes back is written in OpenAI's shapes.
//! Deciding and running are absent.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use polder_core::ids::{DecisionId, NodeId, ProjectId};
use polder_core::labels::Labels;

use crate::clock::now_ms;
use crate::content::ContentStore;
use crate::home::Home;
use crate::ledger::{self, Key, Ledger};
use crate::serve::Express;
use crate::telemetry::Origin;

mod answer;
mod batches;
mod body;
mod calls;
mod chat;
mod completions;
mod direct;
mod embeddings;
mod error;
mod files;
mod images;
mod kept;
mod labels;
mod limits;
mod messages;
mod models;
mod repeats;
mod rerank;
mod responses;
mod shape;
mod sse;

pub use batches::{Batches, run as run_batches};
pub use body::read_object;
pub use direct::{Direct, nothing};
pub use error::ApiError;
use repeats::{Repeats, RepeatsLayer};
pub use responses::Live;

/// What the gateway's handlers share.
#[derive(Clone)]
pub struct Gateway {
    /// The home behind it.
    pub home: Arc<Home>,
    /// Whose keys, budgets and usage these are.
    pub ledger: Arc<Ledger>,
    /// Largest request body that is read, in bytes.
    pub body_bytes_max: usize,
    /// What is kept for applications.
    pub content: ContentStore,
    /// The responses that are under way without a client.
    pub live: Live,
    /// The batches that are not at their end.
    pub batches: Batches,
}

/// The routes of `/v1`, and what ordinary requests reach without a router. Answers that are kept for repeats take at most
/// `kept_bytes_max` of memory.
pub fn router(gateway: Gateway, kept_bytes_max: usize) -> (Router, Express<Direct>) {
    let repeats = RepeatsLayer(Repeats::new(gateway.clone(), kept_bytes_max));
    let express = direct::express(gateway.clone(), &repeats);
    // Beside what looks for repeats, which would hold a whole file in memory.
    let files = Router::new()
        .route("/v1/files", post(files::create).get(files::list))
        .route("/v1/files/{id}", get(files::retrieve).delete(files::delete))
        .route("/v1/files/{id}/content", get(files::content))
        .method_not_allowed_fallback(wrong_method)
        .with_state(gateway.clone());
    let router = Router::new()
        .route("/v1/models", get(models::list))
        .route("/v1/models/{*id}", get(models::retrieve))
        .route("/v1/chat/completions", post(chat::complete))
        .route("/v1/completions", post(completions::complete))
        .route("/v1/embeddings", post(embeddings::embed))
        .route("/v1/rerank", post(rerank::rank))
        .route("/v1/images/generations", post(images::generate))
        .route("/v1/messages", post(messages::create).fallback(messages::wrong_method))
        .route("/v1/messages/{*rest}", axum::routing::any(messages::unknown))
        .route("/v1/responses", post(responses::create))
        .route("/v1/responses/{id}", get(responses::retrieve).delete(responses::delete))
        .route("/v1/responses/{id}/cancel", post(responses::cancel))
        .route("/v1/responses/{id}/input_items", get(responses::input_items))
        .route("/v1/batches", post(batches::create).get(batches::list))
        .route("/v1/batches/{id}", get(batches::retrieve))
        .route("/v1/batches/{id}/cancel", post(batches::cancel))
        .route("/v1/{*rest}", axum::routing::any(unknown_route))
        .method_not_allowed_fallback(wrong_method)
        .with_state(gateway)
        .layer(repeats)
        .merge(files);
    (router, express)
}

async fn unknown_route(State(_): State<Gateway>, uri: http::Uri) -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, "unknown_url", format!("`{}` is not offered here", uri.path()))
}

async fn wrong_method(method: http::Method, uri: http::Uri) -> ApiError {
    let message = format!("`{method}` is not offered on `{}`", uri.path());
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
}

/// Who asks: the project behind a key, with its labels.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The key.
    pub key: Arc<Key>,
    /// The project that the key belongs to.
    pub project: ProjectId,
    /// What the project says of its requests; a request may only narrow it.
    pub labels: Labels,
    /// The trace that its request belongs to, where it is traced.
    pub origin: Option<Origin>,
}

impl Gateway {
    /// Who asks, by the key in `Authorization: Bearer …`.
    fn caller(&self, headers: &HeaderMap) -> Result<Caller, ApiError> {
        let key = key_of(headers).ok_or_else(|| {
            let message = "no API key: set OPENAI_API_KEY, or send `Authorization: Bearer KEY`";
            ApiError::new(StatusCode::UNAUTHORIZED, "invalid_api_key", message)
        })?;
        Ok(Caller { origin: Origin::of_application(headers), ..self.caller_of(key)? })
    }

    /// Who asks, by the key itself.
    fn caller_of(&self, key: &str) -> Result<Caller, ApiError> {
        let key = self.ledger.identify(key, ledger::client(), now_ms()).map_err(limits::denied)?;
        Ok(Caller { project: key.project.clone(), labels: key.labels.clone(), origin: None, key })
    }
}

/// The bearer token of a request.
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// The key of a request: as OpenAI's SDKs send it, or as Anthropic's do.
fn key_of(headers: &HeaderMap) -> Option<&str> {
    bearer(headers).or_else(|| headers.get("x-api-key")?.to_str().ok())
}

/// The headers that lead from an answer to its proof.
fn proof_headers(decision: &DecisionId, factory: Option<&NodeId>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let mut set = |name: &'static str, value: String| {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    };
    set("polder-decision", decision.to_string());
    set("polder-receipt", format!("/api/v1/receipts/{decision}"));
    if let Some(factory) = factory {
        set("polder-factory", factory.to_string());
    }
    headers
}

/// A JSON answer with the headers that lead to its proof.
fn answer_json(decision: &DecisionId, factory: &NodeId, body: &serde_json::Value) -> Response {
    (proof_headers(decision, Some(factory)), axum::Json(body)).into_response()
}

#[cfg(test)]
mod tests;
