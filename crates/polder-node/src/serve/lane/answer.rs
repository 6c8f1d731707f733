//! An answer in bytes: its head, and its body by length or in chunks.
//!
//! The lane alone frames: a length or an encoding that a handler names is not taken at its word.

use std::cell::RefCell;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{StatusCode, header, response};

use crate::clock::now_ms;

thread_local! {
    /// The date as answers name it, and the second that it is of.
    static DATE: RefCell<(u64, String)> = const { RefCell::new((u64::MAX, String::new())) };
}

/// How an answer is framed, as far as it was written.
pub struct Form {
    /// What is to come of a body of known length; nothing where it comes in chunks.
    left: Option<u64>,
    /// Whether the connection ends with it.
    pub last: bool,
    /// Whether all of it was written.
    pub ended: bool,
    /// Whether it was less, or more, than its head had said.
    pub short: bool,
}

impl Form {
    /// The form of an answer whose body is so long, where that is known.
    pub fn of(head: &response::Parts, length: Option<u64>) -> Self {
        let close = |value: &http::HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"close");
        let last = head.headers.get(header::CONNECTION).is_some_and(close);
        Self { left: length, last, ended: false, short: false }
    }

    /// The head in bytes, with room for a body behind it.
    pub fn head(&self, head: &response::Parts) -> Vec<u8> {
        let room = self.left.and_then(|length| usize::try_from(length).ok()).unwrap_or(0).min(super::PIECE_BYTES_MAX);
        let mut out = Vec::with_capacity(512 + room);
        match head.status {
            StatusCode::OK => out.extend_from_slice(b"HTTP/1.1 200 OK\r\n"),
            status => {
                let reason = status.canonical_reason().unwrap_or_default();
                out.extend_from_slice(format!("HTTP/1.1 {} {reason}\r\n", status.as_u16()).as_bytes());
            }
        }
        for (name, value) in &head.headers {
            if *name == header::CONTENT_LENGTH || *name == header::TRANSFER_ENCODING {
                continue;
            }
            out.extend_from_slice(name.as_str().as_bytes());
            out.extend_from_slice(b": ");
            out.extend_from_slice(value.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        match self.left {
            Some(length) => {
                out.extend_from_slice(b"content-length: ");
                out.extend_from_slice(length.to_string().as_bytes());
            }
            None => out.extend_from_slice(b"transfer-encoding: chunked"),
        }
        out.extend_from_slice(b"\r\ndate: ");
        date(&mut out);
        out.extend_from_slice(b"\r\n\r\n");
        out
    }

    /// A piece of the body.
    pub fn piece(&mut self, out: &mut Vec<u8>, data: &[u8]) {
        match &mut self.left {
            // An empty chunk would be the end.
            None if data.is_empty() => {}
            None => {
                hexadecimal(out, data.len());
                out.extend_from_slice(b"\r\n");
                out.extend_from_slice(data);
                out.extend_from_slice(b"\r\n");
            }
            Some(left) => match left.checked_sub(data.len() as u64) {
                Some(rest) => {
                    *left = rest;
                    out.extend_from_slice(data);
                }
                None => (self.short, self.ended) = (true, true),
            },
        }
    }

    /// The end of the body.
    pub fn end(&mut self, out: &mut Vec<u8>) {
        self.ended = true;
        match self.left {
            None => out.extend_from_slice(b"0\r\n\r\n"),
            Some(left) => self.short |= left > 0,
        }
    }
}

fn hexadecimal(out: &mut Vec<u8>, number: usize) {
    let digits = (usize::BITS - number.leading_zeros()).div_ceil(4).max(1);
    for place in (0..digits).rev() {
        let digit = u8::try_from((number >> (4 * place)) & 15).unwrap_or_default();
        out.push(if digit < 10 { b'0' + digit } else { b'a' - 10 + digit });
    }
}

/// Appends the date, which is written once a second.
fn date(out: &mut Vec<u8>) {
    let second = now_ms() / 1000;
    DATE.with_borrow_mut(|(of, text)| {
        if *of != second {
            let at: SystemTime = UNIX_EPOCH + Duration::from_secs(second);
            (*of, *text) = (second, httpdate::fmt_http_date(at));
        }
        out.extend_from_slice(text.as_bytes());
    });
}
