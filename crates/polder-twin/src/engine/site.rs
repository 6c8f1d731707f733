//! One factory in virtual time: arrivals, ends, failures, repairs, plans and hours, in order.
//!
//! Within a window a factory knows nothing of the others, so factories run side by side and the outcome is the same however many
//! threads there are. At one instant ends come first, then what is planned, then hours, then arrivals. Absent: where work goes:
//! homes say that.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::meter::{Conditions, Figures, Flow, Meter};
use super::plan::{Change, Job, SitePlan, Use};
use super::pool::{Blocked, Pool, Power, Run};
use super::tally::Tally;
use crate::calendar::{Date, HOUR_US};
use crate::draw::Draws;

/// Streams of chance: those of demands begin at 0, those of factories here.
const STREAM_OF_SITES: u64 = 1 << 32;

/// What homes are told of a factory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Status {
    /// Units at work, in millionths of those that are there.
    pub load_ppm: u64,
    /// Units that are waited for, in millionths of those that are there.
    pub queue_ppm: u64,
    /// Whether one more can wait, for each use.
    pub open: [bool; 2],
    /// Whether the factory is there.
    pub there: bool,
}

/// A factory.
#[derive(Debug, Clone)]
pub struct Site {
    plan: std::sync::Arc<SitePlan>,
    begin: Date,
    pools: [Pool; 2],
    power: Power,
    /// What the accelerators that are there draw idle, and at full power.
    installed: (u64, u64),
    blocked: [Option<Blocked>; 2],
    meter: Meter,
    conditions: Conditions,
    hour: u64,
    changes: usize,
    there: bool,
    failures: Draws,
    next_failure_us: u64,
    repairs: BinaryHeap<Reverse<(u64, u32)>>,
    /// What was sent here in this window, in order of time; the instant at which it comes.
    arrivals: Vec<(u64, Job)>,
    /// What the factory does not take, or has lost.
    pub returned: Vec<Job>,
    /// One for each demand.
    pub tallies: Vec<Tally>,
    /// One for each month of the study.
    pub months: Vec<Figures>,
    first_month: u64,
}

fn number(used_for: Use) -> usize {
    used_for as usize
}

impl Site {
    /// A factory at the beginning of a study.
    pub fn new(plan: &std::sync::Arc<SitePlan>, number: u64, begin: Date, demands: usize, seed: u64) -> Self {
        let pool = |used_for| Pool::new(used_for, &plan.halls, plan.scheduler, plan.queue_max);
        let mut site = Self {
            plan: std::sync::Arc::clone(plan),
            begin,
            pools: [pool(Use::Batch), pool(Use::Inference)],
            power: Power::new(),
            installed: (0, 0),
            blocked: [None; 2],
            meter: Meter::new(&plan.battery),
            conditions: Conditions::of(plan, 0, day_of_year(begin)),
            hour: 0,
            changes: 0,
            there: true,
            failures: Draws::new(seed, STREAM_OF_SITES + number),
            next_failure_us: u64::MAX,
            repairs: BinaryHeap::new(),
            arrivals: Vec::new(),
            returned: Vec::new(),
            tallies: vec![Tally::default(); demands],
            months: Vec::new(),
            first_month: begin.month(),
        };
        for (hall, of) in plan.halls.iter().enumerate() {
            if of.from_us == 0 {
                site.arrive(hall);
            }
        }
        site.limit(0);
        site.next_failure(0);
        site
    }

    /// What homes are told.
    pub fn status(&self) -> Status {
        let part = |units: u64, of: u64| (units * 1_000_000).checked_div(of).unwrap_or(0);
        let sum = |of: fn(&Pool) -> u64| self.pools.iter().map(of).sum::<u64>();
        let there = sum(Pool::units);
        Status {
            load_ppm: part(sum(Pool::used) + sum(Pool::queued_units), there),
            queue_ppm: part(sum(Pool::queued_units), there),
            open: self.pools.each_ref().map(|pool| self.there && pool.open()),
            there: self.there,
        }
    }

    /// Which uses the factory ever serves.
    pub fn serves(&self, used_for: Use) -> bool {
        self.plan.halls.iter().any(|hall| hall.used_for == used_for)
    }

