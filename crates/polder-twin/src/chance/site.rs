//! A site: one node with its machine, its disk, its clock, and the effects that wait to be carried out.
//!
//! The rules of the shell are kept here as the product must keep them: effects go in their order, none behind a record before
//! it is durable, and a record that cannot be written ends the machine. A crash may come before every single effect.

use std::collections::VecDeque;

use polder_core::breaker;
use polder_core::ids::NodeId;
use polder_core::job::row::v1::State;
use polder_core::job::spec::{Abilities, Resources};
use polder_core::job::{Effect, Executor, Home, Message, Row, executor, home};

use super::clock::Clock;
use super::dice::Dice;
use super::disk::{Disk, key};
use super::liar::Liar;
use super::plan::TROUBLE_US;
use super::process::Processes;
use super::stage::{Due, Stage};
use super::trace::What;

mod outlook;

pub use outlook::{FactoryView, HomeView, signature};

/// A site.
#[derive(Debug)]
pub struct Site {
    pub id: NodeId,
    pub kind: Kind,
    pub up: bool,
    /// Counts starts, so that what belongs to an earlier life is told apart.
    pub life: u64,
    pub clock: Clock,
    pub disk: Disk,
    pub outbox: VecDeque<Effect>,
    /// A record on its way to the disk.
    writing: Option<Vec<Row>>,
    /// Names the machine's start.
    machine: [u8; 8],
    pub speaks: u8,
    /// The version of the owner's policy, or of the factory's terms.
    pub version: usize,
    wake_us: Option<u64>,
}

/// What a site is.
#[derive(Debug)]
pub enum Kind {
    Home(Option<Box<Home>>),
    Factory(Option<Box<Executor>>, Processes),
    Liar(Box<Liar>),
}

impl Site {
    pub fn new(id: NodeId, kind: Kind, clock: Clock, disk: Disk, dice: &mut Dice) -> Self {
        Self {
            id,
            kind,
            up: false,
            life: 0,
            clock,
            disk,
            outbox: VecDeque::new(),
            writing: None,
            machine: dice.bytes(),
            speaks: 2,
            version: 0,
            wake_us: None,
        }
    }

    /// Whether it has nothing left to do.
    pub fn is_quiet(&self) -> bool {
        match &self.kind {
            Kind::Home(Some(home)) => {
                self.outbox.is_empty() && home.jobs().all(|(_, row)| matches!(row.state, State::Over(_)))
            }
            Kind::Factory(Some(executor), _) => {
                self.outbox.is_empty()
                    && executor.durable().iter().all(|row| match row {
                        Row::Run(_, row) => row.verdict.is_some(),
                        _ => true,
                    })
            }
            Kind::Liar(_) => true,
            Kind::Home(None) | Kind::Factory(None, _) => false,
        }
    }
}

