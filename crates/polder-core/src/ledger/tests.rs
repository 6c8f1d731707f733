//! Tests of the ledger: each rule by itself, and all of them under random interleavings, crashes and threads.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use proptest::prelude::*;

use super::*;

const NOW: u64 = 1_795_359_600_000;
const DAY: u64 = 86_400_000;

fn budget(microeur: u64, window: Window) -> Limits {
    Limits { budget: Some(Budget { microeur, window }), ..Limits::default() }
}

#[test]
fn a_token_costs_its_share_rounded_up() {
    assert_eq!(cost_microeur(0, 400_000), 0);
    assert_eq!(cost_microeur(1, 400_000), 1);
    assert_eq!(cost_microeur(5, 400_000), 2);
    assert_eq!(cost_microeur(1_000_000, 400_000), 400_000);
    assert_eq!(cost_microeur(u64::MAX, u64::MAX), u64::MAX);
}

#[test]
fn periods_are_those_of_the_calendar() {
    let month = |at_ms| Window::Month.period(at_ms) - (2 << 40);
    assert_eq!(month(0), 0);
    assert_eq!(month(31 * DAY - 1), 0);
    assert_eq!(month(31 * DAY), 1);
    // 2024-02-29 and 2024-03-01, 2026-11-22.
    assert_eq!((month(19_782 * DAY), month(19_783 * DAY)), (54 * 12 + 1, 54 * 12 + 2));
    assert_eq!(month(NOW), 56 * 12 + 10);
    assert_eq!(Window::Day.period(NOW) - (1 << 40), NOW / DAY);
    assert_eq!(Window::Total.period(NOW), 0);
}

#[test]
fn a_bucket_lets_through_its_rate_and_says_when_again() {
    let mut bucket = Bucket::new(60, NOW);
    for _ in 0..60 {
        assert_eq!(bucket.can(1, NOW), Ok(()));
        bucket.take(1);
    }
    let wait = bucket.can(1, NOW).unwrap_err();
    assert!((1_000..=1_001).contains(&wait), "{wait}");
    assert!(bucket.can(1, NOW + 999).is_err());
    assert_eq!(bucket.can(1, NOW + wait), Ok(()));
    assert_eq!(bucket.full_in_ms(NOW + wait), 59_000 - (wait - 1_000));
    // What was used and not needed comes back; more than a minute's worth never does.
    bucket.give(1_000);
    assert_eq!(bucket.left(NOW + wait), 60);
    // An amount above the whole runs once it is full, and is owed.
    assert_eq!(bucket.can(600, NOW + wait), Ok(()));
    bucket.take(600);
    assert_eq!(bucket.left(NOW + wait), 0);
    assert!(bucket.can(1, NOW + wait + 500_000).is_err());
    assert_eq!(bucket.can(1, NOW + wait + 541_001), Ok(()));
    // A rate of nothing lets nothing through, ever.
    assert!(Bucket::new(0, NOW).can(0, NOW + DAY).is_err());
}

#[test]
fn a_clock_that_steps_back_fills_nothing() {
    let mut bucket = Bucket::new(60, NOW);
    bucket.take(60);
    assert!(bucket.can(1, NOW - DAY).is_err());
    assert!(bucket.can(1, NOW - DAY + 500).is_err());
    assert_eq!(bucket.can(1, NOW - DAY + 1_001), Ok(()));
}

#[test]
fn a_refused_request_takes_nothing_at_any_level() {
    let mut purses = Purses::default();
    let narrow = Limits { requests_per_minute: Some(2), streams: Some(1), ..Limits::default() };
    let wide = Limits { requests_per_minute: Some(10), tokens_per_minute: Some(1_000), ..Limits::default() };
    let key = purses.add(&narrow, NOW);
    let project = purses.add(&Limits::default(), NOW);
    let tenant = purses.add(&wide, NOW);
    let path = [key, project, tenant];
    let hold = purses.reserve(path, 100, 5, NOW).unwrap();
    assert_eq!(purses.reserve(path, 100, 5, NOW).unwrap_err(), Refused { level: 0, short: Short::Streams });
    assert_eq!(purses.settle(hold, 40, 5), 5);
    let [requests, tokens] = purses.rates(&path, NOW);
    assert_eq!((requests.unwrap().left(NOW), tokens.unwrap().left(NOW)), (1, 960));
    let hold = purses.reserve(path, 2_000, 5, NOW);
    assert!(matches!(hold, Err(Refused { level: 2, short: Short::Tokens(_) })), "{hold:?}");
    let [requests, tokens] = purses.rates(&path, NOW);
    assert_eq!((requests.unwrap().left(NOW), tokens.unwrap().left(NOW)), (1, 960));
}

