//! What is remembered of a way to somewhere else, a factory or an engine: its breaker, and how long a first token takes.
//!
//! A home keeps one for each factory, a factory one for each engine behind it. The rules are the core's; here are the locks
//! and the clock. Absent: choosing, and anything that outlives the process.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use polder_core::breaker::{Breaker, Limits, Pass, Standing};
use polder_core::placement::Affinity;
use polder_core::retry::{self, RetryBudget, pause_ms};
use sha2::{Digest as _, Sha256};

use crate::clock::{random, ticks_ms};
use crate::inference::{ChatRequest, Content};

/// A measurement this old counts half, one twice as old a quarter: who was slow is tried again.
const HALVED_EVERY_MS: u64 = 30_000;
/// Longest beginning of a conversation that is looked at, in bytes.
const BEGINNING_BYTES_MAX: usize = 4_096;

/// What came of a request on a route, as far as the route is to blame or to praise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Came {
    /// An answer began.
    Answered,
    /// It failed, or nothing came in time.
    Failed,
    /// Nothing that speaks of the route: whoever asked went away, or a rule refused.
    Undecided,
}

/// A way to somewhere else.
#[derive(Debug, Default)]
pub struct Route {
    breaker: Mutex<Breaker>,
    first_token_us: AtomicU64,
    measured_ms: AtomicU64,
}

impl Route {
    /// How its breaker stands.
    pub fn standing(&self) -> Standing {
        self.with(|breaker| breaker.standing(ticks_ms()))
    }

    /// Asks to pass. The flag says whether this began a probe, so that others must keep away.
    pub fn enter(&self, limits: &Limits) -> Result<(Pass, bool), u64> {
        self.with(|breaker| {
            let pass = breaker.enter(ticks_ms(), limits)?;
            Ok((pass, breaker.standing(ticks_ms()) != Standing::Closed))
        })
    }

    /// Notes what came of it, and says whether the breaker stands differently now.
    pub fn judge(&self, pass: Pass, came: Came, limits: &Limits) -> bool {
        self.changed(|breaker, now| match came {
            Came::Answered => breaker.answered(pass),
            Came::Failed => breaker.failed(pass, now, limits),
            Came::Undecided => breaker.undecided(pass, now),
        })
    }

    /// Notes how an answer that had begun ended, and says whether the breaker stands differently now.
    pub fn ended(&self, whole: bool, limits: &Limits) -> bool {
        self.changed(|breaker, now| if whole { breaker.completed() } else { breaker.broke(now, limits) })
    }

    /// Takes in how long a first token took.
    pub fn measure(&self, took: Duration) {
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1);
        // Two at once may lose one of them: it is an estimate.
        self.first_token_us.store(smoothed(self.first_token_us(), took), Ordering::Relaxed);
        self.measured_ms.store(ticks_ms(), Ordering::Relaxed);
    }

    /// How long a first token takes, smoothed, in microseconds; 0 where nothing was measured of late.
    pub fn first_token_us(&self) -> u64 {
        let age_ms = ticks_ms().saturating_sub(self.measured_ms.load(Ordering::Relaxed));
        self.first_token_us.load(Ordering::Relaxed) >> (age_ms / HALVED_EVERY_MS).min(63)
    }

    fn changed(&self, change: impl FnOnce(&mut Breaker, u64)) -> bool {
        self.with(|breaker| {
            let now = ticks_ms();
            let before = breaker.standing(now);
            change(breaker, now);
            breaker.standing(now) != before
        })
    }

    fn with<T>(&self, look: impl FnOnce(&mut Breaker) -> T) -> T {
        look(&mut self.breaker.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A measurement taken into those before it: an eighth of it counts. 0 is no measurement.
pub fn smoothed(before: u64, now: u64) -> u64 {
    if before == 0 { now } else { (before - before / 8).saturating_add(now / 8) }
}

/// A retry budget that several tasks share.
#[derive(Debug)]
pub struct Retries {
    limits: retry::Limits,
    budget: Mutex<RetryBudget>,
    begun: AtomicU64,
}

impl Retries {
    /// A budget that begins now.
    pub fn new(limits: retry::Limits) -> Self {
        let budget = Mutex::new(RetryBudget::new(ticks_ms(), &limits));
        Self { limits, budget, begun: AtomicU64::new(0) }
    }

    /// Counts a request.
    pub fn begin(&self) {
        self.begun.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes a retry out, where there is one.
    pub fn take(&self) -> bool {
        let begun = self.begun.swap(0, Ordering::Relaxed);
        self.budget.lock().unwrap_or_else(PoisonError::into_inner).take(ticks_ms(), begun, &self.limits)
    }
}

/// How long to wait before a retry, from 1.
pub fn pause(retry: u32) -> Duration {
    // Without randomness all wait as long: that costs time and nothing else.
    let random = random().map_or(0, u64::from_le_bytes);
    Duration::from_millis(pause_ms(retry, random))
}

/// Where a conversation's beginning falls: a digest of whose it is, of the model, and of its messages up to the first of the
/// user, under a salt that stays in this process. Bounded, and made only where somebody weighs it.
pub fn affinity(salt: &[u8; 32], tenant: &str, request: &ChatRequest) -> Affinity {
    let mut hash = Sha256::new();
    let mut left = BEGINNING_BYTES_MAX;
    let mut add = |text: &str| {
        let bytes = text.as_bytes().get(..text.len().min(left)).unwrap_or_default();
        left = left.saturating_sub(bytes.len());
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    add(&hex::encode(salt));
    add(tenant);
    add(&request.model);
    for message in &request.messages {
        add(&message.role);
        match &message.content {
            Some(Content::Text(text)) => add(text),
            Some(Content::Parts(parts)) => {
                parts.iter().filter_map(|part| part.get("text")?.as_str()).for_each(&mut add);
            }
            None => {}
        }
        if message.role == "user" {
            break;
        }
    }
    let digest: [u8; 32] = hash.finalize().into();
    Affinity(digest.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

#[cfg(test)]
mod tests;
