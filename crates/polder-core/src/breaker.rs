//! A circuit breaker: whoever fails several times in a row is left alone for a while, and then tried by one request.
//!
//! Closed, all may pass. Open, nobody passes until an instant. Then it is half open: one may pass as a probe, and what
//! comes of it closes the breaker or opens it for longer. A state machine of whole numbers; the time is an argument.
//! Absent: clocks, threads, and any word on where a request may run; an open breaker can only keep it out.

/// What a breaker goes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Failures in a row that open it; 0 counts as 1.
    pub failures: u32,
    /// Failures further apart than this are not in a row, in milliseconds.
    pub forget_ms: u64,
    /// How long it stays open the first time, in milliseconds; each time that a probe fails doubles it.
    pub open_ms: u64,
    /// Longest that it stays open, in milliseconds.
    pub open_ms_max: u64,
    /// How long a probe may take before another may try, in milliseconds.
    pub probe_ms: u64,
}

/// How a breaker stands at an instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// All may pass.
    Closed,
    /// Nobody may pass before this instant.
    Open {
        /// In the milliseconds of whoever asks.
        until_ms: u64,
    },
    /// The next one may pass, as a probe.
    HalfOpen,
    /// A probe is under way; nobody else may pass before it ends, or before this instant.
    Probing {
        /// In the milliseconds of whoever asks.
        until_ms: u64,
    },
}

/// Leave to pass. What came of it is told with it, so that a straggler from before a change says nothing about after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pass {
    epoch: u64,
}

/// A breaker.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Breaker {
    state: State,
    /// Counts changes of state.
    epoch: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed { failures: u32, last_ms: u64 },
    Open { until_ms: u64, trips: u32 },
    Probing { until_ms: u64, trips: u32 },
}

impl Default for State {
    fn default() -> Self {
        Self::Closed { failures: 0, last_ms: 0 }
    }
}

impl Breaker {
    /// How it stands at an instant.
    pub fn standing(&self, now_ms: u64) -> Standing {
        match self.state {
            State::Closed { .. } => Standing::Closed,
            State::Open { until_ms, .. } if now_ms < until_ms => Standing::Open { until_ms },
            State::Probing { until_ms, .. } if now_ms < until_ms => Standing::Probing { until_ms },
            State::Open { .. } | State::Probing { .. } => Standing::HalfOpen,
        }
    }

    /// Asks to pass. Half open, the first who asks is the probe; who may not pass hears until when.
    pub fn enter(&mut self, now_ms: u64, limits: &Limits) -> Result<Pass, u64> {
        let trips = match (self.standing(now_ms), self.state) {
            (Standing::Closed, _) | (_, State::Closed { .. }) => return Ok(Pass { epoch: self.epoch }),
            (Standing::Open { until_ms } | Standing::Probing { until_ms }, _) => return Err(until_ms),
            (Standing::HalfOpen, State::Open { trips, .. } | State::Probing { trips, .. }) => trips,
        };
        self.change(State::Probing { until_ms: now_ms.saturating_add(limits.probe_ms.max(1)), trips });
        Ok(Pass { epoch: self.epoch })
    }

    /// Who passed was answered. A probe that is answered closes the breaker.
    pub fn answered(&mut self, pass: Pass) {
        if pass.epoch == self.epoch && matches!(self.state, State::Probing { .. }) {
            self.change(State::default());
        }
    }

    /// Who passed failed.
    pub fn failed(&mut self, pass: Pass, now_ms: u64, limits: &Limits) {
        if pass.epoch == self.epoch {
            self.fail(now_ms, limits);
        }
    }

    /// Who passed says nothing about it, because it went away or was refused: a probe's turn goes to the next.
    pub fn undecided(&mut self, pass: Pass, now_ms: u64) {
        if let State::Probing { trips, .. } = self.state
            && pass.epoch == self.epoch
        {
            self.change(State::Open { until_ms: now_ms, trips });
        }
    }

    /// An answer that had begun broke off; while the breaker is open, its own probe decides.
    pub fn broke(&mut self, now_ms: u64, limits: &Limits) {
        if matches!(self.state, State::Closed { .. }) {
            self.fail(now_ms, limits);
        }
    }

    /// An answer came to its end: failures before it are not in a row with those after.
    pub fn completed(&mut self) {
        if let State::Closed { failures, .. } = &mut self.state {
            *failures = 0;
        }
    }

    fn fail(&mut self, now_ms: u64, limits: &Limits) {
        let open = |trips: u32| {
            let doubled = limits.open_ms.max(1).saturating_mul(1 << trips.min(32));
            State::Open {
                until_ms: now_ms.saturating_add(doubled.min(limits.open_ms_max.max(1))),
                trips: trips.saturating_add(1),
            }
        };
        match self.state {
            State::Closed { failures, last_ms } => {
                let in_a_row = now_ms.saturating_sub(last_ms) <= limits.forget_ms;
                let failures = if in_a_row { failures.saturating_add(1) } else { 1 };
                if failures >= limits.failures {
                    self.change(open(0));
                } else {
                    self.state = State::Closed { failures, last_ms: now_ms };
                }
            }
            State::Probing { trips, .. } => self.change(open(trips)),
            State::Open { .. } => {}
        }
    }

    fn change(&mut self, state: State) {
        self.state = state;
        self.epoch = self.epoch.wrapping_add(1);
    }
}

#[cfg(test)]
mod tests;
