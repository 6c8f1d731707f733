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
use crate::labels::{Labels, Purpose};
use crate::request::Request;

/// Most label tuples that a tenant's memo holds.
pub const ROWS_MAX: usize = 4_096;
/// Most memory that a tenant's rows take, in bytes.
pub const BYTES_MAX: usize = 64 << 20;
/// Slots of the table; twice the rows, so that a search ends soon. A power of two.
const SLOTS: usize = ROWS_MAX * 2;
/// A slot that no row stands for.
const EMPTY: u16 = u16::MAX;

/// The rows of one tenant.
#[derive(Debug, Default)]
pub struct Memo {
    /// The places of entries, by hash; small, so that a look stays in the processor's cache.
    slots: Vec<u16>,
    entries: Vec<Entry>,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    key: Key,
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
        let entry = self.find(Key::of(request), request)?;
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
        self.find(Key::of(request), request).map(|entry| &entry.row)
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
        let (key, bytes) = (Key::of(&request), row.bytes());
        let known = self.find(key, &request).map_or(0, |entry| entry.bytes);
        if self.entries.len() >= ROWS_MAX || self.bytes.saturating_sub(known).saturating_add(bytes) > BYTES_MAX {
            self.sweep();
        }
        if bytes <= BYTES_MAX {
            self.place(Entry { key, request, row, bytes, used: AtomicBool::new(true) });
        }
    }

    fn place(&mut self, entry: Entry) {
        if self.slots.is_empty() {
            self.slots.resize(SLOTS, EMPTY);
        }
        let mut at = entry.key.start();
        while let Some(slot) = self.slots.get_mut(at) {
            match self.entries.get_mut(usize::from(*slot)) {
                Some(before) if before.is_of(entry.key, &entry.request) => {
                    self.bytes = self.bytes.saturating_sub(before.bytes).saturating_add(entry.bytes);
                    *before = entry;
                    return;
                }
                Some(_) => at = (at + 1) % SLOTS,
                None => {
                    let Ok(place) = u16::try_from(self.entries.len()) else { return };
                    *slot = place;
                    self.bytes = self.bytes.saturating_add(entry.bytes);
                    self.entries.push(entry);
                    return;
                }
            }
        }
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// About how much memory the rows take, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    #[inline]
    fn find(&self, key: Key, request: &Request) -> Option<&Entry> {
        let mut at = key.start();
        loop {
            // Half of the slots are empty, so the search ends.
            let entry = self.entries.get(usize::from(*self.slots.get(at)?))?;
            if entry.is_of(key, request) {
                return Some(entry);
            }
            at = (at + 1) % SLOTS;
        }
    }

    /// Drops the rows that were not used since the last sweep, and all of them where that is not enough.
    fn sweep(&mut self) {
        let used = |entry: &Entry| entry.used.load(Ordering::Relaxed);
        let kept: Vec<Entry> = std::mem::take(&mut self.entries).into_iter().filter(used).collect();
        (self.slots, self.bytes) = (Vec::new(), 0);
        let bytes: usize = kept.iter().map(|entry| entry.bytes).sum();
        if kept.len() > ROWS_MAX / 2 || bytes > BYTES_MAX / 2 {
            return;
        }
        for entry in kept {
            entry.used.store(false, Ordering::Relaxed);
            self.place(entry);
        }
    }
}

/// What a request is found by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Key {
    /// Everything that policies read of it. Two that collide are told apart by comparing them; who makes many that collide
    /// fills only their own tenant's memo.
    hash: u64,
    /// Action, class, language and purposes, packed without loss.
    small: u64,
}

impl Key {
    #[inline]
    fn of(request: &Request) -> Self {
        let Request { action, tenant: _, project, model, labels } = request;
        let Labels { class, purposes, countries, language } = labels;
        let bit = |purpose: &Purpose| 1_u64 << (*purpose as u64);
        // Most requests have one purpose, which is quicker to find than to go through the set.
        let purposes = match purposes.first() {
            Some(only) if purposes.len() == 1 => bit(only),
            _ => purposes.iter().fold(0, |mask, purpose| mask | bit(purpose)),
        };
        let language = language.map_or(255, |one| one as u64);
        let small = (*action as u64) | (*class as u64) << 8 | language << 16 | purposes << 32;
        let mut hash = text(mix(0, small), project.as_str());
        if let Some(model) = model {
            hash = text(hash, model.as_str());
        }
        for country in countries.iter().flatten() {
            hash = text(hash, crate::labels::Closed::as_str(country));
        }
        Self { hash, small }
    }

    fn start(self) -> usize {
        // The multiplication leaves its best bits at the top.
        usize::try_from(self.hash >> 40).unwrap_or(0) % SLOTS
    }
}

impl Entry {
    #[inline]
    fn is_of(&self, key: Key, request: &Request) -> bool {
        // Equal keys have the same action, class, language and purposes.
        let (own, other) = (&self.request, request);
        self.key == key
            && own.project == other.project
            && own.model == other.model
            && own.tenant == other.tenant
            && own.labels.countries == other.labels.countries
    }
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

#[cfg(test)]
mod tests;
