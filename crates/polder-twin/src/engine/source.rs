//! Where work comes from, in order of time: drawn with exponential gaps, or read.
//!
//! The rate of drawn work changes from hour to hour; gaps have no memory, so a gap that reaches into the next hour is drawn
//! again from there at its rate, which is exact. Every demand has its own stream of chance: one more changes none of the others.

use super::plan::{Demand, Drawn, Job, Source, Use};
use crate::calendar::HOUR_US;
use crate::draw::{Draws, growth_ppm, wave};
use crate::traces::{Reading, TraceError};

/// Hour of the day at which most is asked.
const BUSIEST_HOUR: u64 = 13;

/// A demand as it runs.
#[derive(Debug)]
pub struct Stream {
    number: u16,
    used_for: Use,
    from: From,
    /// What comes next.
    next: Option<Job>,
}

#[derive(Debug)]
enum From {
    Drawn(Box<DrawnFrom>),
    Read(Reading),
}

#[derive(Debug, Clone)]
struct DrawnFrom {
    drawn: Drawn,
    draws: Draws,
    at_us: u64,
    /// The mean gap of the hour that runs, in microseconds; 0 where nothing comes.
    gap_us: u64,
    hour: u64,
    weights: u64,
}

impl Stream {
    /// A demand's stream from the beginning.
    pub fn new(number: u16, demand: &Demand, seed: u64) -> Result<Self, TraceError> {
        let from = match &demand.source {
            Source::Drawn(drawn) => {
                let weights = drawn.sizes.iter().map(|(_, weight)| u64::from(*weight)).sum();
                let draws = Draws::new(seed, u64::from(number));
                let mut from = DrawnFrom { drawn: drawn.clone(), draws, at_us: 0, gap_us: 0, hour: 0, weights };
                from.gap_us = from.gap();
                From::Drawn(Box::new(from))
            }
            Source::Traced(traced) => From::Read(traced.open()?),
        };
        let mut stream = Self { number, used_for: demand.used_for, from, next: None };
        stream.next = stream.draw()?;
        Ok(stream)
    }

    /// The same stream from here on, once more. A trace is opened anew and read up to the same place.
    pub fn fork(&self) -> Result<Self, TraceError> {
        let from = match &self.from {
            From::Drawn(from) => From::Drawn(from.clone()),
            From::Read(reading) => From::Read(reading.fork()?),
        };
        Ok(Self { number: self.number, used_for: self.used_for, from, next: self.next })
    }

    /// The next job, where it comes before an instant.
    #[inline]
    pub fn next_before(&mut self, until_us: u64) -> Result<Option<Job>, TraceError> {
        let Some(job) = self.next.filter(|job| job.at_us < until_us) else { return Ok(None) };
        self.next = self.draw()?;
        Ok(Some(job))
    }

    /// Rows of a trace that could not be used.
    pub fn wrong_rows(&self) -> Option<&crate::traces::Wrong> {
        match &self.from {
            From::Drawn(_) => None,
            From::Read(reading) => Some(reading.wrong()),
        }
    }

    fn draw(&mut self) -> Result<Option<Job>, TraceError> {
        match &mut self.from {
            From::Drawn(from) => Ok(from.next(self.number, self.used_for)),
            From::Read(reading) => Ok(reading.next_job()?.map(|job| Job { demand: self.number, ..job })),
        }
    }
}

impl DrawnFrom {
    fn gap(&self) -> u64 {
        let drawn = &self.drawn;
        let grown =
            u128::from(drawn.per_hour_milli) * u128::from(growth_ppm(drawn.growth_percent_per_year, self.hour / 24));
        let swing = 100_000 + i128::from(drawn.day_percent) * i128::from(wave(self.hour + 24 - BUSIEST_HOUR, 24));
        // Jobs an hour in units of 10^-14.
        let rate = grown * u128::try_from(swing).unwrap_or(0);
        (u128::from(HOUR_US) * 100_000_000_000_000).checked_div(rate).and_then(|us| u64::try_from(us).ok()).unwrap_or(0)
    }

    fn next(&mut self, number: u16, used_for: Use) -> Option<Job> {
        // A demand without any rate would never come to an end.
        if self.drawn.per_hour_milli == 0 {
            return None;
        }
        loop {
            let gap_us = if self.gap_us == 0 { HOUR_US } else { self.draws.exponential(self.gap_us) };
            let next_hour_us = (self.hour + 1) * HOUR_US;
            if self.at_us.saturating_add(gap_us) < next_hour_us {
                self.at_us += gap_us;
                return Some(self.job(number, used_for));
            }
            self.at_us = next_hour_us;
            self.hour += 1;
            self.gap_us = self.gap();
        }
    }

    fn job(&mut self, number: u16, used_for: Use) -> Job {
        let drawn = &self.drawn;
        let empty = Job {
            at_us: self.at_us,
            demand: number,
            begun: 0,
            units: 1,
            run_us: 0,
            limit_us: 0,
            prompt: 0,
            generated: 0,
        };
        let tokens = |value: u64| u32::try_from(value).unwrap_or(u32::MAX).max(1);
        if used_for == Use::Inference {
            let prompt = tokens(self.draws.exponential(drawn.prompt_tokens));
            let generated = tokens(self.draws.exponential(drawn.generated_tokens));
            return Job { prompt, generated, ..empty };
        }
        let mut left = self.draws.below(self.weights);
        let size = drawn.sizes.iter().find(|(_, weight)| {
            let here = left < u64::from(*weight);
            left = left.saturating_sub(u64::from(*weight));
            here
        });
        let run_us = self.draws.exponential(drawn.run_us).min(drawn.run_us_max);
        let limit_us = run_us.saturating_mul(drawn.limit_percent.max(100)) / 100;
        Job { units: size.map_or(1, |(units, _)| *units), run_us, limit_us, ..empty }
    }
}