/// A gateway with its ledger, as the node puts them together.
struct World {
    purses: Vec<Purses>,
    books: BTreeMap<(usize, u64), Standing>,
    limits: [Limits; 3],
    path: Path,
}

impl World {
    fn new(gateways: usize, limits: [Limits; 3]) -> Self {
        let mut path = None;
        let mut made = || {
            let mut purses = Purses::default();
            path = Some([0, 1, 2].map(|level: usize| purses.add(&limits[level], NOW)));
            purses
        };
        let purses = (0..gateways).map(|_| made()).collect();
        Self { purses, books: BTreeMap::new(), limits, path: path.unwrap() }
    }

    fn flush(&mut self, gateway: usize, now: u64, closing: bool) {
        let mut list = Vec::new();
        self.purses[gateway].flushes(now, closing, &mut list);
        for mut flush in list {
            self.purses[gateway].begin(&mut flush);
            let level = self.path.iter().position(|account| *account == flush.account).unwrap();
            let book = self.books.entry((level, flush.period)).or_default();
            book.settle(flush.spent);
            book.take_back(flush.unused);
            let granted = book.lend(flush.wanted, flush.budget);
            self.purses[gateway].flushed(&flush, granted);
        }
    }

    /// The gateway is gone with what it held; another one begins with nothing.
    fn crash(&mut self, gateway: usize) {
        let mut purses = Purses::default();
        for limits in &self.limits {
            purses.add(limits, NOW);
        }
        self.purses[gateway] = purses;
    }

