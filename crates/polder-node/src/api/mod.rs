//! The operators' surface: `/api/v1/*`, by a role's token, or by whoever may open the node's own Unix socket (0600).
//!
//! Reading decisions and receipts is also open to the tenant's own keys. Errors are RFC 9457. Anything an application needs
//! is absent; that is `gateway`.

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequestParts, Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use http::request::Parts;
use http::{StatusCode, header};
use polder_core::facts::Profile;
use polder_core::ids::ProjectId;
use polder_core::replay::SourcesFile;
use polder_core::statement::v1::{DecisionStatement, Statement};
use serde_json::{Value, json};

use crate::clock::now_ms;
use crate::config::OperatorRole;
use crate::gateway::bearer;
use crate::home::named;
use crate::ledger;
use crate::metrics::gauges;
use crate::node::Node;
use crate::refusal;

mod audit;
mod decide;
mod facts;
mod jobs;
mod keys;
mod log;
mod node_keys;
mod policies;
mod receipts;
mod retention;
mod tokens;

pub use facts::row as fact_row;
pub use node_keys::history as key_history;

/// Marks a connection that came over the node's own socket.
#[derive(Clone, Copy)]
pub struct OwnSocket;

/// An error as RFC 9457 has it.
pub struct Problem {
    status: StatusCode,
    detail: String,
    /// A further member of the document, where there is one.
    more: Option<(&'static str, Value)>,
}

impl Problem {
    fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into(), more: None }
    }

    fn with(self, member: &'static str, value: Value) -> Self {
        Self { more: Some((member, value)), ..self }
    }

    fn internal(error: impl ToString) -> Self {
        let reason = error.to_string();
        tracing::error!(reason, "an operator's call failed inside this node");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "this node failed; its log says why")
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let title = self.status.canonical_reason().unwrap_or("error");
        let mut body =
            json!({"type": "about:blank", "title": title, "status": self.status.as_u16(), "detail": self.detail});
        if let Some((member, value)) = self.more {
            body[member] = value;
        }
        (self.status, [(header::CONTENT_TYPE, "application/problem+json")], body.to_string()).into_response()
    }
}

impl From<PathRejection> for Problem {
    fn from(rejection: PathRejection) -> Self {
        Self::new(rejection.status(), "the path is not understood")
    }
}

/// What a caller may do.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Caller {
    /// Everything: it reached the node's own socket.
    Socket,
    /// What its token's role allows.
    Role(OperatorRole),
    /// Reading its own project's decisions and receipts.
    Application(ProjectId),
}

impl Caller {
    /// May it read decisions and receipts?
    fn reads(&self) -> Result<(), Problem> {
        match self {
            Self::Socket | Self::Application(_) | Self::Role(OperatorRole::Owner | OperatorRole::Auditor) => Ok(()),
            Self::Role(OperatorRole::Operator | OperatorRole::Reviewer) => {
                Err(Problem::new(StatusCode::FORBIDDEN, "decisions and receipts are for the owner and auditors"))
            }
        }
    }

    /// Does it see what is of a project? To whoever does not, it is as if it were not there.
    fn sees(&self, project: &ProjectId) -> bool {
        match self {
            Self::Application(own) => own == project,
            Self::Socket | Self::Role(_) => true,
        }
    }

    /// May it see how the node is?
    fn sees_node(&self) -> Result<(), Problem> {
        match self {
            Self::Socket | Self::Role(_) => Ok(()),
            Self::Application(_) => Err(Problem::new(StatusCode::FORBIDDEN, "this is for the node's operators")),
        }
    }

    /// May it read policies and their history?
    fn reads_policies(&self) -> Result<(), Problem> {
        match self {
            Self::Socket | Self::Role(OperatorRole::Owner | OperatorRole::Auditor) => Ok(()),
            _ => Err(Problem::new(StatusCode::FORBIDDEN, "policies are for the owner and auditors")),
        }
    }

    /// May it read every statement of the log?
    fn reads_statements(&self) -> Result<(), Problem> {
        match self {
            Self::Socket | Self::Role(OperatorRole::Owner | OperatorRole::Auditor) => Ok(()),
            _ => Err(Problem::new(StatusCode::FORBIDDEN, "statements are for the owner and auditors")),
        }
    }

