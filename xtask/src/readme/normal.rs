//! Comparing what a command printed with what the README says: ids, times, sizes and ports made equal first.
//!
//! Spaces are folded, because columns widen with what stands in them. Everything else must be the same.

/// Units whose numbers differ from run to run.
const UNITS: &[&str] = &["ns", "µs", "us", "ms", "s", "min", "kB", "KiB", "MB", "MiB", "GB", "GiB", "tokens/s"];

/// The first difference, as a message; none when the output is what is expected.
pub fn difference(expected: &[String], printed: &str) -> Option<String> {
    let expected: Vec<String> = trimmed(expected.iter().map(String::as_str));
    let printed: Vec<String> = trimmed(printed.lines());
    if matches(&expected, &printed) {
        return None;
    }
    let same = expected.iter().zip(&printed).take_while(|(a, b)| a == b).count();
    let show = |lines: &[String]| lines.get(same).cloned().unwrap_or_else(|| "(nothing)".to_owned());
    Some(format!(
        "line {} of the output differs\n  README:  {}\n  printed: {}\n--- all that was printed, normalised ---\n{}",
        same + 1,
        show(&expected),
        show(&printed),
        printed.join("\n")
    ))
}

/// The addresses, keys and ids of a page, each with what was printed where the page has it.
pub fn stands_for(expected: &[String], printed: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for shown in expected {
        let Some(printed) = printed.lines().find(|printed| line(printed) == line(shown)) else { continue };
        for (shown, printed) in shown.split_whitespace().zip(printed.split_whitespace()) {
            let pieces = shown.split('/').zip(printed.split('/'));
            let differ = pieces.filter(|(shown, printed)| shown != printed && shown.len() >= 8);
            found.extend(differ.map(|(shown, printed)| (shown.to_owned(), printed.to_owned())));
        }
    }
    found
}

/// Normalised lines without empty ones at the end.
fn trimmed<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut lines: Vec<String> = lines.map(line).collect();
    while lines.last().is_some_and(String::is_empty) {
        lines.pop();
    }
    lines
}

/// Whether lines match, a line of dots standing for any number of lines.
fn matches(expected: &[String], printed: &[String]) -> bool {
    match expected.split_first() {
        None => printed.is_empty(),
        Some((first, rest)) if first == "..." || first == "…" => {
            (0..=printed.len()).any(|skip| matches(rest, &printed[skip..]))
        }
        Some((first, rest)) => {
            printed.split_first().is_some_and(|(line, others)| line == first && matches(rest, others))
        }
    }
}

/// One line with everything that differs from run to run replaced.
pub fn line(text: &str) -> String {
    let words: Vec<String> = text.split_whitespace().map(word).collect();
    let mut out: Vec<String> = Vec::new();
    for word in words {
        let unit = word.trim_end_matches(|c: char| c.is_ascii_punctuation());
        let after_number = out.last().is_some_and(|last| is_number(last.trim_start_matches(['(', '~', '<', '≤'])));
        match out.last_mut() {
            Some(last) if after_number && UNITS.contains(&unit) => "N".clone_into(last),
            _ => {}
        }
        out.push(word);
    }
    out.join(" ")
}

/// One word: an address, an id, a time, or itself.
fn word(text: &str) -> String {
    if is_base64(text) {
        return "ID".to_owned();
    }
    let mut out = String::new();
    let mut run = String::new();
    for letter in text.chars() {
        if letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.' | ':') {
            run.push(letter);
        } else {
            out.push_str(&piece(&run));
            run.clear();
            out.push(letter);
        }
    }
    out.push_str(&piece(&run));
    out
}

/// A run of letters, digits, `-`, `_`, `.` and `:`.
fn piece(run: &str) -> String {
    let core = run.trim_end_matches(['.', ':']);
    let tail = &run[core.len()..];
    if let Some((host, port)) = core.rsplit_once(':')
        && is_digits(port)
        && (host.starts_with("127.0.0.1") || host.ends_with("localhost"))
    {
        return format!("{host}:PORT{tail}");
    }
    if is_instant(core) {
        return format!("TIME{tail}");
    }
    if let Some(unit) = UNITS.iter().find(|unit| core.strip_suffix(**unit).is_some_and(is_number)) {
        return format!("N{unit}{tail}");
    }
    let ids: Vec<String> = core.split('.').map(ids).collect();
    format!("{}{tail}", ids.join("."))
}

/// Parts between `-` that are ids become `ID`; a base64url text that is long and mixed as a whole too.
fn ids(text: &str) -> String {
    let parts: Vec<&str> = text.split(['-', '_']).collect();
    let first = parts.iter().enumerate().position(|(at, part)| is_random(part) || (at > 0 && is_process(part)));
    let Some(first) = first else { return text.to_owned() };
    parts.into_iter().take(first).chain(["ID"]).collect::<Vec<_>>().join("-")
}

/// Eight or more hexadecimal digits, or a long mixture of letters and digits.
fn is_random(part: &str) -> bool {
    let digits = part.chars().filter(char::is_ascii_digit).count();
    let hex = part.len() >= 8 && digits > 0 && part.chars().all(|c| c.is_ascii_hexdigit());
    let mixed = part.len() >= 16 && digits >= 2 && digits < part.len();
    hex || mixed
}

/// A key or a signature: long, in base64, with letters of both cases and digits.
fn is_base64(text: &str) -> bool {
    let has = |kind: fn(&char) -> bool| text.chars().any(|c| kind(&c));
    text.len() >= 24
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '='))
        && has(char::is_ascii_digit)
        && has(char::is_ascii_uppercase)
        && has(char::is_ascii_lowercase)
}

/// The number of a process, as it ends the name of a folder.
fn is_process(part: &str) -> bool {
    part.len() >= 3 && is_digits(part)
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_digit())
}

fn is_number(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_digit()) && text.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | ','))
}

/// A date or a time of day, such as `2026-11-22T09:30:00Z`, `2026-11-22` or `09:30:00`.
fn is_instant(text: &str) -> bool {
    let shape: String = text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    shape.starts_with("0000-00-00") || shape.starts_with("00:00:00")
}
