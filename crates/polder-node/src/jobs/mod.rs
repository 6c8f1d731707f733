//! Jobs at one node: the machines of `polder_core::job` with everything around them.
//!
//! One driver (`driver.rs`) holds the home's machine and the factory's, where the node is both; what they say to each other stays
//! inside it. What they want done goes to one carrier (`carrier.rs`), in order: rows are durable before anything behind them is seen.
//! Messages travel over the peers' channels (`channel.rs`); a factory answers on a line that its home keeps open, so that a home
//! needs no open port. This file is what the rest of the node asks. Deciding, leases and money are absent: those are the machines'.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use polder_core::ids::NodeId;
use polder_core::job::home::{self, Answer};
use polder_core::job::{JobId, Message, RunId, executor};
use polder_core::policy::Cause;
use polder_core::statement::v1::DecisionRecord;
use tokio::sync::{mpsc, oneshot};

use crate::executor::{Executor, Part, Piece};
use crate::home::Ticketed;

mod carrier;
mod channel;
mod driver;
mod logs;
mod opening;
mod outlook;
mod show;
mod statements;
mod submission;
mod watch;

pub use channel::{Mailboxes, peer_router};
pub use logs::{LogPiece, read_log};
pub use opening::{Parts, open};
pub use show::{explained, listed, shown, usage};
pub use submission::{SubmissionError, Submitted, expand, read_file};

/// Longest wait for an answer of the machines; it hangs on the disk alone.
const ANSWER_MAX: Duration = Duration::from_secs(20);

/// What happens to a node's machines.
enum Input {
    /// Something that nobody waits for.
    Home(Box<home::Event>),
    /// A call: the event is made of its number.
    Call(Box<dyn FnOnce(u64) -> home::Event + Send>, oneshot::Sender<Answered>),
    Factory(Box<executor::Event>),
    /// A message from a peer, with the ticket of an offer.
    Peer(NodeId, u8, Box<Message>, Option<Box<Ticketed>>),
    /// Somebody looks.
    Look(Look),
    /// The node stops: what waits is carried out, and then no more.
    Stop(oneshot::Sender<()>),
}

/// A look at the machines; what it saw is handed over once all of it is durable.
type Look = Box<dyn FnOnce(Machines<'_>) -> Box<dyn FnOnce() + Send> + Send>;

/// The machines as a look sees them.
pub struct Machines<'a> {
    /// The home's.
    pub home: Option<&'a home::Home>,
    /// The factory's.
    pub factory: Option<&'a executor::Executor>,
    /// Which decision placed which run of this home.
    pub tickets: &'a BTreeMap<RunId, Ticketed>,
    /// By which clock they go.
    pub now: polder_core::job::Now,
}

/// What whoever called is told.
#[derive(Debug)]
pub struct Answered {
    /// The machine's answer.
    pub answer: Answer,
    /// Where a submission is refused, the decision that says so.
    pub refused: Option<Box<DecisionRecord>>,
}

/// Why the machines do not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JobsError {
    /// Too much waits.
    #[error("too much waits for this node's jobs: try again in a moment")]
    Busy,
    /// What was asked could not be written down, so that it did not happen.
    #[error("this node cannot write jobs down now, so nothing was taken: is its disk full? try again")]
    Unwritten,
    /// This node runs no jobs.
    #[error("this node is neither a home nor runs jobs")]
    None,
}

/// A node's jobs, as the rest of it sees them.
#[derive(Clone)]
pub struct Jobs {
    inputs: mpsc::Sender<Input>,
    /// What runs jobs here.
    pub executor: Option<Arc<dyn Executor>>,
    /// Messages that wait for the homes that this factory works for.
    pub mailboxes: Mailboxes,
}

impl Jobs {
    /// Has something happen to the home's machine, and waits for the answer.
    pub async fn call(&self, event: impl FnOnce(u64) -> home::Event + Send + 'static) -> Result<Answered, JobsError> {
        let (sender, answer) = oneshot::channel();
        self.inputs.try_send(Input::Call(Box::new(event), sender)).map_err(|_| JobsError::Busy)?;
        match tokio::time::timeout(ANSWER_MAX, answer).await {
            Ok(Ok(answered)) => Ok(answered),
            Ok(Err(_)) | Err(_) => Err(JobsError::Unwritten),
        }
    }

    /// Looks at the machines; nothing is seen that is not durable.
    pub async fn look<T: Send + 'static>(
        &self,
        see: impl FnOnce(Machines<'_>) -> T + Send + 'static,
    ) -> Result<T, JobsError> {
        let (sender, seen) = oneshot::channel();
        let look: Look = Box::new(move |machines| {
            let seen = see(machines);
            // Whoever asked may have gone.
            Box::new(move || drop(sender.send(seen)))
        });
        self.inputs.send(Input::Look(look)).await.map_err(|_| JobsError::Busy)?;
        match tokio::time::timeout(ANSWER_MAX, seen).await {
            Ok(Ok(seen)) => Ok(seen),
            Ok(Err(_)) | Err(_) => Err(JobsError::Unwritten),
        }
    }

    /// A message from a peer. Where too much waits it is lost, which the protocol bears.
    pub fn hear(&self, from: NodeId, speaks: u8, message: Message, ticketed: Option<Ticketed>) -> bool {
        let input = Input::Peer(from, speaks, Box::new(message), ticketed.map(Box::new));
        self.inputs.try_send(input).is_ok()
    }

    /// Something has happened to the home's machine.
    async fn tell_home(&self, event: home::Event) {
        drop(self.inputs.send(Input::Home(Box::new(event))).await);
    }

    /// Something has happened to the factory's machine.
    async fn tell_factory(&self, event: executor::Event) {
        drop(self.inputs.send(Input::Factory(Box::new(event))).await);
    }

    /// A piece of what a run wrote here, for its home.
    pub async fn piece(&self, run: &RunId, part: Part, from: u64) -> std::io::Result<Piece> {
        match &self.executor {
            Some(executor) => executor.piece(run, part, from).await,
            None => Err(std::io::ErrorKind::NotFound.into()),
        }
    }

    /// Carries out what waits, and ends the machines.
    pub async fn close(&self) {
        let (sender, ended) = oneshot::channel();
        if self.inputs.send(Input::Stop(sender)).await.is_ok() {
            drop(tokio::time::timeout(ANSWER_MAX, ended).await);
        }
    }

    /// Why each factory cannot take a job now, besides the policies.
    pub async fn hindrances(&self, job: JobId) -> Result<BTreeMap<NodeId, Vec<Cause>>, JobsError> {
        self.look(move |machines| machines.home.map(|home| home.hindrances(machines.now, job)).unwrap_or_default())
            .await
    }
}
