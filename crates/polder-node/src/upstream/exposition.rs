//! Prometheus' text format, read strictly and within bounds: names and values, added up over their labels.
//!
//! Format: <https://prometheus.io/docs/instrumenting/exposition_formats/>. What comes in is another program's word: a page
//! with a line that is not of the format is refused as a whole. Absent: types, help texts, time stamps and the values of
//! labels; nothing here needs them, and a label may hold what somebody asked.

use std::collections::BTreeMap;

/// Most samples that a page may have.
pub const SAMPLES_MAX: usize = 20_000;

/// One name's samples, taken together.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Total {
    /// Their sum.
    pub sum: f64,
    /// The largest.
    pub max: f64,
}

/// The samples of a page by name. Values that are no number, infinite or negative are left out.
pub fn totals(text: &str) -> Result<BTreeMap<&str, Total>, String> {
    let mut totals: BTreeMap<&str, Total> = BTreeMap::new();
    let mut samples = 0;
    for (number, line) in text.lines().enumerate() {
        let line = line.trim_matches([' ', '\t']);
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        samples += 1;
        if samples > SAMPLES_MAX {
            return Err(format!("more than {SAMPLES_MAX} samples"));
        }
        let (name, value) = sample(line).ok_or_else(|| format!("line {} is no sample", number + 1))?;
        if value.is_finite() && value >= 0.0 {
            let total = totals.entry(name).or_default();
            total.sum += value;
            total.max = total.max.max(value);
        }
    }
    Ok(totals)
}

/// `name{label="value",…} value timestamp`, labels and time stamp being optional.
fn sample(line: &str) -> Option<(&str, f64)> {
    let first = |c: char| c.is_ascii_alphabetic() || c == '_' || c == ':';
    let end = line.find(|c: char| !first(c) && !c.is_ascii_digit()).filter(|end| *end > 0)?;
    let (name, rest) = line.split_at_checked(end)?;
    if !name.starts_with(first) {
        return None;
    }
    let rest = match rest.trim_start_matches([' ', '\t']).strip_prefix('{') {
        Some(labels) => after_labels(labels)?,
        None if rest.starts_with([' ', '\t']) => rest,
        None => return None,
    };
    let mut fields = rest.split([' ', '\t']).filter(|field| !field.is_empty());
    let value = fields.next()?.parse().ok()?;
    let at = fields.next().is_none_or(|at| at.parse::<i64>().is_ok());
    (at && fields.next().is_none()).then_some((name, value))
}

/// What comes after the labels' closing brace.
fn after_labels(mut rest: &str) -> Option<&str> {
    let blank = [' ', '\t'];
    loop {
        rest = rest.trim_start_matches(blank);
        if let Some(after) = rest.strip_prefix('}') {
            return Some(after);
        }
        let (name, value) = rest.split_once('=')?;
        let name = name.trim_matches(blank);
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            return None;
        }
        rest = after_text(value.trim_start_matches(blank).strip_prefix('"')?)?.trim_start_matches(blank);
        rest = match rest.strip_prefix(',') {
            Some(after) => after,
            None if rest.starts_with('}') => rest,
            None => return None,
        };
    }
}

/// What comes after a quoted text's end; a backslash takes the next character with it.
fn after_text(text: &str) -> Option<&str> {
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => drop(characters.next()?),
            '"' => return text.get(at + 1..),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests;
