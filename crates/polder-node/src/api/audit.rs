//! `/api/v1/log/…`: what an auditor follows a log with: every statement, what statements name, numbers, and what this node was
//! shown of other logs.
//!
//! A node's owner and its auditors read statements; nobody else does. Checking any of it is absent: whoever reads does that
//! (`polder audit monitor`).

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use http::StatusCode;
use polder_core::canonical::Digest;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Caller, Problem};
use crate::node::Node;

/// Most statements, and about the most bytes of them, in one answer.
const STATEMENTS_MAX: usize = 2_000;
const BYTES_MAX: usize = 4 << 20;
/// Most objects in one answer, and the largest body that asks for some, in bytes.
const OBJECTS_MAX: usize = 256;
const BODY_BYTES_MAX: usize = 64 << 10;
/// How many cosigned checkpoints of each log are told.
const SEEN_MAX: u32 = 64;

/// From where statements are read.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct From {
    #[serde(default)]
    from: u64,
}

/// `GET /api/v1/log/statements?from=N`: the statements of the published log from a place on, each with its salt.
pub async fn statements(
    State(node): State<Arc<Node>>,
    caller: Caller,
    query: Result<Query<From>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    caller.reads_statements()?;
    let wrong = |_| Problem::new(StatusCode::BAD_REQUEST, "the query is `from` and a place of the log, from 0");
    let Query(From { from }) = query.map_err(wrong)?;
    let published = node.log.published();
    let (size, note) = (published.edge.size(), published.note.to_string());
    let (mut rows, mut bytes, mut next) = (Vec::new(), 0, from);
    while next < size && rows.len() < STATEMENTS_MAX && bytes < BYTES_MAX {
        let Some(batch) = node.store.batch_at(next).await.map_err(Problem::internal)? else { break };
        let begun = next;
        for (place, (salt, statement)) in (batch.first..size).zip(&batch.leaves).skip_while(|(place, _)| *place < begun)
        {
            if rows.len() >= STATEMENTS_MAX || bytes >= BYTES_MAX {
                break;
            }
            bytes += statement.len() + 150;
            next = place.saturating_add(1);
            // One that was wiped is not shown; a later leaf says that it was.
            if !statement.is_empty() {
                let text = String::from_utf8_lossy(statement);
                rows.push(json!({"index": place, "salt": hex::encode(salt), "statement": text}));
            }
        }
        if next == begun {
            break;
        }
    }
    Ok(Json(json!({"node": node.config.node, "size": size, "checkpoint": note, "statements": rows, "next": next})))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    digests: Vec<Digest>,
}

/// `POST /api/v1/log/objects` with `{"digests": [digest, …]}`: what decisions name, as text; what is not kept here is left out.
pub async fn objects(State(node): State<Arc<Node>>, caller: Caller, body: Body) -> Result<Json<Value>, Problem> {
    caller.reads_statements()?;
    let wrong = |detail: &str| Problem::new(StatusCode::BAD_REQUEST, detail);
    let body = axum::body::to_bytes(body, BODY_BYTES_MAX).await.map_err(|_| wrong("the body has at most 64 KiB"))?;
    let asked: Asked = serde_json::from_slice(&body).map_err(|e| wrong(&format!("the body is not understood: {e}")))?;
    if asked.digests.len() > OBJECTS_MAX {
        return Err(wrong("at most 256 objects are given at once"));
    }
    let (mut objects, mut bytes) = (Vec::new(), 0);
    for digest in asked.digests {
        // What does not fit is asked for again.
        if bytes >= BYTES_MAX {
            break;
        }
        if let Some(object) = node.store.object(&digest).await.map_err(Problem::internal)? {
            bytes += object.len();
            objects.push(json!({"digest": digest, "text": String::from_utf8_lossy(&object)}));
        }
    }
    Ok(Json(json!({"objects": objects})))
}

/// `GET /api/v1/log/numbers`: what opens the chains' blinded names, the days that were stated, and when this node was cut short.
pub async fn numbers(State(node): State<Arc<Node>>, caller: Caller) -> Result<Json<Value>, Problem> {
    caller.reads_statements()?;
    let numbers = node.log.numbers().await.map_err(Problem::internal)?;
    let days = numbers.days.iter().map(|(day, place)| json!({"day": day, "index": place}));
    let cut = numbers.cut.iter().map(
        |run| json!({"begun_ms": run.begun_ms, "recorded_ms": run.recorded_ms, "next_ms": run.next_ms, "leaves": run.leaves}),
    );
    let (days, cut): (Vec<Value>, Vec<Value>) = (days.collect(), cut.collect());
    Ok(Json(json!({"node": node.config.node, "chains": numbers.chains, "days": days, "cut": cut})))
}

/// `GET /api/v1/log/seen`: the checkpoints of other logs that this node has cosigned lately.
pub async fn seen(State(node): State<Arc<Node>>, caller: Caller) -> Result<Json<Value>, Problem> {
    caller.sees_node()?;
    let seen = node.store.seen_lately(SEEN_MAX).await.map_err(Problem::internal)?;
    Ok(Json(json!({"node": node.config.node, "seen": seen})))
}

/// `POST /api/v1/log/day`: states what was written since the last day's statement; the place of that leaf.
pub async fn state_day(State(node): State<Arc<Node>>, caller: Caller) -> Result<Json<Value>, Problem> {
    caller.reloads()?;
    let place = node.log.state_day().await.map_err(Problem::internal)?;
    Ok(Json(json!({"index": place})))
}

/// The place of a day's statement: the last of that day, counted from the Unix epoch, or the last of all.
pub async fn day(node: &Node, id: &str) -> Result<Option<u64>, Problem> {
    let days = node.log.numbers().await.map_err(Problem::internal)?.days;
    let wanted = id.parse::<u64>().ok();
    let found = days.iter().rev().find(|(day, _)| id == "last" || Some(*day) == wanted);
    Ok(found.map(|(_, place)| *place))
}
