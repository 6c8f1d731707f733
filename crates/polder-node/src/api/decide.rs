//! `POST /api/v1/decide`: the decision as it would be made now, without running anything and without a leaf.
//!
//! The question names a project and may narrow its labels, as a request does; it cannot widen them either.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use http::{HeaderMap, StatusCode};
use polder_core::ids::{ModelId, ProjectId};
use polder_core::labels::{Action, Asked, Country, DataClass, Language, Purpose};
use polder_core::request::Request;
use serde::Deserialize;
use serde_json::Value;

use super::{Caller, Problem};
use crate::node::Node;
use crate::refusal;

/// Largest question that is read, in bytes.
const QUESTION_BYTES_MAX: usize = 64 << 10;

/// What would be decided about.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    #[serde(default = "infer")]
    action: Action,
    project: ProjectId,
    #[serde(default)]
    model: Option<ModelId>,
    #[serde(default)]
    class: Option<DataClass>,
    #[serde(default)]
    purposes: Option<BTreeSet<Purpose>>,
    #[serde(default)]
    countries: Option<BTreeSet<Country>>,
    #[serde(default)]
    language: Option<Language>,
}

fn infer() -> Action {
    Action::Infer
}

/// Answers a question with every verdict.
pub async fn decide(
    State(node): State<Arc<Node>>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, Problem> {
    caller.reads()?;
    let bad = |detail: String| Problem::new(StatusCode::BAD_REQUEST, detail);
    let Some(home) = &node.home else {
        return Err(Problem::new(StatusCode::NOT_FOUND, "this node is no home: ask a tenant's node"));
    };
    let object = crate::gateway::read_object(&headers, body, QUESTION_BYTES_MAX).await;
    let object = object.map_err(|error| bad(error.message()))?;
    let question: Question = serde_json::from_value(Value::Object(object)).map_err(|e| bad(e.to_string()))?;
    let Question { action, project, model, class, purposes, countries, language } = question;
    let labels = home
        .labels_of(&project)
        .filter(|_| caller.sees(&project))
        .ok_or_else(|| bad(format!("`{project}` is not a project of this tenant")))?;
    let asked = Asked { class, purposes, countries, language };
    let labels = labels.narrow(&asked).map_err(|e| bad(e.to_string()))?;
    let request = Request { action, tenant: home.tenant.clone(), project, model, labels };
    let decision = home.decide_only(&request);
    Ok(Json(refusal::answer(&request, &decision)))
}
