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

use super::{Caller, Problem, retention};
use crate::home::named;
use crate::node::Node;

/// How long a receipt waits for a leaf that is on its way.
const WAIT: Duration = Duration::from_millis(1_500);
const STEP: Duration = Duration::from_millis(10);
/// Among how many of the latest decisions an application's own last one is looked for.
const LATEST_MAX: u32 = 200;

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

/// What is not there: deleted, lost, or never known.
pub async fn absent(node: &Node, id: &str) -> Problem {
    match node.store.forgotten(id).await {
        Ok(Some(gone)) => retention::deleted(&gone, id),
        Ok(None) => unknown_here(node, id),
        Err(error) => Problem::internal(error),
    }
}

/// The decision that an id means: its own, an answer's, or `last`, which is the caller's own last.
pub async fn decision_id(node: &Node, caller: &Caller, id: &str) -> Result<String, Problem> {
    // Who asks for an answer that it has just had is early.
    node.log.settled().await;
    if id == "last" {
        return last(node, caller).await?.ok_or_else(|| unknown(id));
    }
    // An answer's id is made of its decision's: `chatcmpl-…`, `resp_…` and `decision-…` have the same digits.
    let (_, digits) = id.rsplit_once(['-', '_']).ok_or_else(|| unknown(id))?;
    DecisionId::parse(&format!("decision-{digits}")).map(String::from).map_err(|_| unknown(id))
}

/// The last decision that a caller sees; an application's own is looked for among the latest.
async fn last(node: &Node, caller: &Caller) -> Result<Option<String>, Problem> {
    if !matches!(caller, Caller::Application(_)) {
        let latest = node.store.latest_decisions(1).await.map_err(Problem::internal)?;
        return Ok(latest.into_iter().next());
    }
    let latest = node.store.latest_decision_statements(LATEST_MAX).await.map_err(Problem::internal)?;
    let own = |bytes: &Vec<u8>| match serde_json::from_slice(bytes) {
        Ok(Statement::Decision(statement)) if caller.sees(&statement.request.project) => Some(statement.id.to_string()),
        _ => None,
    };
    Ok(latest.iter().find_map(own))
}

/// `GET /api/v1/receipts/{id}`: the receipt file of a decision or an answer. While the answer is still being written: 409.
pub async fn receipt(
    State(node): State<Arc<Node>>,
    caller: Caller,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    caller.reads()?;
    let Path(id) = id?;
    let id = decision_id(&node, &caller, &id).await?;
    let deadline = tokio::time::Instant::now() + WAIT;
    loop {
        // What the caller must not see is waited for in vain, as what is not there.
        if let Some(receipt) = assemble(&node, &caller, &id).await? {
            let bytes = receipt.to_bytes().map_err(Problem::internal)?;
            return Ok(([(header::CONTENT_TYPE, "application/json")], bytes).into_response());
        }
        if tokio::time::Instant::now() >= deadline {
            let known = seen(&node, &caller, &id).await?.is_some();
            let detail = "the execution's half is not there: the answer is still being written, or its factory is gone; try again";
            return Err(if known { Problem::new(StatusCode::CONFLICT, detail) } else { absent(&node, &id).await });
        }
        tokio::time::sleep(STEP).await;
    }
}

/// The decision's half, where the caller sees it.
async fn seen(node: &Node, caller: &Caller, id: &str) -> Result<Option<Half>, Problem> {
    let half = node.log.half("decision", id).await.map_err(Problem::internal)?;
    let own = |half: &Half| match &half.statement {
        Statement::Decision(statement) => caller.sees(&statement.request.project),
        _ => false,
    };
    Ok(half.filter(own))
}

/// The receipt, where both halves are there.
async fn assemble(node: &Node, caller: &Caller, id: &str) -> Result<Option<Receipt>, Problem> {
    let Some(decision) = seen(node, caller, id).await? else { return Ok(None) };
    let Statement::Decision(statement) = &decision.statement else { return Ok(None) };
    let tables = named::tables(&node.store, statement).await.map_err(Problem::internal)?;
    let Some(factory) = statement.factory.clone() else { return Ok(Some(Receipt::new(decision, tables, None))) };
    Ok(execution(node, id, &factory).await?.map(|half| Receipt::new(decision, tables, Some(half))))
}

async fn execution(node: &Node, id: &str, factory: &NodeId) -> Result<Option<Half>, Problem> {
    let kept = node.store.execution_half(id).await.map_err(Problem::internal)?;
    // It is kept as it came; one that cannot be read is asked for again.
    if let Some(half) = kept.and_then(|bytes| serde_json::from_slice(&bytes).ok()) {
        return Ok(Some(half));
    }
    let Some(home) = node.home.as_ref() else { return Ok(None) };
    let Some(peer) = home.peer(factory) else { return Ok(None) };
    // A factory that does not answer now may answer the next call.
    let Ok(Some(half)) = peer.execution(id).await else { return Ok(None) };
    home.keep_half(id, &half).await.map_err(Problem::internal)?;
    Ok(Some(half))
}

