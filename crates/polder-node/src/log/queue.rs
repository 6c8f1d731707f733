//! What waits for the log's writer, and how whoever handed it over learns that it is covered.
//!
//! Writing is absent: that is `log.rs`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Notify, oneshot};

use super::LogError;
use crate::store::{ForeignHalf, Leaf};

/// Most entries that wait for the writer; past that, appending waits.
const WAITING_MAX: usize = 8192;

/// One thing to write.
pub(super) enum Entry {
    Leaf(Box<Leaf>, oneshot::Sender<u64>),
    Half(ForeignHalf),
    /// Nothing: it goes when what came before it is written.
    Mark(oneshot::Sender<()>),
    /// Somebody asks for a day's statement; it gets the place.
    Day(oneshot::Sender<u64>),
}

/// What waits for the writer. A channel would wake it for every entry; it is woken once for each batch.
#[derive(Default)]
pub(super) struct Queue {
    entries: Mutex<Vec<Entry>>,
    pub(super) filled: Notify,
    room: Notify,
    /// Somebody waits for a leaf.
    pub(super) hurried: Notify,
    /// Whether the node stops: what waits is written at once, and then no more.
    pub(super) closed: Arc<AtomicBool>,
}

impl Queue {
    /// Adds an entry; gives it back where there is no room.
    pub(super) fn offer(&self, entry: Entry) -> Result<(), Entry> {
        if self.closed.load(Ordering::Acquire) {
            // Whoever waits for it hears that it is not covered.
            return Ok(());
        }
        let first = {
            let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
            if entries.len() >= WAITING_MAX {
                return Err(entry);
            }
            entries.push(entry);
            if entries.len() == WAITING_MAX / 2 {
                self.hurried.notify_one();
            }
            entries.len() == 1
        };
        if first {
            self.filled.notify_one();
        }
        Ok(())
    }

    pub(super) async fn push(&self, mut entry: Entry) {
        loop {
            let room = self.room.notified();
            match self.offer(entry) {
                Ok(()) => return,
                Err(back) => entry = back,
            }
            room.await;
        }
    }

    pub(super) fn take(&self) -> Vec<Entry> {
        let taken = std::mem::take(&mut *self.entries.lock().unwrap_or_else(PoisonError::into_inner));
        self.room.notify_waiters();
        taken
    }

    /// How many entries wait.
    pub(super) fn waiting(&self) -> usize {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// A leaf as an entry, and what to await to know its place.
    pub(super) fn leaf(self: &Arc<Self>, leaf: Leaf) -> (Entry, Pending) {
        let (done, place) = oneshot::channel();
        let pending = Pending { place, salt: leaf.salt, queue: Arc::clone(self) };
        (Entry::Leaf(Box::new(leaf), done), pending)
    }
}

/// A leaf on its way: await it to know its place in the log.
pub struct Pending {
    place: oneshot::Receiver<u64>,
    pub(super) salt: [u8; 32],
    queue: Arc<Queue>,
}

impl Pending {
    /// Waits until a signed checkpoint covers the leaf; its index.
    pub async fn covered(self) -> Result<u64, LogError> {
        self.queue.hurried.notify_one();
        self.place.await.map_err(|_| LogError::Stopped)
    }
}
