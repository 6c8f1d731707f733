//! A factory's side: what it takes, runs, and signs about it.
//!
//! An offer is held against the factory's own terms and room; then room is kept and a lease is asked for. The lease lasts from
//! the moment of asking, by this machine's clock, so that the grant may take its time and no two clocks must agree. A run is
//! written down before it is started, must not outlive its lease even if this process is gone, and ends in a signed receipt
//! that is sent until it is answered.
//!
//! After a crash every run that was written down is looked for. Times count only within one start of the machine; a run of an
//! earlier one has no lease left. A grant that answers a request of an earlier process is refused, because nobody knows any
//! more when it was asked. Absent: how processes are started, and what they do.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::message::{DeclineWhy, Message, Room, VERSION, VERSION_MIN};
use super::receipt::JobReceipt;
use super::row::v1::{Row, RunRow};
use super::spec::Resources;
use super::{Effect, Epoch, JobId, Nonce, Nonces, Now, Order, RunId};
use crate::canonical::Digest;
use crate::ids::NodeId;
use crate::job::home::Sheet;
use crate::request::Request;

mod leases;
mod runs;

/// What an executor asks of its node while it steps.
pub trait Outlook {
    /// Whether the factory's own terms permit a request now.
    fn permits(&mut self, request: &Request) -> bool;
    /// Signs with the factory's authority key.
    fn sign(&mut self, receipt: &JobReceipt) -> [u8; 64];
}

/// What an executor goes by. All times are in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// What it offers.
    pub sheet: Sheet,
    /// When an unanswered message is sent again.
    pub resend_ms: u64,
    /// The longest pause between receipts that are not answered.
    pub resend_ms_max: u64,
    /// How long room is kept for a lease that was asked for.
    pub want_ms: u64,
    /// The newest version of messages that is spoken.
    pub speaks: u8,
    /// The most runs at once, whatever they need.
    pub runs_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            sheet: Sheet::default(),
            resend_ms: 5_000,
            resend_ms_max: 300_000,
            want_ms: 60_000,
            speaks: VERSION,
            runs_max: 10_000,
        }
    }
}

/// What happens to an executor.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A message from a node, authenticated as that node's.
    Peer {
        /// Who.
        from: NodeId,
        /// The newest version that it speaks.
        speaks: u8,
        /// What it says.
        message: Message,
    },
    /// A run has ended.
    Exited(RunId, Exit),
    /// A run has written a checkpoint.
    Checkpoint(RunId, Digest),
    /// What became of a run of an earlier process.
    Probed(RunId, Probed),
    /// The operator wants a run to end.
    Evict(RunId),
    /// The factory's own terms have changed.
    TermsChanged,
    /// Time has passed.
    Tick,
}

/// How a process ended, as whoever ran it saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// Its code; none where it was killed.
    pub code: Option<i32>,
    /// Whether it ever started.
    pub started: bool,
    /// How long it ran, in milliseconds.
    pub ran_ms: u64,
    /// When it ended, in this machine's monotonic milliseconds.
    pub ended_ms: u64,
}

/// What was found of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probed {
    /// It runs.
    Alive,
    /// It has ended, in this start of the machine.
    Exited(Exit),
    /// Nothing is known of it, and it does not run.
    Gone,
}

/// An executor.
#[derive(Debug)]
pub struct Executor {
    me: NodeId,
    settings: Settings,
    machine: [u8; 8],
    nonces: Nonces,
    runs: BTreeMap<RunId, Run>,
    speaks: BTreeMap<NodeId, u8>,
    /// Homes that were told that there is no room.
    turned_away: BTreeSet<NodeId>,
    timers: BTreeSet<(u64, RunId)>,
    rows: Vec<Row>,
    effects: Vec<Effect>,
    sends: Vec<Effect>,
}

