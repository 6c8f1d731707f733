//! Coarse load: the same study as a flow instead of jobs, hours at a time, for whoever must look at a thousand of them.
//!
//! Work is an expected rate; it goes where the product's own memo and snapshot send it, as much as has room, and what is left over waits as
//! long as queues and patience allow. Power, cooling, weather, prices and halls are those of the engine. Absent: single jobs, waits,
//! backfill and chance: failures take away what they would on average. How far that is from the engine stands in a test.

use std::sync::Arc;

use super::home::{Home, Known, Placed};
use super::meter::{Conditions, Figures, Flow, Meter};
use super::plan::{Change, Demand, HallPlan, Plan, SitePlan, Source, Use};
use super::pool::Blocked;
use super::site::{Status, day_of_year};
use crate::calendar::{Date, HOUR_US};
use crate::draw::{growth_ppm, wave};

/// Hours of a step, unless told otherwise.
pub const STEP_H: u64 = 6;
/// Hour of the day at which most is asked, as for drawn work.
const BUSIEST_HOUR: u64 = 13;

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Coarse {
    /// For each month: work that was asked for and that was done, in accelerators (or seats) times microseconds at the stated speed.
    pub months: Vec<Served>,
    /// For each demand the same.
    pub demands: Vec<Served>,
    /// Each factory's figures over the whole time.
    pub sites: Vec<Figures>,
    /// For each month and factory, for how long something that it might run was kept out, and by what.
    pub blocked: Vec<Vec<[u64; Blocked::ALL.len()]>>,
}

/// Work asked for and done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Served {
    /// Asked for.
    pub asked_us: u128,
    /// Done.
    pub done_us: u128,
    /// Refused by the policies everywhere.
    pub refused_us: u128,
}

impl Served {
    fn add(&mut self, other: &Self) {
        self.asked_us += other.asked_us;
        self.done_us += other.done_us;
        self.refused_us += other.refused_us;
    }
}

/// A factory in a step.
struct Place {
    plan: Arc<SitePlan>,
    meter: Meter,
    changes: usize,
    there: bool,
    /// Accelerators of each hall that are down for maintenance.
    down: Vec<u32>,
    now: Now,
}

/// What a step leaves of a factory.
#[derive(Default)]
struct Now {
    conditions: Option<Conditions>,
    /// Units of each hall, in thousandths: there, and free.
    halls: Vec<(u64, u64)>,
    power_left_mw: u64,
    limit: Option<Blocked>,
    extra_mw: u64,
    idle_mw: u64,
    blocked: Option<Blocked>,
}

/// Runs a study as a flow. Traces have no rate, so their demands are left out, and named by [`left_out`].
pub fn run(plan: &Plan, step_h: u64) -> Coarse {
    let mut run = Run::new(plan, step_h.clamp(1, 24));
    let hours = plan.days * 24;
    let mut hour = 0;
    while hour < hours {
        run.step(hour);
        hour += run.step_h;
    }
    run.found
}

/// The demands that have no rate.
pub fn left_out(plan: &Plan) -> Vec<&str> {
    let traced = plan.demands.iter().filter(|demand| matches!(demand.source, Source::Traced(_)));
    traced.map(|demand| demand.id.as_str()).collect()
}

struct Run<'p> {
    plan: &'p Plan,
    step_h: u64,
    places: Vec<Place>,
    sites: Vec<Arc<SitePlan>>,
    serves: Vec<[bool; 2]>,
    statuses: Vec<Status>,
    homes: Vec<Home>,
    /// For each demand what waits of it, in jobs, in thousandths.
    waits_milli: Vec<u64>,
    found: Coarse,
}

impl<'p> Run<'p> {
    fn new(plan: &'p Plan, step_h: u64) -> Self {
        let sites: Vec<Arc<SitePlan>> = plan.sites.iter().cloned().map(Arc::new).collect();
        let place = |site: &Arc<SitePlan>| Place {
            plan: Arc::clone(site),
            meter: Meter::new(&site.battery),
            changes: 0,
            there: true,
            down: vec![0; site.halls.len()],
            now: Now::default(),
        };
        let serves = |site: &Arc<SitePlan>| {
            [Use::Batch, Use::Inference].map(|used_for| site.halls.iter().any(|hall| hall.used_for == used_for))
        };
        Self {
            plan,
            step_h,
            places: sites.iter().map(place).collect(),
            serves: sites.iter().map(serves).collect(),
            statuses: vec![Status::default(); sites.len()],
            homes: plan.homes.iter().cloned().map(|home| Home::new(&Arc::new(home))).collect(),
            waits_milli: vec![0; plan.demands.len()],
            found: Coarse {
                demands: vec![Served::default(); plan.demands.len()],
                sites: vec![Figures::default(); sites.len()],
                ..Coarse::default()
            },
            sites,
        }
    }