    /// Sends a job here, to come at an instant that is not before any that was sent in this window.
    pub fn send(&mut self, at_us: u64, job: Job) {
        self.arrivals.push((at_us, job));
    }

    /// Jobs that wait and that run.
    pub fn counts(&self) -> (u64, u64) {
        let [(waits, runs), (more, others)] = self.pools.each_ref().map(Pool::counts);
        (waits + more, runs + others)
    }

    /// Jobs of a demand that wait or run.
    pub fn here(&self, demand: u16) -> u64 {
        self.pools.iter().flat_map(Pool::jobs).filter(|job| job.demand == demand).count() as u64
    }

    /// Accelerators and seats that are there.
    pub fn units(&self) -> [u64; 2] {
        self.pools.each_ref().map(Pool::units)
    }

    /// Everything that happens before an instant.
    pub fn run_until(&mut self, until_us: u64, used_for: &[Use]) {
        let arrivals = std::mem::take(&mut self.arrivals);
        let mut coming = arrivals.iter().peekable();
        loop {
            let ends = self.pools.each_mut().map(Pool::next_end_us);
            let end_us = ends.into_iter().min().unwrap_or(u64::MAX);
            let change_us = self.plan.changes.get(self.changes).map_or(u64::MAX, |(at_us, _)| *at_us);
            let repair_us = self.repairs.peek().map_or(u64::MAX, |Reverse((at_us, _))| *at_us);
            let hour_us = (self.hour + 1) * HOUR_US;
            let planned_us = change_us.min(repair_us).min(self.next_failure_us).min(hour_us);
            let arrival_us = coming.peek().map_or(u64::MAX, |(at_us, _)| *at_us);
            let now_us = end_us.min(planned_us).min(arrival_us);
            if now_us >= until_us {
                break;
            }
            self.meter.advance(now_us, &self.flow());
            if end_us == now_us {
                let pool = usize::from(ends.first() != Some(&now_us));
                self.finish(pool, now_us);
            } else if planned_us == now_us {
                self.planned(now_us, (change_us, repair_us));
            } else if let Some((_, job)) = coming.next() {
                let pool = used_for.get(usize::from(job.demand)).map_or(0, |used_for| number(*used_for));
                self.take_in(pool, *job, now_us);
            }
        }
        self.arrivals = arrivals;
        self.arrivals.clear();
    }

    /// Counts up to an instant and closes the last hour, though it may not be over.
    pub fn close(&mut self, at_us: u64) {
        self.meter.advance(at_us, &self.flow());
        self.keep_hour();
    }

    fn flow(&self) -> Flow {
        Flow {
            it_mw: self.power.it_mw,
            idle_mw: if self.there { self.installed.0 } else { 0 },
            used: self.pools.each_ref().map(Pool::used),
            there: self.pools.each_ref().map(Pool::units),
            blocked: self.blocked.iter().flatten().min().copied(),
        }
    }

    fn tally(&mut self, demand: u16) -> Option<&mut Tally> {
        self.tallies.get_mut(usize::from(demand))
    }

    fn finish(&mut self, pool: usize, now_us: u64) {
        let power = &mut self.power;
        if let Some(run) = self.pools.get_mut(pool).and_then(|pool| pool.finish(power)) {
            self.count(&run, now_us, true);
            if let Some(tally) = self.tally(run.job.demand) {
                tally.finished += 1;
            }
        }
        // What ends at one instant ends together: only then is it clear who fits.
        let more = self.pools.get_mut(pool).is_some_and(|pool| pool.next_end_us() == now_us);
        if !more {
            self.schedule(pool, now_us);
        }
    }

    /// Counts what a run took until now, whether it counts as work or is undone.
    fn count(&mut self, run: &Run, now_us: u64, works: bool) {
        let price = u128::from(self.plan.price_microeur_per_hour);
        let Some(tally) = self.tallies.get_mut(usize::from(run.job.demand)) else { return };
        let for_us = u128::from(now_us - run.start_us);
        let took = for_us * u128::from(run.job.units);
        tally.energy_nj += for_us * u128::from(run.extra_mw);
        if works {
            tally.work_us += took;
            tally.charged_pico += took * price * 1_000_000 / u128::from(HOUR_US);
        } else {
            tally.undone_us += took;
        }
    }

