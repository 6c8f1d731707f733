//! Receipts: both halves put together, the factory's from what it sent or, failing that, asked for again.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use polder_core::ids::{DecisionId, NodeId};
use polder_core::receipt::{Half, Receipt, Sealed};
use polder_core::statement::v1::Statement;
use serde_json::json;

use super::{Caller, Problem};
use crate::node::Node;

/// How long a receipt waits for a leaf that is on its way.
const WAIT: Duration = Duration::from_millis(1_500);
const STEP: Duration = Duration::from_millis(10);

/// No such decision or answer.
pub fn unknown(id: &str) -> Problem {
    let id: String = id.chars().take(64).collect();
    Problem::new(StatusCode::NOT_FOUND, format!("no decision or answer `{id}` is known to this node"))
}

/// The same, with what is known of a decision that may have been lost: this node was cut short at about its time.
pub fn unknown_here(node: &Node, id: &str) -> Problem {
    let Some(run) = DecisionId::parse(id).ok().and_then(|id| node.log.cut_at(id.at_ms())) else { return unknown(id) };
    let (id, leaves) = (id.chars().take(64).collect::<String>(), run.leaves);
    let detail = format!(
        "`{id}` has no leaf in this log. The node was cut short at about that time, after leaf {leaves}: what it decided in its last \
         moments was not covered by a checkpoint and is lost. If this node gave the id out, it is one of those"
    );
    let lost = json!({"leaves": leaves, "recorded_ms": run.recorded_ms, "next_start_ms": run.next_ms});
    Problem::new(StatusCode::NOT_FOUND, detail).with("lost", lost)
}

/// The decision that an id means: its own, an answer's, or `last`.
pub async fn decision_id(node: &Node, id: &str) -> Result<String, Problem> {
    if id == "last" {
        let latest = node.store.latest_decisions(1).await.map_err(Problem::internal)?;
        return latest.into_iter().next().ok_or_else(|| unknown(id));
    }
    // An answer's id is made of its decision's: `chatcmpl-…`, `resp_…` and `decision-…` have the same digits.
    let (_, digits) = id.rsplit_once(['-', '_']).ok_or_else(|| unknown(id))?;
    DecisionId::parse(&format!("decision-{digits}")).map(String::from).map_err(|_| unknown(id))
}

/// `GET /api/v1/receipts/{id}`: the receipt file of a decision or an answer. While the answer is still being written: 409.
pub async fn receipt(
    State(node): State<Arc<Node>>,
    caller: Caller,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    caller.reads()?;
    let Path(id) = id?;
    let id = decision_id(&node, &id).await?;
    let deadline = tokio::time::Instant::now() + WAIT;
    loop {
        if let Some(receipt) = assemble(&node, &id).await? {
            let bytes = receipt.to_bytes().map_err(Problem::internal)?;
            return Ok(([(header::CONTENT_TYPE, "application/json")], bytes).into_response());
        }
        if tokio::time::Instant::now() >= deadline {
            let known = node.store.leaf("decision", &id).await.map_err(Problem::internal)?.is_some();
            let detail = "the execution's half is not there: the answer is still being written, or its factory is gone; try again";
            return Err(if known { Problem::new(StatusCode::CONFLICT, detail) } else { unknown_here(&node, &id) });
        }
        tokio::time::sleep(STEP).await;
    }
}

/// The receipt, where both halves are there.
async fn assemble(node: &Node, id: &str) -> Result<Option<Receipt>, Problem> {
    let Some(decision) = node.log.half("decision", id).await.map_err(Problem::internal)? else { return Ok(None) };
    let Statement::Decision(statement) = &decision.statement else { return Ok(None) };
    let Some(factory) = statement.factory.clone() else { return Ok(Some(Receipt::new(decision, None))) };
    Ok(execution(node, id, &factory).await?.map(|half| Receipt::new(decision, Some(half))))
}

async fn execution(node: &Node, id: &str, factory: &NodeId) -> Result<Option<Half>, Problem> {
    if let Some(bytes) = node.store.execution_half(id).await.map_err(Problem::internal)? {
        return serde_json::from_slice(&bytes).map(Some).map_err(Problem::internal);
    }
    let Some(home) = node.home.as_ref() else { return Ok(None) };
    let Some(peer) = home.peer(factory) else { return Ok(None) };
    // A factory that does not answer now may answer the next call.
    let Ok(Some(half)) = peer.execution(id).await else { return Ok(None) };
    home.keep_half(id, &half).await.map_err(Problem::internal)?;
    Ok(Some(half))
}

/// `GET /api/v1/sealed/{part}/{id}`: one statement with its place in its log and its node's signatures over it, for those who
/// want it in another form. `part` is `decision`, `execution` or `activation`; an activation's id is a policy's version.
pub async fn sealed(
    State(node): State<Arc<Node>>,
    caller: Caller,
    path: Result<Path<(String, String)>, PathRejection>,
) -> Result<Json<Sealed>, Problem> {
    let Path((part, id)) = path?;
    let found = match part.as_str() {
        "decision" | "execution" => {
            caller.reads()?;
            let id = decision_id(&node, &id).await?;
            if part == "decision" { own(&node, "decision", &id).await? } else { sealed_execution(&node, &id).await? }
        }
        "activation" => {
            caller.reads_policies()?;
            let version = super::policies::home(&node)?.lifecycle.version(&id).await?;
            let half = node.log.half_at(version.leaf).await.map_err(Problem::internal)?;
            half.filter(|half| matches!(half.statement, Statement::Activation(_))).and_then(|half| node.log.seal(half))
        }
        _ => {
            let detail = "the part is none of `decision`, `execution`, `activation`";
            return Err(Problem::new(StatusCode::NOT_FOUND, detail));
        }
    };
    let missing =
        || Problem::new(StatusCode::NOT_FOUND, "there is no such statement here, or its factory does not answer");
    found.map(Json).ok_or_else(missing)
}

async fn own(node: &Node, kind: &str, id: &str) -> Result<Option<Sealed>, Problem> {
    let half = node.log.half(kind, id).await.map_err(Problem::internal)?;
    Ok(half.and_then(|half| node.log.seal(half)))
}

/// The factory signs for itself; a node that is a factory alone is asked for what it ran.
async fn sealed_execution(node: &Node, id: &str) -> Result<Option<Sealed>, Problem> {
    let Some(home) = node.home.as_ref() else { return own(node, "execution", id).await };
    let Some(decision) = node.log.half("decision", id).await.map_err(Problem::internal)? else { return Ok(None) };
    let Statement::Decision(statement) = &decision.statement else { return Ok(None) };
    let Some(peer) = statement.factory.as_ref().and_then(|factory| home.peer(factory)) else { return Ok(None) };
    Ok(peer.sealed(id).await.ok().flatten())
}
