//! The one place that reads the clock, and the watch over whether it can be believed. What decides gets the instant as an
//! argument.
//!
//! Facts expire, so a clock that is wrong opens doors: one that was set back brings expired facts to life. Setting the
//! clock right is absent: that is the machine's affair.

use std::sync::LazyLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

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