    fn take_in(&mut self, pool: usize, job: Job, now_us: u64) {
        if let Some(tally) = self.tally(job.demand) {
            tally.sent += 1;
        }
        let taken = self.there && self.pools.get_mut(pool).is_some_and(|pool| pool.admit(job));
        if !taken {
            return self.give_back(job);
        }
        self.schedule(pool, now_us);
    }

    fn give_back(&mut self, job: Job) {
        if let Some(tally) = self.tally(job.demand) {
            tally.returned += 1;
        }
        self.returned.push(job);
    }

    fn schedule(&mut self, place: usize, now_us: u64) {
        let Some(pool) = self.pools.get_mut(place).filter(|_| self.there) else { return };
        let tallies = &mut self.tallies;
        let blocked = pool.schedule(now_us, &mut self.power, |started| {
            let Some(tally) = tallies.get_mut(usize::from(started.job.demand)) else { return };
            let waited_us = now_us - started.job.at_us;
            tally.waits.add(waited_us);
            if started.job.generated > 0 {
                tally.first_tokens.add(waited_us + started.prefill_us);
            }
        });
        if let Some(slot) = self.blocked.get_mut(place) {
            *slot = blocked;
        }
    }

    fn schedule_all(&mut self, now_us: u64) {
        self.schedule(0, now_us);
        self.schedule(1, now_us);
    }

    fn planned(&mut self, now_us: u64, (change_us, repair_us): (u64, u64)) {
        if change_us == now_us {
            let change = self.plan.changes.get(self.changes).map(|(_, change)| *change);
            self.changes += 1;
            if let Some(change) = change {
                self.change(change, now_us);
            }
        } else if repair_us == now_us {
            if let Some(Reverse((_, hall))) = self.repairs.pop() {
                self.add_down(hall as usize, 1, true);
            }
        } else if self.next_failure_us == now_us {
            self.fail(now_us);
        } else {
            self.next_hour(now_us);
        }
        self.schedule_all(now_us);
    }

    fn change(&mut self, change: Change, now_us: u64) {
        match change {
            Change::Arrives(hall) => {
                self.arrive(hall);
                self.next_failure(now_us);
            }
            Change::Down(hall, accelerators) => self.add_down(hall, accelerators, false),
            Change::Up(hall, accelerators) => self.add_down(hall, accelerators, true),
            Change::Lost => self.lose(now_us),
            Change::Back => {
                self.there = true;
                self.power.it_mw = self.installed.0;
            }
        }
        self.limit(now_us);
    }

    /// Units of an accelerator in the pool that it belongs to.
    fn seats(&self, hall: usize) -> Option<(usize, u32, u32)> {
        let plan = self.plan.halls.get(hall)?;
        let seats = if plan.used_for == Use::Inference { plan.kind.seats.max(1) } else { 1 };
        Some((number(plan.used_for), seats, plan.accelerators))
    }

    fn arrive(&mut self, hall: usize) {
        let Some((place, seats, accelerators)) = self.seats(hall) else { return };
        if let Some(pool) = self.pools.get_mut(place) {
            pool.set_units(hall, accelerators.saturating_mul(seats));
        }
        if let Some(plan) = self.plan.halls.get(hall) {
            let idle_mw = plan.kind.idle_mw * u64::from(accelerators);
            self.installed.0 += idle_mw;
            self.installed.1 += plan.kind.active_mw * u64::from(accelerators);
            self.power.it_mw += if self.there { idle_mw } else { 0 };
        }
    }

    fn add_down(&mut self, hall: usize, accelerators: u32, up: bool) {
        let Some((place, seats, _)) = self.seats(hall) else { return };
        if let Some(pool) = self.pools.get_mut(place) {
            pool.add_down(hall, accelerators.saturating_mul(seats), up);
        }
    }

    fn next_failure(&mut self, now_us: u64) {
        let there = |plan: &&super::plan::HallPlan| plan.from_us <= now_us;
        let accelerators: u64 = self.plan.halls.iter().filter(there).map(|hall| u64::from(hall.accelerators)).sum();
        let mean = self.plan.failure_every_us.and_then(|every_us| every_us.checked_div(accelerators));
        self.next_failure_us = mean.map_or(u64::MAX, |mean| now_us.saturating_add(self.failures.exponential(mean)));
    }

