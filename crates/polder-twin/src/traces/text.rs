//! One line of a trace in text: a row, nothing, or why it cannot be used. Reading the file is absent.

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::{Format, Row};
use crate::calendar::{DAY_US, Date, SECOND_US};

/// Reads one line, without its end. `Ok(None)` for remarks, headings and blank lines.
pub fn row(format: Format, text: &str, line: u64) -> Result<Option<Row>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    match format {
        Format::Swf if text.starts_with(';') => Ok(None),
        Format::Swf => swf(text).map(Some),
        Format::AzureLlm if line == 1 && text.starts_with("TIMESTAMP") => Ok(None),
        Format::AzureLlm => azure(text).map(Some),
        Format::Mooncake => mooncake(text).map(Some),
        Format::Tasks => Err("tasks are read from parquet".to_owned()),
    }
}

/// Fields of the Standard Workload Format: 2 submission, 4 run time, 5 processors given, 8 processors asked for, 9 time asked for.
fn swf(text: &str) -> Result<Row, String> {
    let fields: Vec<&str> = text.split_ascii_whitespace().collect();
    if fields.len() != 18 {
        return Err(format!("has {} fields instead of 18", fields.len()));
    }
    let field = |place: usize, name: &str| {
        let text = fields.get(place - 1).copied().unwrap_or_default();
        let whole = text.split_once('.').map_or(text, |(whole, _)| whole);
        whole.parse::<i64>().map_err(|_| format!("field {place} ({name}) is `{text}`, which is not a number"))
    };
    let seconds = |value: i64| u64::try_from(value).ok().and_then(|value| value.checked_mul(SECOND_US));
    let at_us = seconds(field(2, "submit time")?).ok_or("field 2 (submit time) is negative")?;
    let run_us = seconds(field(4, "run time")?).filter(|us| *us > 0);
    let run_us = run_us.ok_or("field 4 (run time) says that it did not run")?;
    let (given, asked) = (field(5, "processors")?, field(8, "processors asked for")?);
    let processors = u32::try_from(if given > 0 { given } else { asked }).ok().filter(|count| *count > 0);
    let processors = processors.ok_or("fields 5 and 8 name no processors")?;
    let limit_us = seconds(field(9, "time asked for")?).unwrap_or(0);
    Ok(Row { at_us, processors, run_us, limit_us, ..Row::default() })
}

fn azure(text: &str) -> Result<Row, String> {
    let mut fields = text.split(',');
    let (Some(at), Some(prompt), Some(generated), None) = (fields.next(), fields.next(), fields.next(), fields.next())
    else {
        return Err("has not three fields: TIMESTAMP,ContextTokens,GeneratedTokens".to_owned());
    };
    let tokens = |name: &str, text: &str| {
        text.trim().parse::<u32>().map_err(|_| format!("{name} is `{text}`, which is not a number of tokens"))
    };
    let at_us = instant(at).ok_or_else(|| format!("TIMESTAMP is `{at}`, not as `2023-11-16 18:15:46.6805900`"))?;
    let (prompt, generated) = (tokens("ContextTokens", prompt)?, tokens("GeneratedTokens", generated)?);
    Ok(Row { at_us, processors: 1, prompt, generated: generated.max(1), ..Row::default() })
}

/// `YYYY-MM-DD HH:MM:SS.fraction` in microseconds.
fn instant(text: &str) -> Option<u64> {
    let (date, time) = text.trim().split_once([' ', 'T'])?;
    let date = Date::parse(date)?;
    let (whole, fraction) = time.split_once('.').unwrap_or((time, ""));
    let mut parts = whole.split(':').map(|part| part.parse::<u64>().ok());
    let (hour, minute, second) = (parts.next()??, parts.next()??, parts.next()??);
    if parts.next().is_some() || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let mut us = 0;
    for place in 0..6 {
        let digit = fraction
            .as_bytes()
            .get(place)
            .map_or(Some(0), |byte| byte.is_ascii_digit().then(|| u64::from(byte - b'0')))?;
        us = us * 10 + digit;
    }
    Some(date.0 * DAY_US + (hour * 3_600 + minute * 60 + second) * SECOND_US + us)
}

#[derive(Deserialize)]
struct Mooncake {
    timestamp: u64,
    input_length: u32,
    output_length: u32,
    #[serde(flatten)]
    _rest: std::collections::BTreeMap<String, IgnoredAny>,
}

fn mooncake(text: &str) -> Result<Row, String> {
    let read: Mooncake = serde_json::from_str(text).map_err(|e| format!("is not a request of this trace: {e}"))?;
    let at_us = read.timestamp.checked_mul(1_000).ok_or("`timestamp` is too large")?;
    let (prompt, generated) = (read.input_length, read.output_length.max(1));
    Ok(Row { at_us, processors: 1, prompt, generated, ..Row::default() })
}
