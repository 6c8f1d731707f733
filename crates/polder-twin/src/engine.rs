//! The engine: many homes and factories under one virtual clock.
//!
//! Time goes in windows, as long as homes take to learn how full factories are. In a window every home decides what is asked,
//! with the product's own memo, by what it knew when the window began; then every factory runs to its end. No factory sees another, so they
//! may run side by side, and the outcome is the same to the bit however many threads there are. Memory does not grow with the
//! number of jobs. Placing goes through [`home`] alone, so that leases and job states of `polder_core` can take its place. Absent:
//! a network between homes and factories, wall clocks, fractions.

use std::sync::Arc;

use polder_core::ids::NodeId;

use crate::calendar::DAY_US;
use crate::traces::{TraceError, Wrong};

pub mod coarse;
pub mod home;
mod line;
pub mod meter;
mod outcome;
pub mod plan;
pub mod pool;
pub mod site;
mod source;
pub mod tally;

pub use outcome::{Bottleneck, DemandOutcome, HallOutcome, Outcome, SealShare, SiteOutcome};

use home::{Home, Known, Placed};
use plan::{Job, Plan, Use};
use site::{Site, Status};
use source::Stream;
use tally::Asked;

/// Why a study cannot run on.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// A trace.
    #[error(transparent)]
    Trace(#[from] TraceError),
    /// The threads that were asked for.
    #[error("threads cannot be started: {0}; try `--threads 1`")]
    Threads(String),
}

/// A study as it runs.
#[derive(Debug)]
pub struct Engine {
    plan: Arc<Plan>,
    places: Vec<Arc<plan::SitePlan>>,
    serves: Vec<[bool; 2]>,
    uses: Vec<Use>,
    now_us: u64,
    sites: Vec<Site>,
    statuses: Vec<Status>,
    homes: Vec<Home>,
    streams: Vec<Stream>,
    /// What homes hold because no factory had room, in order of time.
    held: Vec<Job>,
    /// For each demand, one for each month.
    asked: Vec<Vec<Asked>>,
    coming: Vec<Job>,
    threads: Option<Arc<rayon::ThreadPool>>,
}

impl Engine {
    /// A study at its beginning.
    pub fn new(plan: Arc<Plan>, threads: usize) -> Result<Self, EngineError> {
        let pool = match threads {
            0 | 1 => None,
            more => {
                let made = rayon::ThreadPoolBuilder::new().num_threads(more).build();
                Some(Arc::new(made.map_err(|e| EngineError::Threads(e.to_string()))?))
            }
        };
        let places: Vec<_> = plan.sites.iter().cloned().map(Arc::new).collect();
        let site = |(number, place)| Site::new(place, number, plan.begin, plan.demands.len(), plan.seed);
        let sites: Vec<Site> = (0..).zip(&places).map(site).collect();
        let mut streams = Vec::new();
        for (number, demand) in (0..).zip(&plan.demands) {
            streams.push(Stream::new(number, demand, plan.seed)?);
        }
        Ok(Self {
            serves: sites.iter().map(|site| [Use::Batch, Use::Inference].map(|one| site.serves(one))).collect(),
            uses: plan.demands.iter().map(|demand| demand.used_for).collect(),
            statuses: sites.iter().map(Site::status).collect(),
            homes: plan.homes.iter().cloned().map(|home| Home::new(&Arc::new(home))).collect(),
            asked: vec![Vec::new(); plan.demands.len()],
            plan,
            places,
            now_us: 0,
            sites,
            streams,
            held: Vec::new(),
            coming: Vec::new(),
            threads: pool,
        })
    }

