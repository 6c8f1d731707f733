//! Tests of the simulator itself: a seed is a schedule, and some schedules hold. Many of them: `tests/chance.rs`.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use super::*;

#[test]
fn a_seed_is_a_schedule() {
    let realm = Realm::new().unwrap();
    for seed in 0..20 {
        let (first, second) = (run(&realm, seed), run(&realm, seed));
        assert_eq!(first, second);
        assert_eq!(first.violations, Vec::<String>::new(), "seed {seed}");
    }
}
