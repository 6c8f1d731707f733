use super::*;

/// `POLDER_SCHEDULES` and `POLDER_SEED` make it longer or another one; `cargo xtask soak federation` runs millions.
#[test]
fn a_seed_is_a_schedule() {
    let realm = Realm::new().unwrap();
    for seed in 0..20 {
        let (first, second) = (run(&realm, seed), run(&realm, seed));
        assert_eq!(first, second);
        assert_eq!(first.violations, Vec::<String>::new(), "seed {seed}");
    }
}