/// `GET /api/v1/sealed/{part}/{id}`: one statement with its place in its log and its node's signatures over it, for those who
/// want it in another form. `part` is `decision`, `execution`, `activation`, `day`, or a kind of change; an activation's id is a policy's version, a
/// change's its place in the log, a day's its number since the epoch or `last`.
pub async fn sealed(
    State(node): State<Arc<Node>>,
    caller: Caller,
    path: Result<Path<(String, String)>, PathRejection>,
) -> Result<Json<Sealed>, Problem> {
    let Path((part, id)) = path?;
    let found = match part.as_str() {
        "decision" | "execution" => {
            caller.reads()?;
            // A home shows an application its own project's; at a factory alone there is none.
            let id = match &node.home {
                Some(_) => super::statement(&node, &caller, Ok(Path(id))).await?.id.to_string(),
                None => decision_id(&node, &caller, &id).await?,
            };
            let found = match part.as_str() {
                "decision" => sealed_decision(&node, &id).await?,
                _ => sealed_execution(&node, &id).await?,
            };
            if found.is_none() && node.store.forgotten(&id).await.map_err(Problem::internal)?.is_some() {
                return Err(absent(&node, &id).await);
            }
            found
        }
        "activation" => {
            caller.reads_policies()?;
            let version = super::policies::home(&node)?.lifecycle.version(&id).await?;
            let half = node.log.half_at(version.leaf).await.map_err(Problem::internal)?;
            half.filter(|half| matches!(half.statement, Statement::Activation(_))).and_then(|half| node.log.seal(half))
        }
        "day" => {
            caller.reads_policies()?;
            match super::audit::day(&node, &id).await? {
                Some(place) => sealed_day(&node, place).await?,
                None => None,
            }
        }
        "import" | "view" | "deletion" | "hold" | "key" | "member" => {
            caller.reads_policies()?;
            let place: u64 = id.parse().map_err(|_| unplaced(&id))?;
            node.log.settled().await;
            let half = node.log.half_at(place).await.map_err(Problem::internal)?;
            half.filter(|half| half.statement.kind() == part).and_then(|half| node.log.seal(half))
        }
        _ => {
            let detail = "the part is none of `decision`, `execution`, `activation`, `import`, `view`, `deletion`, `hold`, `key`, `member`, `day`";
            return Err(Problem::new(StatusCode::NOT_FOUND, detail));
        }
    };
    let missing =
        || Problem::new(StatusCode::NOT_FOUND, "there is no such statement here, or its factory does not answer");
    found.map(Json).ok_or_else(missing)
}

/// What is no place in the log.
fn unplaced(id: &str) -> Problem {
    let id: String = id.chars().take(64).collect();
    let detail = format!("`{id}` is no place in the log: `polder log changes` shows the number of each");
    Problem::new(StatusCode::NOT_FOUND, detail)
}

async fn own(node: &Node, kind: &str, id: &str) -> Result<Option<Sealed>, Problem> {
    let half = node.log.half(kind, id).await.map_err(Problem::internal)?;
    Ok(half.and_then(|half| node.log.seal(half)))
}

/// A decision comes with the tables that it names, which are proved by it.
async fn sealed_decision(node: &Node, id: &str) -> Result<Option<Sealed>, Problem> {
    let Some(sealed) = own(node, "decision", id).await? else { return Ok(None) };
    let Statement::Decision(statement) = &sealed.half.statement else { return Ok(Some(sealed)) };
    let tables = named::tables(&node.store, statement).await.map_err(Problem::internal)?;
    Ok(Some(Sealed { tables: Some(tables), ..sealed }))
}

async fn sealed_day(node: &Node, place: u64) -> Result<Option<Sealed>, Problem> {
    let half = node.log.half_at(place).await.map_err(Problem::internal)?;
    Ok(half.filter(|half| matches!(half.statement, Statement::Day(_))).and_then(|half| node.log.seal(half)))
}

/// The factory signs for itself; a node that is a factory alone is asked for what it ran.
async fn sealed_execution(node: &Node, id: &str) -> Result<Option<Sealed>, Problem> {
    let Some(home) = node.home.as_ref() else { return own(node, "execution", id).await };
    let Some(decision) = node.log.half("decision", id).await.map_err(Problem::internal)? else { return Ok(None) };
    let Statement::Decision(statement) = &decision.statement else { return Ok(None) };
    let Some(peer) = statement.factory.as_ref().and_then(|factory| home.peer(factory)) else { return Ok(None) };
    Ok(peer.sealed(id).await.ok().flatten())
}
