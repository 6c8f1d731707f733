//! Who is next: the order of waiting jobs, and what to start and end on one pool of resources.
//!
//! Jobs stand by priority, which grows while they wait; within one priority the tenant with the smallest dominant share of
//! what is in use is next (dominant resource fairness, Ghodsi et al. 2011); within a tenant, who came first. A job that has
//! waited for [`Rules::starve_ms`] stands before all that have not, whatever their priority, in the order of coming.
//!
//! On a pool, [`plan`] starts jobs in that order. The first that does not fit keeps its place: it gets the earliest instant at
//! which enough of what runs must have ended, and those behind it start only where that does not move the instant
//! (EASY backfill, Lifka 1995). It may end jobs of lower priority instead, within a budget. So no job waits longer than `starve_ms`, and
//! then the wall times of what runs and of those that starve before it. Absent: clocks, and which factory: that is decided
//! elsewhere.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::JobId;
use super::spec::Resources;
use crate::ids::TenantId;

/// What a queue goes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rules {
    /// Waiting so long counts as one step of priority more, in milliseconds; 0 for never.
    pub ageing_ms: u64,
    /// Who waits longer stands before all who do not, in milliseconds.
    pub starve_ms: u64,
    /// How often one job may be ended for another.
    pub preemptions_max: u32,
    /// How many jobs behind the first that does not fit are looked at.
    pub backfill_max: usize,
}

impl Default for Rules {
    fn default() -> Self {
        Self { ageing_ms: 60_000, starve_ms: 86_400_000, preemptions_max: 1, backfill_max: 200 }
    }
}

/// A job that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting<'a> {
    /// The job.
    pub job: JobId,
    /// Whose.
    pub tenant: &'a TenantId,
    /// As its owner says.
    pub priority: u8,
    /// What it takes.
    pub needs: Resources,
    /// Since when it waits, in the milliseconds of whoever asks.
    pub since_ms: u64,
    /// Its place in the order of coming.
    pub serial: u64,
    /// The longest that it runs, in milliseconds.
    pub wall_ms: u64,
}

/// A job that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Running<'a> {
    /// As it waited.
    pub job: Waiting<'a>,
    /// When it started.
    pub started_ms: u64,
    /// How often it was ended for others.
    pub preempted: u32,
    /// Whether it may be ended at all: it keeps checkpoints.
    pub preemptible: bool,
}

/// Why a job waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// For jobs that must succeed before.
    After(Vec<JobId>),
    /// No policy, or no factory's terms, permit it anywhere.
    Refused,
    /// Where it may run there is no room.
    NoRoom,
    /// Factories have what it needs, at a price above its limit.
    Price,
    /// No factory that may run it has what it needs.
    Unfit,
    /// Nothing was tried yet.
    Next,
    /// A factory is being asked.
    Asked,
    /// A person has to say whether it runs again.
    Held,
    /// Room is kept for a job that has waited longer.
    Kept(JobId),
}

/// What to do on a pool.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Start these, in this order, once the ones below have ended.
    pub start: Vec<JobId>,
    /// End these.
    pub preempt: Vec<JobId>,
    /// The first that does not fit, and when it does at the latest.
    pub blocked: Option<(JobId, u64)>,
}

/// The order of waiting jobs. What is taken from it changes the tenants' shares, and so who is next.
#[derive(Debug)]
pub struct Queue<'a> {
    starving: VecDeque<Waiting<'a>>,
    /// By priority, the highest last; then by tenant.
    levels: BTreeMap<u64, BTreeMap<&'a TenantId, VecDeque<Waiting<'a>>>>,
    in_use: BTreeMap<&'a TenantId, Resources>,
    whole: Resources,
}

impl<'a> Queue<'a> {
    /// Puts jobs in order. `in_use` is what each tenant has of the `whole`.
    pub fn new(
        waiting: impl IntoIterator<Item = Waiting<'a>>,
        in_use: BTreeMap<&'a TenantId, Resources>,
        whole: Resources,
        now_ms: u64,
        rules: &Rules,
    ) -> Self {
        let mut all: Vec<Waiting<'a>> = waiting.into_iter().collect();
        all.sort_by_key(|one| (one.since_ms, one.serial));
        let mut queue = Self { starving: VecDeque::new(), levels: BTreeMap::new(), in_use, whole };
        for one in all {
            let waited = now_ms.saturating_sub(one.since_ms);
            if waited >= rules.starve_ms {
                queue.starving.push_back(one);
                continue;
            }
            let level = u64::from(one.priority).saturating_add(waited.checked_div(rules.ageing_ms).unwrap_or(0));
            queue.levels.entry(level).or_default().entry(one.tenant).or_default().push_back(one);
        }
        queue
    }

