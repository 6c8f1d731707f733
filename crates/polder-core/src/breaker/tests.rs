//! Tests of the breaker: it opens after failures in a row, lets one probe through, heals, and never stays open for ever.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::*;
use proptest::prelude::*;

const LIMITS: Limits = Limits { failures: 3, forget_ms: 10_000, open_ms: 1_000, open_ms_max: 5_000, probe_ms: 500 };

fn fail(breaker: &mut Breaker, now_ms: u64) {
    let pass = breaker.enter(now_ms, &LIMITS).unwrap();
    breaker.failed(pass, now_ms, &LIMITS);
}

#[test]
fn failures_in_a_row_open_it_and_a_probe_heals_it() {
    let mut breaker = Breaker::default();
    fail(&mut breaker, 1);
    fail(&mut breaker, 2);
    assert_eq!(breaker.standing(2), Standing::Closed);
    fail(&mut breaker, 3);
    assert_eq!(breaker.standing(1_002), Standing::Open { until_ms: 1_003 });
    assert_eq!(breaker.enter(1_002, &LIMITS), Err(1_003));
    assert_eq!(breaker.standing(1_003), Standing::HalfOpen);
    let probe = breaker.enter(1_003, &LIMITS).unwrap();
    assert_eq!(breaker.enter(1_004, &LIMITS), Err(1_503), "one probe at a time");
    breaker.answered(probe);
    assert_eq!(breaker.standing(1_004), Standing::Closed);
    assert!(breaker.enter(1_004, &LIMITS).is_ok());
}

#[test]
fn an_answer_in_between_or_a_long_pause_begins_the_row_anew() {
    let mut breaker = Breaker::default();
    for round in 0..10 {
        fail(&mut breaker, round);
        fail(&mut breaker, round);
        breaker.completed();
    }
    assert_eq!(breaker.standing(10), Standing::Closed);
    for round in 1..10 {
        fail(&mut breaker, round * 10_001);
        fail(&mut breaker, round * 10_001);
    }
    assert_eq!(breaker.standing(90_010), Standing::Closed);
    fail(&mut breaker, 90_010);
    assert!(matches!(breaker.standing(90_010), Standing::Open { .. }));
}

#[test]
fn a_first_byte_alone_does_not_hide_answers_that_break_off() {
    let mut breaker = Breaker::default();
    for now_ms in 0..3 {
        let pass = breaker.enter(now_ms, &LIMITS).unwrap();
        breaker.answered(pass);
        breaker.broke(now_ms, &LIMITS);
    }
    assert!(matches!(breaker.standing(3), Standing::Open { .. }));
}

#[test]
fn each_failed_probe_doubles_the_pause_up_to_the_longest() {
    let mut breaker = Breaker::default();
    (0..3).for_each(|_| fail(&mut breaker, 0));
    let mut pauses = Vec::new();
    let mut now_ms = 0;
    for _ in 0..5 {
        let Standing::Open { until_ms } = breaker.standing(now_ms) else { panic!("closed at {now_ms}") };
        pauses.push(until_ms - now_ms);
        now_ms = until_ms;
        fail(&mut breaker, now_ms);
    }
    assert_eq!(pauses, [1_000, 2_000, 4_000, 5_000, 5_000]);
}

#[test]
fn a_probe_that_never_ends_or_goes_away_gives_its_turn_on() {
    let mut breaker = Breaker::default();
    (0..3).for_each(|_| fail(&mut breaker, 0));
    let gone = breaker.enter(1_000, &LIMITS).unwrap();
    breaker.undecided(gone, 1_001);
    let lost = breaker.enter(1_001, &LIMITS).unwrap();
    assert_eq!(breaker.enter(1_500, &LIMITS), Err(1_501));
    let next = breaker.enter(1_501, &LIMITS).unwrap();
    // What the lost one says at last is about another time.
    breaker.failed(lost, 1_502, &LIMITS);
    breaker.answered(lost);
    assert_eq!(breaker.standing(1_502), Standing::Probing { until_ms: 2_001 });
    breaker.answered(next);
    assert_eq!(breaker.standing(1_502), Standing::Closed);
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Enter,
    Answered(usize),
    Failed(usize),
    Undecided(usize),
    Broke,
    Completed,
    Wait(u64),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Enter),
        2 => (0usize..8).prop_map(Step::Answered),
        4 => (0usize..8).prop_map(Step::Failed),
        1 => (0usize..8).prop_map(Step::Undecided),
        1 => Just(Step::Broke),
        1 => Just(Step::Completed),
        3 => (0u64..3_000).prop_map(Step::Wait),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_it_probes_one_by_one_and_can_heal(steps in proptest::collection::vec(any_step(), 0..200)) {
        let (mut breaker, mut now_ms, mut passes) = (Breaker::default(), 0, Vec::new());
        for step in steps {
            let before = breaker.standing(now_ms);
            match step {
                Step::Enter => match (before, breaker.enter(now_ms, &LIMITS)) {
                    (Standing::Closed | Standing::HalfOpen, Ok(pass)) => passes.push(pass),
                    (Standing::Open { until_ms } | Standing::Probing { until_ms }, Err(until)) => {
                        prop_assert_eq!(until, until_ms);
                    }
                    other => prop_assert!(false, "{other:?}"),
                },
                Step::Answered(n) => { passes.get(n).iter().for_each(|pass| breaker.answered(**pass)); }
                Step::Failed(n) => { passes.get(n).iter().for_each(|pass| breaker.failed(**pass, now_ms, &LIMITS)); }
                Step::Undecided(n) => { passes.get(n).iter().for_each(|pass| breaker.undecided(**pass, now_ms)); }
                Step::Broke => breaker.broke(now_ms, &LIMITS),
                Step::Completed => breaker.completed(),
                Step::Wait(ms) => now_ms += ms,
            }
            if let Standing::Open { until_ms } | Standing::Probing { until_ms } = breaker.standing(now_ms) {
                prop_assert!(until_ms <= now_ms + LIMITS.open_ms_max, "it never stays open for ever");
            }
            if before == Standing::HalfOpen && matches!(step, Step::Enter) {
                prop_assert!(breaker.enter(now_ms, &LIMITS).is_err(), "a second probe passed");
            }
        }
        now_ms += LIMITS.open_ms_max;
        let pass = breaker.enter(now_ms, &LIMITS).unwrap();
        breaker.answered(pass);
        prop_assert_eq!(breaker.standing(now_ms), Standing::Closed);
    }
}
