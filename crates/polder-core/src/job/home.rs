//! A home's side: jobs, their epochs, their money.
//!
//! A job waits, is offered to the factory that `decide` chose, is leased when that factory asks, and is over when a signed
//! receipt of the newest lease arrives. An epoch is written down before it is offered, a lease before it is granted, money
//! before anybody hears of it. A lease that is not renewed ends by the home's own clock, a margin for both clocks' drift later
//! than by the factory's; only then may the job run elsewhere. After a crash every lease is taken to begin anew, so no
//! clock needs to be remembered.
//!
//! Every placement is a decision of the whole policy, and so is every renewal. What is not durable is only what may be lost:
//! news of room, who failed of late, timers. Absent: clocks, storage, sending; see the parent module for how effects are
//! carried out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::message::{Message, Room, VERSION, VERSION_MIN};
use super::queue::Why;
use super::receipt::JobReceipt;
use super::row::v1::{JobRow, Row, SliceRow, State, SubmissionRow};
use super::spec::Resources;
use super::{Effect, JobId, Nonce, Nonces, Now, Order};
use crate::breaker::{self, Breaker};
use crate::canonical::Digest;
use crate::ids::{NodeId, TenantId};
use crate::keys::Signed;
use crate::ledger::books::{Books, BooksError};
use crate::placement::Outcome;
use crate::policy::Cause;
use crate::request::Request;

mod event;
mod leases;
mod money;
mod places;
mod receipts;
mod settings;
mod submit;

pub use event::{Answer, Event};
pub use places::{JOB_TOO_DEAR, JOB_UNFIT};
pub use settings::{Settings, Sheet};
pub use submit::Submission;

/// What a home asks of its node while it steps.
pub trait Outlook {
    /// Decides where a request may run now, by every policy; `excluded` says who cannot take it, and why.
    fn decide(&mut self, request: &Request, excluded: &BTreeMap<NodeId, Vec<Cause>>) -> Choice;
    /// Whether every policy permits a request at a factory now, whatever its load.
    fn permits(&mut self, request: &Request, factory: &NodeId) -> bool;
    /// Whether the factory that a receipt names signed it.
    fn is_signed(&mut self, receipt: &Signed<JobReceipt>) -> bool;
}

/// What `decide` said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// What became of the request.
    pub outcome: Outcome,
    /// The chosen factory.
    pub factory: Option<NodeId>,
}

/// A home.
#[derive(Debug)]
pub struct Home {
    me: NodeId,
    settings: Settings,
    nonces: Nonces,
    jobs: BTreeMap<JobId, Job>,
    submissions: BTreeMap<(TenantId, String), SubmissionRow>,
    slices: BTreeMap<Nonce, SliceRow>,
    books: Books,
    serial: u64,
    sites: BTreeMap<NodeId, Site>,
    /// Jobs that must end first, and who waits for them.
    dependents: BTreeMap<JobId, Vec<JobId>>,
    timers: BTreeSet<(u64, JobId)>,
    slices_at: Option<u64>,
    pass_at: Option<u64>,
    /// Whether nothing was held against the policies yet since the start.
    fresh: bool,
    /// What this step has to write, and what may be sent after that.
    dirty: BTreeSet<JobId>,
    rows: Vec<Row>,
    sends: Vec<Effect>,
}

/// A job with what is known of it besides its row.
#[derive(Debug)]
struct Job {
    row: JobRow,
    live: Live,
}

/// What may be lost.
#[derive(Debug)]
struct Live {
    wake_ms: Option<u64>,
    /// Since when it stands where it stands.
    since_ms: u64,
    /// Since when it waits for its first or next run.
    waits_ms: u64,
    /// When the lease was first granted, if it was in this process.
    granted_ms: Option<u64>,
    /// Since when this process knows the lease to be in use.
    used_ms: Option<u64>,
    /// When the lease has ended for certain.
    until_ms: u64,
    /// The request that the last grant answered, if it was granted in this process.
    nonce: Option<Nonce>,
    shunned: BTreeMap<NodeId, u64>,
    pass: Option<breaker::Pass>,
    why: Why,
}

