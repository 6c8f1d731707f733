//! Who may be connected, and for how long in which state: places in total and for each address, and a watch over them.
//!
//! A flood may take every place; so whoever says nothing gives way to whoever comes, the oldest first, and a request under way
//! never does. The watch looks at all connections a few times a second: no connection has a timer of its own. Absent: what is
//! said over a connection.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::line::{Line, Order, Phase};
use super::refusal::Refusal;
use crate::config::Limits;
use crate::metrics;

/// How often connections are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How long a connection without a request is kept once the node drains: a request on its way still comes in.
const DRAIN_IDLE_MS: u64 = 1000;
/// How long the end of a connection may take: what the client still sends is read and thrown away, so that it sees its answer.
const ENDING_MS_MAX: u64 = 2000;
/// A body is slow enough to give way after so long, and a reader that takes nothing after so long.
const GIVES_WAY_MS: u64 = 2000;
/// Of all places, one in so many is made free at once when none is left.
const MADE_FREE_OF: usize = 64;
/// How many connections are gone through between two looks for one to give way, for an address and for all of them. Whoever comes
/// more often than that allows is turned away, so that a flood cannot keep the gate busy with it.
const SEARCHED_MAX: usize = 1 << 18;

/// The places of one listener.
pub struct Gate {
    limits: Limits,
    total_max: usize,
    begun: Instant,
    now_ms: AtomicU64,
    /// When the drain began; 0 before.
    draining_ms: AtomicU64,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    next: u64,
    lines: HashMap<u64, Arc<Line>>,
    addresses: HashMap<IpAddr, usize>,
    searched_for_one: usize,
    searched_for_all: usize,
}

/// One connection's place; dropping it gives it back.
pub struct Place {
    gate: Arc<Gate>,
    id: u64,
    _counted: metrics::Open,
    /// The connection's state.
    pub line: Arc<Line>,
}

impl Gate {
    /// A gate with so many places, and a watch that looks after them as long as the gate is there.
    pub fn open(limits: &Limits, total_max: usize) -> Arc<Self> {
        let gate = Arc::new(Self {
            limits: limits.clone(),
            total_max,
            begun: Instant::now(),
            // Time begins at 1: 0 says never.
            now_ms: AtomicU64::new(1),
            draining_ms: AtomicU64::new(0),
            inner: Mutex::default(),
        });
        let watched = Arc::downgrade(&gate);
        tokio::spawn(async move {
            let mut ticks = tokio::time::interval(LOOK_EVERY);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
            loop {
                ticks.tick().await;
                let Some(gate) = watched.upgrade() else { return };
                gate.look();
            }
        });
        gate
    }

    /// Time since the gate was opened, in milliseconds, as of the last look.
    pub fn now_ms(&self) -> u64 {
        self.now_ms.load(Ordering::Relaxed)
    }

    /// What the gate holds connections to.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Whether no new connection is taken and open ones are to end.
    pub fn draining(&self) -> bool {
        self.draining_ms.load(Ordering::Relaxed) != 0
    }

    /// Takes a place for a connection, or makes one free.
    pub fn enter(self: &Arc<Self>, address: IpAddr) -> Result<Place, Refusal> {
        let address = of_one(address);
        let mut inner = self.inner();
        let (one_max, all_max) = (self.limits.connections_per_address_max, self.total_max);
        if inner.count_of(address) >= one_max && inner.searched_for_one < SEARCHED_MAX {
            inner.searched_for_one += inner.lines.len();
            inner.make_free(self, (one_max / MADE_FREE_OF).max(1), Some(address));
        }
        if inner.lines.len() >= all_max && inner.searched_for_all < SEARCHED_MAX {
            inner.searched_for_all += inner.lines.len();
            inner.make_free(self, (all_max / MADE_FREE_OF).max(1), None);
        }
        if inner.count_of(address) >= one_max || inner.lines.len() >= all_max {
            metrics::turned_away();
            return Err(Refusal::Full);
        }
        let id = inner.next;
        inner.next += 1;
        let line = Arc::new(Line::new(Arc::clone(self), address));
        inner.lines.insert(id, Arc::clone(&line));
        *inner.addresses.entry(address).or_default() += 1;
        Ok(Place { gate: Arc::clone(self), id, _counted: metrics::connection(), line })
    }

