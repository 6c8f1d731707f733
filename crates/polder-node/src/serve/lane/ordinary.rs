//! Which requests are ordinary: a list of what may stand in their heads, and everything else is not.
//!
//! The strict reader has looked at the head before; here it is read for what it says.

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};

/// Longest body, in bytes: a connection without a key holds no more than this.
const BODY_BYTES_MAX: usize = 64 << 10;
/// Most headers.
const HEADERS_MAX: usize = 64;
/// Headers that ask for more than an answer.
const ASKING: [&str; 7] =
    ["expect", "upgrade", "transfer-encoding", "te", "trailer", "http2-settings", "proxy-connection"];

/// The head of an ordinary request.
pub struct Ordinary {
    path: &'static str,
    headers: HeaderMap,
    /// How long its head is, and its body.
    head: usize,
    body: usize,
}

impl Ordinary {
    /// Reads a whole head; nothing where the request is anything but ordinary.
    pub fn of(bytes: &[u8], paths: &'static [&'static str]) -> Option<Self> {
        let mut places = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut request = httparse::Request::new(&mut places);
        let httparse::Status::Complete(head) = request.parse(bytes).ok()? else { return None };
        if request.method != Some("POST") || request.version != Some(1) {
            return None;
        }
        let path = paths.iter().find(|path| request.path == Some(path))?;
        let (mut headers, mut body) = (HeaderMap::with_capacity(request.headers.len()), None);
        for header in request.headers.iter() {
            let name = HeaderName::from_bytes(header.name.as_bytes()).ok()?;
            if ASKING.contains(&name.as_str()) {
                return None;
            }
            if name == http::header::CONNECTION && !header.value.eq_ignore_ascii_case(b"keep-alive") {
                return None;
            }
            if name == http::header::CONTENT_LENGTH {
                let digits = std::str::from_utf8(header.value).ok()?.trim();
                body = Some(digits.parse::<usize>().ok().filter(|length| (1..=BODY_BYTES_MAX).contains(length))?);
            }
            headers.append(name, HeaderValue::from_bytes(header.value).ok()?);
        }
        Some(Self { path, headers, head, body: body? })
    }

    /// How long the request is, in bytes.
    pub fn bytes(&self) -> usize {
        self.head.saturating_add(self.body)
    }

    /// The request, once all its bytes are there.
    pub fn request(&mut self, bytes: Vec<u8>) -> Option<Request<Body>> {
        let whole = Bytes::from(bytes);
        let body = (self.bytes() == whole.len()).then(|| whole.slice(self.head..))?;
        let mut request = Request::new(Body::from(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = Uri::from_static(self.path);
        *request.headers_mut() = std::mem::take(&mut self.headers);
        Some(request)
    }
}
