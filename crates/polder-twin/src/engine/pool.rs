//! A pool: the halls of one use at one factory, what runs in them and what waits for them.
//!
//! First come, first served, with EASY backfill where the factory says so. One job runs in one hall. Absent: where a job comes
//! from and what power costs.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};

use super::line::{Line, Spot};
use super::plan::{Accelerator, HallPlan, Job, Scheduler, Use};

/// Why the first of those that wait does not begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Blocked {
    /// Every accelerator is in use.
    Space,
    /// Power is contracted up to here.
    Power,
    /// It is too hot.
    Heat,
    /// Accelerators are being repaired or maintained.
    Repair,
}

impl Blocked {
    /// All of them, in their order.
    pub const ALL: [Self; 4] = [Self::Space, Self::Power, Self::Heat, Self::Repair];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Space => "accelerators",
            Self::Power => "power",
            Self::Heat => "cooling",
            Self::Repair => "maintenance",
        }
    }
}

/// What a factory's accelerators draw now, and may.
#[derive(Debug, Clone, Copy)]
pub struct Power {
    /// What they draw.
    pub it_mw: u64,
    /// What they may draw.
    pub ceiling_mw: u64,
    /// What the ceiling is made of.
    pub limit: Blocked,
}

#[derive(Debug, Clone)]
struct Hall {
    kind: Accelerator,
    units: u32,
    down: u32,
    used: u32,
    /// What one unit draws above idle, at full power and capped.
    extra_mw: [u64; 2],
    /// Ends as owners stated them, for reservations.
    stated: BTreeSet<(u64, u32)>,
}

impl Hall {
    fn free(&self) -> u32 {
        self.units.saturating_sub(self.down).saturating_sub(self.used)
    }
}

/// What runs.
#[derive(Debug, Clone, Copy)]
pub struct Run {
    /// The job.
    pub job: Job,
    /// When it began.
    pub start_us: u64,
    /// When it ends.
    pub end_us: u64,
    /// What it draws above idle.
    pub extra_mw: u64,
    stated_us: u64,
    hall: u32,
    /// Tells what runs now from what ran in the same place before; 0 where nothing runs.
    turn: u32,
}

/// The pool.
#[derive(Debug, Clone)]
pub struct Pool {
    used_for: Use,
    halls: Vec<Hall>,
    /// For each hall of the plan, its place here.
    queue: Line,
    running: Vec<Run>,
    spare: Vec<u32>,
    turn: u32,
    ends: BinaryHeap<Reverse<(u64, u32, u32)>>,
    scheduler: Scheduler,
    queue_max: usize,
}

/// What a start tells whoever keeps count.
pub struct Started {
    /// The job.
    pub job: Job,
    /// Time to the first token after the start; 0 for jobs.
    pub prefill_us: u64,
}

impl Pool {
    /// The halls of that use; those of the other have no units here, so that numbers are the plan's.
    pub fn new(used_for: Use, halls: &[HallPlan], scheduler: Scheduler, queue_max: usize) -> Self {
        let hall = |plan: &HallPlan| {
            let seats = match used_for {
                Use::Batch => 1,
                Use::Inference => u64::from(plan.kind.seats.max(1)),
            };
            let extra = |mw: u64| mw.saturating_sub(plan.kind.idle_mw) / seats;
            let extra_mw = [extra(plan.kind.active_mw), extra(plan.kind.capped_mw)];
            Hall { kind: plan.kind.clone(), units: 0, down: 0, used: 0, extra_mw, stated: BTreeSet::new() }
        };
        Self {
            used_for,
            halls: halls.iter().map(hall).collect(),
            queue: Line::default(),
            running: Vec::new(),
            spare: Vec::new(),
            turn: 0,
            ends: BinaryHeap::new(),
            scheduler,
            queue_max,
        }
    }

    /// A hall has so many units from now on.
    pub fn set_units(&mut self, hall: usize, units: u32) {
        if let Some(hall) = self.halls.get_mut(hall) {
            hall.units = units;
        }
    }

    /// So many more units of a hall take nothing new, or fewer.
    pub fn add_down(&mut self, hall: usize, units: u32, up: bool) {
        if let Some(hall) = self.halls.get_mut(hall) {
            hall.down = if up { hall.down.saturating_sub(units) } else { hall.down.saturating_add(units) };
        }
    }