    fn step(&mut self, hour: u64) {
        let month = Date(self.plan.begin.0 + hour / 24).month() - self.plan.begin.month();
        let month = usize::try_from(month).unwrap_or(0);
        if self.found.months.len() <= month {
            self.found.months.resize(month + 1, Served::default());
            self.found.blocked.resize(month + 1, vec![[0; Blocked::ALL.len()]; self.places.len()]);
        }
        let first_day = day_of_year(self.plan.begin);
        for place in &mut self.places {
            place.begin(hour, self.step_h, first_day);
        }
        for (status, place) in self.statuses.iter_mut().zip(&self.places) {
            *status = place.status();
        }
        self.homes.iter_mut().for_each(Home::forget);
        let count = self.plan.demands.len();
        // Nobody is always first.
        let first = usize::try_from(hour / self.step_h).unwrap_or(0);
        for turn in 0..count {
            let number = (first + turn) % count.max(1);
            let served = self.serve(number, hour);
            for sum in self.found.demands.get_mut(number).into_iter().chain(self.found.months.get_mut(month)) {
                sum.add(&served);
            }
        }
        let blocked = self.found.blocked.get_mut(month);
        let blocked = blocked.into_iter().flatten();
        for ((place, sum), blocked) in self.places.iter_mut().zip(&mut self.found.sites).zip(blocked) {
            sum.add(&place.end(self.step_h));
            if let Some(hours) = place.now.blocked.and_then(|cause| blocked.get_mut(cause as usize)) {
                *hours += self.step_h;
            }
        }
    }

    /// One demand's work of a step, and what waits of it.
    fn serve(&mut self, number: usize, hour: u64) -> Served {
        let (Some(demand), Some(waits_milli)) = (self.plan.demands.get(number), self.waits_milli.get(number)) else {
            return Served::default();
        };
        let Source::Drawn(drawn) = &demand.source else { return Served::default() };
        let asked_milli = rate_milli(drawn, hour, self.step_h) * self.step_h;
        // What waited is asked for again, as a rate over this step.
        let mut left_milli = (asked_milli + waits_milli) / self.step_h;
        let begun_milli = left_milli;
        let work = work_us(demand);
        let Some(home) = self.homes.get_mut(demand.home) else { return Served::default() };
        let at_us = hour * HOUR_US;
        let at_ms = self.plan.begin.0 * 86_400_000 + at_us / 1_000;
        let mut refused = false;
        while left_milli > 0 {
            let known = Known { sites: &self.sites, statuses: &self.statuses, serves: &self.serves, at_us, at_ms };
            let at = match home.place(&demand.request, demand.used_for, &known) {
                Placed::At(at) => at,
                Placed::Refused => {
                    refused = true;
                    break;
                }
                Placed::NoRoom => break,
            };
            let Some(place) = self.places.get_mut(at) else { break };
            let took_milli = place.take(demand, left_milli);
            left_milli -= took_milli;
            if let Some(status) = self.statuses.get_mut(at) {
                *status = place.status();
                if left_milli > 0 {
                    // Whatever is left does not fit here.
                    if let Some(open) = status.open.get_mut(demand.used_for as usize) {
                        *open = false;
                    }
                    place.full(demand.used_for);
                }
            }
            home.forget();
        }
        let of = |milli: u64| u128::from(milli) * u128::from(work) / 1_000;
        let done_milli = (begun_milli - left_milli) * self.step_h;
        let refused_us = if refused { of(left_milli * self.step_h) } else { 0 };
        let waits = if refused { 0 } else { (left_milli * self.step_h).min(self.waiting_max(demand)) };
        if let Some(waits_milli) = self.waits_milli.get_mut(number) {
            *waits_milli = waits;
        }
        Served { asked_us: of(asked_milli), done_us: of(done_milli), refused_us }
    }