/// What is known of a factory.
#[derive(Debug, Default)]
struct Site {
    sheet: Option<Sheet>,
    speaks: u8,
    free: Resources,
    news_ms: u64,
    breaker: Breaker,
}

impl Home {
    /// A home as its rows leave it, in a process that drew `boot` at random when it started. What follows must be done
    /// before anything else.
    pub fn boot(
        me: NodeId,
        settings: Settings,
        rows: impl IntoIterator<Item = Row>,
        boot: [u8; 8],
        now: Now,
    ) -> Result<Self, BooksError> {
        let mut home = Self {
            me,
            settings,
            nonces: Nonces::new(boot),
            jobs: BTreeMap::new(),
            submissions: BTreeMap::new(),
            slices: BTreeMap::new(),
            books: Books::default(),
            serial: 0,
            sites: BTreeMap::new(),
            dependents: BTreeMap::new(),
            timers: BTreeSet::new(),
            slices_at: None,
            pass_at: Some(now.mono_ms),
            fresh: true,
            dirty: BTreeSet::new(),
            rows: Vec::new(),
            sends: Vec::new(),
        };
        let mut entries = Vec::new();
        for row in rows {
            match row {
                Row::Job(id, row) => drop(home.jobs.insert(id, Job { row: *row, live: Live::new(now.mono_ms) })),
                Row::Submission(row) => drop(home.submissions.insert((row.tenant.clone(), row.key.clone()), row)),
                Row::Entry(entry) => entries.push(entry),
                Row::Slice(ask, row) => drop(home.slices.insert(ask, row)),
                Row::Run(..) | Row::RunOver(_) => {}
            }
        }
        home.books = Books::load(entries)?;
        home.resume(now);
        Ok(home)
    }

    /// Sets the timers of a process that has just started.
    fn resume(&mut self, now: Now) {
        let ids: Vec<JobId> = self.jobs.keys().copied().collect();
        for id in ids {
            let Some(job) = self.jobs.get(&id) else { continue };
            self.serial = self.serial.max(job.row.serial);
            let over = matches!(job.row.state, State::Over(_));
            for before in job.row.after.iter().filter(|_| !over) {
                self.dependents.entry(*before).or_default().push(id);
            }
            let lease_ms = job.row.leased.as_ref().map_or(0, |lease| lease.lease_ms);
            match job.row.state {
                State::Offered { .. } => self.wake(id, now.mono_ms),
                State::Leased | State::Stopping { .. } => {
                    // Nobody knows how much of the lease is left, so all of it is.
                    let until_ms = now.mono_ms.saturating_add(self.settings.until_certain_ms(lease_ms));
                    if let Some(job) = self.jobs.get_mut(&id) {
                        job.live.until_ms = until_ms;
                    }
                    let stopping = self.jobs.get(&id).is_some_and(|job| job.row.state != State::Leased);
                    self.wake(id, if stopping { now.mono_ms } else { until_ms });
                }
                State::Waiting | State::Held | State::Over(_) => {}
            }
        }
        if self.slices.values().any(|slice| slice.given_microeur.is_none()) {
            self.slices_at = Some(now.mono_ms);
        }
    }

    /// When to step without an event, in monotonic milliseconds.
    pub fn deadline(&self) -> Option<u64> {
        let timer = self.timers.first().map(|(at, _)| *at);
        [timer, self.slices_at, self.pass_at].into_iter().flatten().min()
    }

    /// One step. The effects are carried out in their order.
    pub fn step(&mut self, now: Now, event: Event, outlook: &mut dyn Outlook) -> Vec<Effect> {
        // A policy may have changed while nobody was there to hear of it.
        if std::mem::take(&mut self.fresh) {
            self.reconsider(now, outlook);
        }
        match event {
            Event::Submit(submission) => self.submit(now, *submission, outlook),
            Event::Cancel { call, job } => self.cancel(now, call, job),
            Event::Rerun { call, job } => self.rerun(now, call, job),
            Event::Resolve { call, job, epoch, microeur } => self.resolve(call, job, epoch, microeur),
            Event::Move { call, entry } => self.move_money(call, entry),
            Event::AskSlice { call, award, accountant, microeur } => {
                self.ask_slice(now, call, award, accountant, microeur);
            }
            Event::Sheet(factory, sheet) => self.learn(now, factory, sheet),
            Event::PolicyChanged => self.reconsider(now, outlook),
            Event::Peer { from, speaks, message } => self.hear(now, &from, speaks, message, outlook),
            Event::Tick => {}
        }
        self.wake_up(now);
        if self.pass_at.is_some_and(|at| at <= now.mono_ms) {
            self.pass(now, outlook);
        }
        self.finish()
    }

