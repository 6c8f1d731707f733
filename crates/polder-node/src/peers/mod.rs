//! Peers: how one node speaks with another, over TLS 1.3 between pinned keys or within one process.
//!
//! A [`Peer`] is a factory as its homes reach it. Deciding is absent: a peer carries what was decided and brings back what
//! came of it.

use std::future::Future;
use std::pin::Pin;

use futures_util::Stream;
use polder_core::ids::NodeId;
use polder_core::receipt::{Half, Sealed};

mod local;
mod remote;
pub mod server;
pub mod tls;
pub mod wire;

pub use local::Local;
pub use remote::Remote;
use wire::{Envelope, Frame, Status};

/// Why a peer did not answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PeerError {
    /// It cannot be reached, or the channel broke.
    #[error("`{peer}` does not answer: {reason}")]
    Unreachable {
        /// Which peer.
        peer: NodeId,
        /// What happened.
        reason: String,
    },
    /// It answered what is not understood here.
    #[error("`{peer}` answered in a way that is not understood: {reason}")]
    Protocol {
        /// Which peer.
        peer: NodeId,
        /// What was wrong.
        reason: String,
    },
}

impl PeerError {
    /// What happened, without whose fault it is: the same words for all that fail alike.
    pub fn cause(&self) -> String {
        match self {
            Self::Unreachable { reason, .. } => format!("no answer: {reason}"),
            Self::Protocol { reason, .. } => format!("an answer that is not understood: {reason}"),
        }
    }
}

/// A future that a [`Peer`] returns.
pub type PeerFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, PeerError>> + Send + 'a>>;
/// What comes back for an envelope. Dropping it stops the work.
pub type FrameStream = Pin<Box<dyn Stream<Item = Result<Frame, PeerError>> + Send>>;

/// A factory as its homes reach it.
pub trait Peer: Send + Sync {
    /// What it says of itself now.
    fn status(&self) -> PeerFuture<'_, Status>;
    /// Sends it work and reads what comes of it.
    fn run(&self, envelope: Envelope) -> PeerFuture<'_, FrameStream>;
    /// The execution's half of a receipt, where the factory has one for a decision of this home.
    fn execution<'a>(&'a self, decision: &'a str) -> PeerFuture<'a, Option<Half>>;
    /// The same under the factory's signatures over the statement itself.
    fn sealed<'a>(&'a self, decision: &'a str) -> PeerFuture<'a, Option<Sealed>>;
}
