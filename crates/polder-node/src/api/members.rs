//! `/api/v1/members` and `/api/v1/invitations`: who is a member, who may become one, and the end of it; `/api/v1/capabilities`: the rights
//! that this home granted itself.
//!
//! What follows from an event is absent: that is `polder_core::membership`.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use http::{HeaderMap, StatusCode};
use polder_core::keys::Role;
use polder_core::membership::{Event, INVITATION_MS_MAX, Open, Peer, Standing};
use serde::Deserialize;
use serde_json::{Value, json};

use super::policies::question;
use super::{Caller, Problem, to_its_end};
use crate::clock::now_ms;
use crate::members::{Carried, MembersError, from_line, to_line};
use crate::node::{Node, NodeError};

impl From<MembersError> for Problem {
    fn from(error: MembersError) -> Self {
        match &error {
            MembersError::Refused(refusal) => {
                Self::new(StatusCode::CONFLICT, error.to_string()).with("cause", refusal.cause().into())
            }
            MembersError::Invalid(_) => Self::new(StatusCode::BAD_REQUEST, error.to_string()),
            MembersError::Store(_) | MembersError::Log(_) => Self::internal(error),
        }
    }
}

impl From<NodeError> for Problem {
    fn from(error: NodeError) -> Self {
        Self::internal(error)
    }
}

fn row(node: &Node, (peer, in_file): &(Peer, bool)) -> Value {
    let card = &peer.said.card;
    let directory = node.members.directory();
    let held = directory.members.iter().find(|held| held.member.card.identity == card.identity);
    let keys = held.map(|held| held.keys(Role::Transport).iter().map(hex::encode).collect::<Vec<_>>());
    json!({
        "node": card.node, "identity": hex::encode(card.identity), "standing": peer.standing,
        "since_ms": peer.since_ms, "address": peer.said.address, "factory": peer.said.factory,
        "versions": peer.said.versions, "from_file": in_file, "counts": held.is_some(), "transport_keys": keys,
    })
}

