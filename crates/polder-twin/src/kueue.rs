//! The queue of jobs against Kueue's published baseline: the same jobs on the same quotas, in virtual time.
//!
//! The numbers of the generator are those of `test/performance/scheduler/configs/baseline/generator.yaml` in
//! kubernetes-sigs/kueue: five cohorts of six queues with a quota of 20 each, which may borrow all of their cohort's 120. Kueue's own run goes through an API server
//! in real time; here deciding takes no virtual time, so that what is compared is the order and the packing alone.

use std::collections::BTreeMap;

use polder_core::ids::{IdError, TenantId};
use polder_core::job::queue::{Rules, Running, Waiting, plan};
use polder_core::job::{JobId, Resources};

const COHORTS: usize = 5;
const QUEUES: usize = 6;
/// Each queue's quota, in cores.
const QUOTA: u32 = 20;

/// A class of jobs: name, how many in each queue, milliseconds between two, milliseconds of one, priority, cores.
const CLASSES: [(&str, u64, u64, u64, u8, u32); 3] =
    [("small", 350, 100, 200, 25, 1), ("medium", 100, 500, 500, 50, 5), ("large", 50, 1_200, 1_000, 100, 20)];

/// What the baseline came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Baseline {
    /// How many jobs ran.
    pub jobs: u64,
    /// The sum of the times to admission of each class, in milliseconds, and how many jobs it has.
    pub classes: BTreeMap<&'static str, (u64, u64)>,
    /// When the last job ended, in virtual milliseconds.
    pub wall_ms: u64,
    /// How often the queue was asked.
    pub plans: u64,
}

#[derive(Clone, Copy)]
struct Job {
    class: usize,
    queue: usize,
    created_ms: u64,
    started_ms: Option<u64>,
}

/// Runs the baseline.
pub fn baseline() -> Result<Baseline, IdError> {
    let tenants = (0..QUEUES).map(|queue| TenantId::parse(&format!("queue-{queue}"))).collect::<Result<Vec<_>, _>>()?;
    let mut all = Baseline::default();
    for _ in 0..COHORTS {
        cohort(&tenants, &mut all);
    }
    Ok(all)
}

/// One cohort, from its first job to its last.
fn cohort(tenants: &[TenantId], all: &mut Baseline) {
    let mut jobs: Vec<Job> = Vec::new();
    for (class, (_, count, every_ms, ..)) in CLASSES.iter().enumerate() {
        for queue in 0..tenants.len() {
            jobs.extend((0..*count).map(|n| Job { class, queue, created_ms: n * every_ms, started_ms: None }));
        }
    }
    jobs.sort_by_key(|job| job.created_ms);
    let whole = cores(QUOTA * u32::try_from(tenants.len()).unwrap_or(0));
    let (mut arrived, mut waiting, mut active): (usize, Vec<usize>, Vec<usize>) = (0, Vec::new(), Vec::new());
    let mut now_ms = 0;
    loop {
        active.retain(|at| jobs.get(*at).is_some_and(|job| ends(job) > now_ms));
        while jobs.get(arrived).is_some_and(|job| job.created_ms <= now_ms) {
            waiting.push(arrived);
            arrived += 1;
        }
        let running: Vec<Running<'_>> = active.iter().filter_map(|at| running(*at, jobs.get(*at)?, tenants)).collect();
        let queue = waiting.iter().filter_map(|at| of(*at, jobs.get(*at)?, tenants)).collect();
        let started = plan(queue, &running, whole, now_ms, &Rules::default()).start;
        all.plans += 1;
        for id in started {
            let at =
                usize::try_from(u64::from_be_bytes(id.0.first_chunk::<8>().copied().unwrap_or_default())).unwrap_or(0);
            let Some(job) = jobs.get_mut(at) else { continue };
            job.started_ms = Some(now_ms);
            let Some((name, _, _, runs_ms, ..)) = CLASSES.get(job.class) else { continue };
            let (waited, count) = all.classes.entry(name).or_default();
            (*waited, *count) = (*waited + now_ms - job.created_ms, *count + 1);
            all.wall_ms = all.wall_ms.max(now_ms + runs_ms);
            all.jobs += 1;
            active.push(at);
            waiting.retain(|other| *other != at);
        }
        let next_end = active.iter().filter_map(|at| jobs.get(*at)).map(ends).min();
        let next_start = jobs.get(arrived).map(|job| job.created_ms);
        match [next_end, next_start].into_iter().flatten().min() {
            Some(next) => now_ms = next,
            None => return,
        }
    }
}

fn ends(job: &Job) -> u64 {
    let runs_ms = CLASSES.get(job.class).map_or(0, |class| class.3);
    job.started_ms.map_or(u64::MAX, |started| started + runs_ms)
}

fn cores(cores: u32) -> Resources {
    Resources { cores, ..Resources::default() }
}

fn of<'a>(at: usize, job: &Job, tenants: &'a [TenantId]) -> Option<Waiting<'a>> {
    let (_, _, _, wall_ms, priority, needs) = *CLASSES.get(job.class)?;
    let serial = u64::try_from(at).ok()?;
    let mut id = [0; 16];
    id.iter_mut().zip(serial.to_be_bytes()).for_each(|(to, from)| *to = from);
    let tenant = tenants.get(job.queue)?;
    Some(Waiting { job: JobId(id), tenant, priority, needs: cores(needs), since_ms: job.created_ms, serial, wall_ms })
}

fn running<'a>(at: usize, job: &Job, tenants: &'a [TenantId]) -> Option<Running<'a>> {
    let started_ms = job.started_ms?;
    Some(Running { job: of(at, job, tenants)?, started_ms, preempted: 0, preemptible: false })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_job_runs_and_no_core_is_used_twice() {
        let tenants: Vec<_> = (0..QUEUES).map(|queue| TenantId::parse(&format!("queue-{queue}")).unwrap()).collect();
        let mut one = Baseline::default();
        cohort(&tenants, &mut one);
        assert_eq!(one.jobs, 3_000);
        // The work of a cohort, in core milliseconds, over its cores, is the least that any order can take.
        let work: u64 = CLASSES.iter().map(|(_, count, _, ms, _, cores)| 6 * count * ms * u64::from(*cores)).sum();
        assert!(one.wall_ms >= work / 120, "{} ms", one.wall_ms);
        assert!(one.wall_ms <= 2 * work / 120, "{} ms", one.wall_ms);
    }
}
