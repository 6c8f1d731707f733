//! The memo: rows by label tuple, so that a decision that was made before is integer work.
//!
//! It is a cache and never a second truth: a row is made by asking the policies, is used only with the very basis that it
//! was made on, and is made anew, where anything differs, otherwise. Its size is bounded; when it is full, the rows
//! that were not used of late go. Locks are absent: whoever shares a memo brings one, and need not hold it while a row is
//! made.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Snapshot;
use super::bits::Bits;
use super::row::Row;
use crate::labels::Labels;
use crate::request::Request;

/// Most label tuples that a tenant's memo holds.
pub const ROWS_MAX: usize = 4_096;
/// Most memory that a tenant's rows take, in bytes.
pub const BYTES_MAX: usize = 64 << 20;
/// Slots of the table; twice the rows, so that a search ends soon. A power of two.
const SLOTS: usize = ROWS_MAX * 2;

/// The rows of one tenant.
#[derive(Debug, Default)]
pub struct Memo {
    slots: Vec<Option<Entry>>,
    rows: usize,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    hash: u64,
    request: Request,
    row: Arc<Row>,
    bytes: usize,
    used: AtomicBool,
}

/// A choice: the factory's place in the snapshot, and all that could have been chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choice<'a> {
    /// The place of the chosen factory; `None` where none is admitted and open.
    pub factory: Option<usize>,
    /// Every factory that the policies admit.
    pub admitted: &'a Bits,
}

impl Memo {
    /// The row of a request, where there is one for this very basis.
    #[inline]
    pub fn row(&self, snapshot: &Snapshot, request: &Request) -> Option<&Arc<Row>> {
        let entry = self.find(hash(request), request)?;
        if !Arc::ptr_eq(entry.row.basis(), &snapshot.basis) {
            return None;
        }
        // Only written when it changes, so that readers do not take the line from each other.
        if !entry.used.load(Ordering::Relaxed) {
            entry.used.store(true, Ordering::Relaxed);
        }
        Some(&entry.row)
    }

    /// The row of a request on whatever basis: a start for a new one.
    pub fn stale(&self, request: &Request) -> Option<&Arc<Row>> {
        self.find(hash(request), request).map(|entry| &entry.row)
    }

    /// Decides on a hit: the best factory that is admitted and open, and all that are admitted.
    #[inline]
    pub fn choose(&self, snapshot: &Snapshot, request: &Request) -> Option<Choice<'_>> {
        let row = self.row(snapshot, request)?;
        Some(Choice { factory: snapshot.best(row.admitted()), admitted: row.admitted() })
    }

    /// Keeps a row, in the place of the one for the same request.
    pub fn keep(&mut self, row: Arc<Row>) {
        let request = row.request().clone();
        let (hash, bytes) = (hash(&request), row.bytes());
        if self.slots.is_empty() {
            self.slots.resize_with(SLOTS, || None);
        }
        let known = self.find(hash, &request).map_or(0, |entry| entry.bytes);
        if self.rows >= ROWS_MAX || self.bytes.saturating_sub(known).saturating_add(bytes) > BYTES_MAX {
            self.sweep();
        }
        if bytes > BYTES_MAX || self.rows >= ROWS_MAX {
            return;
        }
        let Some(place) = self.place_of(hash, &request) else { return };
        let Some(slot) = self.slots.get_mut(place) else { return };
        match slot {
            Some(before) => self.bytes = self.bytes.saturating_sub(before.bytes),
            None => self.rows += 1,
        }
        self.bytes = self.bytes.saturating_add(bytes);
        *slot = Some(Entry { hash, request, row, bytes, used: AtomicBool::new(true) });
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// About how much memory the rows take, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    #[inline]
    fn find(&self, hash: u64, request: &Request) -> Option<&Entry> {
        let mut place = start(hash);
        while let Some(Some(entry)) = self.slots.get(place) {
            if entry.hash == hash && entry.request == *request {
                return Some(entry);
            }
            place = (place + 1) % SLOTS;
        }
        None
    }

    /// The slot of a request: where it stands, or the first free one after its start.
    fn place_of(&self, hash: u64, request: &Request) -> Option<usize> {
        let mut place = start(hash);
        for _ in 0..SLOTS {
            match self.slots.get(place)? {
                Some(entry) if entry.hash != hash || entry.request != *request => place = (place + 1) % SLOTS,
                _ => return Some(place),
            }
        }
        None
    }

    /// Drops the rows that were not used since the last sweep, and all of them where that is not enough.
    fn sweep(&mut self) {
        let before = std::mem::take(&mut self.slots);
        let kept: Vec<Entry> = before.into_iter().flatten().filter(|one| one.used.load(Ordering::Relaxed)).collect();
        (self.rows, self.bytes) = (0, 0);
        self.slots.resize_with(SLOTS, || None);
        let bytes: usize = kept.iter().map(|entry| entry.bytes).sum();
        if kept.len() > ROWS_MAX / 2 || bytes > BYTES_MAX / 2 {
            return;
        }
        for entry in kept {
            let Some(place) = self.place_of(entry.hash, &entry.request) else { continue };
            self.rows += 1;
            self.bytes += entry.bytes;
            entry.used.store(false, Ordering::Relaxed);
            if let Some(slot) = self.slots.get_mut(place) {
                *slot = Some(entry);
            }
        }
    }
}

fn start(hash: u64) -> usize {
    // The multiplication leaves its best bits at the top.
    usize::try_from(hash >> 40).unwrap_or(0) % SLOTS
}

/// A hash of everything that policies read of a request. Two that collide are told apart by comparing them; who makes
/// many that collide fills only their own tenant's memo.
#[inline]
fn hash(request: &Request) -> u64 {
    let Request { action, tenant: _, project, model, labels } = request;
    let Labels { class, purposes, countries, language } = labels;
    let purposes = purposes.iter().fold(0_u64, |mask, purpose| mask | 1 << (*purpose as u64));
    let small = (*action as u64) | (*class as u64) << 8 | language.map_or(255, |one| one as u64) << 16 | purposes << 32;
    let mut hash = mix(0, small);
    hash = text(hash, project.as_str());
    if let Some(model) = model {
        hash = text(hash, model.as_str());
    }
    for country in countries.iter().flatten() {
        hash = text(hash, crate::labels::Closed::as_str(country));
    }
    hash
}

#[inline]
fn text(hash: u64, text: &str) -> u64 {
    let (mut hash, mut rest) = (mix(hash, text.len() as u64), text.as_bytes());
    while let Some((word, after)) = rest.split_first_chunk::<8>() {
        hash = mix(hash, u64::from_le_bytes(*word));
        rest = after;
    }
    let mut last = [0; 8];
    for (to, from) in last.iter_mut().zip(rest) {
        *to = *from;
    }
    mix(hash, u64::from_le_bytes(last))
}

/// One step of FxHash as rustc uses it: rotate, add in, multiply.
#[inline]
fn mix(hash: u64, word: u64) -> u64 {
    (hash.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95)
}
