//! A machine's clocks, as true time makes them: they begin anywhere, run too fast or too slow, and start anew with the machine.

use polder_core::job::Now;

/// The clocks of one machine. True time is in microseconds.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    /// The true time of the machine's start.
    started_us: u64,
    /// How much faster than true time it runs, in millionths.
    drift_ppm: i64,
    /// What is added to true time by the wall clock, in milliseconds.
    offset_ms: i64,
}

impl Clock {
    /// The clocks of a machine that starts now.
    pub fn new(started_us: u64, drift_ppm: i64, offset_ms: i64) -> Self {
        Self { started_us, drift_ppm, offset_ms }
    }

    /// The same machine, started again.
    pub fn restarted(self, now_us: u64) -> Self {
        Self { started_us: now_us, ..self }
    }

    /// What the clocks show.
    pub fn now(&self, true_us: u64) -> Now {
        let passed = i128::from(true_us.saturating_sub(self.started_us));
        let mono = passed * (1_000_000 + i128::from(self.drift_ppm)) / 1_000_000_000;
        let wall = i64::try_from(true_us / 1_000).unwrap_or(i64::MAX).saturating_add(self.offset_ms);
        Now {
            mono_ms: u64::try_from(mono).unwrap_or(0),
            wall_ms: u64::try_from(wall.saturating_add(1_767_225_600_000)).unwrap_or(0),
        }
    }

    /// The first true time at which the monotonic clock shows so much.
    pub fn when(&self, mono_ms: u64) -> u64 {
        let scaled = i128::from(mono_ms) * 1_000_000_000;
        let speed = 1_000_000 + i128::from(self.drift_ppm);
        let passed = scaled / speed + i128::from(scaled % speed != 0);
        self.started_us.saturating_add(u64::try_from(passed).unwrap_or(u64::MAX / 4))
    }
}