impl Stage<'_> {
    /// Starts a site from what it has written.
    pub fn boot(&mut self, place: usize) {
        self.see(place, What::Booted);
        let (boot, speaks) = (self.dice.bytes(), self.plan.speaks.get(place).copied().unwrap_or(2));
        let now_us = self.now_us;
        let Some(site) = self.sites.get_mut(place) else { return };
        (site.up, site.speaks, site.wake_us) = (true, speaks, None);
        let rows = match site.disk.read() {
            Ok(rows) => rows,
            Err(error) => return self.see(place, What::Broken(error)),
        };
        let now = site.clock.now(now_us);
        let me = site.id.clone();
        let mut effects = Vec::new();
        match &mut site.kind {
            Kind::Home(home) => match Home::boot(me, home_settings(speaks), rows, boot, now) {
                Ok(started) => *home = Some(Box::new(started)),
                Err(error) => return self.see(place, What::Broken(format!("a home does not start: {error}"))),
            },
            Kind::Factory(executor, _) => {
                let settings = executor_settings(place.saturating_sub(self.plan.homes), speaks);
                let (started, first) = Executor::boot(me, settings, rows, (boot, site.machine));
                *executor = Some(Box::new(started));
                effects = first;
            }
            Kind::Liar(_) => {}
        }
        if place < self.plan.homes {
            self.introduce(place);
        }
        self.follow(place, effects);
        self.awake(place);
    }

    /// A home learns what the factories offer; the liar's word is as good as any.
    fn introduce(&mut self, place: usize) {
        for factory in 0..self.plan.factories {
            let Some(name) = self.sites.get(self.plan.homes + factory).map(|site| site.id.clone()) else { continue };
            let mut sheet = sheet(factory);
            if self.plan.liar == Some(factory) {
                sheet.whole = Resources { accelerators: 8, cores: 64, memory_mib: 0 };
                sheet.core_microeur_per_hour /= 2;
            }
            self.step_home(place, home::Event::Sheet(name, sheet));
        }
    }

    /// A message reaches a site, or nobody.
    pub fn deliver(&mut self, to: usize, from: NodeId, speaks: u8, message: Message) {
        match self.sites.get(to).filter(|site| site.up).map(|site| &site.kind) {
            Some(Kind::Home(_)) => self.step_home(to, home::Event::Peer { from, speaks, message }),
            Some(Kind::Factory(..)) => self.step_factory(to, executor::Event::Peer { from, speaks, message }),
            Some(Kind::Liar(_)) => self.tempt(to, &from, message),
            None => {}
        }
    }

    /// A site's deadline has come, or may have.
    pub fn awake(&mut self, place: usize) {
        let Some(site) = self.sites.get_mut(place) else { return };
        if site.wake_us.is_some_and(|at| at <= self.now_us) {
            site.wake_us = None;
        }
        if !site.up {
            return;
        }
        let mono_ms = site.clock.now(self.now_us).mono_ms;
        match &site.kind {
            Kind::Home(Some(home)) if home.deadline().is_some_and(|at| at <= mono_ms) => {
                self.step_home(place, home::Event::Tick);
            }
            Kind::Factory(Some(executor), _) if executor.deadline().is_some_and(|at| at <= mono_ms) => {
                self.step_factory(place, executor::Event::Tick);
            }
            Kind::Liar(_) => self.lie(place),
            _ => self.sleep(place),
        }
    }

    /// Sets the event for a site's next deadline, where none is set that comes before it.
    fn sleep(&mut self, place: usize) {
        let Some(site) = self.sites.get_mut(place) else { return };
        let deadline = match &site.kind {
            Kind::Home(home) => home.as_ref().and_then(|home| home.deadline()),
            Kind::Factory(executor, _) => executor.as_ref().and_then(|executor| executor.deadline()),
            Kind::Liar(_) => None,
        };
        let Some(at_us) = deadline.map(|at| site.clock.when(at).max(self.now_us)) else { return };
        if site.wake_us.is_none_or(|set| at_us < set) {
            site.wake_us = Some(at_us);
            self.set(at_us, Due::Wake(place));
        }
    }

    pub fn step_home(&mut self, place: usize, event: home::Event) {
        let mut broken = None;
        let Some(site) = self.sites.get_mut(place).filter(|site| site.up) else { return };
        let now = site.clock.now(self.now_us);
        let Kind::Home(Some(home)) = &mut site.kind else { return };
        let mut view = HomeView {
            realm: self.realm,
            version: site.version,
            real: self.plan.real,
            fully: self.plan.real || self.now_us.is_multiple_of(64),
            broken: &mut broken,
        };
        let effects = home.step(now, event, &mut view);
        if let Some(broken) = broken {
            self.see(place, What::Broken(broken));
        }
        self.follow(place, effects);
        self.sleep(place);
    }

    pub fn step_factory(&mut self, place: usize, event: executor::Event) {
        let mut signed = Vec::new();
        let Some(site) = self.sites.get_mut(place).filter(|site| site.up) else { return };
        let now = site.clock.now(self.now_us);
        let me = site.id.clone();
        let Kind::Factory(Some(executor), _) = &mut site.kind else { return };
        let mut view = FactoryView {
            realm: self.realm,
            me: &me,
            version: site.version,
            real: self.plan.real,
            signed: &mut signed,
        };
        let effects = executor.step(now, event, &mut view);
        for receipt in signed {
            let (job, epoch) = (receipt.job, receipt.epoch);
            let (outcome, cost_microeur) = (receipt.outcome, receipt.cost_microeur);
            self.see(place, What::Signed { job, epoch, outcome, cost_microeur });
        }
        self.follow(place, effects);
        self.sleep(place);
    }

    /// Carries effects out, until one has to wait or a crash comes between.
    pub fn pump(&mut self, place: usize) {
        loop {
            let trouble = self.now_us < TROUBLE_US;
            let Some(site) = self.sites.get_mut(place) else { return };
            if !site.up || site.writing.is_some() || site.outbox.is_empty() {
                return;
            }
            if trouble && self.plan.crash_ppm > 0 && self.dice.chance_ppm(self.plan.crash_ppm) {
                let (down_us, machine) = (self.dice.within(1_000, 3_000_000), self.dice.percent(50));
                return self.crash(place, down_us, machine);
            }
            let Some(effect) = site.outbox.pop_front() else { return };
            let Effect::Record(rows) = effect else {
                self.carry_out(place, effect);
                continue;
            };
            if site.disk.full {
                // Nothing was written, so nothing that follows may happen: the machine begins anew.
                let down_us = self.dice.within(10_000, 500_000);
                return self.crash(place, down_us, false);
            }
            let wait_us = if trouble { self.dice.within(0, self.plan.write_us_max) } else { 0 };
            if wait_us == 0 {
                self.make_durable(place, rows);
                continue;
            }
            let life = site.life;
            site.writing = Some(rows);
            self.set(self.now_us + wait_us, Due::Written(place, life));
            return;
        }
    }

    /// A write is done.
    pub fn written(&mut self, place: usize, life: u64) {
        let Some(site) = self.sites.get_mut(place).filter(|site| site.life == life) else { return };
        let Some(rows) = site.writing.take() else { return };
        self.make_durable(place, rows);
        self.pump(place);
    }

    fn make_durable(&mut self, place: usize, rows: Vec<Row>) {
        if let Some(site) = self.sites.get_mut(place) {
            site.disk.write(&rows);
        }
        self.see(place, What::Wrote(rows));
    }

    fn carry_out(&mut self, place: usize, effect: Effect) {
        match effect {
            Effect::Record(_) => {}
            Effect::Send(to, message) => {
                if let Some(to) = self.place(&to) {
                    self.send(place, to, message);
                }
            }
            Effect::Reply(call, answer) => self.answer(place, call, answer),
            Effect::Start { run, order, until_ms, resume } => self.start_process(place, run, &order, until_ms, resume),
            Effect::Extend(run, until_ms) => self.extend_process(place, &run, until_ms),
            Effect::Stop(run) => self.stop_process(place, &run),
            Effect::Probe(run) => self.probe_process(place, run),
        }
    }

    /// A site goes down, with its machine or without.
    pub fn crash(&mut self, place: usize, down_us: u64, machine: bool) {
        let Some(site) = self.sites.get_mut(place).filter(|site| site.up && !matches!(site.kind, Kind::Liar(_))) else {
            return;
        };
        site.up = false;
        site.life += 1;
        site.outbox.clear();
        let life = site.life;
        match &mut site.kind {
            Kind::Home(home) => *home = None,
            Kind::Factory(executor, _) => *executor = None,
            Kind::Liar(_) => {}
        }
        if let Some(rows) = site.writing.take()
            && site.disk.tear(&rows, &mut self.dice)
        {
            self.see(place, What::Wrote(rows));
        }
        if machine {
            self.kill_processes(place);
            let named = self.dice.bytes();
            if let Some(site) = self.sites.get_mut(place) {
                (site.machine, site.clock) = (named, site.clock.restarted(self.now_us));
            }
        }
        self.set(self.now_us + down_us.max(1), Due::Up(place, life));
    }

    /// Whether a machine holds what it wrote; asked when nothing is on its way to the disk.
    pub fn compare(&mut self, place: usize) {
        let Some(site) =
            self.sites.get(place).filter(|site| site.up && site.writing.is_none() && site.outbox.is_empty())
        else {
            return;
        };
        let held = match &site.kind {
            Kind::Home(Some(home)) => home.durable(),
            Kind::Factory(Some(executor), _) => executor.durable(),
            _ => return,
        };
        let mut held: Vec<_> = held.into_iter().filter_map(|row| Some((key(&row)?, row))).collect();
        held.sort_by(|(a, _), (b, _)| a.cmp(b));
        let same = held.iter().map(|(key, row)| (key, row)).eq(site.disk.rows());
        if !same {
            self.see(place, What::Broken("the machine holds something else than it has written".to_owned()));
        }
    }

    pub fn change_policy(&mut self, place: usize, version: usize) {
        if let Some(site) = self.sites.get_mut(place) {
            site.version = version;
        }
        self.see(place, What::Policy(version));
        self.step_home(place, home::Event::PolicyChanged);
    }

    pub fn change_terms(&mut self, place: usize, version: usize) {
        if let Some(site) = self.sites.get_mut(place) {
            site.version = version;
        }
        self.see(place, What::Terms(version));
        self.step_factory(place, executor::Event::TermsChanged);
    }

    /// An operator wants room: some run has to go.
    pub fn evict(&mut self, place: usize) {
        let Some(Kind::Factory(Some(executor), _)) = self.sites.get(place).map(|site| &site.kind) else { return };
        let runs: Vec<_> = executor.runs().cloned().collect();
        let chosen = self.dice.place(runs.len());
        if let Some(run) = runs.into_iter().nth(chosen) {
            self.step_factory(place, executor::Event::Evict(run));
        }
    }
}

