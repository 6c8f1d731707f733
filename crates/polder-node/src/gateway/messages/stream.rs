//! An answer as Anthropic's stream of events, from `message_start` to `message_stop`.
//!
//! Each event is written anew from typed values. Blocks follow one another: a new one ends the one before. How many tokens were
//! read is known at the end only, so `message_start` says 0 and `message_delta` says what is true. A failure ends the
//! stream with an `error` event, never silently.

use std::convert::Infallible;

use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _};
use serde::Serialize;
use serde_json::{Value, json};

use super::super::ApiError;
use super::super::answer::Answer;
use super::failure::envelope;
use super::shape::{call_id, frame, stop_reason, usage};
use crate::inference::{Delta, EngineError, Event, Usage};

/// The bytes of an answer's stream.
pub(super) fn events(answer: Answer, model: String) -> impl Stream<Item = Result<Bytes, Infallible>> + Send {
    let mut writing = Writing::new(answer.id("msg"));
    let first = writing.begin(&model);
    let rest = answer.events.map(move |event| match event {
        Ok(event) => writing.event(event),
        Err(error) => writing.failed(&error),
    });
    let chunks = futures_util::stream::iter([first]).chain(rest);
    chunks.filter(|bytes| std::future::ready(!bytes.is_empty())).map(Ok)
}

/// What the open block holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Open {
    Nothing,
    Text,
    /// A call, by the engine's index.
    Call(u64),
}

/// A message that is being written.
pub(super) struct Writing {
    id: String,
    open: Open,
    /// The next block's index.
    next: u32,
    called: bool,
    reason: Option<String>,
    ended: bool,
}

#[derive(Serialize)]
struct BlockDelta<T: Serialize> {
    #[serde(rename = "type")]
    kind: &'static str,
    index: u32,
    delta: T,
}

#[derive(Serialize)]
struct TextDelta<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    text: &'a str,
}

#[derive(Serialize)]
struct InputDelta<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    partial_json: &'a str,
}

/// Writes one event. JSON escapes line feeds, so its data is always one line.
fn write(out: &mut BytesMut, name: &str, data: &impl Serialize) {
    out.extend_from_slice(b"event: ");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\ndata: ");
    // Writing plain values into memory does not fail.
    drop(serde_json::to_writer(out.writer(), data));
    out.extend_from_slice(b"\n\n");
}

impl Writing {
    pub(super) fn new(id: String) -> Self {
        Self { id, open: Open::Nothing, next: 0, called: false, reason: None, ended: false }
    }

    pub(super) fn begin(&self, model: &str) -> Bytes {
        let message = frame(&self.id, model, Vec::new(), None, &Usage::default());
        let mut out = BytesMut::new();
        write(&mut out, "message_start", &json!({"type": "message_start", "message": message}));
        out.freeze()
    }

    pub(super) fn event(&mut self, event: Event) -> Bytes {
        let mut out = BytesMut::new();
        if self.ended {
            return out.freeze();
        }
        match event {
            Event::Delta(delta) if delta.choice == 0 => {
                if let Err(error) = self.delta(&delta, &mut out) {
                    return self.failed(&error);
                }
            }
            Event::Finish { choice: 0, reason } => self.reason = Some(reason),
            Event::Delta(_) | Event::Finish { .. } => {}
            Event::Usage(counts) => self.end(&counts, &mut out),
        }
        out.freeze()
    }

    /// The end of a stream that broke.
    pub(super) fn failed(&mut self, error: &EngineError) -> Bytes {
        let mut out = BytesMut::new();
        if !self.ended {
            let (status, error, _) = ApiError::of_engine(error).into_parts();
            write(&mut out, "error", &envelope(status, error));
        }
        self.ended = true;
        out.freeze()
    }

    fn delta(&mut self, delta: &Delta, out: &mut BytesMut) -> Result<(), EngineError> {
        if let Some(text) = delta.content.as_deref().filter(|text| !text.is_empty()) {
            if self.open != Open::Text {
                self.start(Open::Text, &json!({"type": "text", "text": ""}), out);
            }
            let delta = TextDelta { kind: "text_delta", text };
            self.block_delta(delta, out);
        }
        let calls = delta.rest.get("tool_calls").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        for (place, call) in calls.iter().enumerate() {
            self.call(place, call, out)?;
        }
        Ok(())
    }

    fn call(&mut self, place: usize, call: &Value, out: &mut BytesMut) -> Result<(), EngineError> {
        let field = |path: &str| call.pointer(path).and_then(Value::as_str).filter(|text| !text.is_empty());
        let index = call.get("index").and_then(Value::as_u64).unwrap_or(place as u64);
        if self.open != Open::Call(index) {
            let Some(name) = field("/function/name") else {
                let reason = "it went on with a tool's call that had ended".to_owned();
                return Err(EngineError::Failed { reason });
            };
            let given = field("/id").map_or_else(|| call_id(&self.id, self.next as usize), str::to_owned);
            let block = json!({"type": "tool_use", "id": given, "name": name, "input": {}});
            self.start(Open::Call(index), &block, out);
            self.called = true;
        }
        if let Some(partial_json) = field("/function/arguments") {
            self.block_delta(InputDelta { kind: "input_json_delta", partial_json }, out);
        }
        Ok(())
    }

    fn start(&mut self, what: Open, block: &Value, out: &mut BytesMut) {
        self.close(out);
        let event = json!({"type": "content_block_start", "index": self.next, "content_block": block});
        write(out, "content_block_start", &event);
        self.open = what;
        self.next += 1;
    }

    fn block_delta(&self, delta: impl Serialize, out: &mut BytesMut) {
        let event = BlockDelta { kind: "content_block_delta", index: self.next.saturating_sub(1), delta };
        write(out, "content_block_delta", &event);
    }

    fn close(&mut self, out: &mut BytesMut) {
        if self.open != Open::Nothing {
            let event = json!({"type": "content_block_stop", "index": self.next.saturating_sub(1)});
            write(out, "content_block_stop", &event);
        }
        self.open = Open::Nothing;
    }

    fn end(&mut self, counts: &Usage, out: &mut BytesMut) {
        self.close(out);
        let reason = stop_reason(self.reason.as_deref(), self.called);
        let delta = json!({"stop_reason": reason, "stop_sequence": null});
        write(out, "message_delta", &json!({"type": "message_delta", "delta": delta, "usage": usage(counts)}));
        write(out, "message_stop", &json!({"type": "message_stop"}));
        self.ended = true;
    }
}