    /// A second study that goes on from here as this one would.
    pub fn fork(&self) -> Result<Self, EngineError> {
        let streams = self.streams.iter().map(Stream::fork).collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            plan: Arc::clone(&self.plan),
            places: self.places.clone(),
            serves: self.serves.clone(),
            uses: self.uses.clone(),
            now_us: self.now_us,
            sites: self.sites.clone(),
            statuses: self.statuses.clone(),
            homes: self.homes.iter().map(Home::fork).collect(),
            streams,
            held: self.held.clone(),
            asked: self.asked.clone(),
            coming: Vec::new(),
            threads: self.threads.clone(),
        })
    }

    /// Where the clock stands, in microseconds since the beginning.
    pub fn now_us(&self) -> u64 {
        self.now_us
    }

    /// The study.
    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// How many jobs and sessions were asked for so far.
    pub fn arrived(&self) -> u64 {
        self.asked.iter().flatten().map(|asked| asked.arrived).sum()
    }

    /// Runs on, until the instant or the study's end, whichever comes first, in whole windows.
    pub fn run_until(&mut self, until_us: u64) -> Result<(), EngineError> {
        let until_us = until_us.min(self.plan.end_us());
        while self.now_us < until_us {
            self.window()?;
        }
        Ok(())
    }

    fn window(&mut self) -> Result<(), EngineError> {
        let end_us = (self.now_us + self.plan.status_every_us).min(self.plan.end_us());
        self.collect(end_us)?;
        self.decide();
        let run = |site: &mut Site| site.run_until(end_us, &self.uses);
        match &self.threads {
            Some(threads) => threads.install(|| {
                use rayon::prelude::*;
                self.sites.par_iter_mut().for_each(run);
            }),
            None => self.sites.iter_mut().for_each(run),
        }
        for (site, status) in self.sites.iter_mut().zip(&mut self.statuses) {
            *status = site.status();
            self.held.append(&mut site.returned);
        }
        self.held.sort_by_key(|job| (job.at_us, job.demand));
        self.homes.iter_mut().for_each(Home::forget);
        self.now_us = end_us;
        Ok(())
    }

    /// Everything that is asked for before an instant, what is held first.
    fn collect(&mut self, end_us: u64) -> Result<(), EngineError> {
        self.coming.clear();
        for (stream, asked) in self.streams.iter_mut().zip(&mut self.asked) {
            let before = self.coming.len();
            while let Some(job) = stream.next_before(end_us)? {
                self.coming.push(job);
            }
            let month = self.plan.begin.0 + self.now_us / DAY_US;
            let month = crate::calendar::Date(month).month() - self.plan.begin.month();
            let month = usize::try_from(month).unwrap_or(0);
            if asked.len() <= month {
                asked.resize(month + 1, Asked::default());
            }
            if let Some(asked) = asked.last_mut() {
                asked.arrived += (self.coming.len() - before) as u64;
            }
        }
        self.coming.sort_by_key(|job| (job.at_us, job.demand));
        Ok(())
    }

    fn decide(&mut self) {
        let at_ms = (self.plan.begin.0 * DAY_US + self.now_us) / 1_000;
        let known =
            Known { sites: &self.places, statuses: &self.statuses, serves: &self.serves, at_us: self.now_us, at_ms };
        let mut held = Vec::new();
        for job in self.held.drain(..).chain(self.coming.drain(..)) {
            let Some(demand) = self.plan.demands.get(usize::from(job.demand)) else { continue };
            let Some(home) = self.homes.get_mut(demand.home) else { continue };
            let Some(asked) = self.asked.get_mut(usize::from(job.demand)).and_then(|months| months.last_mut()) else {
                continue;
            };
            match home.place(&demand.request, demand.used_for, &known) {
                Placed::At(place) => {
                    asked.placed += 1;
                    if let Some(site) = self.sites.get_mut(place) {
                        site.send(job.at_us.max(self.now_us), job);
                    }
                }
                Placed::Refused => asked.refused_by_policy += 1,
                Placed::NoRoom if self.now_us.saturating_sub(job.at_us) >= demand.patience_us => {
                    asked.refused_for_capacity += 1;
                }
                Placed::NoRoom => held.push(job),
            }
        }
        self.held = held;
    }

    /// What has come of it so far. The hour that runs is counted up to now.
    pub fn outcome(&self) -> Outcome {
        let mut sites = self.sites.clone();
        sites.iter_mut().for_each(|site| site.close(self.now_us));
        outcome::of(self, &sites)
    }

    /// Rows of traces that could not be used, with their demands.
    pub fn wrong_rows(&self) -> impl Iterator<Item = (&str, &Wrong)> {
        let named = self.plan.demands.iter().zip(&self.streams);
        named.filter_map(|(demand, stream)| Some((demand.id.as_str(), stream.wrong_rows()?)))
    }

    /// The factories' names, by number.
    pub fn names(&self) -> impl Iterator<Item = &NodeId> {
        self.places.iter().map(|site| &site.id)
    }
}

#[cfg(test)]
mod tests;