    /// One accelerator fails; what ran on it begins anew, before all that wait.
    fn fail(&mut self, now_us: u64) {
        let plan = std::sync::Arc::clone(&self.plan);
        let there = || plan.halls.iter().enumerate().filter(|(_, hall)| hall.from_us <= now_us);
        let mut unit = self.failures.below(there().map(|(_, hall)| u64::from(hall.accelerators)).sum());
        self.next_failure(now_us);
        for (place, hall) in there() {
            let accelerators = u64::from(hall.accelerators);
            if unit >= accelerators {
                unit -= accelerators;
                continue;
            }
            self.add_down(place, 1, false);
            self.repairs.push(Reverse((now_us + plan.repair_us, u32::try_from(place).unwrap_or(u32::MAX))));
            let Some((pool_place, seats, _)) = self.seats(place) else { return };
            // The place of the next is that of the one before, once that is gone.
            for _ in 0..seats {
                let power = &mut self.power;
                let pool = self.pools.get_mut(pool_place);
                let Some(run) = pool.and_then(|pool| pool.strike(place, unit * u64::from(seats), power)) else {
                    break;
                };
                self.count(&run, now_us, false);
                let job = Job { begun: run.job.begun.saturating_add(1), ..run.job };
                if let Some(tally) = self.tally(job.demand) {
                    tally.lost += 1;
                }
                if let Some(pool) = self.pools.get_mut(pool_place) {
                    pool.put_first(job);
                }
            }
            return;
        }
    }

    fn lose(&mut self, now_us: u64) {
        for place in 0..self.pools.len() {
            let power = &mut self.power;
            let Some((runs, waiting)) = self.pools.get_mut(place).map(|pool| pool.empty(power)) else { continue };
            for run in runs {
                self.count(&run, now_us, false);
                if let Some(tally) = self.tally(run.job.demand) {
                    tally.lost += 1;
                }
                self.give_back(Job { begun: run.job.begun.saturating_add(1), ..run.job });
            }
            waiting.into_iter().for_each(|job| self.give_back(job));
        }
        self.blocked = [None; 2];
        self.there = false;
        self.power.it_mw = 0;
    }

    /// What the hour came to goes to its month.
    fn keep_hour(&mut self) {
        let figures = self.meter.close(&self.plan, &self.conditions);
        let day = Date(self.begin.0 + self.hour / 24);
        let month = usize::try_from(day.month() - self.first_month).unwrap_or(0);
        if self.months.len() <= month {
            self.months.resize(month + 1, Figures::default());
        }
        if let Some(sum) = self.months.get_mut(month) {
            sum.add(&figures);
        }
    }

    /// The next hour has its own conditions.
    fn next_hour(&mut self, now_us: u64) {
        self.keep_hour();
        self.hour += 1;
        self.conditions = Conditions::of(&self.plan, self.hour, day_of_year(self.begin));
        self.limit(now_us);
    }

    /// Sets what may be drawn, and suspends what no longer fits, the youngest first; it goes on where it stopped.
    fn limit(&mut self, now_us: u64) {
        (self.power.ceiling_mw, self.power.limit) = self.meter.ceiling(&self.plan, &self.conditions, self.installed.1);
        while self.power.it_mw > self.power.ceiling_mw {
            let power = &mut self.power;
            let [batch, sessions] = &mut self.pools;
            let (place, run) = match batch.take_youngest(power) {
                Some(run) => (0, run),
                None => match sessions.take_youngest(power) {
                    Some(run) => (1, run),
                    None => return,
                },
            };
            self.count(&run, now_us, true);
            let whole = (run.end_us - run.start_us).max(1);
            let left = |us: u64| {
                let part = u128::from(us) * u128::from(run.end_us - now_us) / u128::from(whole);
                u64::try_from(part).unwrap_or(us).max(1)
            };
            let job = Job { run_us: left(run.job.run_us), limit_us: left(run.job.limit_us), ..run.job };
            if let Some(pool) = self.pools.get_mut(place) {
                pool.put_first(job);
            }
        }
    }
}

/// The day of the year, from 0.
pub fn day_of_year(date: Date) -> u64 {
    let (year, ..) = date.parts();
    let first = Date::parse(&format!("{year:04}-01-01")).unwrap_or(date);
    date.0 - first.0
}
