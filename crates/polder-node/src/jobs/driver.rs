//! The driver: it steps a node's machines, in one task, and hands what they want done to the carrier.
//!
//! Where the node is home and factory, what the two machines say to each other is part of one step: nobody outside can see it, and
//! what the outside may see waits for all the rows of that step. So a job that runs where it was submitted costs one write from its
//! submission to its start. When a write fails, everything here is thrown away and made again from the rows. Absent: writing and
//! sending, which are the carrier's.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use polder_core::ids::NodeId;
use polder_core::job::home::{self, Answer, Sheet};
use polder_core::job::message::{DeclineWhy, Room, VERSION};
use polder_core::job::row::v1::Row;
use polder_core::job::{Effect, Message, Now, Order, RunId, executor};
use tokio::sync::{mpsc, oneshot};

use super::carrier::{Act, Side, carry};
use super::channel::Parcel;
use super::outlook::{Chosen, FactoryOutlook, HomeOutlook};
use super::{Answered, Input, Machines, Parts, statements};
use crate::clock::{boot_ms, now_ms, random};
use crate::executor::Start;
use crate::home::Ticketed;
use crate::store::{JobWrite, StoreError, TicketRow, ticket_name};

/// Inputs that are stepped before what came of them is handed on.
const INPUTS_AT_ONCE: usize = 256;
/// Lists of acts that may wait for the disk.
const ACTS_WAITING: usize = 64;
/// Longest sleep: timers do not go on while the machine sleeps, leases do.
const SLEEP_MAX: Duration = Duration::from_secs(1);
/// Pause after a write that failed.
const PAUSE: Duration = Duration::from_millis(500);
/// Tickets of offers that came to nothing, past which they are looked through.
const TAKEN_MAX: usize = 20_000;
/// How long a home that starts waits to hear of the factories where its jobs run: until then nothing is known to permit them.
const HEAR_MAX: Duration = Duration::from_secs(3);

/// A call that waits for its answer, with the orders that a submission asked for.
type Call = (oneshot::Sender<Answered>, Vec<Arc<Order>>);

/// The driver.
pub(super) struct Driver {
    pub parts: Arc<Parts>,
    pub inputs: mpsc::Receiver<Input>,
    /// What factories offer: a machine that is made again has to be told.
    pub sheets: BTreeMap<NodeId, Sheet>,
}

/// The machines, and what belongs to them: all of it goes when a write fails.
struct Minds {
    parts: Arc<Parts>,
    home: Option<home::Home>,
    factory: Option<executor::Executor>,
    calls: BTreeMap<u64, Call>,
    called: u64,
    /// Which decision placed which run of this home.
    tickets: BTreeMap<RunId, Ticketed>,
    /// The tickets that came with offers to this factory.
    taken: BTreeMap<RunId, Ticketed>,
    chosen: Vec<Chosen>,
    out: Vec<Act>,
}

/// How a life of the machines ended.
enum End {
    Stopped(Option<oneshot::Sender<()>>),
    Broken,
}

impl Driver {
    /// Runs until the node stops.
    pub(super) async fn run(mut self) {
        loop {
            match self.live().await {
                Ok(End::Stopped(told)) => {
                    // Whoever waits for the end may have gone.
                    let _ = told.map(|told| told.send(()));
                    return;
                }
                Ok(End::Broken) => {
                    tracing::error!("rows of jobs could not be written: begun anew from those that were")
                }
                Err(error) => tracing::error!(%error, "rows of jobs cannot be read"),
            }
            self.pause().await;
        }
    }

    /// Turns away what comes while nothing can be written: whoever called hears at once.
    async fn pause(&mut self) {
        let over = tokio::time::Instant::now() + PAUSE;
        while let Ok(Some(input)) = tokio::time::timeout_at(over, self.inputs.recv()).await {
            if let Input::Home(event) = input {
                self.remember(&event);
            }
        }
    }

    fn remember(&mut self, event: &home::Event) {
        if let home::Event::Sheet(factory, sheet) = event {
            self.sheets.insert(factory.clone(), sheet.clone());
        }
    }

