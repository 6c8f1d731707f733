//! Jobs as processes of this very machine, each under a supervisor of its own that outlives the daemon.
//!
//! For each run there is a folder and a supervisor: this very program, started anew (`supervise.rs`). The supervisor starts the
//! command in a process group of its own, ends it with its lease or wall time, watches its output, and leaves how it ended in the
//! folder. Daemon and supervisor speak over a socket pair; a daemon that was started anew finds the supervisor by the socket in
//! the run's folder. Whether a run ever starts is settled by one file that only one of the two can make (`folder.rs`). Absent:
//! separation of tenants from each other and from the node beyond what users and limits give; containers are for that.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use polder_core::job::RunId;
use polder_core::job::executor::{Exit, Probed};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};

use super::{Answer, Executor, Part, Piece, Report, Reports, Start};
use crate::clock::boot_ms;

mod command;
mod fetch;
mod folder;
mod outputs;
mod supervise;
mod talk;

pub use fetch::Allowed;
pub use supervise::supervise;

use folder::{Fate, Folder};

/// The word that makes this program a supervisor.
pub const SUPERVISE: &str = "supervise-run";
/// Largest piece of a log, in bytes.
const PIECE_BYTES_MAX: usize = 64 << 10;

/// What a factory allows of every run.
#[derive(Debug, Clone)]
pub struct Limits {
    /// The most that a run may write into its folder, in bytes.
    pub output_bytes_max: u64,
    /// How long a run has to end by itself once it was asked to, in milliseconds.
    pub grace_ms: u64,
    /// How long what a run wrote is kept after it was receipted, in milliseconds.
    pub keep_ms: u64,
    /// Where files may be taken from and put to.
    pub allowed: Allowed,
    /// The user and group that commands run as; the node's own where absent.
    pub user: Option<(u32, u32)>,
}

/// The executor.
pub struct Local {
    shared: Arc<Shared>,
}

struct Shared {
    folder: PathBuf,
    program: PathBuf,
    limits: Limits,
    reports: Reports,
    runs: Mutex<BTreeMap<RunId, UnboundedSender<Word>>>,
}

/// What a run's task is told.
enum Word {
    Extend(u64),
    Stop,
}

impl Local {
    /// An executor whose runs have their folders under `folder`. `program` is this program's own file.
    pub fn open(folder: PathBuf, program: PathBuf, limits: Limits, reports: Reports) -> std::io::Result<Self> {
        folder::make_root(&folder, limits.user.is_some())?;
        Ok(Self { shared: Arc::new(Shared { folder, program, limits, reports, runs: Mutex::default() }) })
    }

    /// Deletes the folders of runs that were forgotten long enough ago.
    pub async fn sweep(&self) {
        let shared = Arc::clone(&self.shared);
        let swept = tokio::task::spawn_blocking(move || folder::sweep(&shared.folder, shared.limits.keep_ms)).await;
        if let Ok(Err(error)) = swept {
            tracing::warn!(%error, "folders of old runs cannot be deleted");
        }
    }

    fn tell(&self, run: &RunId, word: Word) {
        let runs = self.shared.runs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(task) = runs.get(run) {
            // A task that has ended has nothing left to do.
            drop(task.send(word));
        }
    }
}

impl Shared {
    fn folder(&self, run: &RunId) -> Folder {
        Folder::of(&self.folder, run)
    }

    /// Notes a run's task, and where its words come from.
    fn enter(&self, run: &RunId) -> UnboundedReceiver<Word> {
        let (sender, words) = mpsc::unbounded_channel();
        self.runs.lock().unwrap_or_else(PoisonError::into_inner).insert(run.clone(), sender);
        words
    }

    fn report(&self, report: Report) {
        // Whoever listened has gone: the run's folder says the same to the next.
        drop(self.reports.send(report));
    }

