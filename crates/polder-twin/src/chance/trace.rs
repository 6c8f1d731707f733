//! What was seen of a schedule from outside, in its order; checkers read nothing else.
//!
//! What a machine believes is not in it: only what was sent, what was written, what processes really did, and what callers were
//! told. Two runs of one seed must leave the same trace; its hash is compared.

use polder_core::job::{Epoch, JobId, Message, Row, RunOutcome};

use super::plan::PlannedJob;

/// One thing that was seen.
#[derive(Debug, Clone)]
pub struct Seen {
    /// When, in microseconds of true time.
    pub at_us: u64,
    /// At which site.
    pub site: usize,
    pub what: What,
}

/// What was seen.
#[derive(Debug, Clone)]
pub enum What {
    /// A client hands jobs in for the first time.
    Submitted { submission: usize, kind: usize, jobs: Vec<(JobId, PlannedJob)> },
    /// A client hears that its jobs are kept.
    Acked { submission: usize, jobs: Vec<JobId> },
    /// A client hears that its jobs are not.
    Refused { submission: usize },
    /// A client hears that its job is taken back.
    Cancelled { job: JobId },
    /// A person let a held job run again.
    Rerun { job: JobId },
    /// A message leaves.
    Sent { to: usize, message: Box<Message> },
    /// Rows are durable.
    Wrote(Vec<Row>),
    /// A process begins.
    Began { job: JobId, epoch: Epoch },
    /// A process is gone; with its code where it ended by itself.
    Ended { job: JobId, epoch: Epoch, code: Option<i32> },
    /// An honest factory signs.
    Signed { job: JobId, epoch: Epoch, outcome: RunOutcome, cost_microeur: u64 },
    /// Which version of the owner's policy is in force.
    Policy(usize),
    /// Which version of the factory's terms is in force.
    Terms(usize),
    /// The site starts from what it has written.
    Booted,
    /// The machines hold something else than what they wrote, or something that must not happen did.
    Broken(String),
}

/// A trace.
#[derive(Debug, Default)]
pub struct Trace {
    pub seen: Vec<Seen>,
    pub hash: u64,
}

impl Trace {
    /// Adds what was seen.
    pub fn add(&mut self, at_us: u64, site: usize, what: What) {
        self.mix(at_us);
        self.mix(site as u64);
        let (kind, job, more) = match &what {
            What::Submitted { submission, jobs, .. } => (1, jobs.first().map(|(id, _)| *id), *submission as u64),
            What::Acked { submission, jobs } => (2, jobs.first().copied(), *submission as u64),
            What::Refused { submission } => (3, None, *submission as u64),
            What::Cancelled { job } => (4, Some(*job), 0),
            What::Rerun { job } => (5, Some(*job), 0),
            What::Sent { to, message } => (6 + 16 * number(message), job_of(message), *to as u64),
            What::Wrote(rows) => (7, None, rows.len() as u64),
            What::Began { job, epoch, .. } => (8, Some(*job), *epoch),
            What::Ended { job, epoch, .. } => (9, Some(*job), *epoch),
            What::Signed { job, epoch, cost_microeur, .. } => (10, Some(*job), epoch ^ (cost_microeur << 20)),
            What::Policy(version) => (11, None, *version as u64),
            What::Terms(version) => (12, None, *version as u64),
            What::Booted => (13, None, 0),
            What::Broken(_) => (14, None, 0),
        };
        self.mix(kind);
        self.mix(job.and_then(|id| id.0.first_chunk::<8>().copied()).map_or(0, u64::from_be_bytes));
        self.mix(more);
        self.seen.push(Seen { at_us, site, what });
    }

    /// One step of FxHash as rustc uses it: rotate, add in, multiply.
    fn mix(&mut self, word: u64) {
        self.hash = (self.hash.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
    }
}

fn number(message: &Message) -> u64 {
    match message {
        Message::Offer { .. } => 1,
        Message::Withdraw { .. } => 2,
        Message::Grant { .. } => 3,
        Message::Void { .. } => 4,
        Message::Stop { .. } => 5,
        Message::Receipted { .. } => 6,
        Message::Want { .. } => 7,
        Message::Decline { .. } => 8,
        Message::Renew { .. } => 9,
        Message::Done { .. } => 10,
        Message::Free(_) => 11,
        Message::SliceAsk { .. } => 12,
        Message::SliceGiven { .. } => 13,
    }
}

fn job_of(message: &Message) -> Option<JobId> {
    match message {
        Message::Offer { job, .. }
        | Message::Withdraw { job, .. }
        | Message::Grant { job, .. }
        | Message::Void { job, .. }
        | Message::Stop { job, .. }
        | Message::Receipted { job, .. }
        | Message::Want { job, .. }
        | Message::Decline { job, .. }
        | Message::Renew { job, .. } => Some(*job),
        Message::Done { receipt, .. } => Some(receipt.value.job),
        Message::Free(_) | Message::SliceAsk { .. } | Message::SliceGiven { .. } => None,
    }
}
