//! `/api/v1/holds` and `/api/v1/deletions`: legal holds, and statements deleted on somebody's word.
//!
//! A call that changes something goes on to its end when its caller goes away.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use http::{HeaderMap, StatusCode};
use polder_core::ids::{ProjectId, TenantId};
use polder_core::ledger::civil;
use polder_core::retention::Stays;
use polder_core::statement::v1::{Ground, HoldScope};
use serde::Deserialize;
use serde_json::{Value, json};

use super::policies::question;
use super::{Caller, Problem, receipts, to_its_end};
use crate::clock::now_ms;
use crate::node::Node;
use crate::retention::{Deleted, RetentionError};
use crate::store::{Forgotten, StoredHold};

const DAY_MS: u64 = 86_400_000;

impl From<RetentionError> for Problem {
    fn from(error: RetentionError) -> Self {
        let detail = error.to_string();
        match error {
            RetentionError::Stays { stays: Stays::Held(hold), .. } => {
                Self::new(StatusCode::CONFLICT, detail).with("hold", json!(hold))
            }
            RetentionError::Stays { stays: Stays::Young { until_ms, .. }, .. } => {
                Self::new(StatusCode::CONFLICT, detail).with("until_ms", json!(until_ms))
            }
            RetentionError::Unknown(_) => Self::new(StatusCode::NOT_FOUND, detail),
            RetentionError::Invalid(_) => Self::new(StatusCode::BAD_REQUEST, detail),
            RetentionError::Store(_) | RetentionError::Log(_) | RetentionError::Random(_) => Self::internal(detail),
        }
    }
}

/// On whose word a caller speaks, as statements name it.
fn word(caller: &Caller) -> &'static str {
    if *caller == Caller::Socket { "socket" } else { "owner" }
}

/// `GET /api/v1/holds`: every hold, lifted ones too.
pub async fn holds(State(node): State<Arc<Node>>, caller: Caller) -> Result<Json<Value>, Problem> {
    caller.reads_policies()?;
    Ok(Json(json!({"holds": node.retention.holds().await.map_err(Problem::internal)?})))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Put {
    on: On,
    reason: String,
}

/// What a hold is put on.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum On {
    Tenant(TenantId),
    Project(ProjectId),
    Receipt(String),
}

/// `POST /api/v1/holds`: puts a hold.
pub async fn put(
    State(node): State<Arc<Node>>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<StoredHold>, Problem> {
    caller.owns()?;
    let Put { on, reason } = question(&headers, body).await?;
    let by = word(&caller);
    let scope = match on {
        On::Tenant(tenant) => HoldScope::Tenant(tenant),
        On::Project(project) => HoldScope::Project(project),
        On::Receipt(id) => {
            let id = receipts::decision_id(&node, &caller, &id).await?;
            return to_its_end(async move { node.retention.put_on(&id, &reason, by).await }).await.map(Json);
        }
    };
    to_its_end(async move { node.retention.put(scope, &reason, by).await }).await.map(Json)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Lift {
    hold: String,
    reason: String,
}

/// `POST /api/v1/holds/lift`: lifts a hold.
pub async fn lift(
    State(node): State<Arc<Node>>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<StoredHold>, Problem> {
    caller.owns()?;
    let Lift { hold, reason } = question(&headers, body).await?;
    let by = word(&caller);
    to_its_end(async move { node.retention.lift(&hold, &reason, by).await }).await.map(Json)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Delete {
    #[serde(default)]
    receipt: Option<String>,
    #[serde(default)]
    project: Option<ProjectId>,
    #[serde(default)]
    older_than_days: Option<u64>,
    #[serde(default)]
    erasure: bool,
}

/// `POST /api/v1/deletions`: deletes the statements of a decision, or those of a project that are older than so many days.
pub async fn delete(
    State(node): State<Arc<Node>>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Deleted>, Problem> {
    caller.owns()?;
    let Delete { receipt, project, older_than_days, erasure } = question(&headers, body).await?;
    let (ground, by, now) = (if erasure { Ground::Erasure } else { Ground::Word }, word(&caller), now_ms());
    match (receipt, project, older_than_days) {
        (Some(id), None, None) => {
            let id = receipts::decision_id(&node, &caller, &id).await?;
            if let Some(gone) = node.store.forgotten(&id).await.map_err(Problem::internal)? {
                return Err(deleted(&gone, &id));
            }
            to_its_end(async move { node.retention.forget(&id, ground, by, now).await }).await.map(Json)
        }
        (None, Some(project), Some(days)) => {
            let before = now.saturating_sub(days.saturating_mul(DAY_MS));
            let done = async move { node.retention.forget_project(&project, before, ground, by, now).await };
            to_its_end(done).await.map(Json)
        }
        _ => {
            let detail = "name `receipt`, or `project` and `older_than_days`";
            Err(Problem::new(StatusCode::BAD_REQUEST, detail))
        }
    }
}

/// What a decision's statements were deleted as.
pub fn deleted(gone: &Forgotten, id: &str) -> Problem {
    let (year, month, day) = civil(gone.at_ms / DAY_MS);
    let why = match gone.ground.as_str() {
        "age" => "because its time was over",
        "erasure" => "as an erasure",
        _ => "on somebody's word",
    };
    let detail = format!(
        "`{id}` was deleted on {year}-{month:02}-{day:02} under the retention class `{}`, {why}: its leaf {} stays in the log and \
         says nothing any more; leaf {} says that it was deleted",
        gone.class, gone.leaf, gone.deletion
    );
    Problem::new(StatusCode::GONE, detail).with("deleted", json!(gone))
}