    /// Units that are there, down or not.
    pub fn units(&self) -> u64 {
        self.halls.iter().map(|hall| u64::from(hall.units)).sum()
    }

    /// Units at work.
    pub fn used(&self) -> u64 {
        self.halls.iter().map(|hall| u64::from(hall.used)).sum()
    }

    /// Units that are asked for by what waits.
    pub fn queued_units(&self) -> u64 {
        self.queue.units()
    }

    /// What waits and what runs.
    pub fn counts(&self) -> (u64, u64) {
        (self.queue.len() as u64, (self.running.len() - self.spare.len()) as u64)
    }

    /// What waits, and what runs, one by one.
    pub fn jobs(&self) -> impl Iterator<Item = &Job> {
        self.queue.jobs().chain(self.running.iter().filter(|run| run.turn != 0).map(|run| &run.job))
    }

    /// Whether one more can wait.
    pub fn open(&self) -> bool {
        self.queue.len() < self.queue_max && self.halls.iter().any(|hall| hall.units > 0)
    }

    /// Takes a job in, or says that it will not: the queue is full, or it fits into no hall.
    #[must_use]
    pub fn admit(&mut self, job: Job) -> bool {
        let fits = self.halls.iter().any(|hall| hall.units >= job.units);
        if !fits || self.queue.len() >= self.queue_max {
            return false;
        }
        self.queue.push_back(job);
        true
    }

    /// Puts a job before all that wait.
    pub fn put_first(&mut self, job: Job) {
        self.queue.push_front(job);
    }

    /// The next end.
    #[inline]
    pub fn next_end_us(&mut self) -> u64 {
        while let Some(Reverse((end_us, slot, turn))) = self.ends.peek() {
            if self.running.get(*slot as usize).is_some_and(|run| run.turn == *turn) {
                return *end_us;
            }
            self.ends.pop();
        }
        u64::MAX
    }

    /// Takes out what ends next.
    pub fn finish(&mut self, power: &mut Power) -> Option<Run> {
        let Reverse((_, slot, _)) = self.ends.pop()?;
        self.remove(slot, power)
    }

    fn remove(&mut self, slot: u32, power: &mut Power) -> Option<Run> {
        let run = self.running.get_mut(slot as usize).filter(|run| run.turn != 0)?;
        let ended = *run;
        run.turn = 0;
        self.spare.push(slot);
        if let Some(hall) = self.halls.get_mut(ended.hall as usize) {
            hall.used -= ended.job.units;
            hall.stated.remove(&(ended.stated_us, slot));
        }
        power.it_mw -= ended.extra_mw;
        Some(ended)
    }

    /// Takes out what runs on one unit of a hall, counted from 0; `None` where that unit is free.
    pub fn strike(&mut self, hall: usize, unit: u64, power: &mut Power) -> Option<Run> {
        let mut left = unit;
        let here = |run: &&(u32, &Run)| run.1.turn != 0 && run.1.hall as usize == hall;
        let mut slots = (0..).zip(&self.running);
        let slot = slots.by_ref().filter(|one| here(&one)).find_map(|(slot, run)| {
            let units = u64::from(run.job.units);
            if left < units {
                return Some(slot);
            }
            left -= units;
            None
        });
        self.remove(slot?, power)
    }

    /// Takes out whatever began last.
    pub fn take_youngest(&mut self, power: &mut Power) -> Option<Run> {
        let slots = (0_u32..).zip(&self.running).filter(|(_, run)| run.turn != 0);
        let slot = slots.max_by_key(|(slot, run)| (run.start_us, *slot)).map(|(slot, _)| slot)?;
        self.remove(slot, power)
    }

    /// Takes out all that runs, then all that waits.
    pub fn empty(&mut self, power: &mut Power) -> (Vec<Run>, Vec<Job>) {
        let slots = (0_u32..).zip(&self.running).filter(|(_, run)| run.turn != 0).map(|(slot, _)| slot);
        let slots: Vec<u32> = slots.collect();
        let runs = slots.into_iter().filter_map(|slot| self.remove(slot, power)).collect();
        (runs, self.queue.empty())
    }

