//! A node among others: its port for peers, or its channels outwards, and what follows when members or keys are others.
//!
//! Who is a member is absent: that is `members.rs`. What is asked in a channel is absent too: that is `peers/`.

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use ed25519_dalek::SigningKey;
use http::StatusCode;
use polder_core::ids::NodeId;
use polder_core::keys::{Role, Signed};
use polder_core::membership::{Departure, JoinRequest};
use polder_core::note::VerifierKey;
use polder_core::ticket::Revoked;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::{Node, NodeError, parts};
use crate::clock::now_ms;
use crate::jobs;
use crate::log::rounds::Rounds;
use crate::members::{Held, MembersError, News};
use crate::metrics;
use crate::peers::server::{self, Surfaces};
use crate::peers::{outward, tls};
use crate::serve::Workers;
use crate::shutdown::Shutdown;

/// Largest record that a peer sends of memberships, in bytes.
const RECORD_BYTES_MAX: usize = 64 << 10;

impl Node {
    /// The key that this node shows in channels.
    pub fn channel_key(&self) -> Result<SigningKey, NodeError> {
        Ok(self.key_care.channel_key()?)
    }

    /// Tells when everything has followed another directory or other keys.
    pub fn follows(&self) -> watch::Receiver<u64> {
        self.followed.subscribe()
    }

    /// Brings everything to this node's own keys as they are now: after a change, and at the end of an overlap.
    pub async fn follow_keys(&self) -> Result<(), NodeError> {
        if !self.key_care.renew(&self.log)? {
            return Ok(());
        }
        self.shown.set(&self.channel_key()?)?;
        self.witness.follow(self.key_care.ring().witness.clone());
        self.members.renew(Some(self.key_care.card()?)).await;
        self.follow().await
    }

    /// Serves peers: on a port, or, for a factory that has none, over channels that it opens itself.
    pub(super) fn serve_peers(
        self: &Arc<Self>,
        listener: Option<TcpListener>,
        workers: &Arc<Workers>,
        tasks: &mut JoinSet<()>,
        shutdown: &Shutdown,
    ) -> Result<(), NodeError> {
        let (limits, stop) = (self.config.limits.clone(), shutdown.clone());
        tasks.spawn(Arc::clone(self).follow_members(shutdown.clone()));
        let surfaces = Surfaces { members: self.members_router(), guests: self.guests_router() };
        match listener {
            Some(listener) => {
                let config = tls::server_config(Arc::clone(&self.shown), self.members.doors())?;
                let (callers, workers) = (self.members.callers(), Arc::clone(workers));
                tasks.spawn(server::serve(listener, config, callers, surfaces, limits, workers, stop));
            }
            None if self.factory.is_some() => {
                tasks.spawn(outward::keep(Arc::clone(self), surfaces.members, limits, stop));
            }
            None => {}
        }
        Ok(())
    }

    /// What members may ask.
    fn members_router(self: &Arc<Self>) -> Router {
        let told = |State(node): State<Arc<Self>>| async move {
            node.alarms.told().await.map(Json).map_err(|error| {
                tracing::error!(%error, "alarms cannot be told");
                StatusCode::SERVICE_UNAVAILABLE
            })
        };
        let learn = |State(node): State<Arc<Self>>, body: bytes::Bytes| async move { node.learned(&body).await };
        let own = Router::new()
            .route("/peer/v1/alarms", get(told))
            .route("/peer/v1/keys", post(learn))
            .route("/peer/v1/members", get(news))
            .route("/peer/v1/revocations", post(revocation))
            .with_state(Arc::clone(self));
        let factory =
            self.factory.iter().map(|factory| server::factory_router(Arc::clone(factory), self.config.body_bytes_max));
        let own = own.merge(jobs::peer_router(self.jobs.clone()));
        factory.fold(self.log_router().merge(own).merge(self.door()), Router::merge)
    }