    /// Who is next, and whether they starve.
    pub fn pop(&mut self) -> Option<(Waiting<'a>, bool)> {
        if let Some(first) = self.starving.pop_front() {
            return Some((first, true));
        }
        let mut level = self.levels.last_entry()?;
        let tenants = level.get_mut();
        let share = |tenant: &TenantId| self.in_use.get(tenant).map_or(0, |used| used.dominant_share_ppm(&self.whole));
        let first = |line: &VecDeque<Waiting<'_>>| line.front().map_or((0, 0), |one| (one.since_ms, one.serial));
        let least =
            tenants.iter().min_by_key(|(tenant, line)| (share(tenant), first(line))).map(|(tenant, _)| *tenant)?;
        let line = tenants.get_mut(least)?;
        let next = line.pop_front();
        if line.is_empty() {
            tenants.remove(least);
        }
        if tenants.is_empty() {
            level.remove();
        }
        next.map(|one| (one, false))
    }

    /// Something was given to a tenant.
    pub fn took(&mut self, tenant: &'a TenantId, amounts: &Resources) {
        let used = self.in_use.entry(tenant).or_default();
        *used = used.and(amounts);
    }
}

/// What to start and to end on a pool of resources.
pub fn plan<'a>(
    waiting: Vec<Waiting<'a>>,
    running: &[Running<'a>],
    whole: Resources,
    now_ms: u64,
    rules: &Rules,
) -> Plan {
    let mut in_use: BTreeMap<&TenantId, Resources> = BTreeMap::new();
    let mut used = Resources::default();
    for one in running {
        let of = in_use.entry(one.job.tenant).or_default();
        *of = of.and(&one.job.needs);
        used = used.and(&one.job.needs);
    }
    let mut free = whole.less(&used).unwrap_or_default();
    let mut plan = Plan::default();
    let mut queue = Queue::new(waiting, in_use, whole, now_ms, rules);
    let mut ends: Vec<(u64, Resources)> =
        running.iter().map(|one| (one.started_ms.saturating_add(one.job.wall_ms), one.job.needs)).collect();
    while let Some((next, _)) = queue.pop() {
        if !whole.holds(&next.needs) {
            continue;
        }
        if let Some(left) = free.less(&next.needs) {
            free = left;
            ends.push((now_ms.saturating_add(next.wall_ms), next.needs));
            queue.took(next.tenant, &next.needs);
            plan.start.push(next.job);
            continue;
        }
        if let Some(ended) = victims(&next, running, free, rules) {
            plan.preempt = ended;
            plan.start.push(next.job);
            return plan;
        }
        let (at_ms, spare) = shadow(&next.needs, free, &mut ends);
        plan.blocked = Some((next.job, at_ms));
        backfill(&mut queue, &mut plan, (free, spare), (now_ms, at_ms), rules);
        return plan;
    }
    plan
}

/// Starts jobs behind the blocked one where that does not delay it.
fn backfill(
    queue: &mut Queue<'_>,
    plan: &mut Plan,
    (mut free, mut spare): (Resources, Resources),
    (now_ms, shadow_ms): (u64, u64),
    rules: &Rules,
) {
    for _ in 0..rules.backfill_max {
        let Some((next, _)) = queue.pop() else { return };
        let Some(left) = free.less(&next.needs) else { continue };
        let in_time = now_ms.saturating_add(next.wall_ms) <= shadow_ms;
        match (in_time, spare.less(&next.needs)) {
            (true, _) => {}
            (false, Some(rest)) => spare = rest,
            (false, None) => continue,
        }
        free = left;
        queue.took(next.tenant, &next.needs);
        plan.start.push(next.job);
    }
}

/// When enough has ended for a job, and what is left besides it then.
fn shadow(needs: &Resources, free: Resources, ends: &mut [(u64, Resources)]) -> (u64, Resources) {
    ends.sort_unstable();
    let mut then = free;
    for (at_ms, amounts) in ends.iter() {
        then = then.and(amounts);
        if let Some(spare) = then.less(needs) {
            return (*at_ms, spare);
        }
    }
    (u64::MAX, Resources::default())
}

/// The jobs to end for one of higher priority: the lowest first, the latest started first, none that is spared by the budget.
fn victims(next: &Waiting<'_>, running: &[Running<'_>], free: Resources, rules: &Rules) -> Option<Vec<JobId>> {
    let may = |one: &&Running<'_>| {
        one.preemptible && one.preempted < rules.preemptions_max && one.job.priority < next.priority
    };
    let mut able: Vec<&Running<'_>> = running.iter().filter(may).collect();
    able.sort_by_key(|one| (one.job.priority, std::cmp::Reverse(one.started_ms), one.job.job));
    let mut then = free;
    let mut ended = Vec::new();
    for one in able {
        then = then.and(&one.job.needs);
        ended.push(one.job.job);
        if then.holds(&next.needs) {
            return Some(ended);
        }
    }
    None
}

#[cfg(test)]
mod tests;
