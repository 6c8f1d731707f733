//! The periods of a budget: a day, a month, or all of time, in UTC.
//!
//! A period is one number, whatever the window, so that what is kept of one can never be taken for another. Time zones are
//! absent.

use serde::{Deserialize, Serialize};

const DAY_MS: u64 = 86_400_000;

/// What tells the numbers of days from those of months.
const KIND: u64 = 1 << 40;

/// Since when a budget's spending counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Window {
    /// Since midnight in UTC.
    Day,
    /// Since the first of the month in UTC.
    Month,
    /// Since the budget was set for the first time.
    Total,
}

impl Window {
    /// The number of the period that holds an instant in Unix milliseconds: days since 1970 plus 2^40, months since 1970
    /// plus 2^41, or 0.
    pub fn period(self, at_ms: u64) -> u64 {
        match self {
            Self::Day => KIND + at_ms / DAY_MS,
            Self::Month => 2 * KIND + month_of(at_ms / DAY_MS),
            Self::Total => 0,
        }
    }

    /// The name, as it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Month => "month",
            Self::Total => "total",
        }
    }
}

/// Months since January 1970 of a day since the Unix epoch.
fn month_of(day: u64) -> u64 {
    let (year, month, _) = civil(day);
    year.saturating_mul(12).saturating_add(month - 1).saturating_sub(1_970 * 12)
}

/// Year, month and day of the month of a day since the Unix epoch. The conversion is Howard Hinnant's `civil_from_days`.
pub fn civil(day: u64) -> (u64, u64, u64) {
    let days = day.saturating_add(719_468);
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    // Counted from March, so that a leap day is the last day of its year.
    let month = (5 * of_year + 2) / 153;
    let of_month = of_year - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (year + era * 400 + next, month, of_month)
}
