//! A request's head: its lines, and what they say about the body's length.

use super::Length;
use crate::serve::refusal::Refusal;

/// Most headers of one request; the HTTP library holds as many.
const HEADERS_MAX: usize = 100;
/// Longest address, in bytes.
const URI_BYTES_MAX: usize = 8 << 10;
/// Most empty lines before a request (RFC 9112, 2.2, asks for at least one).
const BLANKS_MAX: usize = 2;

/// Headers that may stand only once: where two differ, two readers may believe different ones.
const SINGLE: [&[u8]; 7] = [
    b"host", b"content-length", b"transfer-encoding", b"authorization", b"content-type", b"content-encoding",
    b"x-api-key",
];
const HOST: u8 = 1;
const CONTENT_LENGTH: u8 = 1 << 1;
const TRANSFER_ENCODING: u8 = 1 << 2;

/// A head as far as it was read.
#[derive(Debug, Default)]
pub struct Head {
    /// How far was looked for an end of line, and where the line under way begins.
    seen: usize,
    line: usize,
    blanks: usize,
    lines: usize,
    old: bool,
    singles: u8,
    length: u64,
}

impl Head {
    /// Goes on reading. The bytes are those of before with more behind them; what was read once is not read again, so that a
    /// head that comes byte by byte costs no more than one that comes at once.
    pub fn scan(&mut self, bytes: &[u8], bytes_max: usize) -> Result<Option<(usize, Length)>, Refusal> {
        while let Some(offset) = bytes.get(self.seen..).and_then(|rest| rest.iter().position(|byte| *byte == b'\n')) {
            let end = self.seen + offset;
            let line = bytes.get(self.line..end).unwrap_or_default();
            (self.seen, self.line) = (end + 1, end + 1);
            let line = line.strip_suffix(b"\r").ok_or(Refusal::LineEnd)?;
            match (line, self.lines) {
                ([], 0) => {
                    self.blanks += 1;
                    if self.blanks > BLANKS_MAX {
                        return Err(Refusal::Malformed);
                    }
                    continue;
                }
                ([], _) => return Ok(Some((end + 1, self.length()?))),
                (line, 0) => self.request_line(line)?,
                (line, _) => self.header(line)?,
            }
            self.lines += 1;
            if self.lines > HEADERS_MAX + 1 || end > bytes_max {
                return Err(Refusal::HeadTooLarge);
            }
        }
        self.seen = bytes.len();
        match bytes.get(self.line..) {
            // What begins like no request is none, such as the first byte of TLS.
            Some([first, ..]) if self.lines == 0 && !is_token(*first) && *first != b'\r' => Err(Refusal::Malformed),
            Some(line) if self.lines == 0 && line.len() > URI_BYTES_MAX + 32 => Err(Refusal::UriTooLong),
            _ if bytes.len() > bytes_max => Err(Refusal::HeadTooLarge),
            _ => Ok(None),
        }
    }

    fn request_line(&mut self, line: &[u8]) -> Result<(), Refusal> {
        if line == b"PRI * HTTP/2.0" {
            return Err(Refusal::Http2);
        }
        let mut parts = line.splitn(3, |byte| *byte == b' ');
        let (Some(method), Some(target), Some(version)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(Refusal::Malformed);
        };
        if method.is_empty() || !method.iter().copied().all(is_token) {
            return Err(Refusal::Malformed);
        }
        if target.len() > URI_BYTES_MAX {
            return Err(Refusal::UriTooLong);
        }
        let begins = |prefix: &[u8]| target.get(..prefix.len()).is_some_and(|head| head.eq_ignore_ascii_case(prefix));
        let known = target == b"*" || begins(b"/") || begins(b"http://") || begins(b"https://");
        if !known || !target.iter().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'<' | b'>' | b'`')) {
            return Err(Refusal::Malformed);
        }
        match version {
            b"HTTP/1.1" => {}
            b"HTTP/1.0" => self.old = true,
            version if version.starts_with(b"HTTP/") => return Err(Refusal::Version),
            _ => return Err(Refusal::Malformed),
        }
        Ok(())
    }

    fn header(&mut self, line: &[u8]) -> Result<(), Refusal> {
        if let [b' ' | b'\t', ..] = line {
            return Err(Refusal::Folded);
        }
        let colon = line.iter().position(|byte| *byte == b':').ok_or(Refusal::Malformed)?;
        let (name, value) = line.split_at_checked(colon).ok_or(Refusal::Malformed)?;
        let value = value.get(1..).unwrap_or_default();
        if value.iter().any(|byte| is_control(*byte)) {
            return Err(if value.contains(&b'\r') { Refusal::LineEnd } else { Refusal::Control });
        }
        if name.is_empty() || !name.iter().copied().all(is_token) {
            return Err(if name.contains(&0) { Refusal::Control } else { Refusal::Malformed });
        }
        let Some(place) = SINGLE.iter().position(|single| name.eq_ignore_ascii_case(single)) else { return Ok(()) };
        let bit = 1 << place;
        let both = |bits| bits & (CONTENT_LENGTH | TRANSFER_ENCODING) == CONTENT_LENGTH | TRANSFER_ENCODING;
        if both(self.singles | bit) {
            return Err(Refusal::BothLengths);
        }
        if self.singles & bit != 0 {
            return Err(Refusal::Duplicate);
        }
        self.singles |= bit;
        match bit {
            CONTENT_LENGTH => self.length = number(value.trim_ascii()).ok_or(Refusal::Length)?,
            TRANSFER_ENCODING if self.old || !value.trim_ascii().eq_ignore_ascii_case(b"chunked") => {
                return Err(Refusal::TransferEncoding);
            }
            _ => {}
        }
        Ok(())
    }

    fn length(&self) -> Result<Length, Refusal> {
        if !self.old && self.singles & HOST == 0 {
            return Err(Refusal::NoHost);
        }
        match self.singles & TRANSFER_ENCODING {
            0 => Ok(Length::Known(self.length)),
            _ => Ok(Length::Chunked),
        }
    }
}

/// A whole number in digits alone: no sign, no list, no more than 19 digits, so that it fits.
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 19 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Characters of a token (RFC 9110, 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~')
}

/// Control characters, which no header's value has but the tab.
pub fn is_control(byte: u8) -> bool {
    (byte < b' ' && byte != b'\t') || byte == 0x7f
}