    /// One life of the machines, from their rows to a failed write or the end.
    async fn live(&mut self) -> Result<End, StoreError> {
        let mut minds = Minds::boot(&self.parts).await?;
        for (factory, sheet) in self.sheets.clone() {
            minds.home_step(home::Event::Sheet(factory, sheet));
        }
        let (acts, waiting) = mpsc::channel(ACTS_WAITING);
        let mut carrier = tokio::spawn(carry(Arc::clone(&self.parts), waiting));
        let end = loop {
            minds.tick();
            let out = std::mem::take(&mut minds.out);
            if !out.is_empty() && acts.send(out).await.is_err() {
                break End::Broken;
            }
            let first = tokio::select! {
                biased;
                _ = &mut carrier => break End::Broken,
                input = self.inputs.recv() => match input {
                    Some(input) => input,
                    None => break End::Stopped(None),
                },
                () = tokio::time::sleep(minds.sleep()) => continue,
            };
            if let Some(end) = self.take(&mut minds, first) {
                break end;
            }
        };
        drop(acts);
        if matches!(end, End::Stopped(_)) {
            // What waits is carried out first.
            drop(carrier.await);
        }
        Ok(end)
    }

    /// Steps what has come, up to a limit.
    fn take(&mut self, minds: &mut Minds, first: Input) -> Option<End> {
        let mut next = Some(first);
        for _ in 0..INPUTS_AT_ONCE {
            match next {
                Some(Input::Stop(told)) => return Some(End::Stopped(Some(told))),
                Some(input) => {
                    if let Input::Home(event) = &input {
                        self.remember(event);
                    }
                    minds.take(input);
                }
                None => break,
            }
            next = self.inputs.try_recv().ok();
        }
        if let Some(input) = next {
            minds.take(input);
        }
        None
    }
}

impl Minds {
    async fn boot(parts: &Arc<Parts>) -> Result<Self, StoreError> {
        let (rows, tickets) = (parts.store.job_rows().await?, parts.store.job_tickets().await?);
        let now = now();
        let boot = random().map_err(StoreError::unusable)?;
        let mut minds = Self {
            parts: Arc::clone(parts),
            home: None,
            factory: None,
            calls: BTreeMap::new(),
            called: 0,
            tickets: statements::tickets(&tickets, true),
            taken: statements::tickets(&tickets, false),
            chosen: Vec::new(),
            out: Vec::new(),
        };
        if let Some(home) = &parts.home {
            let (me, settings) = (parts.me.clone(), parts.home_settings);
            let booted = home::Home::boot(me, settings, rows.iter().cloned(), boot, now);
            let booted = booted.map_err(StoreError::unusable)?;
            statements::wait_to_hear(home, &booted, HEAR_MAX).await;
            minds.home = Some(booted);
        }
        if let Some((settings, _)) = parts.executor_settings.clone().zip(parts.factory.as_ref()) {
            let boot = random().map_err(StoreError::unusable)?;
            let machine = crate::clock::machine();
            let (booted, effects) = executor::Executor::boot(parts.me.clone(), settings, rows, (boot, machine));
            minds.factory = Some(booted);
            minds.absorb(Side::Factory, effects);
        }
        Ok(minds)
    }

    /// How long nothing is due.
    fn sleep(&self) -> Duration {
        let home = self.home.as_ref().and_then(home::Home::deadline);
        let factory = self.factory.as_ref().and_then(executor::Executor::deadline);
        let due = [home, factory].into_iter().flatten().min();
        due.map_or(SLEEP_MAX, |due| Duration::from_millis(due.saturating_sub(boot_ms())).min(SLEEP_MAX))
    }

    /// Does what is due.
    fn tick(&mut self) {
        let now_ms = boot_ms();
        if self.home.as_ref().and_then(home::Home::deadline).is_some_and(|at| at <= now_ms) {
            self.home_step(home::Event::Tick);
        }
        if self.factory.as_ref().and_then(executor::Executor::deadline).is_some_and(|at| at <= now_ms) {
            self.factory_step(executor::Event::Tick);
        }
    }

    fn take(&mut self, input: Input) {
        match input {
            Input::Home(event) => self.home_step(*event),
            Input::Call(event, sender) => {
                self.called = self.called.wrapping_add(1);
                let event = event(self.called);
                let orders = match &event {
                    home::Event::Submit(one) => one.jobs.iter().map(|(_, order, _)| Arc::clone(order)).collect(),
                    _ => Vec::new(),
                };
                self.calls.insert(self.called, (sender, orders));
                self.home_step(event);
            }
            Input::Factory(event) => self.factory_step(*event),
            Input::Peer(from, speaks, message, ticketed) => self.hear(from, speaks, *message, ticketed.map(|one| *one)),
            Input::Look(look) => {
                let (home, factory) = (self.home.as_ref(), self.factory.as_ref());
                let seen = look(Machines { home, factory, tickets: &self.tickets, now: now() });
                self.out.push(Act::Tell(seen));
            }
            Input::Stop(told) => {
                let _ = told.send(());
            }
        }
    }