    /// Forgets tasks that have ended.
    fn leave(&self) {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, task| !task.is_closed());
    }

    /// Starts a run and stays with it to its end.
    async fn run(self: Arc<Self>, start: Start, words: UnboundedReceiver<Word>) {
        let run = start.run.clone();
        let (shared, order) = (Arc::clone(&self), start);
        let started = tokio::task::spawn_blocking(move || command::start(&shared, &order)).await;
        let report = match started {
            Ok(Ok(stream)) => match tokio::net::UnixStream::from_std(stream) {
                Ok(stream) => self.attend(&run, stream, words).await,
                Err(error) => self.unstarted(&run, &error),
            },
            Ok(Err(error)) => self.unstarted(&run, &error),
            Err(error) => self.unstarted(&run, &std::io::Error::other(error)),
        };
        self.leave();
        self.report(report);
    }

    /// A run that this factory could not start: it may run elsewhere.
    fn unstarted(&self, run: &RunId, error: &std::io::Error) -> Report {
        tracing::warn!(%error, "a job could not be started");
        // Nobody may start it later.
        drop(self.folder(run).settle(Fate::Gone));
        let exit = Exit { code: None, started: false, ran_ms: 0, ended_ms: boot_ms() };
        Report::Exited(run.clone(), exit)
    }

    /// Passes words on to a supervisor until it says how the run ended, or is gone.
    async fn attend(&self, run: &RunId, stream: tokio::net::UnixStream, words: UnboundedReceiver<Word>) -> Report {
        let ended = talk::attend(stream, words).await;
        let found = match ended {
            Some(exit) => Probed::Exited(exit),
            // It went without a word: its folder may know more, and nothing of it may go on.
            None => self.look(run).await,
        };
        match found {
            Probed::Exited(exit) => Report::Exited(run.clone(), exit),
            Probed::Alive | Probed::Gone => {
                let exit = Exit { code: None, started: true, ran_ms: 0, ended_ms: boot_ms() };
                Report::Exited(run.clone(), exit)
            }
        }
    }

    async fn look(&self, run: &RunId) -> Probed {
        let folder = self.folder(run);
        let looked = tokio::task::spawn_blocking(move || folder.what_became()).await;
        looked.ok().flatten().map_or(Probed::Gone, |exit| Probed::Exited(exit.into()))
    }

    /// Finds a run of an earlier process, and stays with it where it runs.
    async fn find(self: Arc<Self>, run: RunId, words: UnboundedReceiver<Word>) {
        let folder = self.folder(&run);
        let reached = tokio::task::spawn_blocking(move || folder.reach()).await.ok().flatten();
        let stream = reached.and_then(|stream| tokio::net::UnixStream::from_std(stream).ok());
        let Some(stream) = stream else {
            let probed = self.look(&run).await;
            self.leave();
            return self.report(Report::Probed(run, probed));
        };
        self.report(Report::Probed(run.clone(), Probed::Alive));
        let report = self.attend(&run, stream, words).await;
        self.leave();
        self.report(report);
    }
}

impl Executor for Local {
    fn name(&self) -> &'static str {
        "local-process"
    }

    fn start(&self, start: Start) {
        let words = self.shared.enter(&start.run);
        tokio::spawn(Arc::clone(&self.shared).run(start, words));
    }

    fn extend(&self, run: &RunId, until_ms: u64) {
        self.tell(run, Word::Extend(until_ms));
    }

    fn stop(&self, run: &RunId) {
        self.tell(run, Word::Stop);
    }

    fn probe(&self, run: &RunId) {
        let words = self.shared.enter(run);
        tokio::spawn(Arc::clone(&self.shared).find(run.clone(), words));
    }

    fn forget(&self, run: &RunId) {
        let folder = self.shared.folder(run);
        // What is not marked is found by the next sweep of its age.
        tokio::task::spawn_blocking(move || drop(folder.mark_forgotten()));
    }

    fn piece<'a>(&'a self, run: &'a RunId, part: Part, from: u64) -> Answer<'a, Piece> {
        let folder = self.shared.folder(run);
        Box::pin(async move {
            let read = tokio::task::spawn_blocking(move || folder.piece(part, from, PIECE_BYTES_MAX)).await;
            read.map_err(std::io::Error::other)?
        })
    }
}

#[cfg(test)]
mod tests;
