//! `/api/v1/node-keys`: the lives of this node's own keys, and their rotation and revocation. `/log/keys` shows them to everybody.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use http::{HeaderMap, StatusCode};
use polder_core::keys::history::KeyHistory;
use polder_core::keys::{Role, Signed};
use serde::Deserialize;
use serde_json::Value;

use super::policies::question;
use super::{Caller, Problem, to_its_end};
use crate::key_care::CareError;
use crate::node::Node;

impl From<CareError> for Problem {
    fn from(error: CareError) -> Self {
        match &error {
            CareError::Invalid(_) | CareError::Token(_) => Self::new(StatusCode::CONFLICT, error.to_string()),
            CareError::File(_) | CareError::Store(_) | CareError::Log(_) | CareError::Gone(..) => Self::internal(error),
        }
    }
}

/// `GET /api/v1/node-keys`: each key's life, and for one that was revoked what rests on it.
pub async fn list(State(node): State<Arc<Node>>, caller: Caller) -> Result<Json<Value>, Problem> {
    caller.sees_node()?;
    Ok(Json(node.key_care.lives(&node.log).await?))
}

/// `GET /log/keys`: the history, signed by the node's identity.
pub async fn history(State(node): State<Arc<Node>>) -> Json<Signed<KeyHistory>> {
    Json(Signed::clone(&node.key_care.history()))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rotate {
    #[serde(rename = "use")]
    role: Role,
    overlap_s: u64,
    #[serde(default)]
    label: Option<String>,
}

/// `POST /api/v1/node-keys/rotate`: gives a role a new key.
pub async fn rotate(
    State(node): State<Arc<Node>>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, Problem> {
    caller.reloads()?;
    let Rotate { role, overlap_s, label } = question(&headers, body).await?;
    let overlap_ms = overlap_s.saturating_mul(1_000);
    let change = async move {
        let made = node.key_care.rotate(role, (&node.log, &node.alarms), overlap_ms, label.as_deref()).await?;
        node.follow_keys().await.map_err(Problem::from)?;
        Ok::<_, Problem>(made)
    };
    to_its_end(change).await.map(Json)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Revoke {
    #[serde(rename = "use")]
    role: Role,
    since_ms: u64,
    #[serde(default)]
    label: Option<String>,
}

/// `POST /api/v1/node-keys/revoke`: takes a role's key out of use at once.
pub async fn revoke(
    State(node): State<Arc<Node>>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, Problem> {
    caller.reloads()?;
    let Revoke { role, since_ms, label } = question(&headers, body).await?;
    let change = async move {
        let made = node.key_care.revoke(role, (&node.log, &node.alarms), since_ms, label.as_deref()).await?;
        node.follow_keys().await.map_err(Problem::from)?;
        Ok::<_, Problem>(made)
    };
    to_its_end(change).await.map(Json)
}
