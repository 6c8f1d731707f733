//! A node behind a firewall: it opens the channels itself, and is asked over them.
//!
//! It connects to every member that has an address, with the same keys and pins as always, and answers on that channel as it would on
//! a port of its own. No port is open on its side. Who may ask what is absent: that is the surface.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router};
use ed25519_dalek::SigningKey;
use polder_core::ids::NodeId;
use polder_core::keys::Role;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

use super::pace::Paces;
use super::server::{Shown, Speaker, speak};
use super::tls::reverse_config;
use crate::config::Limits;
use crate::node::Node;
use crate::serve::{Gate, Phase};
use crate::shutdown::Shutdown;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Between two attempts, at first and at most.
const AGAIN_MIN: Duration = Duration::from_millis(250);
const AGAIN_MAX: Duration = Duration::from_secs(30);
/// A channel that held so long was a good one: the next attempt comes soon.
const HELD_WELL: Duration = Duration::from_secs(30);

/// What a channel outwards is made of.
type Made = (SocketAddr, Vec<[u8; 32]>, [u8; 32]);

/// Keeps a channel open to every member with an address, until shutdown.
pub async fn keep(node: Arc<Node>, router: Router, limits: Limits, mut shutdown: Shutdown) {
    let mut changes = node.follows();
    let mut open: BTreeMap<NodeId, (Made, JoinHandle<()>)> = BTreeMap::new();
    let (gate, paces) = (Gate::open(&limits, limits.connections_max), Arc::new(Paces::new(limits.peer_requests_per_s)));
    loop {
        let Ok(own) = node.channel_key() else { return };
        let directory = node.members.directory();
        let wanted = directory.members.iter().filter_map(|held| {
            let parts = (held.member.address?, held.keys(Role::Transport).to_vec(), own.verifying_key().to_bytes());
            Some((held.member.card.node.clone(), parts))
        });
        let wanted: BTreeMap<NodeId, Made> = wanted.collect();
        open.retain(|member, (made, task)| {
            let stays = wanted.get(member) == Some(made);
            if !stays {
                task.abort();
            }
            stays
        });
        for (member, made) in wanted {
            if open.contains_key(&member) {
                continue;
            }
            let router = router.clone().layer(Extension(Speaker(member.clone()))).layer(Extension(paces.of(&member)));
            let channel = Channel { member: member.clone(), made: made.clone(), own: own.clone(), router };
            let task = tokio::spawn(channel.hold(Arc::clone(&gate), shutdown.clone()));
            open.insert(member, (made, task));
        }
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            () = shutdown.wait() => return,
        }
    }
}

struct Channel {
    member: NodeId,
    made: Made,
    own: SigningKey,
    router: Router,
}

impl Channel {
    async fn hold(self, gate: Arc<Gate>, mut shutdown: Shutdown) {
        let mut pause = AGAIN_MIN;
        loop {
            let begun = std::time::Instant::now();
            if let Err(reason) = self.once(&gate, shutdown.clone()).await {
                tracing::debug!(from = %self.member, reason, "a channel outwards ended");
            }
            pause = if begun.elapsed() > HELD_WELL { AGAIN_MIN } else { (pause * 2).min(AGAIN_MAX) };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = shutdown.wait() => return,
            }
        }
    }

    async fn once(&self, gate: &Arc<Gate>, shutdown: Shutdown) -> Result<(), String> {
        let (address, keys, _) = &self.made;
        let place = gate.enter(address.ip()).map_err(|_| "there is no place for a connection")?;
        let config = reverse_config(&self.own, &self.member, keys).map_err(|e| e.to_string())?;
        let connect = async {
            let tcp = TcpStream::connect(address).await.map_err(|e| e.to_string())?;
            tcp.set_nodelay(true).map_err(|e| e.to_string())?;
            let name = ServerName::try_from("polder.invalid").map_err(|e| e.to_string())?;
            TlsConnector::from(config).connect(name, tcp).await.map_err(|e| e.to_string())
        };
        let stream = tokio::time::timeout(CONNECT_TIMEOUT, connect).await.map_err(|_| "connecting took too long")??;
        let shown = super::tls::presented_key(stream.get_ref().1.peer_certificates()).ok_or("no key presented")?;
        tracing::info!(from = %self.member, "a channel outwards is open");
        place.line.enter(Phase::Busy);
        let router = self.router.clone().layer(Extension(Shown(shown)));
        speak(stream, router, &place, shutdown, std::future::pending()).await
    }
}
