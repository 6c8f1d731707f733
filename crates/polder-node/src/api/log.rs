//! The log and its alarms for operators: what was found wrong with any log, and a look at the whole of this one.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
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