    /// What anybody may ask who may come in at all.
    fn guests_router(self: &Arc<Self>) -> Router {
        let own_departure = |State(node): State<Arc<Self>>| async move {
            // Whoever is no member hears nothing of others.
            Json(News { departures: node.members.departed().into_iter().collect(), histories: Vec::new() })
        };
        let refused = || async {
            metrics::peer_refused("unpinned");
            let message = "the key of this channel is not pinned here: only asking to join is open to it\n";
            (StatusCode::FORBIDDEN, message)
        };
        let news = Router::new().route("/peer/v1/members", get(own_departure)).with_state(Arc::clone(self));
        self.door().merge(news).fallback(refused)
    }

    /// Joining, and hearing who has left.
    fn door(self: &Arc<Self>) -> Router {
        Router::new()
            .route("/peer/v1/join", post(join))
            .route("/peer/v1/departures", post(departure))
            .layer(DefaultBodyLimit::max(RECORD_BYTES_MAX))
            .with_state(Arc::clone(self))
    }

    /// Follows the directory until shutdown: channels, rights, facts and witnesses are those of the members of now.
    async fn follow_members(self: Arc<Self>, mut shutdown: Shutdown) {
        let mut changes = self.members.changes();
        loop {
            if let Err(error) = self.follow().await {
                tracing::error!(%error, "what follows from another membership could not be done");
            }
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { return },
                () = shutdown.wait() => return,
            }
        }
    }

    /// Brings everything that reads the directory, or this node's own keys, to what they are now.
    pub(super) async fn follow(&self) -> Result<(), NodeError> {
        let directory = self.members.directory();
        let authority = self.key_care.authority()?;
        let own = authority.verifying_key().to_bytes();
        let channel = self.channel_key()?;
        self.members.reached.follow(&directory, &channel)?;
        self.alarms.follow_members(&directory.members).await?;
        if let Some(factory) = &self.factory {
            factory.rights().follow(own, &directory.members);
        }
        if let Some(home) = &self.home {
            let (peers, authorities) = parts::factories(&self.members, (&self.config.node, own), self.factory.as_ref());
            // What facts are believed by is written down before any is.
            self.imports.grounds(home.view.grounds_with(&authorities)).await?;
            home.granter().follow(authority, channel.verifying_key().to_bytes());
            home.view.follow(&authorities, now_ms());
            home.follow(peers);
        }
        self.followed.send_modify(|number| *number = number.wrapping_add(1));
        Ok(())
    }

    /// Holds the rounds in which peers cosign this node's log, with the witnesses of now, until shutdown.
    pub(super) async fn hold_rounds(self: Arc<Self>, mut shutdown: Shutdown) {
        let mut changes = self.follows();
        loop {
            let rounds = self.rounds();
            tokio::select! {
                () = rounds.run(shutdown.clone()) => tokio::select! {
                    changed = changes.changed() => if changed.is_err() { return },
                    () = shutdown.wait() => return,
                },
                changed = changes.changed() => if changed.is_err() { return },
                () = shutdown.wait() => return,
            }
        }
    }

    /// The rounds with the witnesses of now.
    fn rounds(&self) -> Rounds {
        let directory = self.members.directory();
        let key = |held: &Held| {
            let node = held.member.card.node.clone();
            let key = ed25519_dalek::VerifyingKey::from_bytes(&held.key(Role::Witness)).ok()?;
            let key = VerifierKey::of_witness(&node, key);
            Some((node, key))
        };
        let factories = directory.members.iter().filter(|held| held.member.factory);
        let keys: std::collections::BTreeMap<NodeId, VerifierKey> = factories.filter_map(key).collect();
        Rounds::new(self.log.clone(), &self.config.log, &self.members.reached.all(), &keys, self.alarms.clone())
    }

    /// Takes back rights: every one that holds now, and these ids. The factories are told at once, each by itself.
    pub async fn revoke_rights(&self, ids: std::collections::BTreeSet<String>) -> Result<Signed<Revoked>, NodeError> {
        let home = self.home.as_ref().ok_or_else(|| NodeError::System("this node is no home".to_owned()))?;
        let revoked = home.granter().revoke(ids).map_err(|error| NodeError::System(error.to_string()))?;
        self.spread_revocation(&revoked).await;
        if let Some(factory) = &self.factory {
            let rows = factory.rights().revoke(&revoked, now_ms()).unwrap_or_default();
            self.store.keep_revoked(&rows, now_ms()).await?;
        }
        Ok(revoked)
    }

    async fn spread_revocation(&self, revoked: &Signed<Revoked>) {
        let Ok(body) = serde_json::to_vec(revoked) else { return };
        let remotes = self.members.reached.all();
        let bring = remotes.values().map(|remote| {
            let (body, wait) = (body.clone(), std::time::Duration::from_secs(2));
            async move { drop(tokio::time::timeout(wait, remote.post_text("/peer/v1/revocations", body)).await) }
        });
        futures_util::future::join_all(bring).await;
    }
}

