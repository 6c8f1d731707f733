//! What goes on between members beside work: asking to join until there is an answer, and hearing who has left.
//!
//! One task for all of it. A peer that does not answer is asked again in the next round; nothing waits for it.

use std::sync::Arc;
use std::time::Duration;

use ed25519_dalek::SigningKey;
use http::StatusCode;
use polder_core::keys::Role;
use polder_core::keys::Signed;
use polder_core::membership::{Departure, Event, Peer, Standing};

use super::{Members, MembersError, News, Told};
use crate::clock::now_ms;
use crate::node::Node;
use crate::peers::Remote;
use crate::shutdown::Shutdown;

/// How often peers are asked what became of a request, and what they know of others.
const ROUND_EVERY: Duration = Duration::from_secs(2);
/// Longest time that one peer has for an answer.
const ANSWER_MAX: Duration = Duration::from_secs(3);
/// Most departures and histories that are read of one peer.
const NEWS_MAX: usize = 4_096;

/// Keeps company with the members until shutdown.
pub async fn keep(node: Arc<Node>, mut shutdown: Shutdown) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(ROUND_EVERY) => {}
            () = node.members.errand.notified() => {}
            () = shutdown.wait() => return,
        }
        if let Err(error) = node.follow_keys().await {
            tracing::error!(%error, "the keys of now could not be followed");
        }
        match node.channel_key() {
            Ok(own) => node.members.ask(&own).await,
            Err(error) => tracing::error!(%error, "nobody can be asked"),
        }
        node.hear_news().await;
        let due = node.members.machine.lock().await.deadline().is_some_and(|deadline| deadline <= now_ms());
        if due && let Err(error) = node.members.step(Event::Tick).await {
            tracing::error!(%error, "what has had its time among the memberships stays");
        }
        node.members.renew(None).await;
    }
}

impl Members {
    /// Asks those who have not answered yet.
    async fn ask(&self, own: &SigningKey) {
        let asked = |peer: &Peer| peer.standing == Standing::Asked;
        let waiting: Vec<Peer> = self.peers().into_iter().map(|(peer, _)| peer).filter(asked).collect();
        for peer in waiting {
            let told = tokio::time::timeout(ANSWER_MAX, told(&peer, own)).await;
            let answer = match told {
                Ok(Ok(Some(told))) => told.answer,
                Ok(Ok(None)) | Err(_) => None,
                Ok(Err(reason)) => {
                    tracing::warn!(from = %peer.said.card.node, reason, "a request to join was not taken");
                    None
                }
            };
            let Some(answer) = answer else { continue };
            match self.step(Event::Answered(Box::new(answer))).await {
                Ok(_) | Err(MembersError::Refused(_)) => {}
                Err(error) => tracing::error!(%error, "an answer could not be taken in"),
            }
        }
    }

    /// Brings the word of a departure to everybody who can be reached; those who cannot hear it from others.
    pub(super) async fn spread(&self, departure: &Signed<Departure>) {
        let Ok(body) = serde_json::to_vec(departure) else { return };
        let remotes = self.reached.all();
        let bring = remotes.values().map(|remote| {
            let body = body.clone();
            async move { drop(tokio::time::timeout(ANSWER_MAX, remote.post_text("/peer/v1/departures", body)).await) }
        });
        futures_util::future::join_all(bring).await;
    }
}

/// What became of a request; nothing where there is no way to whoever was asked.
async fn told(peer: &Peer, own: &SigningKey) -> Result<Option<Told>, String> {
    let address = peer.said.address.as_ref().and_then(|address| address.parse().ok());
    let (Some(address), Some(request)) = (address, &peer.request) else { return Ok(None) };
    let card = &peer.said.card;
    let pin = card.keys.get(&Role::Transport).map_or([0; 32], |held| held.key);
    let remote = Remote::new(card.node.clone(), Some(address), &[pin], own).map_err(|error| error.to_string())?;
    let body = serde_json::to_vec(request).map_err(|error| error.to_string())?;
    let Ok((status, text)) = remote.post_text("/peer/v1/join", body).await else { return Ok(None) };
    match status {
        StatusCode::OK => serde_json::from_str(&text).map(Some).map_err(|_| "its answer is not understood".to_owned()),
        _ => Err(text.trim_end().to_owned()),
    }
}

impl Node {
    /// Hears from every member who has left, and what became of others' keys.
    async fn hear_news(&self) {
        let remotes = self.members.reached.all();
        let ask = remotes.iter().map(|(node, remote)| async move {
            (node, tokio::time::timeout(ANSWER_MAX, remote.fetch::<News>("/peer/v1/members")).await)
        });
        for (from, told) in futures_util::future::join_all(ask).await {
            // A peer of the version before has no such call.
            let Ok(Ok(news)) = told else { continue };
            let departures = news.departures.into_iter().take(NEWS_MAX);
            for departure in departures.filter(|departure| self.members.concerns(&departure.value)) {
                if let Err(error @ (MembersError::Store(_) | MembersError::Log(_))) =
                    self.members.heard(departure).await
                {
                    tracing::error!(%error, "a departure could not be taken in");
                }
            }
            for history in news.histories.iter().take(NEWS_MAX) {
                self.learn_keys(history).await.unwrap_or_else(
                    |error| tracing::warn!(%from, %error, "what a member says of keys is not taken in"),
                );
            }
        }
    }
}
