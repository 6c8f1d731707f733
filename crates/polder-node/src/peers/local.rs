//! The factory in this very process, for a node that is home and factory at once.
//!
//! It answers the same frames for the same envelopes: being near gives no rights.

use std::sync::Arc;

use futures_util::StreamExt as _;
use polder_core::ids::NodeId;
use polder_core::receipt::{Half, Sealed};

use super::wire::{Envelope, Status};
use super::{FrameStream, Peer, PeerFuture};
use crate::factory::Factory;

/// The factory of this process.
pub struct Local {
    home: NodeId,
    factory: Arc<Factory>,
}

impl Local {
    /// The factory as the home of the same node reaches it.
    pub fn new(home: NodeId, factory: Arc<Factory>) -> Self {
        Self { home, factory }
    }
}

impl Peer for Local {
    fn status(&self) -> PeerFuture<'_, Status> {
        Box::pin(async { Ok(self.factory.status()) })
    }

    fn run(&self, envelope: Envelope) -> PeerFuture<'_, FrameStream> {
        Box::pin(async move {
            let frames = self.factory.run((&self.home, None), envelope, true);
            Ok(Box::pin(frames.map(Ok)) as FrameStream)
        })
    }

    fn execution<'a>(&'a self, decision: &'a str) -> PeerFuture<'a, Option<Half>> {
        Box::pin(async move { Ok(self.factory.execution(&self.home, decision).await) })
    }

    fn sealed<'a>(&'a self, decision: &'a str) -> PeerFuture<'a, Option<Sealed>> {
        Box::pin(async move { Ok(self.factory.sealed(&self.home, decision).await) })
    }
}
