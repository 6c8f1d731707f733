//! An engine's answer in HTTP/1.1: what its head says, and where its body ends. Pure: bytes in, contents out, however they are cut.
//!
//! Nothing of an engine's framing is passed on. What can be read in two ways ends the connection with its answer. Absent:
//! compressed answers, which nobody asks for, and trailers, which mean nothing here.

use http::StatusCode;

use crate::serve::framing::chunks::Chunks;

/// Largest head, in bytes, and most headers in it.
const HEAD_BYTES_MAX: usize = 64 << 10;
const HEADERS_MAX: usize = 100;

/// What the head of an answer says.
#[derive(Debug)]
pub struct Head {
    /// Its status.
    pub status: StatusCode,
    /// Whether it is a row of server-sent events.
    pub events: bool,
    /// Whether the connection stands after it.
    pub keeps: bool,
    /// How its body ends.
    pub body: Body,
}

/// What is left of a body.
#[derive(Debug)]
pub enum Body {
    /// So many bytes.
    Known(u64),
    /// Chunks.
    Chunked(Chunks),
    /// Everything until the engine closes.
    ToEnd,
}

/// Reads a head: its length and what it says; nothing where it is not whole yet. Interim answers come as heads of their own.
pub fn head(bytes: &[u8]) -> Result<Option<(usize, Head)>, &'static str> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut answer = httparse::Response::new(&mut headers);
    let parsed = answer.parse(bytes).map_err(|_| "its answer's head is malformed")?;
    let length = match parsed {
        httparse::Status::Complete(length) => length,
        httparse::Status::Partial if bytes.len() > HEAD_BYTES_MAX => return Err("its answer's head is too long"),
        httparse::Status::Partial => return Ok(None),
    };
    let status = answer.code.and_then(|code| StatusCode::from_u16(code).ok()).ok_or("its answer has no status")?;
    let mut head = Head { status, events: false, keeps: answer.version == Some(1), body: Body::ToEnd };
    let (mut known, mut chunked) = (None, false);
    for header in answer.headers.iter() {
        let value = header.value.trim_ascii();
        if header.name.eq_ignore_ascii_case("content-length") {
            let length =
                std::str::from_utf8(value).ok().filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
            let length =
                length.and_then(|digits| digits.parse::<u64>().ok()).ok_or("its answer's length is no number")?;
            if known.is_some_and(|before| before != length) {
                return Err("its answer has two lengths");
            }
            known = Some(length);
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            if chunked || !value.eq_ignore_ascii_case(b"chunked") {
                return Err("its answer comes in an encoding that was not asked for");
            }
            chunked = true;
        } else if header.name.eq_ignore_ascii_case("connection") {
            head.keeps &= !value.to_ascii_lowercase().windows(5).any(|word| word == b"close");
        } else if header.name.eq_ignore_ascii_case("content-type") {
            head.events = value.starts_with(b"text/event-stream");
        }
    }
    head.body = match (chunked, known) {
        (true, _) => Body::Chunked(Chunks::of_answer()),
        (false, Some(length)) => Body::Known(length),
        (false, None) => Body::ToEnd,
    };
    if status.is_informational() || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        head.body = Body::Known(0);
    }
    // Two readers of both might not agree where the next answer begins.
    head.keeps &= !(matches!(head.body, Body::ToEnd) || chunked && known.is_some());
    Ok(Some((length, head)))
}

impl Body {
    /// Takes what belongs to the body from the beginning of `bytes`, and appends its contents to `out`: how many bytes that were.
    pub fn take(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<usize, &'static str> {
        match self {
            Self::Known(left) => {
                let count = usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
                *left = left.saturating_sub(count as u64);
                out.extend_from_slice(bytes.get(..count).unwrap_or_default());
                Ok(count)
            }
            Self::Chunked(chunks) => {
                let taken = chunks.take(bytes, |contents| out.extend_from_slice(contents));
                let (count, ended) = taken.map_err(|_| "the chunks of its answer are malformed")?;
                if ended {
                    *self = Self::Known(0);
                }
                Ok(count)
            }
            Self::ToEnd => {
                out.extend_from_slice(bytes);
                Ok(bytes.len())
            }
        }
    }

    /// Whether nothing of it is to come.
    pub fn has_ended(&self) -> bool {
        matches!(self, Self::Known(0))
    }
}

#[cfg(test)]
mod tests;
