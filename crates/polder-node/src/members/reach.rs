//! How the members are reached: a [`Remote`] for each, kept as long as its address and keys stay the same.
//!
//! Who is a member is absent: that is the directory.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use ed25519_dalek::SigningKey;
use polder_core::ids::NodeId;
use polder_core::keys::Role;

use super::Directory;
use crate::peers::Remote;

/// What a channel is made of; where any of it changes it is made again.
type Made = (Option<SocketAddr>, Vec<[u8; 32]>, [u8; 32]);

/// The channels to the members.
#[derive(Default)]
pub struct Reached {
    remotes: ArcSwap<BTreeMap<NodeId, Arc<Remote>>>,
    made: Mutex<BTreeMap<NodeId, Made>>,
}

impl Reached {
    /// The members that can be reached, by name.
    pub fn all(&self) -> Arc<BTreeMap<NodeId, Arc<Remote>>> {
        self.remotes.load_full()
    }

    /// Follows a directory: channels to those who are gone, or have other keys, end.
    pub fn follow(&self, directory: &Directory, own: &SigningKey) -> Result<(), rustls::Error> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.remotes.load_full();
        let (mut remotes, mut now) = (BTreeMap::new(), BTreeMap::new());
        for held in &directory.members {
            // A home that listens nowhere asks, and is not asked.
            if held.member.address.is_none() && !held.member.factory {
                continue;
            }
            let node = held.member.card.node.clone();
            let parts: Made =
                (held.member.address, held.keys(Role::Transport).to_vec(), own.verifying_key().to_bytes());
            let kept = before.get(&node).filter(|_| made.get(&node) == Some(&parts)).cloned();
            let remote = match kept {
                Some(remote) => remote,
                None => Arc::new(Remote::new(node.clone(), parts.0, &parts.1, own)?),
            };
            remotes.insert(node.clone(), remote);
            now.insert(node, parts);
        }
        for (node, remote) in before.iter() {
            if !remotes.get(node).is_some_and(|kept| Arc::ptr_eq(kept, remote)) {
                remote.close();
            }
        }
        *made = now;
        self.remotes.store(Arc::new(remotes));
        Ok(())
    }
}