    /// Begins what can begin; says why the first of the rest does not.
    pub fn schedule(&mut self, now_us: u64, power: &mut Power, mut started: impl FnMut(&Started)) -> Option<Blocked> {
        while let Some((spot, head)) = self.queue.front() {
            match self.place(&head, power) {
                Ok((hall, capped)) => {
                    self.queue.take(&spot);
                    started(&self.begin(head, hall, capped, now_us, power));
                }
                Err(blocked) => {
                    if let (Scheduler::Easy, Blocked::Space | Blocked::Repair) = (self.scheduler, blocked) {
                        self.backfill(&head, spot.turn, now_us, power, &mut started);
                    }
                    return Some(blocked);
                }
            }
        }
        None
    }

    /// The hall for a job, and whether it must run capped.
    fn place(&self, job: &Job, power: &Power) -> Result<(usize, bool), Blocked> {
        let mut blocked = Blocked::Space;
        for (place, hall) in self.halls.iter().enumerate() {
            if hall.free() < job.units {
                if hall.units.saturating_sub(hall.used) >= job.units {
                    blocked = Blocked::Repair;
                }
                continue;
            }
            match self.capped(hall, job.units, power) {
                Some(capped) => return Ok((place, capped)),
                None => blocked = power.limit,
            }
        }
        Err(blocked)
    }

    /// Whether a job must run capped to stay within the power; `None` where even that is too much.
    fn capped(&self, hall: &Hall, units: u32, power: &Power) -> Option<bool> {
        let left = power.ceiling_mw.saturating_sub(power.it_mw);
        let fits = |extra_mw: u64| extra_mw * u64::from(units) <= left;
        let [full, capped] = hall.extra_mw;
        if fits(full) { Some(false) } else { fits(capped).then_some(true) }
    }

    fn begin(&mut self, job: Job, hall_place: usize, capped: bool, now_us: u64, power: &mut Power) -> Started {
        let slot = self.spare.pop().unwrap_or_else(|| {
            let slot = u32::try_from(self.running.len()).unwrap_or(u32::MAX);
            let nothing = Run { job, start_us: 0, end_us: 0, extra_mw: 0, stated_us: 0, hall: 0, turn: 0 };
            self.running.push(nothing);
            slot
        });
        // 0 is for what does not run.
        self.turn = self.turn.checked_add(1).unwrap_or(1);
        let mut prefill_us = 0;
        let (hall, turn) = (u32::try_from(hall_place).unwrap_or(u32::MAX), self.turn);
        if let Some(hall_now) = self.halls.get_mut(hall_place) {
            let (first_us, run_us, stated) = durations(&hall_now.kind, self.used_for, &job, capped);
            prefill_us = first_us;
            let [full, less] = hall_now.extra_mw;
            let extra_mw = if capped { less } else { full } * u64::from(job.units);
            let (end_us, stated_us) = (now_us.saturating_add(run_us), now_us.saturating_add(stated));
            hall_now.used += job.units;
            if self.scheduler == Scheduler::Easy {
                hall_now.stated.insert((stated_us, slot));
            }
            power.it_mw += extra_mw;
            self.ends.push(Reverse((end_us, slot, turn)));
            if let Some(run) = self.running.get_mut(slot as usize) {
                *run = Run { job, start_us: now_us, end_us, extra_mw, stated_us, hall, turn };
            }
        }
        Started { job, prefill_us }
    }

    /// Lets others pass the first as long as they do not delay it. What begins leaves less room, less power and less to spare, so
    /// whoever was passed over stays so: one after the other, the first that can begin is looked for by size.
    fn backfill(&mut self, head: &Job, turn: i64, now_us: u64, power: &mut Power, started: &mut impl FnMut(&Started)) {
        if self.queue.len() < 2 || self.queue.sizes(self.most_free()).next().is_none() {
            return;
        }
        let (shadow_us, reserved, mut extra) = self.reservation(head, now_us);
        loop {
            let mut best: Option<(Spot, Job, usize, bool)> = None;
            for units in self.queue.sizes(self.most_free()) {
                let found = self.first_to_pass(units, turn, power, reserved, (shadow_us.saturating_sub(now_us), extra));
                if let Some(found) = found
                    && best.as_ref().is_none_or(|(spot, ..)| found.0.turn < spot.turn)
                {
                    best = Some(found);
                }
            }
            let Some((spot, job, hall, capped)) = best else { return };
            if hall == reserved && self.stated(hall, &job, capped) > shadow_us.saturating_sub(now_us) {
                extra = extra.saturating_sub(job.units);
            }
            self.queue.take(&spot);
            started(&self.begin(job, hall, capped, now_us, power));
        }
    }

