//! How many requests run, how many wait, and how many threads each has.
//!
//! Admission is a count and waiting is in order of arrival. Absent: priorities; whoever wants
//! them puts them before the engine.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::inference::EngineError;

/// What the embedded engine may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EngineLimits {
    /// Requests that run at the same time.
    pub parallel: usize,
    /// Requests that may wait; one more is refused.
    pub queue: usize,
    /// Threads of each running request; 0 shares the machine's cores among those in parallel.
    pub threads: usize,
    /// Longest context served, whatever a model could hold; its cache costs memory.
    pub context_tokens: u32,
}

impl Default for EngineLimits {
    fn default() -> Self {
        Self { parallel: 2, queue: 32, threads: 0, context_tokens: 8192 }
    }
}

impl EngineLimits {
    fn threads_each(&self) -> usize {
        if self.threads > 0 {
            return self.threads;
        }
        let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
        (cores / self.parallel.max(1)).max(1)
    }
}

/// Longest hint for when to come back.
const RETRY_S_MAX: u64 = 120;

/// The engine's places.
pub(crate) struct Places {
    limits: EngineLimits,
    running: Arc<Semaphore>,
    admitted: Arc<Semaphore>,
    /// How long a request lately took.
    average_ms: Arc<AtomicU64>,
}

/// The right to wait, and later to run. Dropping it gives the place back.
pub(crate) struct Admission {
    _permit: OwnedSemaphorePermit,
}

/// The right to run now.
pub(crate) struct Place {
    _admission: Admission,
    _permit: OwnedSemaphorePermit,
    since: Instant,
    average_ms: Arc<AtomicU64>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let took_ms = self.since.elapsed().as_millis() as u64;
        let old_ms = self.average_ms.load(Ordering::Relaxed);
        // A lost update between two threads only makes the hint a little older.
        self.average_ms.store((old_ms * 3).saturating_add(took_ms) / 4, Ordering::Relaxed);
    }
}

impl Places {
    pub(crate) fn new(limits: EngineLimits) -> Self {
        let parallel = limits.parallel.clamp(1, 1 << 16);
        let admitted = parallel + limits.queue.min(1 << 20);
        Self {
            limits,
            running: Arc::new(Semaphore::new(parallel)),
            admitted: Arc::new(Semaphore::new(admitted)),
            average_ms: Arc::new(AtomicU64::new(1000)),
        }
    }

    /// Takes a place in the queue, or says when to come back.
    pub(crate) fn admit(&self) -> Result<Admission, EngineError> {
        match self.admitted.clone().try_acquire_owned() {
            Ok(permit) => Ok(Admission { _permit: permit }),
            Err(_) => Err(EngineError::Busy { retry_after_s: self.retry_after_s() }),
        }
    }

    fn retry_after_s(&self) -> u32 {
        let ahead = (self.limits.queue / self.limits.parallel.max(1) + 1) as u64;
        let wait_ms = ahead.saturating_mul(self.average_ms.load(Ordering::Relaxed));
        // A place becomes free long before the whole queue is through.
        (wait_ms / 2000).clamp(1, RETRY_S_MAX) as u32
    }

    /// Waits for a turn.
    pub(crate) async fn turn(&self, admission: Admission) -> Result<Place, EngineError> {
        let permit = self.running.clone().acquire_owned().await;
        Ok(Place {
            _admission: admission,
            _permit: permit.map_err(|_| failed("the engine is closed"))?,
            since: Instant::now(),
            average_ms: self.average_ms.clone(),
        })
    }

    /// Runs work on threads of its own, and turns a panic into an error.
    ///
    /// Each piece of work has its own small pool. In a shared one a request that waits for a
    /// part of its product could pick up a whole other request meanwhile.
    pub(crate) fn compute<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, EngineError> {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(self.limits.threads_each())
            .thread_name(|_| "inference".into())
            .build()
            .map_err(|error| failed(format!("no thread: {error}")))?;
        guarded(|| pool.install(work))
    }
}

/// Turns a panic into an error. Its message went to stderr; it stays out of answers.
pub(crate) fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, EngineError> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).map_err(|_| failed("the computation broke off"))
}

pub(crate) fn failed(reason: impl Into<String>) -> EngineError {
    EngineError::Failed { reason: reason.into() }
}
