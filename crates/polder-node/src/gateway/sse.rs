//! Server-sent events as the SDKs expect them: `data:` lines, the names of events where a surface has them, nothing else.
//!
//! Every event is written anew from typed values, so that nothing an engine says can forge one.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use serde_json::Value;

/// One event.
pub fn data(value: &Value) -> Bytes {
    // JSON escapes line feeds, so an event is always one line.
    Bytes::from(format!("data: {value}\n\n"))
}

/// Events that name themselves in `type`, in one piece.
pub fn typed(events: &[Value]) -> Bytes {
    use std::fmt::Write as _;
    let mut text = String::new();
    for event in events {
        let name = event.get("type").and_then(Value::as_str).unwrap_or("message");
        // Writing to a string cannot fail.
        let _ = write!(text, "event: {name}\ndata: {event}\n\n");
    }
    Bytes::from(text)
}

/// The head of a stream's answer.
pub fn head(mut headers: HeaderMap) -> HeaderMap {
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers
}

/// The end of a stream that went well.
pub fn done() -> Bytes {
    Bytes::from_static(b"data: [DONE]\n\n")
}
