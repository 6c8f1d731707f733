//! `/api/v1/policies`: the owner's policy in force and its history; activate, roll back, and see what a change would mean.
//!
//! A call that puts a policy in force goes on to its end when its caller goes away: what is in the log comes into force.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use http::{HeaderMap, StatusCode};
use polder_core::statement::v1::Statement;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{Caller, Problem, to_its_end};
use crate::home::Home;
use crate::home::lifecycle::{Activated, ActivationError, Diff, PolicySource};
use crate::node::Node;
use crate::store::PolicyVersion;

/// Largest body that is read, in bytes: two texts, written as JSON.
const BODY_BYTES_MAX: usize = 8 << 20;
/// How many versions a history shows.
const HISTORY_MAX: u32 = 200;
/// How many decisions are made anew where the caller does not say.
const LAST: u32 = 100;

impl From<ActivationError> for Problem {
    fn from(error: ActivationError) -> Self {
        let detail = error.to_string();
        match error {
            ActivationError::Policy(fault) => {
                let more = json!({
                    "file": fault.file, "line": fault.line, "column": fault.column, "message": fault.message,
                    "hint": fault.hint,
                });
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail).with("policy", more)
            }
            ActivationError::Unproven(unproven) => {
                Self::new(StatusCode::CONFLICT, detail).with("proofs", json!(unproven.proofs))
            }
            ActivationError::Overtaken(_) => Self::new(StatusCode::CONFLICT, detail),
            ActivationError::Unknown(_) => Self::new(StatusCode::NOT_FOUND, detail),
            ActivationError::Name(_) => Self::new(StatusCode::BAD_REQUEST, detail),
            ActivationError::Internal(_) => Self::internal(detail),
        }
    }
}

/// `GET /api/v1/policies`: the version in force, those before it, and the guardrails.
pub async fn list(State(node): State<Arc<Node>>, caller: Caller) -> Result<Json<Value>, Problem> {
    caller.reads_policies()?;
    let home = home(&node)?;
    let state = home.view.policies();
    let history = node.store.policies(HISTORY_MAX).await.map_err(Problem::internal)?;
    let guardrail = |one: &crate::home::lifecycle::Guardrail| json!({"claim": one.claim.name, "digest": one.digest, "says": one.claim.says});
    Ok(Json(json!({
        "active": *state.version,
        "history": history,
        "guardrails": home.lifecycle.guardrails().iter().map(guardrail).collect::<Vec<_>>(),
        "problems": state.refused(),
    })))
}

/// `GET /api/v1/policies/{version}`: a version by number or by its digest's beginning, with its text and its place in the log.
pub async fn show(
    State(node): State<Arc<Node>>,
    caller: Caller,
    version: Result<Path<String>, PathRejection>,
) -> Result<Json<Value>, Problem> {
    caller.reads_policies()?;
    let Path(version) = version?;
    let version = home(&node)?.lifecycle.version(&version).await?;
    let half = node.log.half_at(version.leaf).await.map_err(Problem::internal)?;
    let half = half.filter(|half| matches!(half.statement, Statement::Activation(_)));
    Ok(Json(json!({"version": version, "text": version.text, "proof": half})))
}

/// `POST /api/v1/policies/activate`: puts a text in force.
pub async fn activate(
    State(node): State<Arc<Node>>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, Problem> {
    caller.owns()?;
    home(&node)?;
    let PolicySource { file, text } = question(&headers, body).await?;
    changed(&node, |home| async move { home.lifecycle.activate(&home.view, &file, text).await }).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Back {
    #[serde(default)]
    to: Option<String>,
}

/// `POST /api/v1/policies/rollback`: puts a former version in force again.
pub async fn rollback(
    State(node): State<Arc<Node>>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, Problem> {
    caller.owns()?;
    home(&node)?;
    let Back { to } = question(&headers, body).await?;
    changed(&node, |home| async move { home.lifecycle.rollback(&home.view, to.as_deref()).await }).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Compare {
    #[serde(default)]
    old: Option<PolicySource>,
    new: PolicySource,
    #[serde(default)]
    last: Option<u32>,
}

/// `POST /api/v1/policies/diff`: which of the latest decisions would change.
pub async fn diff(
    State(node): State<Arc<Node>>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Diff>, Problem> {
    caller.owns()?;
    let home = home(&node)?;
    let Compare { old, new, last } = question(&headers, body).await?;
    Ok(Json(home.lifecycle.diff(&home.view, old, new, last.unwrap_or(LAST)).await?))
}

pub(super) fn home(node: &Node) -> Result<&Arc<Home>, Problem> {
    let missing = || Problem::new(StatusCode::NOT_FOUND, "this node is no home: ask a tenant's node for its policies");
    node.home.as_ref().ok_or_else(missing)
}

pub(super) async fn question<T: DeserializeOwned>(headers: &HeaderMap, body: Body) -> Result<T, Problem> {
    let bad = |detail: String| Problem::new(StatusCode::BAD_REQUEST, detail);
    let object = crate::gateway::read_object(headers, body, BODY_BYTES_MAX).await;
    let object = object.map_err(|error| bad(error.message()))?;
    serde_json::from_value(Value::Object(object)).map_err(|e| bad(e.to_string()))
}

/// Runs a change to its end, and tells the version in force.
async fn changed<F>(node: &Node, change: impl FnOnce(Arc<Home>) -> F) -> Result<Json<Value>, Problem>
where
    F: Future<Output = Result<Activated, ActivationError>> + Send + 'static,
{
    let Activated { version, changed } = to_its_end(change(Arc::clone(home(node)?))).await?;
    let version: &PolicyVersion = &version;
    Ok(Json(json!({"version": version, "changed": changed})))
}
