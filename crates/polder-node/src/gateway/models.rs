//! `/v1/models`: what the factories offer, whether or not this key's project may use it everywhere.
//!
//! OpenAI's SDKs and Anthropic's ask at the same address; who sends `anthropic-version` is answered in Anthropic's shape.

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use http::HeaderMap;
use polder_core::ids::ModelId;
use serde_json::{Value, json};
use std::collections::BTreeMap;

use super::{ApiError, Gateway, messages};

/// The models, each with the factories that offer it.
fn offered(gateway: &Gateway) -> BTreeMap<ModelId, Vec<String>> {
    let mut models: BTreeMap<ModelId, Vec<String>> = BTreeMap::new();
    for (node, known) in gateway.home.view.known() {
        for offer in known.status.iter().flat_map(|status| &status.models) {
            models.entry(offer.model.clone()).or_default().push(node.to_string());
        }
    }
    models
}

fn object(id: &ModelId, factories: &[String]) -> Value {
    // `created` is required by OpenAI's type; nobody knows when a model was made, and 0 says so.
    json!({"id": id, "object": "model", "created": 0, "owned_by": "polder", "polder": {"factories": factories}})
}

/// Whether the answer is for Anthropic's SDKs.
fn is_anthropic(headers: &HeaderMap) -> bool {
    headers.contains_key("anthropic-version")
}

/// The same in Anthropic's shape, where an unknown date is the beginning of time.
fn anthropic_object(id: &ModelId) -> Value {
    json!({
        "id": id, "type": "model", "display_name": id, "created_at": "1970-01-01T00:00:00Z", "lifecycle": "active",
    })
}

/// `GET /v1/models`
pub async fn list(State(gateway): State<Gateway>, headers: HeaderMap) -> Result<Json<Value>, ApiError> {
    let headers = messages::with_bearer(headers);
    gateway.caller(&headers)?;
    if is_anthropic(&headers) {
        let offered = offered(&gateway);
        let data: Vec<Value> = offered.keys().map(anthropic_object).collect();
        let (first, last) = (offered.keys().next(), offered.keys().next_back());
        return Ok(Json(json!({"data": data, "has_more": false, "first_id": first, "last_id": last})));
    }
    let data: Vec<Value> = offered(&gateway).iter().map(|(id, factories)| object(id, factories)).collect();
    Ok(Json(json!({"object": "list", "data": data})))
}

/// `GET /v1/models/{id}`
pub async fn retrieve(
    State(gateway): State<Gateway>,
    headers: HeaderMap,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<Value>, ApiError> {
    let headers = messages::with_bearer(headers);
    gateway.caller(&headers)?;
    let Path(id) = id.map_err(|_| ApiError::parameter("model", "invalid_value", "the model's name is not UTF-8"))?;
    let found = offered(&gateway).into_iter().find(|(model, _)| model.as_str() == id);
    let shape = |(id, factories): (ModelId, Vec<String>)| {
        Json(if is_anthropic(&headers) { anthropic_object(&id) } else { object(&id, &factories) })
    };
    found.map(shape).ok_or_else(|| ApiError::unknown_model(&id))
}