    fn check(&self) {
        for ((level, period), book) in &self.books {
            let most = self.limits[*level].budget.unwrap().microeur;
            assert!(book.spent + book.lent <= most, "level {level}, period {period}: {book:?} of {most}");
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Ask { gateway: usize, microeur: u64 },
    Grow { answer: usize, microeur: u64 },
    End { answer: usize, share: u64 },
    Flush { gateway: usize },
    Crash { gateway: usize },
    Wait { ms: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..2_usize, 0..40_u64).prop_map(|(gateway, microeur)| Step::Ask { gateway, microeur }),
        4 => (0..16_usize, 0..20_u64).prop_map(|(answer, microeur)| Step::Grow { answer, microeur }),
        // Above 100 an engine claims more than was reserved.
        6 => (0..16_usize, 0..130_u64).prop_map(|(answer, share)| Step::End { answer, share }),
        6 => (0..2_usize).prop_map(|gateway| Step::Flush { gateway }),
        1 => (0..2_usize).prop_map(|gateway| Step::Crash { gateway }),
        1 => (0..DAY).prop_map(|ms| Step::Wait { ms }),
    ]
}

proptest! {
    /// Whatever happens in whatever order, no level pays or could have to pay more than its budget in any period, nothing is
    /// counted twice, and what crashes lose stays counted.
    #[test]
    fn nothing_overruns(
        steps in proptest::collection::vec(step(), 1..300),
        most in [50..2_000_u64, 50..2_000, 50..2_000],
    ) {
        let windows = [Window::Day, Window::Total, Window::Month];
        let limits = [0, 1, 2].map(|level: usize| budget(most[level], windows[level]));
        let mut world = World::new(2, limits);
        let (mut answers, mut now, mut crashed) = (Vec::<(usize, Hold)>::new(), NOW, false);
        // What was paid, and what crashed gateways may have used, by level and period.
        let mut paid: BTreeMap<(usize, u64), u64> = BTreeMap::new();
        let count = |paid: &mut BTreeMap<(usize, u64), u64>, hold: &[(usize, u64)], amount: u64| {
            for place in hold {
                *paid.entry(*place).or_default() += amount;
            }
        };
        let path = world.path;
        let places = |hold: &Hold| -> Vec<(usize, u64)> {
            hold.pays().map(|(account, period)| (path.iter().position(|one| *one == account).unwrap(), period)).collect()
        };
        for step in steps {
            match step {
                Step::Ask { gateway, microeur } => {
                    if let Ok(hold) = world.purses[gateway].reserve(path, 1, microeur, now) {
                        answers.push((gateway, hold));
                    }
                }
                Step::Grow { answer, microeur } => {
                    if let Some((gateway, hold)) = answers.get_mut(answer) {
                        let before = hold.microeur();
                        let grown = world.purses[*gateway].extend(hold, 1, microeur).is_ok();
                        prop_assert_eq!(hold.microeur(), before + if grown { microeur } else { 0 });
                    }
                }
                Step::End { answer, share } => {
                    if answer < answers.len() {
                        let (gateway, hold) = answers.swap_remove(answer);
                        let (used, held) = (hold.microeur() * share / 100, places(&hold));
                        let amount = world.purses[gateway].settle(hold, 1, used);
                        prop_assert!(amount <= used);
                        count(&mut paid, &held, amount);
                    }
                }
                Step::Flush { gateway } => world.flush(gateway, now, false),
                Step::Crash { gateway } => {
                    crashed = true;
                    world.crash(gateway);
                    // Everything that it had reserved may have been used to the last token.
                    for (_, hold) in answers.extract_if(.., |(at, _)| *at == gateway) {
                        count(&mut paid, &places(&hold), hold.microeur());
                    }
                }
                Step::Wait { ms } => now += ms,
            }
            world.check();
            for ((level, period), paid) in &paid {
                prop_assert!(*paid <= most[*level], "level {} paid {} in {}", level, paid, period);
            }
        }
        for (gateway, hold) in answers {
            let held = places(&hold);
            let used = hold.microeur();
            let amount = world.purses[gateway].settle(hold, 1, used);
            prop_assert_eq!(amount, used);
            count(&mut paid, &held, amount);
        }
        for gateway in [0, 1] {
            world.flush(gateway, now, true);
        }
        world.check();
        for (place, amount) in &paid {
            let book = world.books.get(place).copied().unwrap_or_default();
            if crashed {
                prop_assert!(book.spent + book.lent >= *amount, "{:?} {:?} {}", place, book, amount);
            } else {
                prop_assert_eq!(book, Standing { spent: *amount, lent: 0 });
            }
        }
    }
}

#[test]
fn a_budget_is_used_to_its_end() {
    let mut world = World::new(1, [budget(1_000, Window::Total), Limits::default(), Limits::default()]);
    let mut placed = 0;
    loop {
        match world.purses[0].reserve(world.path, 1, 10, NOW) {
            Ok(hold) => {
                assert_eq!(world.purses[0].settle(hold, 1, 10), 10);
                placed += 1;
            }
            Err(Refused { short: Short::Money { last: true }, .. }) => break,
            Err(refused) => {
                assert_eq!(refused.short, Short::Money { last: false });
                world.flush(0, NOW, false);
            }
        }
    }
    assert_eq!(placed, 100);
    // More money, and it goes on.
    world.limits[0] = budget(1_010, Window::Total);
    let (account, limits) = (world.path[0], world.limits[0]);
    world.purses[0].set(account, &limits, NOW);
    world.flush(0, NOW, false);
    assert!(world.purses[0].reserve(world.path, 1, 10, NOW).is_ok());
}

#[test]
fn a_budget_that_comes_and_goes_settles_what_was_reserved_from_it() {
    let mut world = World::new(1, [Limits::default(); 3]);
    let (account, path) = (world.path[1], world.path);
    let free = world.purses[0].reserve(path, 1, 500, NOW).unwrap();
    world.limits[1] = budget(100, Window::Day);
    let with = world.limits[1];
    world.purses[0].set(account, &with, NOW);
    world.flush(0, NOW, false);
    let refused = world.purses[0].reserve(path, 1, 90, NOW).unwrap_err();
    assert_eq!(refused.short, Short::Money { last: false });
    world.flush(0, NOW, false);
    let held = world.purses[0].reserve(path, 1, 90, NOW).unwrap();
    // The request from before the budget is not paid from it, and frees nothing of it.
    assert_eq!(world.purses[0].settle(free, 1, 500), 500);
    assert!(world.purses[0].reserve(path, 1, 90, NOW).is_err());
    world.purses[0].set(account, &Limits::default(), NOW);
    assert_eq!(world.purses[0].settle(held, 1, 60), 60);
    world.flush(0, NOW, false);
    let period = Window::Day.period(NOW);
    assert_eq!(world.books[&(1, period)], Standing { spent: 60, lent: 0 });
}

#[test]
#[allow(clippy::disallowed_methods)] // Threads are what this is about.
fn threads_share_a_purse_without_overrun() {
    let world = Arc::new(Mutex::new(World::new(1, [budget(10_000, Window::Total); 3])));
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let world = Arc::clone(&world);
            std::thread::spawn(move || {
                let mut paid = 0;
                loop {
                    let mut held = world.lock().unwrap();
                    let path = held.path;
                    let reserved = held.purses[0].reserve(path, 7, 7, NOW);
                    match reserved {
                        Ok(hold) => {
                            drop(held);
                            std::thread::yield_now();
                            paid += world.lock().unwrap().purses[0].settle(hold, 7, 5);
                        }
                        Err(Refused { short: Short::Money { last: true }, .. }) => return paid,
                        Err(_) => held.flush(0, NOW, false),
                    }
                }
            })
        })
        .collect();
    let paid: u64 = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
    let mut world = Arc::into_inner(world).unwrap().into_inner().unwrap();
    world.flush(0, NOW, true);
    world.check();
    assert!(paid > 9_900 && paid <= 10_000, "{paid}");
    assert_eq!(world.books.values().map(|book| book.spent).collect::<Vec<_>>(), [paid; 3]);
}