    /// May it say which policy is in force?
    fn owns(&self) -> Result<(), Problem> {
        match self {
            Self::Socket | Self::Role(OperatorRole::Owner) => Ok(()),
            _ => Err(Problem::new(StatusCode::FORBIDDEN, "the policy is the owner's")),
        }
    }

    /// May it see keys, budgets and usage?
    fn sees_money(&self) -> Result<(), Problem> {
        match self {
            Self::Socket | Self::Role(OperatorRole::Owner | OperatorRole::Auditor) => Ok(()),
            _ => Err(Problem::new(StatusCode::FORBIDDEN, "keys, budgets and usage are for the owner and auditors")),
        }
    }

    /// May it make keys and set budgets?
    fn keeps_money(&self) -> Result<(), Problem> {
        match self {
            Self::Socket | Self::Role(OperatorRole::Owner) => Ok(()),
            _ => Err(Problem::new(StatusCode::FORBIDDEN, "keys and budgets are the owner's")),
        }
    }

    /// May it see which tokens there are?
    fn sees_tokens(&self) -> Result<(), Problem> {
        match self {
            Self::Socket | Self::Role(OperatorRole::Owner | OperatorRole::Auditor) => Ok(()),
            _ => Err(Problem::new(StatusCode::FORBIDDEN, "tokens are for the owner and auditors")),
        }
    }

    /// May it make and revoke tokens?
    fn keeps_tokens(&self) -> Result<(), Problem> {
        match self {
            Self::Socket | Self::Role(OperatorRole::Owner) => Ok(()),
            _ => Err(Problem::new(StatusCode::FORBIDDEN, "tokens are the owner's")),
        }
    }

    /// May it have the files of policies and terms read again?
    fn reloads(&self) -> Result<(), Problem> {
        match self {
            Self::Socket | Self::Role(OperatorRole::Owner | OperatorRole::Operator) => Ok(()),
            _ => Err(Problem::new(StatusCode::FORBIDDEN, "policies and terms are for the owner and the operator")),
        }
    }
}

impl FromRequestParts<Arc<Node>> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, node: &Arc<Node>) -> Result<Self, Problem> {
        if parts.extensions.get::<OwnSocket>().is_some() {
            return Ok(Self::Socket);
        }
        let token = bearer(&parts.headers).ok_or_else(|| {
            Problem::new(StatusCode::UNAUTHORIZED, "send `Authorization: Bearer TOKEN`, or use the node's own socket")
        })?;
        let (from, now) = (ledger::client(), now_ms());
        // Keys are tried here too: what fails counts as it does for applications.
        let denied = match (node.tokens.role(token, from, now), &node.ledger) {
            (Some(Ok(role)), _) => return Ok(Self::Role(role)),
            (Some(Err(denied)), _) => denied,
            (None, Some(ledger)) => match ledger.identify(token, from, now) {
                Ok(key) => return Ok(Self::Application(key.project.clone())),
                Err(denied) => denied,
            },
            (None, None) => node.tokens.failed(from, now),
        };
        Err(match denied {
            ledger::Denied::Unknown => Problem::new(StatusCode::UNAUTHORIZED, "this token is not known here"),
            ledger::Denied::Guessing(_) => {
                let detail = "too many wrong tokens came from this address: wait a minute";
                Problem::new(StatusCode::TOO_MANY_REQUESTS, detail)
            }
        })
    }
}

