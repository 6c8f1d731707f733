//! Tests of the queue: order, shares, ageing, backfill, the budget of preemption, and the bound on starving.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use super::*;

fn cores(cores: u32) -> Resources {
    Resources { cores, ..Resources::default() }
}

fn tenant(name: &str) -> TenantId {
    TenantId::parse(name).unwrap()
}

fn waiting(n: u8, tenant: &TenantId, priority: u8, needs: Resources, since_ms: u64) -> Waiting<'_> {
    Waiting { job: JobId([n; 16]), tenant, priority, needs, since_ms, serial: u64::from(n), wall_ms: 1_000 }
}

fn running(job: Waiting<'_>, started_ms: u64) -> Running<'_> {
    Running { job, started_ms, preempted: 0, preemptible: true }
}

fn order(all: Vec<Waiting<'_>>, whole: Resources, now_ms: u64, rules: &Rules) -> Vec<u8> {
    let mut queue = Queue::new(all, BTreeMap::new(), whole, now_ms, rules);
    let mut order = Vec::new();
    while let Some((one, _)) = queue.pop() {
        queue.took(one.tenant, &one.needs);
        order.push(one.job.0[0]);
    }
    order
}

#[test]
fn priority_then_share_then_coming() {
    let (a, b) = (tenant("a"), tenant("b"));
    let all = vec![
        waiting(1, &a, 50, cores(4), 0),
        waiting(2, &a, 50, cores(4), 1),
        waiting(3, &b, 50, cores(1), 2),
        waiting(4, &b, 90, cores(1), 3),
        waiting(5, &b, 50, cores(1), 4),
    ];
    // 4 by its priority; then `a`, who has nothing; then `b` twice, whose share stays below.
    assert_eq!(order(all, cores(16), 10, &Rules::default()), [4, 1, 3, 5, 2]);
}

#[test]
fn the_dominant_resource_counts() {
    let (a, b) = (tenant("a"), tenant("b"));
    let whole = Resources { accelerators: 10, cores: 1_000, memory_mib: 0 };
    let gpu = Resources { accelerators: 2, cores: 1, memory_mib: 0 };
    let all = vec![
        waiting(1, &a, 50, gpu, 0),
        waiting(2, &b, 50, cores(100), 1),
        waiting(3, &b, 50, cores(90), 2),
        waiting(4, &a, 50, gpu, 3),
    ];
    // `a` has a fifth of the accelerators, `b` a tenth and then 19 % of the cores.
    assert_eq!(order(all, whole, 5, &Rules::default()), [1, 2, 3, 4]);
}

#[test]
fn who_waits_moves_up_and_who_starves_is_first() {
    let a = tenant("a");
    let rules = Rules { ageing_ms: 100, starve_ms: 10_000, ..Rules::default() };
    let all = |now: u64| vec![waiting(1, &a, 10, cores(1), 0), waiting(2, &a, 50, cores(1), now)];
    assert_eq!(order(all(3_900), cores(4), 3_900, &rules), [2, 1]);
    assert_eq!(order(all(4_100), cores(4), 4_100, &rules), [1, 2]);
    let late = vec![waiting(1, &a, 0, cores(1), 0), waiting(2, &a, 100, cores(1), 9_999)];
    assert_eq!(order(late.clone(), cores(4), 9_999, &rules), [2, 1]);
    assert_eq!(order(late, cores(4), 10_000, &rules), [1, 2]);
}

#[test]
fn backfill_never_delays_the_first() {
    let a = tenant("a");
    let rules = Rules::default();
    let held = running(Waiting { wall_ms: 5_000, ..waiting(9, &a, 90, cores(6), 0) }, 0);
    let large = waiting(1, &a, 80, cores(10), 0);
    let short = Waiting { wall_ms: 4_000, ..waiting(2, &a, 50, cores(4), 0) };
    let long = Waiting { wall_ms: 6_000, ..waiting(3, &a, 50, cores(4), 0) };
    let plan_of = |all| plan(all, &[held], cores(10), 0, &rules);
    let with_short = plan_of(vec![large, short]);
    assert_eq!(with_short, Plan { start: vec![short.job], preempt: vec![], blocked: Some((large.job, 5_000)) });
    assert_eq!(plan_of(vec![large, long]).start, []);
    // What the first leaves free even then may be used for long.
    let smaller = Waiting { needs: cores(7), ..large };
    let thin = Waiting { needs: cores(3), ..long };
    assert_eq!(plan_of(vec![smaller, thin]).start, [thin.job]);
}

#[test]
fn the_budget_spares_jobs_from_being_ended() {
    let a = tenant("a");
    let rules = Rules { preemptions_max: 1, ..Rules::default() };
    let low = running(waiting(1, &a, 10, cores(4), 0), 0);
    let later = running(waiting(2, &a, 10, cores(4), 0), 500);
    let high = waiting(3, &a, 90, cores(4), 600);
    let with = |running: &[Running<'_>]| plan(vec![high], running, cores(8), 600, &rules);
    assert_eq!(with(&[low, later]).preempt, [later.job.job]);
    let spent = Running { preempted: 1, ..later };
    assert_eq!(with(&[low, spent]).preempt, [low.job.job]);
    let spared = Running { preemptible: false, ..low };
    let none = with(&[spared, spent]);
    assert_eq!((none.preempt.len(), none.start.len(), none.blocked.is_some()), (0, 0, true));
    let equal = Running { job: Waiting { priority: 90, ..low.job }, ..low };
    assert_eq!(with(&[equal, spent]).preempt, []);
}

/// Small jobs of high priority never stop coming, and still the large one starts within the bound that is promised.
#[test]
fn nobody_starves_longer_than_is_promised() {
    let (a, b) = (tenant("a"), tenant("b"));
    let rules = Rules { ageing_ms: 0, starve_ms: 20_000, preemptions_max: 0, backfill_max: 100 };
    let large = waiting(1, &a, 0, cores(8), 0);
    let mut left: Vec<Waiting<'_>> = vec![large];
    let mut active: Vec<Running<'_>> = Vec::new();
    for now_ms in (0..60_000).step_by(100) {
        active.retain(|one| one.started_ms + one.job.wall_ms > now_ms);
        let serial = 2 + now_ms / 100;
        let mut job = [0; 16];
        job[..8].copy_from_slice(&serial.to_be_bytes());
        left.push(Waiting { job: JobId(job), serial, ..waiting(0, &b, 100, cores(1), now_ms) });
        let plan = plan(left.clone(), &active, cores(8), now_ms, &rules);
        if plan.start.contains(&large.job) {
            assert!(now_ms >= 20_000, "it could not have started before it starved: the others were enough");
            assert!(now_ms <= 20_000 + 1_000, "it started {now_ms} ms after it came");
            return;
        }
        let started: Vec<_> = left.iter().filter(|one| plan.start.contains(&one.job)).copied().collect();
        left.retain(|one| !plan.start.contains(&one.job));
        active.extend(started.into_iter().map(|job| running(job, now_ms)));
    }
    panic!("the large job never started");
}
