//! Executors: what runs jobs at a factory. Each kind starts, extends, ends and finds runs by our own names for them.
//!
//! A run is known by its [`RunId`] from before it starts until it is forgotten, whatever happens to this process: an executor
//! keeps how a run ended until it is told to forget it, and ends it with its lease when nobody is there to say anything. Deciding
//! whether something runs is absent; so are leases, which are the machine's (`polder_core::job`).

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use polder_core::canonical::Digest;
use polder_core::job::executor::{Exit, Probed};
use polder_core::job::{Order, RunId};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

pub mod local;

/// What is to be started.
#[derive(Debug, Clone)]
pub struct Start {
    /// The run.
    pub run: RunId,
    /// What to run.
    pub order: Arc<Order>,
    /// When it must have ended unless it is extended, in [`crate::clock::boot_ms`].
    pub until_ms: u64,
    /// The checkpoint to begin from.
    pub resume: Option<Digest>,
}

/// What an executor tells.
#[derive(Debug, Clone, PartialEq)]
pub enum Report {
    /// A run has ended, or could not be started.
    Exited(RunId, Exit),
    /// What was found of a run that was asked about.
    Probed(RunId, Probed),
}

/// Where reports go.
pub type Reports = mpsc::UnboundedSender<Report>;

/// One of the two texts that a run writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// What it says on its standard output.
    Out,
    /// What it says on its standard error.
    Err,
}

impl Part {
    /// Its name, as calls write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Out => "out",
            Self::Err => "err",
        }
    }

    /// The part of a name.
    pub fn of(name: &str) -> Option<Self> {
        [Self::Out, Self::Err].into_iter().find(|part| part.as_str() == name)
    }
}

/// A piece of what a run wrote.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Piece {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Where the next piece begins.
    pub next: u64,
    /// Whether there will be no more.
    pub ended: bool,
}

/// A future of an executor.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = std::io::Result<T>> + Send + 'a>>;

/// What runs jobs. Calls about one run take effect in the order in which they are made; none of them waits.
pub trait Executor: Send + Sync {
    /// What it is called in statements.
    fn name(&self) -> &'static str;
    /// Starts a run, once: a run of this name that exists already is not started again.
    fn start(&self, start: Start);
    /// A run may go on until then.
    fn extend(&self, run: &RunId, until_ms: u64);
    /// Ends a run: asks it to, then makes it.
    fn stop(&self, run: &RunId);
    /// Finds out what became of a run of an earlier process, and reports it. One that is said to be gone never starts.
    fn probe(&self, run: &RunId);
    /// A run has ended and is receipted: nobody asks how it ended any more. What it wrote stays for a while.
    fn forget(&self, run: &RunId);
    /// A piece of what a run wrote, from a place on.
    fn piece<'a>(&'a self, run: &'a RunId, part: Part, from: u64) -> Answer<'a, Piece>;
}