    fn hear(&mut self, now: Now, from: &NodeId, speaks: u8, message: Message, outlook: &mut dyn Outlook) {
        if speaks < VERSION_MIN {
            return;
        }
        self.sites.entry(from.clone()).or_default().speaks = speaks.min(VERSION);
        // Whoever speaks the older version has no eyes for what is newer.
        let Some(message) = message.written_in(self.settings.speaks) else { return };
        match message {
            Message::Want { job, epoch, nonce, room } => {
                self.news(now, from, room);
                self.want(now, from, (job, epoch, nonce), outlook);
            }
            Message::Renew { job, epoch, nonce, checkpoint } => {
                self.renew(now, from, (job, epoch, nonce), checkpoint, outlook);
            }
            Message::Decline { job, epoch, nonce, why, room } => {
                self.news(now, from, room);
                self.declined(now, from, (job, epoch, nonce), why);
            }
            Message::Done { receipt, room } => {
                self.news(now, from, room);
                self.receive(now, from, receipt, outlook);
            }
            Message::Free(room) => self.news(now, from, room),
            Message::SliceAsk { award, ask, microeur } => self.give_slice(from, award, ask, microeur),
            Message::SliceGiven { award, ask, microeur } => self.take_slice(now, from, &award, ask, microeur),
            // What only a home says.
            Message::Offer { .. }
            | Message::Withdraw { .. }
            | Message::Grant { .. }
            | Message::Void { .. }
            | Message::Stop { .. }
            | Message::Receipted { .. } => {}
        }
    }

    /// Whatever is due.
    fn wake_up(&mut self, now: Now) {
        while let Some((at, id)) = self.timers.first().copied().filter(|(at, _)| *at <= now.mono_ms) {
            self.timers.remove(&(at, id));
            let Some(job) = self.jobs.get_mut(&id) else { continue };
            job.live.wake_ms = None;
            match job.row.state {
                State::Offered { .. } => self.offer_due(now, id),
                State::Leased => self.lease_due(now, id),
                State::Stopping { .. } => self.stop_due(now, id),
                State::Waiting | State::Held | State::Over(_) => {}
            }
        }
        if self.slices_at.is_some_and(|at| at <= now.mono_ms) {
            self.send_asks(now);
        }
    }

    /// What this step wrote, then what it sends.
    fn finish(&mut self) -> Vec<Effect> {
        let mut rows = std::mem::take(&mut self.rows);
        for id in std::mem::take(&mut self.dirty) {
            rows.extend(self.jobs.get(&id).map(|job| Row::Job(id, Box::new(job.row.clone()))));
        }
        let mut effects = Vec::with_capacity(1 + self.sends.len());
        if !rows.is_empty() {
            effects.push(Effect::Record(rows));
        }
        effects.append(&mut self.sends);
        effects
    }

    fn send(&mut self, to: &NodeId, message: Message) {
        let theirs = self.sites.get(to).map_or(VERSION_MIN, |site| site.speaks.max(VERSION_MIN));
        if let Some(message) = message.written_in(theirs.min(self.settings.speaks)) {
            self.sends.push(Effect::Send(to.clone(), message));
        }
    }

    fn reply(&mut self, call: u64, answer: Answer) {
        self.sends.push(Effect::Reply(call, answer));
    }

