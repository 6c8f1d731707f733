//! Tests of the retry budget: never more than its share, and never nothing for ever.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::*;
use proptest::prelude::*;

const LIMITS: Limits = Limits { percent: 20, per_s: 10 };

#[test]
fn a_quiet_home_has_ten_a_second_and_a_busy_one_a_fifth() {
    let mut budget = RetryBudget::new(0, &LIMITS);
    assert_eq!((0..1_000).filter(|_| budget.take(0, 0, &LIMITS)).count(), 10);
    assert_eq!((0..1_000).filter(|_| budget.take(1_000, 0, &LIMITS)).count(), 10);
    // A thousand requests, each of which fails once.
    assert_eq!((0..1_000).filter(|_| budget.take(1_000, 1, &LIMITS)).count(), 200);
}

#[test]
fn a_limit_of_nothing_allows_nothing() {
    let none = Limits { percent: 0, per_s: 0 };
    let mut budget = RetryBudget::new(0, &none);
    assert!(!(0..1_000).any(|n| budget.take(n * 1_000, 1_000, &none)));
}

#[test]
fn pauses_grow_within_bounds() {
    for random in [0, 1, 19, 20, u64::MAX] {
        assert!((1..=20).contains(&pause_ms(1, random)));
        assert!((1..=40).contains(&pause_ms(2, random)));
        assert!((1..=500).contains(&pause_ms(u32::MAX, random)));
    }
    assert_ne!(pause_ms(1, 3), pause_ms(1, 4));
}

proptest! {
    #[test]
    fn retries_are_never_more_than_their_share(steps in proptest::collection::vec((0u64..500, 0u64..20), 1..300)) {
        let mut budget = RetryBudget::new(0, &LIMITS);
        let (mut now_ms, mut requests, mut retries) = (0, 0, 0u64);
        for (wait, begun) in steps {
            now_ms += wait;
            requests += begun;
            retries += u64::from(budget.take(now_ms, begun, &LIMITS));
            prop_assert!(retries * 1_000 <= 10_000 + requests * 200 + now_ms * 10);
        }
    }
}