    /// Most that waits, in thousandths of a job: queues, and what homes hold as long as their patience lasts.
    fn waiting_max(&self, demand: &Demand) -> u64 {
        let Source::Drawn(drawn) = &demand.source else { return 0 };
        let queues: usize = self.sites.iter().map(|site| site.queue_max.min(1_000_000)).sum();
        queues as u64 * 1_000 / self.plan.demands.len().max(1) as u64
            + drawn.per_hour_milli * (demand.patience_us / HOUR_US)
    }
}

/// Jobs an hour in thousandths, on average over a step.
fn rate_milli(drawn: &super::plan::Drawn, hour: u64, step_h: u64) -> u64 {
    let grown = u128::from(drawn.per_hour_milli) * u128::from(growth_ppm(drawn.growth_percent_per_year, hour / 24));
    let swing: i128 = (hour..hour + step_h).map(|hour| i128::from(wave(hour + 24 - BUSIEST_HOUR, 24))).sum();
    let swing = 100_000 + i128::from(drawn.day_percent) * swing / i128::from(step_h.max(1));
    u64::try_from(grown * u128::try_from(swing).unwrap_or(0) / 100_000 / 1_000_000).unwrap_or(u64::MAX)
}

/// Units of a job on average, in thousandths.
fn units_milli(demand: &Demand) -> u64 {
    let Source::Drawn(drawn) = &demand.source else { return 0 };
    let weights: u64 = drawn.sizes.iter().map(|(_, weight)| u64::from(*weight)).sum();
    let sum: u64 = drawn.sizes.iter().map(|(units, weight)| u64::from(*units) * u64::from(*weight)).sum();
    if demand.used_for == Use::Inference { 1_000 } else { (sum * 1_000).checked_div(weights).unwrap_or(1_000) }
}

/// How long a job or session holds a unit of a hall, in microseconds.
fn holds_us(demand: &Demand, hall: &HallPlan) -> u64 {
    let Source::Drawn(drawn) = &demand.source else { return 0 };
    match demand.used_for {
        Use::Batch => drawn.run_us.saturating_mul(100) / hall.kind.speed_percent.max(1),
        Use::Inference => {
            drawn.prompt_tokens * 1_000_000 / hall.kind.prefill_tokens_per_s.max(1)
                + drawn.generated_tokens * 1_000_000 / hall.kind.decode_tokens_per_s.max(1)
        }
    }
}

/// The work of a job, in units times microseconds at the stated speed.
fn work_us(demand: &Demand) -> u64 {
    let Source::Drawn(drawn) = &demand.source else { return 0 };
    match demand.used_for {
        Use::Batch => drawn.run_us.saturating_mul(units_milli(demand)) / 1_000,
        Use::Inference => drawn.generated_tokens * 1_000,
    }
}

impl Place {
    fn begin(&mut self, hour: u64, step_h: u64, first_day: u64) {
        while let Some((at_us, change)) = self.plan.changes.get(self.changes).copied() {
            if at_us > hour * HOUR_US {
                break;
            }
            self.changes += 1;
            match change {
                Change::Arrives(_) => {}
                Change::Lost => self.there = false,
                Change::Back => self.there = true,
                Change::Down(hall, count) => self.shift(hall, count, true),
                Change::Up(hall, count) => self.shift(hall, count, false),
            }
        }
        let conditions = Conditions::of(&self.plan, hour + step_h / 2, first_day);
        let failing_ppm = self.plan.failure_every_us.map_or(0, |every_us| {
            self.plan.repair_us.saturating_mul(1_000_000) / (every_us + self.plan.repair_us).max(1)
        });
        let mut now = Now::default();
        let mut installed_mw = 0;
        for (hall, down) in self.plan.halls.iter().zip(&self.down) {
            let there = hall.from_us <= hour * HOUR_US && self.there;
            let accelerators = if there { u64::from(hall.accelerators) } else { 0 };
            let up = accelerators.saturating_sub(u64::from(*down));
            let seats = if hall.used_for == Use::Inference { u64::from(hall.kind.seats.max(1)) } else { 1 };
            let units = up * seats * (1_000_000 - failing_ppm) / 1_000;
            now.halls.push((units, units));
            now.idle_mw += accelerators * hall.kind.idle_mw;
            installed_mw += accelerators * hall.kind.active_mw;
        }
        let (ceiling_mw, limit) = self.meter.ceiling(&self.plan, &conditions, installed_mw);
        now.power_left_mw = ceiling_mw.saturating_sub(now.idle_mw);
        now.limit = Some(limit);
        now.conditions = Some(conditions);
        self.now = now;
    }