    /// Sets a job's one timer.
    fn wake(&mut self, id: JobId, at_ms: u64) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        if let Some(before) = job.live.wake_ms.replace(at_ms) {
            self.timers.remove(&(before, id));
        }
        self.timers.insert((at_ms, id));
    }

    /// Puts a job somewhere else, to be written down by this step.
    fn put(&mut self, now: Now, id: JobId, state: State) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        if let Some(before) = job.live.wake_ms.take() {
            self.timers.remove(&(before, id));
        }
        job.live.since_ms = now.mono_ms;
        job.live.why = match state {
            State::Offered { .. } => Why::Asked,
            State::Held => Why::Held,
            _ => Why::Next,
        };
        let waits = state == State::Waiting;
        job.row.state = state;
        self.dirty.insert(id);
        if waits {
            self.pass_at = Some(now.mono_ms);
        }
    }

    /// Whose home it is.
    pub fn me(&self) -> &NodeId {
        &self.me
    }

    /// A job's row.
    pub fn job(&self, id: JobId) -> Option<&JobRow> {
        self.jobs.get(&id).map(|job| &job.row)
    }

    /// Every job's row, by its id.
    pub fn jobs(&self) -> impl Iterator<Item = (JobId, &JobRow)> {
        self.jobs.iter().map(|(id, job)| (*id, &job.row))
    }

    /// Why a job waits; none where it runs or is over.
    pub fn why(&self, id: JobId) -> Option<Why> {
        let job = self.jobs.get(&id)?;
        match job.row.state {
            State::Leased | State::Stopping { .. } | State::Over(_) => None,
            State::Waiting => {
                let left = self.unmet(&job.row);
                Some(if left.is_empty() { job.live.why.clone() } else { Why::After(left) })
            }
            State::Offered { .. } | State::Held => Some(job.live.why.clone()),
        }
    }

    /// The books.
    pub fn books(&self) -> &Books {
        &self.books
    }

    /// Everything that must outlive a crash, as it is now; whoever tests compares it with what was written.
    pub fn durable(&self) -> Vec<Row> {
        let jobs = self.jobs.iter().map(|(id, job)| Row::Job(*id, Box::new(job.row.clone())));
        let submissions = self.submissions.values().cloned().map(Row::Submission);
        let slices = self.slices.iter().map(|(ask, row)| Row::Slice(*ask, row.clone()));
        jobs.chain(submissions).chain(slices).chain(self.books.entries().cloned().map(Row::Entry)).collect()
    }

    fn unmet(&self, row: &JobRow) -> Vec<JobId> {
        let succeeded = |id: &JobId| {
            let state = self.jobs.get(id).map(|job| &job.row.state);
            matches!(state, Some(State::Over(super::row::v1::End::Succeeded(_))))
        };
        row.after.iter().filter(|id| !succeeded(id)).copied().collect()
    }
}

impl Live {
    fn new(now_ms: u64) -> Self {
        Self {
            wake_ms: None,
            since_ms: now_ms,
            waits_ms: now_ms,
            granted_ms: None,
            used_ms: None,
            until_ms: 0,
            nonce: None,
            shunned: BTreeMap::new(),
            pass: None,
            why: Why::Next,
        }
    }
}

/// A new job's row.
fn new_row(order: Arc<Order>, digest: Digest, after: BTreeSet<JobId>, serial: u64, now: Now) -> JobRow {
    JobRow {
        order,
        digest,
        after,
        submitted_ms: now.wall_ms,
        serial,
        epoch: 0,
        state: State::Waiting,
        leased: None,
        leases: BTreeMap::new(),
        failures: 0,
        lapses: 0,
        receipts: BTreeMap::new(),
        checkpoint: None,
    }
}

/// News of room from a factory.
impl Home {
    fn news(&mut self, now: Now, from: &NodeId, room: Room) {
        let Some(site) = self.sites.get_mut(from) else { return };
        let more = !site.free.holds(&room.free);
        (site.free, site.news_ms) = (room.free, now.mono_ms);
        if more && self.pass_at.is_some() {
            self.pass_at = Some(now.mono_ms);
        }
    }

    fn learn(&mut self, now: Now, factory: NodeId, sheet: Sheet) {
        let site = self.sites.entry(factory).or_default();
        if site.sheet.is_none() {
            (site.free, site.news_ms) = (sheet.whole, now.mono_ms);
        }
        site.sheet = Some(sheet);
        self.pass_at = Some(now.mono_ms);
    }
}

#[cfg(test)]
mod tests;
