//! What a connection is told before any route has seen its request: a whole HTTP answer in OpenAI's envelope.
//!
//! The HTTP library answers what it cannot read with an empty 400, which no SDK can show to anyone; these answers say what is
//! wrong and what to do. Nothing of the request is ever repeated in them.

use http::StatusCode;

use crate::gateway::ApiError;

/// Why a connection is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Refusal {
    /// No request line, or a header without a name.
    Malformed,
    /// A line that ends without a carriage return, or a carriage return inside a line.
    LineEnd,
    /// A header that goes on over the next line (obs-fold, RFC 9112, 5.2).
    Folded,
    /// A NUL or another control character.
    Control,
    /// `Content-Length` and `Transfer-Encoding` together (RFC 9112, 6.3).
    BothLengths,
    /// A `Content-Length` that is no number.
    Length,
    /// A `Transfer-Encoding` other than `chunked`, or under HTTP/1.0.
    TransferEncoding,
    /// A header that may stand only once stands twice.
    Duplicate,
    /// No `Host` under HTTP/1.1 (RFC 9112, 3.2).
    NoHost,
    /// Neither HTTP/1.1 nor HTTP/1.0.
    Version,
    /// The address is too long.
    UriTooLong,
    /// The head is too large, or has too many headers.
    HeadTooLarge,
    /// A chunk that is none.
    Chunk,
    /// Far more framing than contents.
    ChunkOverhead,
    /// The head did not come in time.
    HeadSlow,
    /// The body comes too slowly.
    BodySlow,
    /// HTTP/2 without TLS.
    Http2,
    /// No place is free, and none can be made free.
    Full,
}

/// An empty SETTINGS frame, and a GOAWAY that says HTTP_1_1_REQUIRED (RFC 9113, 6.5, 6.8 and 7).
const HTTP2_GOAWAY: [u8; 26] = [0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 13];

impl Refusal {
    /// Every refusal, in the order of their numbers.
    const ALL: [Self; 18] = [
        Self::Malformed,
        Self::LineEnd,
        Self::Folded,
        Self::Control,
        Self::BothLengths,
        Self::Length,
        Self::TransferEncoding,
        Self::Duplicate,
        Self::NoHost,
        Self::Version,
        Self::UriTooLong,
        Self::HeadTooLarge,
        Self::Chunk,
        Self::ChunkOverhead,
        Self::HeadSlow,
        Self::BodySlow,
        Self::Http2,
        Self::Full,
    ];

    /// The refusal of a number.
    pub fn of_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    fn says(self) -> (StatusCode, &'static str, &'static str) {
        let bad = StatusCode::BAD_REQUEST;
        match self {
            Self::Malformed => {
                (bad, "invalid_http", "this is not an HTTP request: check the request line and the headers")
            }
            Self::LineEnd => (bad, "invalid_http", "a line of the request does not end in CR LF"),
            Self::Folded => (bad, "invalid_http", "a header goes on over a second line: write each header on one line"),
            Self::Control => (bad, "invalid_http", "the request's head has a control character in it"),
            Self::BothLengths => {
                (bad, "invalid_http", "`Content-Length` and `Transfer-Encoding` exclude each other: send one of them")
            }
            Self::Length => (bad, "invalid_http", "`Content-Length` must be one whole number"),
            Self::TransferEncoding => {
                (bad, "invalid_http", "the only `Transfer-Encoding` read here is `chunked`, under HTTP/1.1")
            }
            Self::Duplicate => (bad, "invalid_http", "a header that may stand only once stands twice"),
            Self::NoHost => (bad, "invalid_http", "the request has no `Host` header"),
            Self::Version => (bad, "unsupported_http_version", "this HTTP version is not spoken here: use HTTP/1.1"),
            Self::UriTooLong => (StatusCode::URI_TOO_LONG, "uri_too_long", "the request's address is too long"),
            Self::HeadTooLarge => (
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "headers_too_large",
                "the request's headers are too many or too large",
            ),
            Self::Chunk => (bad, "invalid_http", "the body's chunks are not framed as RFC 9112 has it"),
            Self::ChunkOverhead => (bad, "invalid_http", "the body comes in too many small chunks: send larger ones"),
            Self::HeadSlow => {
                (StatusCode::REQUEST_TIMEOUT, "request_timeout", "the request's headers did not come in time")
            }
            Self::BodySlow => (StatusCode::REQUEST_TIMEOUT, "request_timeout", "the request's body comes too slowly"),
            Self::Http2 => (bad, "unsupported_http_version", "HTTP/2 is not spoken here: use HTTP/1.1"),
            Self::Full => (
                StatusCode::SERVICE_UNAVAILABLE,
                "too_many_connections",
                "too many connections: close some, or try again later",
            ),
        }
    }

    /// The bytes to send before the connection ends.
    pub fn bytes(self) -> Vec<u8> {
        if self == Self::Http2 {
            return HTTP2_GOAWAY.to_vec();
        }
        let (status, code, message) = self.says();
        let body = ApiError::new(status, code, message).body().to_string();
        let retry = if status == StatusCode::BAD_REQUEST { "x-should-retry: false\r\n" } else { "" };
        let (number, reason) = (status.as_u16(), status.canonical_reason().unwrap_or_default());
        let length = body.len();
        format!(
            "HTTP/1.1 {number} {reason}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n{retry}\
             connection: close\r\n\r\n{body}"
        )
        .into_bytes()
    }
}