    fn shift(&mut self, hall: usize, count: u32, more: bool) {
        if let Some(down) = self.down.get_mut(hall) {
            *down = if more { down.saturating_add(count) } else { down.saturating_sub(count) };
        }
    }

    fn of(&self, used_for: Use) -> (u64, u64) {
        let halls = self.plan.halls.iter().zip(&self.now.halls).filter(|(hall, _)| hall.used_for == used_for);
        halls.fold((0, 0), |(there, free), (_, (all, left))| (there + all, free + left))
    }

    fn status(&self) -> Status {
        let [batch, sessions] = [Use::Batch, Use::Inference].map(|used_for| self.of(used_for));
        let (there, free) = (batch.0 + sessions.0, batch.1 + sessions.1);
        let load_ppm = ((there - free) * 1_000_000).checked_div(there).unwrap_or(0);
        let open = |(_, free): (u64, u64)| free > 0 && self.now.power_left_mw > 0;
        Status { load_ppm, queue_ppm: 0, open: [open(batch), open(sessions)], there: self.there }
    }

    /// Takes what fits of so many jobs an hour, in thousandths.
    fn take(&mut self, demand: &Demand, wanted_milli: u64) -> u64 {
        let per_job = units_milli(demand);
        let mut left_milli = wanted_milli;
        for (hall, (_, free)) in self.plan.halls.iter().zip(&mut self.now.halls) {
            if hall.used_for != demand.used_for || left_milli == 0 {
                continue;
            }
            let seats = if hall.used_for == Use::Inference { u64::from(hall.kind.seats.max(1)) } else { 1 };
            let extra_mw = hall.kind.active_mw.saturating_sub(hall.kind.idle_mw) / seats;
            // Thousandths of a unit that one job an hour holds, times a thousand.
            let hold = u128::from(holds_us(demand, hall)) * u128::from(per_job);
            let powered = (u128::from(self.now.power_left_mw) * 1_000).checked_div(u128::from(extra_mw));
            let room = powered.unwrap_or(u128::MAX).min(u128::from(*free));
            let fits = (room * u128::from(HOUR_US) * 1_000).checked_div(hold).unwrap_or(u128::MAX);
            let takes = u64::try_from(fits).unwrap_or(u64::MAX).min(left_milli);
            let units = u64::try_from(u128::from(takes) * hold / u128::from(HOUR_US) / 1_000).unwrap_or(u64::MAX);
            left_milli -= takes;
            *free = free.saturating_sub(units);
            let mw = units * extra_mw / 1_000;
            self.now.power_left_mw = self.now.power_left_mw.saturating_sub(mw);
            self.now.extra_mw += mw;
        }
        wanted_milli - left_milli
    }

    /// Something that might run here did not fit.
    fn full(&mut self, used_for: Use) {
        let (_, free) = self.of(used_for);
        let cause = if free > 1_000 { self.now.limit.unwrap_or(Blocked::Power) } else { Blocked::Space };
        self.now.blocked = Some(self.now.blocked.map_or(cause, |before| before.max(cause)));
    }

    /// Counts a step's energy: an hour of it, as often as it has hours.
    fn end(&mut self, step_h: u64) -> Figures {
        let Some(conditions) = self.now.conditions else { return Figures::default() };
        let [batch, sessions] = [Use::Batch, Use::Inference].map(|used_for| self.of(used_for));
        let flow = Flow {
            it_mw: self.now.idle_mw + self.now.extra_mw,
            idle_mw: self.now.idle_mw,
            used: [(batch.0 - batch.1) / 1_000, (sessions.0 - sessions.1) / 1_000],
            there: [batch.0 / 1_000, sessions.0 / 1_000],
            blocked: self.now.blocked,
        };
        self.meter.pass(HOUR_US, &flow);
        let hour = self.meter.close(&self.plan, &conditions);
        let mut step = Figures::default();
        (0..step_h).for_each(|_| step.add(&hour));
        step
    }
}
