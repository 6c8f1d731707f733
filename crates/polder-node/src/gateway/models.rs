//! `/v1/models`: what the factories offer, whether or not this key's project may use it everywhere.

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use http::HeaderMap;
use polder_core::ids::ModelId;
use serde_json::{Value, json};
use std::collections::BTreeMap;

use super::{ApiError, Gateway};

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

/// `GET /v1/models`
pub async fn list(State(gateway): State<Gateway>, headers: HeaderMap) -> Result<Json<Value>, ApiError> {
    gateway.caller(&headers)?;
    let data: Vec<Value> = offered(&gateway).iter().map(|(id, factories)| object(id, factories)).collect();
    Ok(Json(json!({"object": "list", "data": data})))
}

/// `GET /v1/models/{id}`
pub async fn retrieve(
    State(gateway): State<Gateway>,
    headers: HeaderMap,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<Value>, ApiError> {
    gateway.caller(&headers)?;
    let Path(id) = id.map_err(|_| ApiError::parameter("model", "invalid_value", "the model's name is not UTF-8"))?;
    let found = offered(&gateway).into_iter().find(|(model, _)| model.as_str() == id);
    found.map(|(id, factories)| Json(object(&id, &factories))).ok_or_else(|| ApiError::unknown_model(&id))
}
