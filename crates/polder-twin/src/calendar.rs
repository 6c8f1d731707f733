//! Dates of studies: UTC days and months, counted from 1970. Time zones and leap seconds are absent.

/// Microseconds of a second.
pub const SECOND_US: u64 = 1_000_000;
/// Microseconds of an hour.
pub const HOUR_US: u64 = 3_600 * SECOND_US;
/// Microseconds of a day.
pub const DAY_US: u64 = 24 * HOUR_US;

/// A day, counted from 1970-01-01.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Date(pub u64);

impl Date {
    /// Reads `YYYY-MM-DD`, from 1970 to 2999.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() || year.len() != 4 || month.len() != 2 || day.len() != 2 {
            return None;
        }
        let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit()).then(|| part.parse::<u64>().ok()).flatten();
        let (year, month, day) = (digits(year)?, digits(month)?, digits(day)?);
        if !(1970..3000).contains(&year) || !(1..=12).contains(&month) {
            return None;
        }
        let date = Self::of(year, month, day)?;
        (day >= 1 && date.parts() == (year, month, day)).then_some(date)
    }

    /// Howard Hinnant's `days_from_civil`.
    fn of(year: u64, month: u64, day: u64) -> Option<Self> {
        let year = if month <= 2 { year - 1 } else { year };
        let (era, of_era) = (year / 400, year % 400);
        let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day.checked_sub(1)?;
        let days = of_era * 365 + of_era / 4 - of_era / 100 + of_year;
        (era * 146_097 + days).checked_sub(719_468).map(Self)
    }

    /// Year, month and day; Howard Hinnant's `civil_from_days`.
    pub fn parts(self) -> (u64, u64, u64) {
        let days = self.0 + 719_468;
        let (era, of_era) = (days / 146_097, days % 146_097);
        let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year + year / 4 - year / 100);
        let month = (5 * of_year + 2) / 153;
        let day = of_year - (153 * month + 2) / 5 + 1;
        let month = if month < 10 { month + 3 } else { month - 9 };
        (year + era * 400 + u64::from(month <= 2), month, day)
    }

    /// Months since 1970-01.
    pub fn month(self) -> u64 {
        let (year, month, _) = self.parts();
        (year - 1970) * 12 + month - 1
    }
}

impl std::fmt::Display for Date {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (year, month, day) = self.parts();
        write!(f, "{year:04}-{month:02}-{day:02}")
    }
}

const MONTHS: [&str; 12] = [
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
];

/// A month, counted from 1970-01, as people say it: `March 2027`.
pub fn month_name(month: u64) -> String {
    let name = usize::try_from(month % 12).ok().and_then(|at| MONTHS.get(at)).copied().unwrap_or_default();
    format!("{name} {}", 1970 + month / 12)
}

/// A month, counted from 1970-01, as `YYYY-MM`.
pub fn month_text(month: u64) -> String {
    format!("{:04}-{:02}", 1970 + month / 12, month % 12 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_of_the_calendar() {
        for text in ["1970-01-01", "2000-02-29", "2026-11-22", "2027-03-01", "2999-12-31"] {
            assert_eq!(Date::parse(text).map(|date| date.to_string()).as_deref(), Some(text));
        }
        assert_eq!(Date::parse("1970-01-01"), Some(Date(0)));
        assert_eq!(Date::parse("2026-01-01"), Some(Date(20_454)));
        for text in
            ["2026-02-29", "2026-13-01", "2026-1-1", "26-01-01", "2026-01-01-01", "2026-00-10", "2026-01-00", "x"]
        {
            assert_eq!(Date::parse(text), None, "{text}");
        }
        assert_eq!(Date::parse("2027-03-31").map(|date| month_name(date.month())).as_deref(), Some("March 2027"));
        assert_eq!(month_text(Date(0).month()), "1970-01");
    }
}