#[derive(Debug)]
struct Run {
    order: Arc<Order>,
    price_microeur_per_hour: u64,
    resume: Option<Digest>,
    phase: Phase,
    /// Requests that were not answered yet, with the moment of each; the newest last.
    asks: Vec<(Nonce, u64)>,
    wake_ms: Option<u64>,
    row: Option<RunRow>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Room is kept until then.
    Wanting {
        give_up_ms: u64,
    },
    Running,
    Ending(EndWhy),
    /// Being looked for after a crash.
    Lost,
    /// Receipted; how often the receipt was sent.
    Done {
        sent: u32,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EndWhy {
    Stopped,
    TimedOut,
    Evicted,
    LeaseEnded,
}

/// The most requests of a run that may be unanswered; older ones are forgotten.
const ASKS_MAX: usize = 4;

impl Executor {
    /// An executor as its rows leave it, in a process that drew `boot` at random when it started, on a machine whose start
    /// is named `machine`. The effects come first.
    pub fn boot(
        me: NodeId,
        settings: Settings,
        rows: impl IntoIterator<Item = Row>,
        (boot, machine): ([u8; 8], [u8; 8]),
    ) -> (Self, Vec<Effect>) {
        let mut executor = Self {
            me,
            settings,
            machine,
            nonces: Nonces::new(boot),
            runs: BTreeMap::new(),
            speaks: BTreeMap::new(),
            turned_away: BTreeSet::new(),
            timers: BTreeSet::new(),
            rows: Vec::new(),
            effects: Vec::new(),
            sends: Vec::new(),
        };
        for row in rows {
            match row {
                Row::Run(id, row) => drop(executor.runs.insert(id, Run::of_row(*row))),
                Row::RunOver(id) => drop(executor.runs.remove(&id)),
                _ => {}
            }
        }
        let ids: Vec<RunId> = executor.runs.keys().cloned().collect();
        for id in ids {
            match executor.runs.get(&id).map(|run| run.phase) {
                Some(Phase::Lost) => executor.effects.push(Effect::Probe(id)),
                Some(Phase::Done { .. }) if executor.runs.get(&id).is_some_and(Run::is_open) => executor.wake(&id, 0),
                _ => {}
            }
        }
        let effects = executor.finish();
        (executor, effects)
    }

    /// When to step without an event, in monotonic milliseconds.
    pub fn deadline(&self) -> Option<u64> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// One step. The effects are carried out in their order.
    pub fn step(&mut self, now: Now, event: Event, outlook: &mut dyn Outlook) -> Vec<Effect> {
        let before = self.free();
        match event {
            Event::Peer { from, speaks, message } => self.hear(now, from, speaks, message, outlook),
            Event::Exited(run, exit) => self.exited(now, &run, &exit, outlook),
            Event::Checkpoint(run, digest) => self.checkpoint(&run, digest),
            Event::Probed(run, probed) => self.probed(now, &run, probed, outlook),
            Event::Evict(run) => self.end(&run, EndWhy::Evicted),
            Event::TermsChanged => self.reconsider(outlook),
            Event::Tick => {}
        }
        while let Some((at, id)) = self.timers.first().cloned().filter(|(at, _)| *at <= now.mono_ms) {
            self.timers.remove(&(at, id.clone()));
            if let Some(run) = self.runs.get_mut(&id) {
                run.wake_ms = None;
                self.due(now, &id, outlook);
            }
        }
        let free = self.free();
        if !before.holds(&free) {
            for home in std::mem::take(&mut self.turned_away) {
                self.send(&home, Message::Free(Room { free }));
            }
        }
        self.finish()
    }

    fn hear(&mut self, now: Now, from: NodeId, speaks: u8, message: Message, outlook: &mut dyn Outlook) {
        if speaks < VERSION_MIN {
            return;
        }
        self.speaks.insert(from.clone(), speaks.min(VERSION));
        let Some(message) = message.written_in(self.settings.speaks) else { return };
        let run = |job: JobId, epoch: Epoch| RunId { home: from.clone(), job, epoch };
        match message {
            Message::Offer { job, epoch, order, price_microeur_per_hour, resume } => {
                self.offered(now, run(job, epoch), (order, price_microeur_per_hour, resume), outlook);
            }
            Message::Withdraw { job, epoch } => self.withdrawn(&run(job, epoch)),
            Message::Grant { job, epoch, nonce, lease_ms } => {
                self.granted(now, &run(job, epoch), nonce, lease_ms, outlook);
            }
            Message::Void { job, epoch, nonce } => self.voided(&run(job, epoch), nonce),
            Message::Stop { job, epoch, .. } => self.told_to_stop(&run(job, epoch)),
            Message::Receipted { job, epoch, verdict } => self.receipted(&run(job, epoch), verdict),
            // What only a factory or an accountant says.
            Message::Want { .. }
            | Message::Decline { .. }
            | Message::Renew { .. }
            | Message::Done { .. }
            | Message::Free(_)
            | Message::SliceAsk { .. }
            | Message::SliceGiven { .. } => {}
        }
    }

    /// What is left for further runs. Room that is kept counts as taken.
    pub fn free(&self) -> Resources {
        let held = self.runs.values().filter(|run| !matches!(run.phase, Phase::Done { .. }));
        let used = held.fold(Resources::default(), |sum, run| sum.and(&run.order.spec.resources.amounts()));
        self.settings.sheet.whole.less(&used).unwrap_or_default()
    }

    fn room(&self) -> Room {
        Room { free: self.free() }
    }

    /// What this step wrote; then what it starts and ends, then what it sends.
    fn finish(&mut self) -> Vec<Effect> {
        let rows = std::mem::take(&mut self.rows);
        let mut effects = Vec::with_capacity(1 + self.effects.len() + self.sends.len());
        if !rows.is_empty() {
            effects.push(Effect::Record(rows));
        }
        effects.append(&mut self.effects);
        effects.append(&mut self.sends);
        effects
    }

    fn send(&mut self, to: &NodeId, message: Message) {
        let theirs = self.speaks.get(to).copied().unwrap_or(VERSION_MIN);
        if let Some(message) = message.written_in(theirs.min(self.settings.speaks)) {
            self.sends.push(Effect::Send(to.clone(), message));
        }
    }

    fn decline(&mut self, id: &RunId, nonce: Option<Nonce>, why: DeclineWhy) {
        if why == DeclineWhy::NoRoom {
            self.turned_away.insert(id.home.clone());
        }
        let room = self.room();
        self.send(&id.home, Message::Decline { job: id.job, epoch: id.epoch, nonce, why, room });
    }

    /// Sets a run's one timer.
    fn wake(&mut self, id: &RunId, at_ms: u64) {
        let Some(run) = self.runs.get_mut(id) else { return };
        if let Some(before) = run.wake_ms.replace(at_ms) {
            self.timers.remove(&(before, id.clone()));
        }
        self.timers.insert((at_ms, id.clone()));
    }

    fn forget(&mut self, id: &RunId) {
        if let Some(at) = self.runs.remove(id).and_then(|run| run.wake_ms) {
            self.timers.remove(&(at, id.clone()));
        }
    }

    /// Writes a run's row down.
    fn save(&mut self, id: &RunId) {
        let row = self.runs.get(id).and_then(|run| run.row.clone());
        self.rows.extend(row.map(|row| Row::Run(id.clone(), Box::new(row))));
    }

    /// Everything that must outlive a crash, as it is now.
    pub fn durable(&self) -> Vec<Row> {
        let rows = self.runs.iter().filter_map(|(id, run)| Some((id, run.row.clone()?)));
        rows.map(|(id, row)| Row::Run(id.clone(), Box::new(row))).collect()
    }

    /// Every run that is kept room for, runs, or waits for its home's word.
    pub fn runs(&self) -> impl Iterator<Item = &RunId> {
        self.runs.keys()
    }
}

impl Run {
    fn of_row(row: RunRow) -> Self {
        let phase = if row.receipt.is_some() { Phase::Done { sent: 0 } } else { Phase::Lost };
        Self {
            order: Arc::clone(&row.order),
            price_microeur_per_hour: row.price_microeur_per_hour,
            resume: None,
            phase,
            asks: Vec::new(),
            wake_ms: None,
            row: Some(row),
        }
    }

    /// Whether its receipt still waits for an answer.
    fn is_open(&self) -> bool {
        self.row.as_ref().is_some_and(|row| row.verdict.is_none())
    }
}

#[cfg(test)]
mod tests;
