//! A rate per minute as a bucket: it holds a minute's worth, fills evenly, and may be owed to.
//!
//! The level is kept in 60,000ths, so that a millisecond adds a whole number of them and nothing is ever rounded. Windows
//! with edges are absent: at an edge they let through twice what they should in a moment.

/// Largest rate that is kept, per minute; more is as good as none.
pub const PER_MINUTE_MAX: u64 = 1_000_000_000_000;

/// Parts of one unit: a minute in milliseconds.
const PARTS: i64 = 60_000;

/// A rate per minute and what is left of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bucket {
    per_minute: i64,
    /// What is left, in 60,000ths; below zero where more was used than was there.
    level: i64,
    at_ms: u64,
}

impl Bucket {
    /// A full bucket.
    pub fn new(per_minute: u64, now_ms: u64) -> Self {
        let per_minute = i64::try_from(per_minute.min(PER_MINUTE_MAX)).unwrap_or(i64::MAX / PARTS);
        Self { per_minute, level: per_minute.saturating_mul(PARTS), at_ms: now_ms }
    }

    /// The same bucket at another rate: what was used stays used.
    pub fn at_rate(self, per_minute: u64, now_ms: u64) -> Self {
        let full = Self::new(per_minute, now_ms);
        let used = self.per_minute.saturating_mul(PARTS).saturating_sub(self.level);
        Self { level: full.level.saturating_sub(used), ..full }
    }

    /// The rate, per minute.
    pub fn per_minute(&self) -> u64 {
        u64::try_from(self.per_minute).unwrap_or(0)
    }

    fn fill(&mut self, now_ms: u64) {
        // A clock that was set back fills nothing, and counts from where it stands.
        let passed = i64::try_from(now_ms.saturating_sub(self.at_ms)).unwrap_or(i64::MAX);
        let most = self.per_minute.saturating_mul(PARTS);
        self.level = self.level.saturating_add(passed.saturating_mul(self.per_minute)).min(most);
        self.at_ms = now_ms;
    }

    /// Whether an amount can be taken now; if not, in how many milliseconds. An amount above a whole minute's is let through
    /// once the bucket is full, and owed afterwards: otherwise it could never run.
    pub fn can(&mut self, amount: u64, now_ms: u64) -> Result<(), u64> {
        self.fill(now_ms);
        let wanted = i64::try_from(amount).unwrap_or(i64::MAX).min(self.per_minute).saturating_mul(PARTS);
        let missing = wanted.saturating_sub(self.level);
        if missing <= 0 && self.per_minute > 0 {
            return Ok(());
        }
        let wait = missing.max(1).checked_div(self.per_minute).map_or(i64::MAX, |ms| ms.saturating_add(1));
        Err(u64::try_from(wait).unwrap_or(u64::MAX))
    }

    /// Takes an amount, whether it is there or not.
    pub fn take(&mut self, amount: u64) {
        let amount = i64::try_from(amount).unwrap_or(i64::MAX).saturating_mul(PARTS);
        self.level = self.level.saturating_sub(amount);
    }

    /// Gives back an amount that was taken and not used.
    pub fn give(&mut self, amount: u64) {
        let amount = i64::try_from(amount).unwrap_or(i64::MAX).saturating_mul(PARTS);
        self.level = self.level.saturating_add(amount).min(self.per_minute.saturating_mul(PARTS));
    }

    /// What is left, in whole units.
    pub fn left(&mut self, now_ms: u64) -> u64 {
        self.fill(now_ms);
        u64::try_from(self.level / PARTS).unwrap_or(0)
    }

    /// In how many milliseconds the bucket is full again.
    pub fn full_in_ms(&mut self, now_ms: u64) -> u64 {
        self.fill(now_ms);
        let missing = self.per_minute.saturating_mul(PARTS).saturating_sub(self.level);
        let wait = missing.saturating_add(self.per_minute.saturating_sub(1)).checked_div(self.per_minute);
        wait.and_then(|wait| u64::try_from(wait).ok()).unwrap_or(0)
    }
}