/// What a factory of the simulation offers.
pub fn sheet(factory: usize) -> home::Sheet {
    let small = factory % 2 == 1;
    home::Sheet {
        whole: Resources { accelerators: if small { 1 } else { 2 }, cores: if small { 6 } else { 10 }, memory_mib: 0 },
        abilities: Abilities::default(),
        accelerator_microeur_per_hour: 7_200_000,
        core_microeur_per_hour: 3_600_000 + 360_000 * u64::try_from(factory).unwrap_or(0),
    }
}

fn home_settings(speaks: u8) -> home::Settings {
    home::Settings {
        lease_ms: 8_000,
        offer_ms: 8_000,
        resend_ms: 600,
        retry_ms: 1_000,
        shun_ms: 4_000,
        news_ms: 8_000,
        drift_ppm_max: 1_000,
        speaks,
        jobs_max: 1_000,
        queue: polder_core::job::queue::Rules { ageing_ms: 2_000, starve_ms: 15_000, ..Default::default() },
        breaker: breaker::Limits {
            failures: 3,
            forget_ms: 20_000,
            open_ms: 2_000,
            open_ms_max: 15_000,
            probe_ms: 10_000,
        },
    }
}

fn executor_settings(factory: usize, speaks: u8) -> executor::Settings {
    executor::Settings {
        sheet: sheet(factory),
        resend_ms: 600,
        resend_ms_max: 5_000,
        want_ms: 8_000,
        speaks,
        runs_max: 64,
    }
}
