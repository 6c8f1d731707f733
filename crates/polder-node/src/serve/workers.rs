//! The threads that serve connections: one for each core, each with a runtime of its own, and a connection stays on its thread.
//!
//! Nothing that a request touches then moves between cores. What handlers leave running stays on the same thread, so a thread
//! ends only after the node's other parts have.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// How long a thread waits for what handlers left running, and how long it must have stood still.
const SETTLE_MAX: Duration = Duration::from_secs(2);
const SETTLED_AFTER: Duration = Duration::from_millis(50);

thread_local! {
    static NUMBER: Cell<usize> = const { Cell::new(0) };
}

/// Which of these threads runs this, from 1; 0 for the node's other threads.
pub fn number() -> usize {
    NUMBER.get()
}

/// The threads.
pub struct Workers {
    threads: Vec<Worker>,
    next: AtomicUsize,
}

struct Worker {
    runtime: Handle,
    stop: oneshot::Sender<()>,
    thread: std::thread::JoinHandle<()>,
}

impl Workers {
    /// Starts so many threads.
    pub fn start(count: usize) -> std::io::Result<Self> {
        let threads = (0..count.max(1)).map(Worker::start).collect::<std::io::Result<_>>()?;
        Ok(Self { threads, next: AtomicUsize::new(0) })
    }

    /// The runtime that the next connection is for, round and round.
    pub fn next(&self) -> Option<&Handle> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        self.threads.get(turn.checked_rem(self.threads.len())?).map(|worker| &worker.runtime)
    }

    /// Ends the threads, once what runs on them has come to rest.
    pub async fn end(self) {
        let ended = tokio::task::spawn_blocking(move || {
            let stopped = self.threads.into_iter().map(|worker| {
                // A thread that broke off hears nothing; the join below says so.
                let _ = worker.stop.send(());
                worker.thread
            });
            // All are told before the first is waited for.
            for thread in stopped.collect::<Vec<_>>() {
                if thread.join().is_err() {
                    tracing::error!("a thread that serves connections broke off");
                }
            }
        });
        drop(ended.await);
    }
}

impl Worker {
    fn start(number: usize) -> std::io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel::<()>();
        let handle = runtime.handle().clone();
        let thread = std::thread::Builder::new().name(format!("serve-{number}")).spawn(move || {
            NUMBER.set(number + 1);
            runtime.block_on(async {
                drop(stopped.await);
                settle().await;
            });
        })?;
        Ok(Self { runtime: handle, stop, thread })
    }
}

/// Waits until the number of tasks stands still: what is left then are connections to engines, which wait for nothing.
async fn settle() {
    let tasks = || Handle::current().metrics().num_alive_tasks();
    let (begun, mut before) = (Instant::now(), tasks());
    while before > 0 && begun.elapsed() < SETTLE_MAX {
        tokio::time::sleep(SETTLED_AFTER).await;
        match tasks() {
            now if now == before => return,
            now => before = now,
        }
    }
}
