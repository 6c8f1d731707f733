//! Many schedules, one seed after another, on several threads.
//!
//! A seed is a schedule wherever it runs, and what is added up does not hang on which thread ran what. Printing is absent.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::{Counts, Realm, Report, run};

/// Most offers of a job, on average.
pub const OFFERS_PER_JOB_MAX: u64 = 2;
/// Fewest schedules that have an average.
const AVERAGE_OF: u64 = 1_000;
/// One schedule in so many is run twice, and must leave the same trace.
const TWICE: u64 = 50;

/// What many schedules came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// What was violated, by seed.
    pub violations: BTreeMap<u64, Vec<String>>,
    /// What was counted.
    pub counts: Counts,
    /// Over all traces.
    pub hash: u64,
    /// How many schedules were run.
    pub schedules: u64,
}

/// Runs the schedules of `seed`, `seed + 1` and so on; with `first`, until one is violated.
pub fn many(schedules: u64, seed: u64, threads: usize, first: bool) -> Result<Found, String> {
    let (next, stop, found) = (AtomicU64::new(0), AtomicBool::new(false), Mutex::new(Found::default()));
    let failed = Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| match Realm::new() {
                Ok(realm) => {
                    let own = work(&realm, (schedules, seed, first), &next, &stop);
                    drop(found.lock().map(|mut found| found.add(own)));
                }
                Err(error) => drop(failed.lock().map(|mut failed| *failed = Some(error))),
            });
        }
    });
    if let Some(error) = failed.into_inner().ok().flatten() {
        return Err(error);
    }
    let mut found = found.into_inner().map_err(|e| e.to_string())?;
    if found.schedules >= AVERAGE_OF && found.counts.offers > found.counts.jobs * OFFERS_PER_JOB_MAX {
        let what = format!("{} offers for {} jobs", found.counts.offers, found.counts.jobs);
        found.violations.entry(seed).or_default().push(what);
    }
    Ok(found)
}

fn work(realm: &Realm, (schedules, seed, first): (u64, u64, bool), next: &AtomicU64, stop: &AtomicBool) -> Found {
    let mut own = Found::default();
    while !stop.load(Ordering::Relaxed) {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= schedules {
            break;
        }
        let seed = seed.wrapping_add(number);
        let report = one(realm, seed, number.is_multiple_of(TWICE));
        own.counts = own.counts.and(report.counts);
        own.schedules += 1;
        own.hash = own.hash.wrapping_add(report.hash ^ seed);
        if !report.violations.is_empty() {
            own.violations.insert(seed, report.violations);
            if first {
                stop.store(true, Ordering::Relaxed);
            }
        }
    }
    own
}

/// One schedule; a panic is a violation like others.
fn one(realm: &Realm, seed: u64, twice: bool) -> Report {
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let mut report = run(realm, seed);
        if twice && run(realm, seed).hash != report.hash {
            report.violations.push("the same seed left another trace".to_owned());
        }
        report
    }));
    caught.unwrap_or_else(|_| Report { seed, violations: vec!["a machine panicked".to_owned()], ..Report::default() })
}

impl Found {
    fn add(&mut self, mut other: Self) {
        self.violations.append(&mut other.violations);
        self.counts = self.counts.and(other.counts);
        self.hash = self.hash.wrapping_add(other.hash);
        self.schedules += other.schedules;
    }
}
