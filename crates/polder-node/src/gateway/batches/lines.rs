//! The lines of a kept file, one at a time, and what a line of a batch's input must be.
//!
//! Memory holds one line and one piece of the file. What is wrong is said with the line's number and without its text.

use std::collections::BTreeSet;

use bytes::BytesMut;
use serde_json::{Map, Value};
use sha2::Digest as _;

use super::super::body::parse_object;
use super::record::{Endpoint, Problem};
use crate::content::{ContentError, ContentReader};

/// Longest `custom_id`, in bytes.
const ID_BYTES_MAX: usize = 512;
/// Most problems that one batch names.
const PROBLEMS_MAX: usize = 32;
/// What some editors put before a text.
const MARK: &[u8] = b"\xef\xbb\xbf";

/// A line as it stands in a file.
pub struct Line {
    /// Its number, from 1; empty lines count and are left out.
    pub number: u32,
    /// Its bytes without the end; none where it is too long.
    pub bytes: Option<BytesMut>,
}

/// The lines of a file.
pub struct Lines {
    reader: ContentReader,
    held: BytesMut,
    /// How much of what is held has no line's end in it.
    looked: usize,
    /// Whether what is held is the rest of a line that is too long.
    skipping: bool,
    ended: bool,
    number: u32,
    line_bytes_max: usize,
}

impl Lines {
    /// The lines of what a reader brings.
    pub fn new(reader: ContentReader, line_bytes_max: usize) -> Self {
        let (held, looked, skipping, ended, number) = (BytesMut::new(), 0, false, false, 0);
        Self { reader, held, looked, skipping, ended, number, line_bytes_max }
    }

    /// The next line that is not empty.
    pub async fn next(&mut self) -> Result<Option<Line>, ContentError> {
        loop {
            let fresh = self.held.get(self.looked..).unwrap_or_default();
            match fresh.iter().position(|byte| *byte == b'\n') {
                Some(place) => {
                    let mut bytes = self.held.split_to(self.looked + place + 1);
                    bytes.truncate(self.looked + place);
                    self.looked = 0;
                    if let Some(line) = self.line(bytes) {
                        return Ok(Some(line));
                    }
                }
                None if self.ended => {
                    self.looked = 0;
                    let rest = self.held.split();
                    return Ok((self.skipping || !rest.is_empty()).then(|| self.line(rest)).flatten());
                }
                None => {
                    self.looked = self.held.len();
                    if self.looked > self.line_bytes_max {
                        self.skipping = true;
                        self.held.clear();
                        self.looked = 0;
                    }
                    match self.reader.next().await? {
                        Some(piece) => self.held.extend_from_slice(&piece),
                        None => self.ended = true,
                    }
                }
            }
        }
    }

    fn line(&mut self, mut bytes: BytesMut) -> Option<Line> {
        self.number = self.number.saturating_add(1);
        let number = self.number;
        if std::mem::take(&mut self.skipping) || bytes.len() > self.line_bytes_max {
            return Some(Line { number, bytes: None });
        }
        if number == 1 && bytes.starts_with(MARK) {
            drop(bytes.split_to(MARK.len()));
        }
        (!bytes.trim_ascii().is_empty()).then_some(Line { number, bytes: Some(bytes) })
    }
}

/// What a line of a batch's input asks for.
#[derive(Debug)]
pub struct Request {
    /// The name that its answer will carry.
    pub custom_id: String,
    /// The body, as the endpoint would get it.
    pub body: Map<String, Value>,
}

/// Reads a line of a batch's input.
pub fn request(line: &Line, endpoint: Endpoint) -> Result<Request, Problem> {
    let problem = |code: &str, param: Option<&str>, message: String| Problem {
        code: code.to_owned(),
        message,
        param: param.map(str::to_owned),
        line: Some(line.number),
    };
    let Some(bytes) = &line.bytes else {
        return Err(problem("line_too_long", None, "this line is longer than a request may be".to_owned()));
    };
    let read = parse_object(bytes.trim_ascii());
    let mut object = read.map_err(|error| {
        let message = format!("this line is not one JSON object: {}", error.message());
        problem("invalid_json_line", None, message)
    })?;
    let mut text = |name: &str| match object.remove(name) {
        Some(Value::String(text)) => Ok(text),
        Some(_) => Err(problem("invalid_type", Some(name), format!("`{name}` must be a string"))),
        None => Err(problem("missing_required_parameter", Some(name), format!("`{name}` is missing"))),
    };
    let custom_id = text("custom_id")?;
    if custom_id.is_empty() || custom_id.len() > ID_BYTES_MAX {
        let message = format!("`custom_id` must have 1 to {ID_BYTES_MAX} bytes");
        return Err(problem("invalid_value", Some("custom_id"), message));
    }
    if text("method")? != "POST" {
        return Err(problem("invalid_method", Some("method"), "`method` must be POST".to_owned()));
    }
    if text("url")? != endpoint.as_str() {
        let message = format!("`url` must be the batch's endpoint, `{}`", endpoint.as_str());
        return Err(problem("mismatched_url", Some("url"), message));
    }
    let body = match object.remove("body") {
        Some(Value::Object(body)) => body,
        Some(_) => return Err(problem("invalid_type", Some("body"), "`body` must be an object".to_owned())),
        None => return Err(problem("missing_required_parameter", Some("body"), "`body` is missing".to_owned())),
    };
    match object.keys().next() {
        // A misspelt name would be a request that was not meant.
        Some(_) => {
            let message = "a line has `custom_id`, `method`, `url` and `body`, and nothing else".to_owned();
            Err(problem("unsupported_parameter", None, message))
        }
        None => Ok(Request { custom_id, body }),
    }
}

/// Looks at every line: how many there are, and what is wrong with them.
pub async fn check(lines: &mut Lines, endpoint: Endpoint, lines_max: u32) -> Result<(u32, Vec<Problem>), ContentError> {
    let (mut total, mut problems, mut seen) = (0u32, Vec::new(), BTreeSet::<[u8; 32]>::new());
    let of_batch = |code: &str, message: String| Problem { code: code.to_owned(), message, param: None, line: None };
    while let Some(line) = lines.next().await? {
        total = total.saturating_add(1);
        if total > lines_max {
            problems.push(of_batch("too_many_lines", format!("a batch has at most {lines_max} lines")));
            break;
        }
        match request(&line, endpoint) {
            Ok(request) if !seen.insert(sha2::Sha256::digest(request.custom_id.as_bytes()).into()) => {
                problems.push(Problem {
                    code: "duplicate_custom_id".to_owned(),
                    message: "an earlier line has the same `custom_id`".to_owned(),
                    param: Some("custom_id".to_owned()),
                    line: Some(line.number),
                });
            }
            Ok(_) => {}
            Err(problem) => problems.push(problem),
        }
        if problems.len() >= PROBLEMS_MAX {
            break;
        }
    }
    if total == 0 {
        problems.push(of_batch("empty_file", "the file has no lines".to_owned()));
    }
    Ok((total, problems))
}
