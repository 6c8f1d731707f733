//! What is counted of jobs and sessions: how many, how long they waited, what they took. All of it adds up over factories.
//!
//! Waits are kept as a histogram whose steps are a sixteenth of a power of two, so that memory does not grow with the number of jobs;
//! a quantile is the upper end of its step, 6 % too long at most. Means are exact.

/// Steps of each power of two.
const STEPS: usize = 16;

/// Durations by their length.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Durations {
    count: u64,
    sum_us: u128,
    longest_us: u64,
    steps: Vec<u64>,
}

impl Durations {
    /// Counts one.
    #[inline]
    pub fn add(&mut self, us: u64) {
        self.count += 1;
        self.sum_us += u128::from(us);
        self.longest_us = self.longest_us.max(us);
        let step = step_of(us);
        if step >= self.steps.len() {
            self.steps.resize(step + 1, 0);
        }
        if let Some(count) = self.steps.get_mut(step) {
            *count += 1;
        }
    }

    /// Counts all of another.
    pub fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.sum_us += other.sum_us;
        self.longest_us = self.longest_us.max(other.longest_us);
        if other.steps.len() > self.steps.len() {
            self.steps.resize(other.steps.len(), 0);
        }
        for (own, added) in self.steps.iter_mut().zip(&other.steps) {
            *own += added;
        }
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Their sum.
    pub fn sum_us(&self) -> u128 {
        self.sum_us
    }

    /// Their mean; 0 of none.
    pub fn mean_us(&self) -> u64 {
        u64::try_from(self.sum_us.checked_div(u128::from(self.count)).unwrap_or(0)).unwrap_or(u64::MAX)
    }

    /// The longest.
    pub fn longest_us(&self) -> u64 {
        self.longest_us
    }

    /// What so many of a thousand do not exceed.
    pub fn quantile_us(&self, of_thousand: u64) -> u64 {
        let wanted = u128::from(self.count) * u128::from(of_thousand);
        let mut seen = 0_u128;
        for (step, count) in self.steps.iter().enumerate() {
            seen += u128::from(*count) * 1_000;
            if seen >= wanted && *count > 0 {
                return end_of(step).min(self.longest_us);
            }
        }
        self.longest_us
    }
}

fn step_of(us: u64) -> usize {
    if us < STEPS as u64 {
        return us as usize;
    }
    let power = us.ilog2();
    // Four bits after the leading one.
    (power as usize - 3) * STEPS + (us >> (power - 4)) as usize % STEPS
}

/// The longest duration of a step.
fn end_of(step: usize) -> u64 {
    if step < STEPS {
        return step as u64;
    }
    let (power, part) = (step / STEPS + 3, step % STEPS);
    let width = 1_u64 << (power - 4);
    (STEPS as u64 + part as u64) * width + (width - 1)
}

/// What became of one stream of work at one factory.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tally {
    /// How many were sent here.
    pub sent: u64,
    /// How many the factory sent back, because it was full or gone.
    pub returned: u64,
    /// How many ended.
    pub finished: u64,
    /// How many were begun, and lost to a failure.
    pub lost: u64,
    /// From the question to the beginning, for each beginning.
    pub waits: Durations,
    /// From the question to the first token; of sessions only.
    pub first_tokens: Durations,
    /// Units times microseconds, of what ended.
    pub work_us: u128,
    /// Units times microseconds that a failure or a lack of power undid.
    pub undone_us: u128,
    /// Energy above idle, of all that ran.
    pub energy_nj: u128,
    /// What they are charged, in millionths of a micro-euro.
    pub charged_pico: u128,
}

impl Tally {
    /// Adds another factory's.
    pub fn merge(&mut self, other: &Self) {
        for (own, added) in [
            (&mut self.sent, other.sent),
            (&mut self.returned, other.returned),
            (&mut self.finished, other.finished),
            (&mut self.lost, other.lost),
        ] {
            *own += added;
        }
        self.waits.merge(&other.waits);
        self.first_tokens.merge(&other.first_tokens);
        for (own, added) in [
            (&mut self.work_us, other.work_us),
            (&mut self.undone_us, other.undone_us),
            (&mut self.energy_nj, other.energy_nj),
            (&mut self.charged_pico, other.charged_pico),
        ] {
            *own += added;
        }
    }
}

/// What became of one stream of work at its home.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Asked {
    /// How many were asked for.
    pub arrived: u64,
    /// How many were sent to a factory, each time.
    pub placed: u64,
    /// How many the policies let nowhere.
    pub refused_by_policy: u64,
    /// How many found no room in time.
    pub refused_for_capacity: u64,
}

impl Asked {
    /// Adds another time's.
    pub fn merge(&mut self, other: &Self) {
        self.arrived += other.arrived;
        self.placed += other.placed;
        self.refused_by_policy += other.refused_by_policy;
        self.refused_for_capacity += other.refused_for_capacity;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_cover_every_duration_once() {
        let mut before = 0;
        for us in (0..100_000).chain([u64::MAX / 2, u64::MAX - 1, u64::MAX]) {
            let step = step_of(us);
            assert!(step >= before, "{us}");
            assert!(end_of(step) >= us && (end_of(step) - us) * 16 <= us, "{us}: {}", end_of(step));
            before = step;
        }
    }

    #[test]
    fn quantiles_are_close() {
        let mut durations = Durations::default();
        (1..=10_000).for_each(|us| durations.add(us));
        assert_eq!((durations.count(), durations.mean_us(), durations.longest_us()), (10_000, 5_000, 10_000));
        let median = durations.quantile_us(500);
        assert!((5_000..5_313).contains(&median), "{median}");
        assert_eq!(durations.quantile_us(1_000), 10_000);
        let mut twice = durations.clone();
        twice.merge(&durations);
        assert_eq!((twice.count(), twice.quantile_us(500)), (20_000, median));
    }
}