/// The routes of `/api/v1`.
pub fn router(node: Arc<Node>) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/api/v1/status", get(status))
        .route("/api/v1/factories", get(factories))
        .route("/api/v1/factories/{factory}/facts", get(facts::standing))
        .route("/api/v1/factories/{factory}/passport", get(facts::passport))
        .route("/api/v1/decisions/{id}", get(decision))
        .route("/api/v1/decisions/{id}/sources", get(sources))
        .route("/api/v1/receipts/{id}", get(receipts::receipt))
        .route("/api/v1/sealed/{part}/{id}", get(receipts::sealed))
        .route("/api/v1/decide", post(decide::decide))
        .route("/api/v1/policies", get(policies::list))
        .route("/api/v1/policies/activate", post(policies::activate))
        .route("/api/v1/policies/rollback", post(policies::rollback))
        .route("/api/v1/policies/diff", post(policies::diff))
        .route("/api/v1/policies/{version}", get(policies::show))
        .route("/api/v1/keys", get(keys::list).post(keys::create))
        .route("/api/v1/keys/{id}", axum::routing::delete(keys::revoke))
        .route("/api/v1/keys/{id}/rotate", post(keys::rotate))
        .route("/api/v1/budgets", get(keys::budgets).post(keys::set_budget))
        .route("/api/v1/budgets/reconcile", post(keys::reconcile))
        .route("/api/v1/usage", get(keys::usage))
        .route("/api/v1/alarms", get(log::alarms))
        .route("/api/v1/log/check", post(log::check))
        .route("/api/v1/log/statements", get(audit::statements))
        .route("/api/v1/log/objects", post(audit::objects))
        .route("/api/v1/log/numbers", get(audit::numbers))
        .route("/api/v1/log/seen", get(audit::seen))
        .route("/api/v1/log/day", post(audit::state_day))
        .route("/api/v1/log/changes", get(log::changes))
        .route("/api/v1/node-keys", get(node_keys::list))
        .route("/api/v1/node-keys/rotate", post(node_keys::rotate))
        .route("/api/v1/node-keys/revoke", post(node_keys::revoke))
        .route("/api/v1/holds", get(retention::holds).post(retention::put))
        .route("/api/v1/holds/lift", post(retention::lift))
        .route("/api/v1/deletions", post(retention::delete))
        .route("/api/v1/tokens", get(tokens::list).post(tokens::create))
        .route("/api/v1/tokens/{id}", axum::routing::delete(tokens::revoke))
        .route("/api/v1/jobs", get(jobs::list).post(jobs::submit))
        .route("/api/v1/jobs/{id}", get(jobs::show))
        .route("/api/v1/jobs/{id}/explain", get(jobs::explain))
        .route("/api/v1/jobs/{id}/cancel", post(jobs::cancel))
        .route("/api/v1/jobs/{id}/rerun", post(jobs::rerun))
        .route("/api/v1/jobs/{id}/resolve", post(jobs::resolve))
        .route("/api/v1/jobs/{id}/logs/{part}", get(jobs::logs))
        .route("/api/v1/job-usage", get(jobs::usage))
        .route("/api/v1/job-grants", post(jobs::grant))
        .route("/api/v1/reload", post(reload))
        .route("/api/v1/{*rest}", axum::routing::any(unknown_route))
        .method_not_allowed_fallback(wrong_method)
        .with_state(node)
}

/// The same routes for callers over the node's own socket, and the log as strangers read it.
pub fn socket_router(node: Arc<Node>, log: Router) -> Router {
    router(node).layer(Extension(OwnSocket)).merge(log)
}

async fn unknown_route(uri: http::Uri) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, format!("`{}` is not offered here", uri.path()))
}

async fn wrong_method(method: http::Method, uri: http::Uri) -> Problem {
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, format!("`{method}` is not offered on `{}`", uri.path()))
}

async fn status(State(node): State<Arc<Node>>, caller: Caller) -> Result<Json<Value>, Problem> {
    caller.sees_node()?;
    node.log.settled().await;
    Ok(Json(node.status()))
}

/// `GET /metrics`: how the node is, for Prometheus. What is left of budgets is there for those who may see it elsewhere.
async fn metrics(State(node): State<Arc<Node>>, caller: Caller) -> Result<Response, Problem> {
    caller.sees_node()?;
    let page = gauges::page(&node, caller.sees_money().is_ok()).await.map_err(Problem::internal)?;
    Ok(([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], page).into_response())
}

