//! The retry budget: how many attempts beyond the first a home may make, so that trouble does not multiply its own load.
//!
//! A token bucket in thousandths of a retry: every request puts a share in, and so does time, up to a bound. Absent:
//! deciding where a retry goes; each is a decision of its own.

/// What a budget goes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Retries for each hundred requests.
    pub percent: u32,
    /// Retries a second, whatever the requests.
    pub per_s: u32,
}

/// Seconds of the time's share that can be saved up, and as many times that of requests' shares.
const SAVED_S: u64 = 10;
const MILLI: u64 = 1_000;

/// A retry budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryBudget {
    milli: u64,
    at_ms: u64,
}

impl RetryBudget {
    /// A budget that begins at an instant with one second's share.
    pub fn new(now_ms: u64, limits: &Limits) -> Self {
        Self { milli: u64::from(limits.per_s).saturating_mul(MILLI), at_ms: now_ms }
    }

    /// Takes a retry out, where there is one. `requests` is how many were begun since the last call.
    pub fn take(&mut self, now_ms: u64, requests: u64, limits: &Limits) -> bool {
        let (percent, per_s) = (u64::from(limits.percent), u64::from(limits.per_s));
        let of_time = now_ms.saturating_sub(self.at_ms).saturating_mul(per_s);
        // A hundredth of a retry is ten thousandths.
        let of_requests = requests.saturating_mul(percent).saturating_mul(10);
        let most = per_s.saturating_add(percent).saturating_mul(MILLI * SAVED_S).max(MILLI);
        self.at_ms = self.at_ms.max(now_ms);
        self.milli = self.milli.saturating_add(of_time).saturating_add(of_requests).min(most);
        match self.milli.checked_sub(MILLI) {
            Some(left) => {
                self.milli = left;
                true
            }
            None => false,
        }
    }
}

/// How long to wait before a retry, in milliseconds: anywhere in a span that doubles with each, by a random number, so that
/// many who failed together do not come back together.
pub fn pause_ms(retry: u32, random: u64) -> u64 {
    const FIRST_MS: u64 = 20;
    const LONGEST_MS: u64 = 500;
    let span = FIRST_MS.saturating_mul(1 << retry.saturating_sub(1).min(16)).min(LONGEST_MS);
    // `span` is at least 1: the remainder is defined.
    random.checked_rem(span).unwrap_or(0).saturating_add(1)
}

#[cfg(test)]
mod tests;
