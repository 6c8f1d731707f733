//! What happens to a home, and what whoever called is told.
//!
//! Calls are numbered by whoever runs the machine; who may call what is decided before.

use super::{Sheet, Submission};
use crate::ids::{AwardId, NodeId};
use crate::job::message::Message;
use crate::job::{Epoch, JobId};
use crate::ledger::books::{BooksError, Entry};

/// What happens to a home.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Jobs are submitted.
    Submit(Box<Submission>),
    /// A job is taken back.
    Cancel {
        /// Whom to answer.
        call: u64,
        /// The job.
        job: JobId,
    },
    /// A person says that a held job runs again.
    Rerun {
        /// Whom to answer.
        call: u64,
        /// The job.
        job: JobId,
    },
    /// A person grants what they find right for a disputed receipt.
    Resolve {
        /// Whom to answer.
        call: u64,
        /// The job.
        job: JobId,
        /// The epoch of the receipt.
        epoch: Epoch,
        /// What the factory gets, in micro-euro; at most what one attempt may cost.
        microeur: u64,
    },
    /// An operator moves money.
    Move {
        /// Whom to answer.
        call: u64,
        /// The move.
        entry: Entry,
    },
    /// An operator asks an award's accountant for a slice.
    AskSlice {
        /// Whom to answer.
        call: u64,
        /// The award.
        award: AwardId,
        /// Who keeps it.
        accountant: NodeId,
        /// How much, in micro-euro.
        microeur: u64,
    },
    /// A factory's terms are known, or have changed.
    Sheet(NodeId, Sheet),
    /// A policy, a fact or terms have changed.
    PolicyChanged,
    /// A message from a node, authenticated as that node's.
    Peer {
        /// Who.
        from: NodeId,
        /// The newest version that it speaks.
        speaks: u8,
        /// What it says.
        message: Message,
    },
    /// Time has passed.
    Tick,
}

/// What whoever called is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The jobs are kept, and will run, wait or be over: they are not lost any more.
    Accepted(Vec<JobId>),
    /// The key was used for another submission.
    Conflict,
    /// No factory may run the job, whatever its load: the first such job by its place.
    Refused(usize),
    /// A project lacks money, in micro-euro.
    NoBudget(i64),
    /// Too many jobs wait or run.
    Full,
    /// There is no such job, or nothing of the kind to do with it.
    Unknown,
    /// It is done.
    Done,
    /// It is under way: a run has to end first.
    Ending,
    /// The books do not allow it.
    Books(BooksError),
}
