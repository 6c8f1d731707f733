//! The log and its alarms for operators: what was found wrong with any log, a look at the whole of this one, and those of its
//! statements that say what the node goes by.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Caller, Problem};
use crate::log::Checked;
use crate::node::Node;

/// `GET /api/v1/alarms`: every alarm with its evidence, the oldest first.
pub async fn alarms(State(node): State<Arc<Node>>, caller: Caller) -> Result<Json<Value>, Problem> {
    caller.sees_node()?;
    let alarms = node.alarms.list().await.map_err(Problem::internal)?;
    Ok(Json(json!({"alarms": alarms})))
}

/// `POST /api/v1/log/check`: looks at every leaf and every tile at rest.
pub async fn check(State(node): State<Arc<Node>>, caller: Caller) -> Result<Json<Checked>, Problem> {
    caller.reloads()?;
    node.log.check().await.map(Json).map_err(Problem::internal)
}

/// How many changes are shown where the caller does not say, and at most.
const CHANGES: u32 = 50;
const CHANGES_MAX: u32 = 1_000;

/// Which changes are asked for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Which {
    #[serde(default)]
    kind: Option<String>,
    #[serde(default)]
    before: Option<u64>,
    #[serde(default)]
    last: Option<u32>,
}

/// `GET /api/v1/log/changes`: the statements that are no decisions and no executions, newest first, each with its place in the log.
pub async fn changes(
    State(node): State<Arc<Node>>,
    caller: Caller,
    which: Result<Query<Which>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    caller.reads_policies()?;
    let Query(Which { kind, before, last }) =
        which.map_err(|error| Problem::new(StatusCode::BAD_REQUEST, error.body_text()))?;
    node.log.settled().await;
    let (before, last) = (before.unwrap_or(u64::MAX), last.unwrap_or(CHANGES).min(CHANGES_MAX));
    let found = node.store.changes(kind.as_deref(), before, last).await.map_err(Problem::internal)?;
    let mut changes = Vec::with_capacity(found.len());
    for change in found {
        let leaf = node.store.leaf_at(change.place).await.map_err(Problem::internal)?;
        let says: Value = leaf.and_then(|leaf| serde_json::from_slice(&leaf.statement).ok()).unwrap_or_default();
        changes.push(json!({"leaf": change.place, "kind": change.kind, "at_ms": change.at_ms, "statement": says}));
    }
    Ok(Json(json!({"changes": changes})))
}
