//! Printing: tables for people, JSON for programs, colour only where a terminal wants it.

use std::io::{IsTerminal as _, Write as _};

use serde::Serialize;
use serde_json::Value;

use crate::failure::Failure;

/// Prints a value as one JSON document.
pub fn json<T: Serialize>(value: &T) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(|e| Failure::new(format!("cannot print JSON: {e}")))?;
    line(&text)
}

/// Prints a line of data. A reader that has gone away, such as `head`, is no failure.
pub fn line(text: &str) -> Result<(), Failure> {
    match writeln!(std::io::stdout(), "{text}") {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::new(format!("cannot print: {error}")))
        }
        _ => Ok(()),
    }
}

/// Prints rows under a heading, columns as wide as their widest cell, the last one as it is.
pub fn table(heading: &[&str], rows: &[Vec<String>]) -> Result<(), Failure> {
    let mut widths: Vec<usize> = heading.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let format = |cells: &mut dyn Iterator<Item = &str>| {
        let padded: Vec<String> = cells
            .zip(&widths)
            .map(|(cell, width)| format!("{cell}{}", " ".repeat(width - cell.chars().count())))
            .collect();
        padded.join("  ").trim_end().to_owned()
    };
    line(&bold(&format(&mut heading.iter().copied())))?;
    for row in rows {
        line(&format(&mut row.iter().map(String::as_str)))?;
    }
    Ok(())
}

/// Bold text, where stdout is a terminal and `NO_COLOR` is not set.
pub fn bold(text: &str) -> String {
    let wanted = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    if wanted { format!("\u{1b}[1m{text}\u{1b}[0m") } else { text.to_owned() }
}

/// An instant in Unix milliseconds as UTC, `YYYY-MM-DD HH:MM:SS`.
pub fn instant(instant_ms: &Value) -> String {
    let of_day = instant_ms.as_u64().unwrap_or(0) / 1_000 % 86_400;
    format!("{} {:02}:{:02}:{:02}", date(instant_ms), of_day / 3_600, of_day / 60 % 60, of_day % 60)
}

/// The UTC date of an instant in Unix milliseconds, `YYYY-MM-DD`.
pub fn date(instant_ms: &Value) -> String {
    let (year, month, day) = polder_core::ledger::civil(instant_ms.as_u64().unwrap_or(0) / 86_400_000);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::{date, instant};

    #[test]
    fn dates_are_of_the_calendar() {
        assert_eq!(date(&0.into()), "1970-01-01");
        assert_eq!(date(&951_782_400_000_u64.into()), "2000-02-29");
        assert_eq!(date(&1_795_305_600_000_u64.into()), "2026-11-22");
        assert_eq!(instant(&1_795_359_661_999_u64.into()), "2026-11-22 15:01:01");
    }
}
