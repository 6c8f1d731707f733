//! Schedules of faults, from a seed: the machines of jobs against everything that may go wrong.
//!
//! Homes and factories run the product's own state machines on a virtual clock, over a network that loses, repeats, delays and
//! cuts, on machines that crash between two effects, with clocks that begin anywhere and drift, disks that fill up or tear
//! their last record, two versions of the messages, and one factory that lies. What is seen from outside goes into a trace,
//! and checkers that know nothing of the machines read the trace. The same seed gives the same trace.
//!
//! Learnt from TigerBeetle's simulator: one seed is one schedule, and a failing one is run again alone. Absent: real time,
//! threads within a schedule, and judging by what a machine believes of itself.

mod check;
mod client;
mod clock;
mod dice;
mod disk;
mod liar;
mod many;
mod plan;
mod process;
mod realm;
mod rush;
mod site;
mod stage;
mod trace;

pub use many::{Found, OFFERS_PER_JOB_MAX, many};
pub use realm::Realm;
pub use rush::rush;

use plan::Plan;
use stage::Stage;

/// What a schedule came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// The hash of the trace.
    pub hash: u64,
    /// What must not be and was seen.
    pub violations: Vec<String>,
    /// What was counted.
    pub counts: Counts,
}

/// What was counted in schedules.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Jobs that were acknowledged.
    pub jobs: u64,
    /// Offers, each counted once.
    pub offers: u64,
    /// Processes that were started.
    pub runs: u64,
    /// Jobs of which more than one process ran, one after another.
    pub reruns: u64,
    /// Receipts that were settled.
    pub settled: u64,
    /// Receipts that were disputed.
    pub disputed: u64,
    /// Crashes.
    pub crashes: u64,
    /// Messages that were sent.
    pub messages: u64,
    /// Acknowledged jobs that somebody honest could and might run.
    pub placeable: u64,
    /// Those of them that ran.
    pub placed: u64,
}

impl Counts {
    /// Both together.
    pub fn and(self, other: Self) -> Self {
        Self {
            jobs: self.jobs + other.jobs,
            offers: self.offers + other.offers,
            runs: self.runs + other.runs,
            reruns: self.reruns + other.reruns,
            settled: self.settled + other.settled,
            disputed: self.disputed + other.disputed,
            crashes: self.crashes + other.crashes,
            messages: self.messages + other.messages,
            placeable: self.placeable + other.placeable,
            placed: self.placed + other.placed,
        }
    }
}

/// Runs the schedule of a seed and checks its trace.
pub fn run(realm: &Realm, seed: u64) -> Report {
    let plan = Plan::new(seed);
    let mut stage = match Stage::new(realm, &plan) {
        Ok(stage) => stage,
        Err(error) => return Report { seed, violations: vec![error], ..Report::default() },
    };
    stage.play();
    let hash = stage.trace.hash;
    let (violations, counts) = check::all(realm, &plan, &stage.trace);
    Report { seed, hash, violations, counts }
}

/// What was seen of a schedule, line by line, for whoever looks into a violation.
pub fn tell(realm: &Realm, seed: u64) -> Vec<String> {
    let plan = Plan::new(seed);
    let mut stage = match Stage::new(realm, &plan) {
        Ok(stage) => stage,
        Err(error) => return vec![error],
    };
    stage.play();
    let line = |seen: &trace::Seen| format!("{:>12} us  {:<11} {:?}", seen.at_us, stage.name(seen.site), seen.what);
    stage.trace.seen.iter().map(line).collect()
}

#[cfg(test)]
mod tests;