    /// A message from a peer. An offer without the right to make it is declined.
    fn hear(&mut self, from: NodeId, speaks: u8, message: Message, ticketed: Option<Ticketed>) {
        if !for_factory(&message) {
            return self.home_step(home::Event::Peer { from, speaks, message });
        }
        if let (Message::Offer { job, epoch, order, .. }, Some(factory)) = (&message, &self.factory) {
            let run = RunId { home: from.clone(), job: *job, epoch: *epoch };
            match ticketed.filter(|one| self.parts.may_offer(one, order, &from)) {
                Some(ticketed) => self.keep_taken(run, ticketed),
                None => {
                    let room = Room { free: factory.free() };
                    let (job, epoch, why) = (*job, *epoch, DeclineWhy::Terms);
                    let decline = Message::Decline { job, epoch, nonce: None, why, room };
                    crate::metrics::job_refused("ticket");
                    return self.send(Side::Factory, from, decline);
                }
            }
        }
        self.factory_step(executor::Event::Peer { from, speaks, message });
    }

    fn keep_taken(&mut self, run: RunId, ticketed: Ticketed) {
        if self.taken.len() >= TAKEN_MAX
            && let Some(factory) = &self.factory
        {
            let live: std::collections::BTreeSet<&RunId> = factory.runs().collect();
            self.taken.retain(|run, _| live.contains(run));
        }
        self.taken.insert(run, Ticketed { capability: None, ..ticketed });
    }

    fn home_step(&mut self, event: home::Event) {
        let effects = self.home_effects(event);
        self.absorb(Side::Home, effects);
    }

    fn home_effects(&mut self, event: home::Event) -> Vec<Effect> {
        let (Some(machine), Some(home)) = (&mut self.home, &self.parts.home) else { return Vec::new() };
        machine.step(now(), event, &mut HomeOutlook { home, chosen: &mut self.chosen })
    }

    fn factory_step(&mut self, event: executor::Event) {
        let effects = self.factory_effects(event);
        self.absorb(Side::Factory, effects);
    }

    fn factory_effects(&mut self, event: executor::Event) -> Vec<Effect> {
        let (Some(machine), Some(factory)) = (&mut self.factory, &self.parts.factory) else { return Vec::new() };
        machine.step(now(), event, &mut FactoryOutlook { factory, authority: &self.parts.authority })
    }

    /// Takes in the effects of a step; what the node's other machine is told is stepped at once, behind them.
    fn absorb(&mut self, side: Side, effects: Vec<Effect>) {
        let mut queue: VecDeque<(Side, Effect)> = effects.into_iter().map(|effect| (side, effect)).collect();
        while let Some((side, effect)) = queue.pop_front() {
            match effect {
                Effect::Send(to, message) if to == self.parts.me => {
                    let (side, effects) = self.within(side, message);
                    queue.extend(effects.into_iter().map(|effect| (side, effect)));
                }
                Effect::Send(to, message) => self.send(side, to, message),
                Effect::Record(rows) => self.record(side, rows),
                Effect::Reply(call, answer) => self.reply(call, answer),
                Effect::Start { run, order, until_ms, resume } => {
                    self.keep_ticket(false, &run, None);
                    self.out.push(Act::Start(Box::new(Start { run, order, until_ms, resume })));
                }
                Effect::Extend(run, until_ms) => self.out.push(Act::Extend(run, until_ms)),
                Effect::Stop(run) => self.out.push(Act::Stop(run)),
                Effect::Probe(run) => self.out.push(Act::Probe(run)),
            }
        }
        self.chosen.clear();
    }

    /// What the node's other machine makes of a message.
    fn within(&mut self, side: Side, message: Message) -> (Side, Vec<Effect>) {
        let (from, speaks) = (self.parts.me.clone(), VERSION);
        if side == Side::Factory || !for_factory(&message) {
            return (Side::Home, self.home_effects(home::Event::Peer { from, speaks, message }));
        }
        if let Message::Offer { job, epoch, order, .. } = &message {
            let run = RunId { home: from.clone(), job: *job, epoch: *epoch };
            let Some(ticketed) = self.ticket(&run, order, &from) else { return (Side::Factory, Vec::new()) };
            self.keep_taken(run, ticketed);
        }
        (Side::Factory, self.factory_effects(executor::Event::Peer { from, speaks, message }))
    }

