//! Server-sent events as the SDKs expect them: `data:` lines and comments, nothing else.
//!
//! Every event is written anew from typed values, so that nothing an engine says can forge one.

use bytes::Bytes;
use serde_json::Value;

/// One event.
pub fn data(value: &Value) -> Bytes {
    // JSON escapes line feeds, so an event is always one line.
    Bytes::from(format!("data: {value}\n\n"))
}

/// The end of a stream that went well.
pub fn done() -> Bytes {
    Bytes::from_static(b"data: [DONE]\n\n")
}
