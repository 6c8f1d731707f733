//! Runs seeded schedules of faults over the machines of jobs, on every core, and prints what they came to.
//!
//! `cargo xtask soak federation` and `cargo xtask mutants` run it; a failing seed is run again alone with `--tell`. Judging is the
//! library's. Absent: anything that hangs on which thread ran what; a seed is a schedule wherever it runs.

use std::process::ExitCode;
use std::time::Instant;

use polder_twin::chance::{Counts, Found, Realm, many, run, tell};

#[derive(Clone, Copy)]
struct Asked {
    schedules: u64,
    seed: u64,
    json: bool,
    /// Ends at the first violation.
    first: bool,
    tell: Option<u64>,
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
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    match many(asked.schedules, asked.seed, threads, asked.first) {
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

fn print(asked: &Asked, found: &Found, wall_ms: u128) {
    let Counts { jobs, offers, runs, reruns, settled, disputed, crashes, messages, placeable, placed } = found.counts;
    if asked.json {
        let violations: Vec<_> = found
            .violations
            .iter()
            .map(|(seed, what)| serde_json::json!({"seed": seed, "what": what, "replay": replay(*seed)}))
            .collect();
        let counts = serde_json::json!({
            "jobs": jobs, "offers": offers, "runs": runs, "reruns": reruns, "settled": settled, "disputed": disputed,
            "crashes": crashes, "messages": messages, "placeable": placeable, "placed": placed,
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
    println!("{crashes} crashes, {messages} messages; {placed} of {placeable} placeable jobs were placed");
    for (seed, what) in &found.violations {
        println!("seed {seed}: {}\n  replay: {}", what.join("; "), replay(*seed));
    }
    println!("{} schedules with violations", found.violations.len());
}

fn replay(seed: u64) -> String {
    format!("cargo xtask soak federation --tell {seed}")
}