/// `GET /api/v1/members`: every peer that is known, and how it stands.
pub async fn list(State(node): State<Arc<Node>>, caller: Caller) -> Result<Json<Value>, Problem> {
    caller.sees_node()?;
    let rows: Vec<Value> = node.members.peers().iter().map(|one| row(&node, one)).collect();
    let left_ms = node.members.departed().map(|departure| departure.value.at_ms);
    Ok(Json(json!({"node": node.config.node, "left_ms": left_ms, "members": rows})))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Invite {
    #[serde(default)]
    offers: String,
    valid_s: u64,
}

/// `POST /api/v1/invitations`: an invitation, as one line.
pub async fn invite(
    State(node): State<Arc<Node>>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, Problem> {
    caller.reloads()?;
    let Invite { offers, valid_s } = question(&headers, body).await?;
    let for_ms = valid_s.saturating_mul(1_000);
    if !(1_000..=INVITATION_MS_MAX).contains(&for_ms) {
        let most = INVITATION_MS_MAX / 86_400_000;
        return Err(Problem::new(StatusCode::BAD_REQUEST, format!("an invitation holds for 1 second to {most} days")));
    }
    let reached = node.config.peer_listen.is_some() && node.config.peer_address.is_some();
    let made = to_its_end(async move { node.members.invite(offers, for_ms).await }).await?;
    let line = to_line(&made).map_err(Problem::internal)?;
    let (id, until_ms) = (hex::encode(made.value.id), made.value.until_ms);
    Ok(Json(json!({"id": id, "until_ms": until_ms, "invitation": line, "reached": reached})))
}

/// `GET /api/v1/invitations`: those that are open or were used, without what whoever has it could use.
pub async fn invitations(State(node): State<Arc<Node>>, caller: Caller) -> Result<Json<Value>, Problem> {
    caller.sees_node()?;
    let row = |open: &Open| {
        let value = &open.invitation.value;
        json!({
            "id": hex::encode(value.id), "offers": value.offers, "until_ms": value.until_ms, "used": open.used.is_some(),
        })
    };
    Ok(Json(json!({"invitations": node.members.invitations().iter().map(row).collect::<Vec<_>>()})))
}

/// `DELETE /api/v1/invitations/{id}`: takes one back.
pub async fn withdraw(
    State(node): State<Arc<Node>>,
    caller: Caller,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<Value>, Problem> {
    caller.reloads()?;
    let Path(text) = id?;
    let mut id = [0; 16];
    let unknown = || Problem::new(StatusCode::NOT_FOUND, "there is no such invitation here");
    hex::decode_to_slice(&text, &mut id).map_err(|_| unknown())?;
    to_its_end(async move { node.members.step(Event::Withdraw(id)).await }).await.map_err(|_| unknown())?;
    Ok(Json(json!({"withdrawn": text})))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Join {
    invitation: String,
}

/// `POST /api/v1/members/join`: asks whoever sent an invitation; the request is in the answer, for those who carry it themselves.
pub async fn join(
    State(node): State<Arc<Node>>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, Problem> {
    caller.reloads()?;
    let Join { invitation } = question(&headers, body).await?;
    let invitation = from_line(&invitation).map_err(|message| Problem::new(StatusCode::BAD_REQUEST, message))?;
    let identity = invitation.value.from.card.identity;
    let asking = Arc::clone(&node);
    to_its_end(async move { asking.members.step(Event::Join(Box::new(invitation))).await }).await?;
    let known = node.members.peers().into_iter().find(|(peer, _)| peer.said.card.identity == identity);
    let (peer, in_file) = known.ok_or_else(|| Problem::internal("whoever was asked is not known"))?;
    let request = peer.request.clone().map(Box::new).map(Carried::Request);
    Ok(Json(json!({"member": row(&node, &(peer, in_file)), "request": request})))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    member: String,
}

async fn decide(node: Arc<Node>, headers: &HeaderMap, body: Body, accept: bool) -> Result<Json<Value>, Problem> {
    let Named { member } = question(headers, body).await?;
    let peer = node.members.find(&member, &[Standing::Asks])?;
    let identity = peer.said.card.identity;
    let deciding = Arc::clone(&node);
    to_its_end(async move { deciding.members.step(Event::Decide { identity, accept }).await }).await?;
    let known = node.members.peers().into_iter().find(|(peer, _)| peer.said.card.identity == identity);
    let (peer, in_file) = known.ok_or_else(|| Problem::internal("whoever asked is not known"))?;
    let answer = peer.answer.clone().map(Box::new).map(Carried::Answer);
    Ok(Json(json!({"member": row(&node, &(peer, in_file)), "answer": answer})))
}

/// `POST /api/v1/members/accept`: accepts whoever asked.
pub async fn accept(
    State(node): State<Arc<Node>>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, Problem> {
    caller.reloads()?;
    decide(node, &headers, body, true).await
}

/// `POST /api/v1/members/refuse`: refuses whoever asked.
pub async fn refuse(
    State(node): State<Arc<Node>>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, Problem> {
    caller.reloads()?;
    decide(node, &headers, body, false).await
}

/// `POST /api/v1/members/remove`: ends the membership with one peer.
pub async fn remove(
    State(node): State<Arc<Node>>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, Problem> {
    caller.reloads()?;
    let Named { member } = question(&headers, body).await?;
    let peer = node.members.find(&member, &[Standing::Member, Standing::Asked])?;
    let identity = peer.said.card.identity;
    to_its_end(async move { node.members.step(Event::Remove(identity)).await }).await?;
    Ok(Json(json!({"removed": peer.said.card.node})))
}

/// `POST /api/v1/members/take`: takes in a record that somebody carried here.
pub async fn take(
    State(node): State<Arc<Node>>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, Problem> {
    caller.reloads()?;
    let record: Carried = question(&headers, body).await?;
    let said = match &record {
        Carried::Request(request) => &request.value.from.card.node,
        Carried::Answer(answer) => &answer.value.from.card.node,
        Carried::Departure(departure) => &departure.value.node,
        Carried::Keys(history) => &history.value.node,
    };
    let said = said.clone();
    let taking = Arc::clone(&node);
    let taken = async move {
        match record {
            Carried::Keys(history) => {
                taking.learn_keys(&history).await.map_err(|error| MembersError::Invalid(error.to_string()))
            }
            record => taking.members.carried(record).await.map(drop),
        }
    };
    to_its_end(taken).await?;
    let known = node.members.peers().into_iter().find(|(peer, _)| peer.said.card.node == said);
    Ok(Json(json!({"member": known.map(|known| row(&node, &known))})))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Leave {
    leave: bool,
}

/// `POST /api/v1/members/leave`: leaves all; the word of it is in the answer, for those whom no network reaches.
pub async fn leave(
    State(node): State<Arc<Node>>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, Problem> {
    caller.reloads()?;
    let Leave { leave: true } = question(&headers, body).await? else {
        return Err(Problem::new(StatusCode::BAD_REQUEST, "say `leave: true` where you mean it"));
    };
    let leaving = Arc::clone(&node);
    to_its_end(async move { leaving.members.step(Event::Leave).await }).await?;
    let departure = node.members.departed().map(Carried::Departure);
    Ok(Json(json!({"node": node.config.node, "departure": departure})))
}

/// `GET /api/v1/capabilities`: the ids of the rights that this home holds at the factories.
pub async fn capabilities(State(node): State<Arc<Node>>, caller: Caller) -> Result<Json<Value>, Problem> {
    caller.reads_policies()?;
    let ids = super::policies::home(&node)?.granter().ids();
    Ok(Json(json!({"at_ms": now_ms(), "capabilities": ids})))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Revoke {
    #[serde(default)]
    ids: BTreeSet<String>,
}

/// `POST /api/v1/capabilities/revoke`: takes back every right that holds now, and those of these ids; the factories are told at once.
pub async fn revoke(
    State(node): State<Arc<Node>>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, Problem> {
    caller.owns()?;
    let Revoke { ids } = question(&headers, body).await?;
    super::policies::home(&node)?;
    let is_id = |text: &String| text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if let Some(odd) = ids.iter().find(|text| !is_id(text)) {
        let odd: String = odd.chars().take(64).collect();
        let detail = format!("`{odd}` is no id of a right: one has 32 hexadecimal digits");
        return Err(Problem::new(StatusCode::BAD_REQUEST, detail));
    }
    let revoked = to_its_end(async move { node.revoke_rights(ids).await }).await?;
    Ok(Json(json!({"revoked": revoked.value.ids})))
}
