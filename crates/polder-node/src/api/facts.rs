//! A factory's facts: which count for this home and why others do not, and its passport to carry elsewhere.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use http::StatusCode;
use polder_core::facts::{Evidence, Standing, standings};
use polder_core::ids::NodeId;
use polder_core::labels::Closed as _;
use serde_json::{Value, json};

use super::{Caller, Problem};
use crate::clock::now_ms;
use crate::home::Known;
use crate::node::Node;

/// `GET /api/v1/factories/{factory}/facts`: each fact with the class at which it counts, or why it does not.
pub async fn standing(
    State(node): State<Arc<Node>>,
    caller: Caller,
    factory: Result<Path<String>, PathRejection>,
) -> Result<Json<Value>, Problem> {
    caller.sees_node()?;
    let Path(factory) = factory?;
    let (factory, known) = known(&node, &factory)?;
    let Some(home) = &node.home else { return Err(no_home()) };
    let now = now_ms();
    let passport = known.status.map(|status| status.passport).unwrap_or_default();
    let fault = home.view.clock_fault(now).map(|fault| fault.to_string());
    let all = standings(&factory, &passport, &known.authority, home.view.trust(), now);
    let rows: Vec<Value> = all.iter().map(|standing| row(standing, fault.as_deref())).collect();
    Ok(Json(json!({"factory": factory, "root": known.passport, "at_ms": now, "gone": known.gone, "facts": rows})))
}

/// A fact with its standing, as the call and `polder facts show` print it. While the clock is not to be believed, `fault`
/// says why, and no fact counts.
pub fn row(standing: &Standing<'_>, fault: Option<&str>) -> Value {
    let fact = &standing.signed.fact;
    let counts = standing.counts.as_ref().ok().filter(|_| fault.is_none());
    let reason = standing.counts.as_ref().err().map(ToString::to_string);
    json!({
        "slot": fact.claim.slot(), "claim": fact.claim, "says": fact.claim.words(), "issuer": fact.issuer,
        "from_ms": fact.from_ms, "until_ms": fact.until_ms, "said": fact.evidence,
        "counts": counts.map(Evidence::as_str), "ignored": reason.or_else(|| fault.map(str::to_owned)),
    })
}

/// `GET /api/v1/factories/{factory}/passport`: the facts as the factory publishes them, with the root over them.
pub async fn passport(
    State(node): State<Arc<Node>>,
    caller: Caller,
    factory: Result<Path<String>, PathRejection>,
) -> Result<Json<Value>, Problem> {
    caller.sees_node()?;
    let Path(factory) = factory?;
    let (factory, known) = known(&node, &factory)?;
    let Some(status) = known.status else {
        return Err(Problem::new(
            StatusCode::NOT_FOUND,
            format!("`{factory}` was never heard of, so its facts are not known"),
        ));
    };
    Ok(Json(json!({
        "passport": "polder/passport/v1", "factory": factory, "authority": hex::encode(known.authority),
        "root": known.passport, "facts": status.passport,
    })))
}

fn no_home() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "this node is no home: ask a tenant's node")
}

fn known(node: &Node, factory: &str) -> Result<(NodeId, Known), Problem> {
    let home = node.home.as_ref().ok_or_else(no_home)?;
    let mut all = home.view.known();
    let id = NodeId::parse(factory).ok().filter(|id| all.contains_key(id));
    let found = id.and_then(|id| all.remove(&id).map(|known| (id, known)));
    found.ok_or_else(|| {
        let names = all.keys().map(NodeId::as_str).collect::<Vec<_>>().join(", ");
        let factory: String = factory.chars().take(64).collect();
        Problem::new(StatusCode::NOT_FOUND, format!("no factory `{factory}` is known here; there are: {names}"))
    })
}