    fn most_free(&self) -> u32 {
        self.halls.iter().map(Hall::free).max().unwrap_or(0)
    }

    /// How long a job says that it will take in a hall.
    fn stated(&self, hall: usize, job: &Job, capped: bool) -> u64 {
        self.halls.get(hall).map_or(u64::MAX, |hall| durations(&hall.kind, self.used_for, job, capped).2)
    }

    /// The first of a size that may pass the head, with its hall and whether it must run capped.
    fn first_to_pass(
        &self,
        units: u32,
        turn_of_head: i64,
        power: &Power,
        reserved: usize,
        (in_time_us, extra): (u64, u32),
    ) -> Option<(Spot, Job, usize, bool)> {
        let mut best: Option<(Spot, Job, usize, bool)> = None;
        for (place, hall) in self.halls.iter().enumerate().filter(|(_, hall)| hall.free() >= units) {
            let Some(capped) = self.capped(hall, units, power) else { continue };
            let most_us = if place != reserved || units <= extra {
                u64::MAX - 1
            } else {
                longest_within(&hall.kind, self.used_for, in_time_us, capped)
            };
            let first = self.queue.first_of(units, most_us);
            // The head itself waits for its reservation.
            let first = match first {
                Some((spot, _)) if spot.turn == turn_of_head => self.queue.next_of(&spot, most_us),
                other => other,
            };
            // Of halls that take the same job, the first has it.
            if let Some((spot, job)) = first
                && best.as_ref().is_none_or(|(before, ..)| spot.turn < before.turn)
            {
                best = Some((spot, job, place, capped));
            }
        }
        best
    }

    /// When and where the first can begin at the latest, and how many units are left over then.
    fn reservation(&self, head: &Job, now_us: u64) -> (u64, usize, u32) {
        let mut best = (u64::MAX, usize::MAX, 0);
        for (place, hall) in self.halls.iter().enumerate() {
            if hall.units.saturating_sub(hall.down) < head.units {
                continue;
            }
            let (mut free, mut at_us) = (hall.free(), now_us);
            for (stated_us, slot) in &hall.stated {
                if free >= head.units && *stated_us > at_us {
                    break;
                }
                at_us = at_us.max(*stated_us);
                free += self.running.get(*slot as usize).map_or(0, |run| run.job.units);
            }
            if free >= head.units && at_us < best.0 {
                best = (at_us, place, free - head.units);
            }
        }
        best
    }
}

/// The longest time that a job can state, at the speed that times are stated for, and still be through within a time here: the
/// inverse of what `durations` makes of it, rounding included.
fn longest_within(kind: &Accelerator, used_for: Use, within_us: u64, capped: bool) -> u64 {
    if used_for == Use::Inference {
        // What sessions take is in their tokens; all of a size are looked at in order, and none has to wait for a reservation.
        return u64::MAX - 1;
    }
    let inverse = |us: u64, percent: u64| {
        let most = (u128::from(us) + 1) * u128::from(percent.max(1));
        u64::try_from((most - 1) / 100).unwrap_or(u64::MAX - 1).min(u64::MAX - 1)
    };
    let us = if capped { inverse(within_us, kind.capped_speed_percent) } else { within_us };
    if kind.speed_percent == 100 { us.min(u64::MAX - 1) } else { inverse(us, kind.speed_percent) }
}

/// Time to the first token, the whole running time, and what was stated.
fn durations(kind: &Accelerator, used_for: Use, job: &Job, capped: bool) -> (u64, u64, u64) {
    let slowed = |us: u64| if capped { us * 100 / kind.capped_speed_percent.max(1) } else { us };
    match used_for {
        Use::Batch => {
            let at_speed = |us: u64| {
                if kind.speed_percent == 100 { us } else { us.saturating_mul(100) / kind.speed_percent.max(1) }
            };
            (0, slowed(at_speed(job.run_us)), slowed(at_speed(job.limit_us)))
        }
        Use::Inference => {
            let of = |tokens: u32, per_s: u64| u64::from(tokens) * 1_000_000 / per_s.max(1);
            let first = slowed(of(job.prompt, kind.prefill_tokens_per_s));
            let whole = first + slowed(of(job.generated, kind.decode_tokens_per_s));
            (first, whole, whole)
        }
    }
}
