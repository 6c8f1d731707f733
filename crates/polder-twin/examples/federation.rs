//! Runs seeded schedules of faults over the machines of jobs, on every core, and prints what they came to.
//!
//! `cargo xtask soak federation` and `cargo xtask mutants` run it; a failing seed is run again alone with `--tell`. Judging is the
//! library's. Absent: anything that hangs on which thread ran what; a seed is a schedule wherever it runs.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use polder_twin::chance::{Counts, Realm, Report, run, tell};

/// Most offers of a job, on average.
const OFFERS_PER_JOB_MAX: u64 = 2;
/// One schedule in so many is run twice, and must leave the same trace.
const TWICE: u64 = 50;

#[derive(Clone, Copy)]
struct Asked {
    schedules: u64,
    seed: u64,
    json: bool,
    /// Ends at the first violation.
    first: bool,
    tell: Option<u64>,
}

#[derive(Default)]
struct Found {
    violations: BTreeMap<u64, Vec<String>>,
    counts: Counts,
    hash: u64,
    schedules: u64,
}

fn main() -> ExitCode {
    let Some(asked) = read(std::env::args().skip(1)) else {
        eprintln!("federation [--schedules N] [--seed S] [--first] [--tell SEED] [-o table|json]");
        return ExitCode::from(2);
    };
    if let Some(seed) = asked.tell {
        let told = Realm::new().map(|realm| {
            tell(&realm, seed).iter().for_each(|line| println!("{line}"));
            run(&realm, seed)
        });
        return match told {
            Ok(report) => {
                report.violations.iter().for_each(|violation| println!("violation: {violation}"));
                ExitCode::from(u8::from(!report.violations.is_empty()))
            }
            Err(error) => failed(&error),
        };
    }
    let begun = Instant::now();
    match all(asked) {
        Ok(found) => {
            print(&asked, &found, begun.elapsed().as_millis());
            ExitCode::from(u8::from(!found.violations.is_empty()))
        }
        Err(error) => failed(&error),
    }
}

fn failed(error: &str) -> ExitCode {
    eprintln!("the simulation cannot start: {error}");
    ExitCode::from(2)
}

fn read(mut args: impl Iterator<Item = String>) -> Option<Asked> {
    let mut asked = Asked { schedules: 20_000, seed: 1, json: false, first: false, tell: None };
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--schedules" => asked.schedules = args.next()?.parse().ok()?,
            "--seed" => asked.seed = args.next()?.parse().ok()?,
            "--tell" => asked.tell = Some(args.next()?.parse().ok()?),
            "--first" => asked.first = true,
            "-o" => match args.next()?.as_str() {
                "json" => asked.json = true,
                "table" => asked.json = false,
                _ => return None,
            },
            _ => return None,
        }
    }
    Some(asked)
}

/// Runs the schedules of `seed`, `seed + 1` and so on.
fn all(asked: Asked) -> Result<Found, String> {
    let (next, stop, found) = (AtomicU64::new(0), AtomicBool::new(false), Mutex::new(Found::default()));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let failed = Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| match Realm::new() {
                Ok(realm) => work(&asked, &realm, &next, &stop, &found),
                Err(error) => drop(failed.lock().map(|mut failed| *failed = Some(error))),
            });
        }
    });
    if let Some(error) = failed.into_inner().ok().flatten() {
        return Err(error);
    }
    let mut found = found.into_inner().map_err(|e| e.to_string())?;
    // Only many schedules have an average.
    if found.schedules >= 1_000 && found.counts.offers > found.counts.jobs * OFFERS_PER_JOB_MAX {
        let what = format!("{} offers for {} jobs", found.counts.offers, found.counts.jobs);
        found.violations.entry(asked.seed).or_default().push(what);
    }
    Ok(found)
}

fn work(asked: &Asked, realm: &Realm, next: &AtomicU64, stop: &AtomicBool, found: &Mutex<Found>) {
    let mut own = Found::default();
    while !stop.load(Ordering::Relaxed) {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= asked.schedules {
            break;
        }
        let seed = asked.seed.wrapping_add(number);
        let report = one(realm, seed, number.is_multiple_of(TWICE));
        own.counts = own.counts.and(report.counts);
        own.schedules += 1;
        // Added up, so that the order in which threads finish does not show.
        own.hash = own.hash.wrapping_add(report.hash ^ seed);
        if !report.violations.is_empty() {
            own.violations.insert(seed, report.violations);
            if asked.first {
                stop.store(true, Ordering::Relaxed);
            }
        }
    }
    if let Ok(mut found) = found.lock() {
        found.violations.append(&mut own.violations);
        found.counts = found.counts.and(own.counts);
        found.hash = found.hash.wrapping_add(own.hash);
        found.schedules += own.schedules;
    }
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

fn print(asked: &Asked, found: &Found, wall_ms: u128) {
    let Counts { jobs, offers, runs, reruns, settled, disputed, crashes, messages } = found.counts;
    if asked.json {
        let violations: Vec<_> = found
            .violations
            .iter()
            .map(|(seed, what)| serde_json::json!({"seed": seed, "what": what, "replay": replay(*seed)}))
            .collect();
        let counts = serde_json::json!({
            "jobs": jobs, "offers": offers, "runs": runs, "reruns": reruns, "settled": settled, "disputed": disputed,
            "crashes": crashes, "messages": messages,
        });
        println!(
            "{}",
            serde_json::json!({
                "schedules": found.schedules, "seed": asked.seed, "hash": format!("{:016x}", found.hash),
                "wall_ms": u64::try_from(wall_ms).unwrap_or(u64::MAX), "counts": counts, "violations": violations,
            })
        );
        return;
    }
    println!("{} schedules from seed {} in {wall_ms} ms, trace {:016x}", found.schedules, asked.seed, found.hash);
    println!(
        "{jobs} jobs, {offers} offers, {runs} runs, {reruns} jobs ran again, {settled} receipts settled, {disputed} disputed"
    );
    println!("{crashes} crashes, {messages} messages");
    for (seed, what) in &found.violations {
        println!("seed {seed}: {}\n  replay: {}", what.join("; "), replay(*seed));
    }
    println!("{} schedules with violations", found.violations.len());
}

fn replay(seed: u64) -> String {
    format!("cargo xtask soak federation --tell {seed}")
}