    /// Makes places free, because the system has no descriptors left.
    pub fn make_free(&self) {
        self.inner().make_free(self, (self.total_max / MADE_FREE_OF).max(1), None);
    }

    /// Begins the drain: connections without a request end soon, the others with their answer.
    pub fn drain(&self) {
        self.draining_ms.store(self.now_ms(), Ordering::Relaxed);
    }

    /// Cuts what is still under way: streams end with an error event.
    pub fn cut(&self) {
        for line in self.inner().lines.values() {
            line.cut();
        }
    }

    /// Ends every connection at once.
    pub fn end(&self) {
        for line in self.inner().lines.values() {
            line.order(Order::End);
        }
    }

    /// How many connections there are.
    pub fn count(&self) -> usize {
        self.inner().lines.len()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look(&self) {
        let now = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1);
        self.now_ms.store(now, Ordering::Relaxed);
        let mut inner = self.inner();
        (inner.searched_for_one, inner.searched_for_all) = (0, 0);
        for line in inner.lines.values() {
            if let Some(order) = self.overdue(line, now) {
                line.order(order);
            }
        }
    }

    /// What is to become of a connection that was in its state for too long.
    fn overdue(&self, line: &Line, now: u64) -> Option<Order> {
        let limits = &self.limits;
        let waited = now.saturating_sub(line.since_ms());
        let after = |limit: Duration| waited > millis(limit);
        let draining = self.draining_ms.load(Ordering::Relaxed);
        let drained = draining != 0 && waited.min(now.saturating_sub(draining)) > DRAIN_IDLE_MS;
        if line.stalled_ms().is_some_and(|since| now.saturating_sub(since) > millis(limits.write_stall)) {
            return Some(Order::End);
        }
        match line.phase() {
            Phase::Silent if drained || after(limits.first_byte) => Some(Order::End),
            Phase::Idle if drained || after(limits.idle) => Some(Order::End),
            Phase::Head if after(limits.header) => Some(Order::Refuse(Refusal::HeadSlow)),
            Phase::Body if after(limits.body_grace) && line.hungry() => {
                let due = waited.saturating_mul(limits.body_bytes_per_s_min) / 1000;
                (line.body_bytes() < due).then_some(Order::Refuse(Refusal::BodySlow))
            }
            Phase::Ending if waited > ENDING_MS_MAX => Some(Order::End),
            _ => None,
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The address that one client speaks from: for IPv6 the network that its provider gives it.
fn of_one(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 => v4,
    }
}

impl Inner {
    /// Ends those connections that can be missed most, until so many places are free.
    fn make_free(&mut self, gate: &Gate, count: usize, address: Option<IpAddr>) {
        let now = gate.now_ms();
        let mine = |line: &Line| address.is_none_or(|address| line.address() == address);
        let lines = self.lines.iter().filter(|(_, line)| mine(line));
        let mut found: Vec<(u8, u64, u64)> = lines
            .filter_map(|(id, line)| Some((line.missed_least(now, &gate.limits)?, line.since_ms(), *id)))
            .collect();
        found.sort_unstable();
        for (_, _, id) in found.into_iter().take(count) {
            if let Some(line) = self.leave(id) {
                line.order(Order::End);
            }
        }
    }

    fn count_of(&self, address: IpAddr) -> usize {
        self.addresses.get(&address).copied().unwrap_or_default()
    }

    fn leave(&mut self, id: u64) -> Option<Arc<Line>> {
        let line = self.lines.remove(&id)?;
        if let Some(count) = self.addresses.get_mut(&line.address()) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.addresses.remove(&line.address());
            }
        }
        Some(line)
    }
}

impl Line {
    /// How little a connection would be missed, smallest first; nothing where it never gives way.
    fn missed_least(&self, now: u64, limits: &Limits) -> Option<u8> {
        let waited = now.saturating_sub(self.since_ms());
        match self.phase() {
            Phase::Ending => Some(0),
            Phase::Silent | Phase::Head => Some(1),
            Phase::Body if waited > GIVES_WAY_MS => {
                (self.body_bytes() < waited.saturating_mul(limits.body_bytes_per_s_min) / 1000).then_some(2)
            }
            Phase::Idle => Some(3),
            _ => self.stalled_ms().and_then(|since| (now.saturating_sub(since) > GIVES_WAY_MS).then_some(4)),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        drop(self.gate.inner().leave(self.id));
    }
}

#[cfg(test)]
mod tests;