/// What a refusal is for whoever asked.
fn refused(error: &MembersError) -> Response {
    match error {
        MembersError::Refused(refusal) => {
            let body = format!("{refusal}\n");
            let status = if refusal.cause() == "flood" { StatusCode::TOO_MANY_REQUESTS } else { StatusCode::FORBIDDEN };
            (status, body).into_response()
        }
        MembersError::Invalid(_) | MembersError::Store(_) | MembersError::Log(_) => {
            tracing::error!(%error, "a request of a peer could not be taken in");
            (StatusCode::SERVICE_UNAVAILABLE, "this node cannot remember now\n").into_response()
        }
    }
}

async fn join(State(node): State<Arc<Node>>, body: bytes::Bytes) -> Response {
    let Ok(request) = serde_json::from_slice::<Signed<JoinRequest>>(&body) else {
        metrics::peer_refused("forged");
        return (StatusCode::BAD_REQUEST, "not a request to join\n").into_response();
    };
    // To its end, whether or not whoever asked still listens.
    match tokio::spawn(async move { node.members.asked(request).await }).await {
        Ok(Ok(told)) => Json(told).into_response(),
        Ok(Err(error)) => refused(&error),
        Err(_) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

async fn news(State(node): State<Arc<Node>>) -> Json<News> {
    let mut news = node.members.news();
    // A node that has never changed a key has nothing to say of them.
    let own = Signed::clone(&node.key_care.history());
    news.histories.extend(Some(own).filter(|own| own.value.number > 1));
    Json(news)
}

async fn departure(State(node): State<Arc<Node>>, body: bytes::Bytes) -> Response {
    let Ok(departure) = serde_json::from_slice::<Signed<Departure>>(&body) else {
        metrics::peer_refused("forged");
        return (StatusCode::BAD_REQUEST, "not a departure\n").into_response();
    };
    match tokio::spawn(async move { node.members.heard(departure).await }).await {
        Ok(Ok(())) => StatusCode::OK.into_response(),
        Ok(Err(error)) => refused(&error),
        Err(_) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

/// Rights that a home takes back; whoever is a factory remembers them, after a start too.
async fn revocation(State(node): State<Arc<Node>>, body: bytes::Bytes) -> Response {
    let Ok(revoked) = serde_json::from_slice::<Signed<Revoked>>(&body) else {
        metrics::peer_refused("forged");
        return (StatusCode::BAD_REQUEST, "not a revocation\n").into_response();
    };
    let Some(factory) = &node.factory else { return StatusCode::OK.into_response() };
    let rows = match factory.rights().revoke(&revoked, now_ms()) {
        Ok(rows) => rows,
        Err(error) => return (StatusCode::FORBIDDEN, format!("{error}\n")).into_response(),
    };
    match node.store.keep_revoked(&rows, now_ms()).await {
        Ok(()) => StatusCode::OK.into_response(),
        Err(error) => {
            tracing::error!(%error, "what a home takes back could not be kept");
            (StatusCode::SERVICE_UNAVAILABLE, "this node cannot remember now\n").into_response()
        }
    }
}