    fn send(&mut self, side: Side, to: NodeId, message: Message) {
        let mut ticketed = None;
        if let Message::Offer { job, epoch, order, .. } = &message {
            let run = RunId { home: self.parts.me.clone(), job: *job, epoch: *epoch };
            let Some(ticket) = self.ticket(&run, order, &to) else { return };
            let capability = self.parts.home.as_ref().and_then(|home| home.capability(&to).ok());
            ticketed = Some(Ticketed { capability, ..ticket });
        }
        self.out.push(Act::Send(side, to, Box::new(Parcel::new(message, ticketed))));
    }

    /// The ticket of an offer, made with its decision when it is offered first.
    fn ticket(&mut self, run: &RunId, order: &Order, factory: &NodeId) -> Option<Ticketed> {
        if let Some(held) = self.tickets.get(run) {
            return Some(held.clone());
        }
        let made = |one: &Chosen| one.request == order.request && one.factory.as_ref() == Some(factory);
        let place = self.chosen.iter().position(made)?;
        let chosen = self.chosen.remove(place);
        let judged = self.parts.home.as_ref()?.judge(order, &chosen.snapshot, Some(factory));
        let mut judged = judged
            .inspect_err(|error| tracing::error!(%error, "a job's placement cannot be written down: it is not offered"))
            .ok()?;
        let ticketed = judged.ticketed.take()?;
        self.tickets.insert(run.clone(), ticketed.clone());
        self.keep_ticket(true, run, None);
        self.out.push(Act::Decided(Box::new(judged)));
        Some(ticketed)
    }

    /// Has a ticket written with the rows of its step.
    fn keep_ticket(&mut self, home: bool, run: &RunId, statement: Option<Vec<u8>>) {
        let held = if home { self.tickets.get(run) } else { self.taken.get(run) };
        let Some(ticket) = held.and_then(|held| serde_json::to_vec(held).ok()) else { return };
        let row = TicketRow { run: ticket_name(home, run), ticket, statement };
        self.out.push(Act::Write(JobWrite { tickets: vec![row], ..JobWrite::default() }));
    }

    fn reply(&mut self, call: u64, answer: Answer) {
        let Some((sender, orders)) = self.calls.remove(&call) else { return };
        let Answer::Refused(place) = answer else {
            return self.out.push(Act::Reply(sender, answer));
        };
        // A submission's jobs are decided about one after the other.
        let judged = orders.get(place).zip(self.chosen.get(place)).and_then(|(order, chosen)| {
            let judged = self.parts.home.as_ref()?.judge(order, &chosen.snapshot, None);
            judged.inspect_err(|error| tracing::error!(%error, "a refusal cannot be written down")).ok()
        });
        self.out.push(Act::Refuse(sender, answer, judged.map(Box::new)));
    }

    /// Rows to write, and what the log says of those that tell of an end.
    fn record(&mut self, side: Side, rows: Vec<Row>) {
        let mut after = Vec::new();
        for row in &rows {
            match row {
                Row::Run(run, row) if row.receipt.is_some() && row.verdict.is_none() => {
                    let Some(ticketed) = self.taken.get(run) else { continue };
                    let Some(statement) = statements::executed(&self.parts, run, row, ticketed) else { continue };
                    let bytes = polder_core::statement::v1::Statement::Execution(statement.clone()).to_bytes();
                    self.keep_ticket(false, run, bytes.ok());
                    after.push(Act::Executed(Box::new(statement)));
                }
                Row::RunOver(run) => {
                    self.taken.remove(run);
                    after.push(Act::Forget(run.clone()));
                }
                Row::Job(id, row) if side == Side::Home => statements::count(*id, row),
                _ => {}
            }
        }
        self.out.push(Act::Write(JobWrite { rows, ..JobWrite::default() }));
        self.out.append(&mut after);
    }
}

/// Whether it is a factory that a message is for.
fn for_factory(message: &Message) -> bool {
    matches!(
        message,
        Message::Offer { .. }
            | Message::Withdraw { .. }
            | Message::Grant { .. }
            | Message::Void { .. }
            | Message::Stop { .. }
            | Message::Receipted { .. }
    )
}

fn now() -> Now {
    Now { mono_ms: boot_ms(), wall_ms: now_ms() }
}
