//! The one place that reads the clock, and the watch over whether it can be believed. What decides gets the instant as an
//! argument.
//!
//! Facts expire, so a clock that is wrong opens doors: one that was set back brings expired facts to life. Setting the
//! clock right is absent: that is the machine's affair.

use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How far the clock may be from the peers', in milliseconds.
pub const OFF_MS_MAX: u64 = 300_000;
/// How far back the clock may step while no peer says what time it is; time servers correct by less.
const BACK_MS_MAX: u64 = 2_000;

/// Now, in Unix milliseconds; 0 where the machine's clock stands before 1970, which no fact or capability survives.
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Milliseconds since this process first asked: a clock that is never set, for pauses and time-outs.
pub fn ticks_ms() -> u64 {
    static BEGUN: LazyLock<Instant> = LazyLock::new(Instant::now);
    u64::try_from(BEGUN.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// Milliseconds since the machine started, which never jump back and go on while it sleeps (`CLOCK_BOOTTIME`). Leases are timed by it, and
/// two processes of one machine agree about it to a few milliseconds.
///
/// The kernel tells it in `/proc/uptime`, in hundredths of a second; between two of those the steady clock of this process
/// counts. Where the two drift apart, the machine has slept.
pub fn boot_ms() -> u64 {
    static BASE: LazyLock<Mutex<(u64, Instant)>> = LazyLock::new(|| Mutex::new(first_tick()));
    let mut base = BASE.lock().unwrap_or_else(PoisonError::into_inner);
    let since = |begun: Instant| u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    let counted_ms = base.0.saturating_add(since(base.1));
    match uptime_ms() {
        Some(told_ms) if told_ms > counted_ms.saturating_add(ASLEEP_MS) => {
            *base = (told_ms, Instant::now());
            told_ms
        }
        _ => counted_ms,
    }
}

/// How far the kernel's word may be ahead before the machine is taken to have slept.
const ASLEEP_MS: u64 = 50;

/// The kernel's word, at the moment in which it changes.
fn first_tick() -> (u64, Instant) {
    let (first, begun) = (uptime_ms(), Instant::now());
    loop {
        let (told, now) = (uptime_ms(), Instant::now());
        // It changes every ten milliseconds, unless there is no such file.
        if told != first || begun.elapsed() > Duration::from_millis(40) {
            return (told.unwrap_or(0), now);
        }
    }
}

/// The kernel's word on how long the machine has been up, to a hundredth of a second.
fn uptime_ms() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/uptime").ok()?;
    let (seconds, hundredths) = text.split_whitespace().next()?.split_once('.')?;
    let ms = seconds.parse::<u64>().ok()?.checked_mul(1_000)?;
    ms.checked_add(hundredths.parse::<u64>().ok()?.checked_mul(10)?)
}

/// What names this start of the machine.
pub fn machine() -> [u8; 8] {
    let text = std::fs::read("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    polder_core::canonical::hash("polder/machine/v1", &[&text]).0.first_chunk().copied().unwrap_or_default()
}

/// How many random bytes a thread takes from the operating system at once.
const RANDOM_BYTES: usize = 4096;

thread_local! {
    /// Random bytes that no one has had yet, and how many of them are left.
    static RANDOM: std::cell::RefCell<([u8; RANDOM_BYTES], usize)> = const { std::cell::RefCell::new(([0; RANDOM_BYTES], 0)) };
}

/// Random bytes from the operating system, taken in large pieces: a request needs five draws. What was given out is wiped.
pub fn random<const N: usize>() -> std::io::Result<[u8; N]> {
    const { assert!(N <= RANDOM_BYTES) };
    RANDOM.with_borrow_mut(|(bytes, left)| {
        if *left < N {
            getrandom::fill(bytes).map_err(std::io::Error::other)?;
            *left = RANDOM_BYTES;
        }
        let mut drawn = [0; N];
        if let Some(piece) = bytes.get_mut(*left - N..*left) {
            drawn.copy_from_slice(piece);
            piece.fill(0);
        }
        *left -= N;
        Ok(drawn)
    })
}

/// Why this machine's clock is not to be believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClockFault {
    /// The peers agree on another time.
    #[error("this node's clock is {0} s off its peers': no fact counts until it is right")]
    OffPeers(u64),
    /// The node has recorded a later instant.
    #[error("this node's clock was set back by {0} s and no peer confirms it: no fact counts until it is right")]
    SetBack(u64),
}

/// What is known about the clock from outside it.
#[derive(Debug, Clone, Default)]
pub struct Watch {
    /// The latest instant that was believed.
    latest_ms: u64,
    /// When peers last said what time it is, and how far from ours the middle one was.
    peers: Option<(u64, u64)>,
}

impl Watch {
    /// A watch that remembers the latest instant on record.
    pub fn since(latest_ms: u64) -> Self {
        Self { latest_ms, peers: None }
    }

    /// Takes in what the peers' clocks said at an instant of ours; where none said anything, what they said before is
    /// forgotten. The middle one counts, so that a few wrong clocks among many do no harm.
    pub fn look(&mut self, now_ms: u64, peers: Vec<u64>) {
        let mut off: Vec<(bool, u64)> = peers.into_iter().map(|peer| (peer > now_ms, peer.abs_diff(now_ms))).collect();
        // From the furthest behind to the furthest ahead.
        off.sort_by_key(|(ahead, off)| (*ahead, if *ahead { *off } else { u64::MAX - off }));
        self.peers = off.get(off.len() / 2).map(|(_, off)| (now_ms, *off));
        if self.fault(now_ms).is_none() {
            self.latest_ms = now_ms;
        }
    }

    /// What is wrong with the clock at an instant that it gives.
    pub fn fault(&self, now_ms: u64) -> Option<ClockFault> {
        let before = match self.peers {
            Some((_, off)) if off > OFF_MS_MAX => return Some(ClockFault::OffPeers(off / 1_000)),
            // Peers know better than our own records; but the clock may have been set since they were asked.
            Some((asked_ms, _)) => asked_ms,
            None => self.latest_ms,
        };
        let back_ms = before.saturating_sub(now_ms);
        (back_ms > BACK_MS_MAX).then_some(ClockFault::SetBack(back_ms / 1_000))
    }
}

#[cfg(test)]
mod tests;
