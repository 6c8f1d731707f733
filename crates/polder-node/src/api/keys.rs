//! `/api/v1/keys`, `/api/v1/budgets`, `/api/v1/usage`: who may ask, how much, and what they used.
//!
//! A key is in the answer that makes it and nowhere else. A change goes on to its end when its caller goes away.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use http::{HeaderMap, StatusCode};
use polder_core::ledger::Limits;
use polder_core::usage::day_of;
use serde::Deserialize;
use serde_json::{Value, json};

use super::policies::question;
use super::{Caller, Problem, to_its_end};
use crate::clock::now_ms;
use crate::ledger::{Ledger, NewKey, OwnerError, key_row, usage_row};
use crate::node::Node;
use crate::store::KeyUsage;

/// How long the secret of before holds after a rotation, where the caller does not say, in seconds.
const OVERLAP_S: u64 = 3_600;
/// Longest overlap, in seconds: 30 days.
const OVERLAP_S_MAX: u64 = 30 * 86_400;
/// Days of usage that are looked at: this month and today.
const USAGE_DAYS: u64 = 31;

impl From<OwnerError> for Problem {
    fn from(error: OwnerError) -> Self {
        match &error {
            OwnerError::Unknown(_) => Self::new(StatusCode::NOT_FOUND, error.to_string()),
            OwnerError::Invalid(_) => Self::new(StatusCode::BAD_REQUEST, error.to_string()),
            OwnerError::Store(_) | OwnerError::Random(_) => Self::internal(error),
        }
    }
}

fn ledger(node: &Node) -> Result<Arc<Ledger>, Problem> {
    let none = || Problem::new(StatusCode::NOT_FOUND, "this node is no home: keys and budgets are a home's");
    node.ledger.clone().ok_or_else(none)
}

/// `GET /api/v1/keys`: every key without its secret.
pub async fn list(State(node): State<Arc<Node>>, caller: Caller) -> Result<Json<Value>, Problem> {
    caller.sees_money()?;
    Ok(Json(json!({"keys": ledger(&node)?.keys_shown().await?})))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Create {
    project: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    expires_ms: Option<u64>,
    #[serde(default)]
    limits: Limits,
}

/// `POST /api/v1/keys`: makes a key. Its text is in this answer only.
pub async fn create(
    State(node): State<Arc<Node>>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, Problem> {
    caller.keeps_money()?;
    let ledger = ledger(&node)?;
    let Create { project, name, expires_ms, limits } = question(&headers, body).await?;
    let made = to_its_end(async move { ledger.create_key(&project, &name, expires_ms, &limits).await }).await?;
    Ok(Json(shown_once(&made, &limits)))
}

fn shown_once(made: &NewKey, limits: &Limits) -> Value {
    let mut row = key_row(&made.stored, limits);
    row["key"] = made.key.clone().into();
    row
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rotate {
    #[serde(default)]
    overlap_s: Option<u64>,
}

/// `POST /api/v1/keys/{id}/rotate`: a new secret for a key; the old one holds for `overlap_s` seconds more.
pub async fn rotate(
    State(node): State<Arc<Node>>,
    caller: Caller,
    id: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, Problem> {
    caller.keeps_money()?;
    let (ledger, Path(id)) = (ledger(&node)?, id?);
    let Rotate { overlap_s } = question(&headers, body).await?;
    let overlap_s = overlap_s.unwrap_or(OVERLAP_S);
    if overlap_s > OVERLAP_S_MAX {
        let message = format!("`overlap_s` is at most {OVERLAP_S_MAX}: 30 days");
        return Err(Problem::new(StatusCode::BAD_REQUEST, message));
    }
    let made = to_its_end(async move { ledger.rotate_key(&id, overlap_s.saturating_mul(1_000)).await }).await?;
    Ok(Json(shown_once(&made, &Limits::default())))
}

/// `DELETE /api/v1/keys/{id}`: revokes a key at once.
pub async fn revoke(
    State(node): State<Arc<Node>>,
    caller: Caller,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<Value>, Problem> {
    caller.keeps_money()?;
    let (ledger, Path(id)) = (ledger(&node)?, id?);
    let named = id.clone();
    to_its_end(async move { ledger.revoke_key(&named).await }).await?;
    Ok(Json(json!({"id": id, "revoked": true})))
}

/// `GET /api/v1/budgets`: every account that has limits, with what is spent, held and lost.
pub async fn budgets(State(node): State<Arc<Node>>, caller: Caller) -> Result<Json<Value>, Problem> {
    caller.sees_money()?;
    Ok(Json(json!({"accounts": ledger(&node)?.budgets_shown().await?})))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SetLimits {
    account: String,
    limits: Limits,
}

/// `POST /api/v1/budgets`: sets what an account may do; what is not named is not limited.
pub async fn set_budget(
    State(node): State<Arc<Node>>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, Problem> {
    caller.keeps_money()?;
    let ledger = ledger(&node)?;
    let SetLimits { account, limits } = question(&headers, body).await?;
    let named = account.clone();
    to_its_end(async move { ledger.set_limits(&named, &limits).await }).await?;
    Ok(Json(json!({"account": account, "limits": limits})))
}

/// `POST /api/v1/budgets/reconcile`: gives back what crashed processes held and no record accounts for.
pub async fn reconcile(State(node): State<Arc<Node>>, caller: Caller) -> Result<Json<Value>, Problem> {
    caller.keeps_money()?;
    let ledger = ledger(&node)?;
    let released = to_its_end(async move { ledger.release_lost().await }).await?;
    let row = |(account, microeur): &(String, u64)| json!({"account": account, "microeur": microeur});
    Ok(Json(json!({"released": released.iter().map(row).collect::<Vec<_>>()})))
}

/// `GET /api/v1/usage`: what the tenant, its projects and its keys used today and this month, in UTC.
pub async fn usage(State(node): State<Arc<Node>>, caller: Caller) -> Result<Json<Value>, Problem> {
    caller.sees_money()?;
    let ledger = ledger(&node)?;
    let now = now_ms();
    let used = ledger.usage_since(day_of(now).saturating_sub(USAGE_DAYS)).await?;
    let by = |name: &str, of: fn(&KeyUsage) -> (&str, &str)| {
        let mut groups: std::collections::BTreeMap<(&str, &str), Vec<&KeyUsage>> = std::collections::BTreeMap::new();
        used.iter().for_each(|one| groups.entry(of(one)).or_default().push(one));
        let row = |((project, key), used): (&(&str, &str), &Vec<&KeyUsage>)| {
            let mut row = usage_row(used, now);
            row["project"] = (*project).into();
            if name == "key" {
                row["key"] = (*key).into();
            }
            row
        };
        groups.iter().map(row).collect::<Vec<Value>>()
    };
    let mut tenant = usage_row(&used.iter().collect::<Vec<_>>(), now);
    tenant["tenant"] = ledger.tenant().as_str().into();
    let projects = by("project", |one| (&one.project, ""));
    let keys = by("key", |one| (&one.project, &one.key));
    Ok(Json(json!({"at_ms": now, "tenant": tenant, "projects": projects, "keys": keys})))
}