/// What a home knows of the factories, or a factory of itself.
async fn factories(State(node): State<Arc<Node>>, caller: Caller) -> Result<Json<Value>, Problem> {
    caller.sees_node()?;
    let Some(home) = &node.home else {
        return Err(Problem::new(StatusCode::NOT_FOUND, "this node is no home: ask a tenant's node for its factories"));
    };
    let now = now_ms();
    let row = |(id, known): (&polder_core::ids::NodeId, &crate::home::Known)| {
        let profile = Profile::at(&known.held, now);
        let facts: Vec<Value> = profile
            .facts
            .iter()
            .map(|(slot, held)| {
                let fact = &held.fact;
                json!({
                    "slot": slot, "claim": fact.claim, "says": fact.claim.words(), "evidence": held.evidence, "issuer": fact.issuer,
                    "from_ms": fact.from_ms, "until_ms": fact.until_ms,
                })
            })
            .collect();
        let status = known.status.as_ref();
        json!({
            "factory": id,
            "up": known.gone.is_none(),
            "gone": known.gone,
            "models": status.map(|status| status.models.iter().map(|offer| offer.model.clone()).collect::<Vec<_>>()),
            "backend": status.map(|status| status.backend.clone()),
            "price_microeur_per_mtok": status.map(|status| status.price_microeur_per_mtok),
            "places": status.map(|status| status.places),
            "running": status.map(|status| status.running),
            "rtt_us": known.rtt_us,
            "circuit": home.view.circuit(id),
            "signals": status.map(|status| status.signals),
            "facts": facts,
        })
    };
    let rows: Vec<Value> = home.view.known().iter().map(row).collect();
    Ok(Json(json!({"factories": rows})))
}

/// Runs a change in a task of its own: a caller who goes away does not leave it half done.
async fn to_its_end<T, E>(change: impl Future<Output = Result<T, E>> + Send + 'static) -> Result<T, Problem>
where
    T: Send + 'static,
    E: Into<Problem> + Send + 'static,
{
    tokio::spawn(change).await.map_err(Problem::internal)?.map_err(Into::into)
}

/// The statement of a decision that a caller may see.
async fn statement(
    node: &Node,
    caller: &Caller,
    id: Result<Path<String>, PathRejection>,
) -> Result<Box<DecisionStatement>, Problem> {
    let Path(id) = id?;
    let id = receipts::decision_id(node, caller, &id).await?;
    let leaf = node.store.leaf("decision", &id).await.map_err(Problem::internal)?;
    let Some(leaf) = leaf else { return Err(receipts::absent(node, &id).await) };
    match serde_json::from_slice(&leaf.statement).map_err(Problem::internal)? {
        Statement::Decision(statement) if caller.sees(&statement.request.project) => Ok(statement),
        _ => Err(receipts::unknown(&id)),
    }
}

async fn decision(
    State(node): State<Arc<Node>>,
    caller: Caller,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<Value>, Problem> {
    caller.reads()?;
    let statement = statement(&node, &caller, id).await?;
    let record = named::joined(&node.store, *statement).await.map_err(Problem::internal)?;
    let statement = record.statement;
    Ok(Json(json!({
        "decision": statement.id,
        "outcome": statement.outcome,
        "factory": statement.factory,
        "refusals": refusal::refusals(&record.verdicts),
        "nearest": refusal::nearest(&statement.nearest),
        "verdicts": record.verdicts,
        "seals": record.seals,
        "statement": statement,
    })))
}

/// `GET /api/v1/decisions/{id}/sources`: everything that the decision names by digest, for whoever derives it again.
async fn sources(
    State(node): State<Arc<Node>>,
    caller: Caller,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<SourcesFile>, Problem> {
    caller.reads_policies()?;
    let statement = statement(&node, &caller, id).await?;
    let tables = named::tables(&node.store, &statement).await.map_err(Problem::internal)?;
    let sources = named::sources(&node.store, &statement, &tables).await.map_err(Problem::internal)?;
    Ok(Json(sources.into()))
}

async fn reload(State(node): State<Arc<Node>>, caller: Caller) -> Result<Json<Value>, Problem> {
    caller.reloads()?;
    // In a task of its own: a caller who goes away does not leave it half done.
    let ended = tokio::spawn(async move { node.reload().await }).await;
    match ended.map_err(Problem::internal)? {
        Ok(()) => Ok(Json(json!({"reloaded": true}))),
        Err(messages) => Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, messages.join("; "))),
    }
}
