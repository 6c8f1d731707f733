//! `/api/v1/tokens`: the operators' tokens, made, listed and revoked by the owner.
//!
//! A token is in the answer that makes it and nowhere else. Only the owner makes one: whoever could make a token for another role
//! would have that role.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::policies::question;
use super::{Caller, Problem, to_its_end};
use crate::config::OperatorRole;
use crate::node::Node;
use crate::tokens::{TokenError, row};

impl From<TokenError> for Problem {
    fn from(error: TokenError) -> Self {
        match &error {
            TokenError::Unknown(_) => Self::new(StatusCode::NOT_FOUND, error.to_string()),
            TokenError::Invalid(_) => Self::new(StatusCode::BAD_REQUEST, error.to_string()),
            TokenError::Store(_) | TokenError::Random(_) => Self::internal(error),
        }
    }
}

/// `GET /api/v1/tokens`: every token without its secret.
pub async fn list(State(node): State<Arc<Node>>, caller: Caller) -> Result<Json<Value>, Problem> {
    caller.sees_tokens()?;
    Ok(Json(json!({"tokens": node.tokens.shown().await.map_err(Problem::internal)?})))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Create {
    role: OperatorRole,
    #[serde(default)]
    name: String,
    #[serde(default)]
    expires_ms: Option<u64>,
}

/// `POST /api/v1/tokens`: makes a token. Its text is in this answer only.
pub async fn create(
    State(node): State<Arc<Node>>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, Problem> {
    caller.keeps_tokens()?;
    let Create { role, name, expires_ms } = question(&headers, body).await?;
    let made = to_its_end(async move { node.tokens.create(role, &name, expires_ms).await }).await?;
    let mut shown = row(&made.stored);
    shown["token"] = made.token.into();
    Ok(Json(shown))
}

/// `DELETE /api/v1/tokens/{id}`: revokes a token at once.
pub async fn revoke(
    State(node): State<Arc<Node>>,
    caller: Caller,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<Value>, Problem> {
    caller.keeps_tokens()?;
    let Path(id) = id?;
    let named = id.clone();
    to_its_end(async move { node.tokens.revoke(&named).await }).await?;
    Ok(Json(json!({"id": id, "revoked": true})))
}
