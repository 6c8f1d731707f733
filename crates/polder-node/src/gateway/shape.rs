//! A chat answer in OpenAI's words: the whole of it, or its chunks.
//!
//! What stays the same in every chunk of a stream is written once; a chunk is then a few appended bytes. Deciding what is said is
//! absent.

use bytes::Bytes;
use serde_json::{Map, Value};

use super::answer::{Choice, Collected, usage_json};
use crate::inference::{Delta, Event, Usage};

/// What an answer is called and how it is to be written.
pub struct Shape {
    /// `"id":…,` without the object's kind.
    id: Vec<u8>,
    /// What stands in a chunk before its choices.
    chunk: Vec<u8>,
    /// From `created` up to the choices.
    rest: Vec<u8>,
    include_usage: bool,
}

/// Appends a value as JSON. Texts, numbers and trees of them cannot fail to be written.
fn json(out: &mut Vec<u8>, value: &impl serde::Serialize) {
    if let Err(error) = serde_json::to_writer(&mut *out, value) {
        tracing::error!(%error, "a value could not be written as JSON");
    }
}

impl Shape {
    /// The shape of an answer that was begun at an instant in Unix seconds.
    pub fn new(id: &str, created_s: u64, model: &str, include_usage: bool) -> Self {
        let mut start = b"{\"id\":".to_vec();
        json(&mut start, &id);
        let mut rest = format!(",\"created\":{created_s},\"model\":").into_bytes();
        json(&mut rest, &model);
        rest.extend_from_slice(b",\"system_fingerprint\":null,\"choices\":[");
        let chunk = [b"data: ".as_slice(), &start, b",\"object\":\"chat.completion.chunk\"", &rest].concat();
        Self { id: start, chunk, rest, include_usage }
    }

    /// The whole answer.
    pub fn whole(&self, collected: &Collected) -> Bytes {
        let mut out = Vec::with_capacity(1024);
        out.extend_from_slice(&self.id);
        out.extend_from_slice(b",\"object\":\"chat.completion\"");
        out.extend_from_slice(&self.rest);
        for (index, choice) in collected.choices.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            choice_json(&mut out, index, choice);
        }
        out.extend_from_slice(b"],\"usage\":");
        json(&mut out, &usage_json(&collected.usage));
        out.push(b'}');
        out.into()
    }

    /// Appends the chunk that opens a choice.
    pub fn begin(&self, out: &mut Vec<u8>, choice: u32) {
        self.chunk(out, choice, |out| out.extend_from_slice(b"{\"role\":\"assistant\",\"content\":\"\"}"), None, None)
    }

    /// Appends what an event is to a reader of the stream.
    pub fn event(&self, out: &mut Vec<u8>, event: Event) {
        match event {
            Event::Delta(Delta { choice, content, logprobs, rest }) => {
                self.chunk(out, choice, |out| fields(out, content.as_deref(), &rest), logprobs.as_ref(), None)
            }
            Event::Finish { choice, reason } => {
                self.chunk(out, choice, |out| out.extend_from_slice(b"{}"), None, Some(&reason))
            }
            Event::Usage(usage) => self.end(out, &usage),
        }
    }

    fn chunk(
        &self,
        out: &mut Vec<u8>,
        choice: u32,
        delta: impl FnOnce(&mut Vec<u8>),
        logprobs: Option<&Value>,
        reason: Option<&str>,
    ) {
        out.reserve(self.chunk.len() + 160);
        out.extend_from_slice(&self.chunk);
        out.extend_from_slice(b"{\"index\":");
        json(out, &choice);
        out.extend_from_slice(b",\"delta\":");
        delta(out);
        out.extend_from_slice(b",\"logprobs\":");
        json(out, &logprobs);
        out.extend_from_slice(b",\"finish_reason\":");
        json(out, &reason);
        out.extend_from_slice(if self.include_usage { b"}],\"usage\":null}\n\n" } else { b"}]}\n\n" });
    }

    fn end(&self, out: &mut Vec<u8>, usage: &Usage) {
        if self.include_usage {
            out.extend_from_slice(&self.chunk);
            out.extend_from_slice(b"],\"usage\":");
            json(out, &usage_json(usage));
            out.extend_from_slice(b"}\n\n");
        }
        out.extend_from_slice(&super::sse::done());
    }
}

/// A message or a delta: its text and what stands beside it.
fn fields(out: &mut Vec<u8>, content: Option<&str>, rest: &Map<String, Value>) {
    out.push(b'{');
    let mut first = true;
    if let Some(content) = content {
        out.extend_from_slice(b"\"content\":");
        json(out, &content);
        first = false;
    }
    others(out, rest, first);
    out.push(b'}');
}

fn others(out: &mut Vec<u8>, rest: &Map<String, Value>, mut first: bool) {
    for (key, value) in rest {
        if !std::mem::take(&mut first) {
            out.push(b',');
        }
        json(out, key);
        out.push(b':');
        json(out, value);
    }
}

/// The number of a call belongs to the pieces of a stream; its kind may be left out of all of them.
fn with_whole_calls(rest: &Map<String, Value>) -> Map<String, Value> {
    let mut rest = rest.clone();
    for call in rest.get_mut("tool_calls").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Value::Object(call) = call {
            call.remove("index");
            call.entry("type").or_insert_with(|| "function".into());
        }
    }
    rest
}

fn choice_json(out: &mut Vec<u8>, index: usize, choice: &Choice) {
    out.extend_from_slice(b"{\"index\":");
    json(out, &index);
    out.extend_from_slice(b",\"message\":{\"role\":\"assistant\",\"content\":");
    match &choice.text {
        None if choice.rest.is_empty() => out.extend_from_slice(b"\"\""),
        text => json(out, text),
    }
    if !choice.rest.contains_key("refusal") {
        out.extend_from_slice(b",\"refusal\":null");
    }
    match choice.rest.contains_key("tool_calls") {
        true => others(out, &with_whole_calls(&choice.rest), false),
        false => others(out, &choice.rest, false),
    }
    out.extend_from_slice(b"},\"logprobs\":");
    json(out, &choice.logprobs);
    out.extend_from_slice(b",\"finish_reason\":");
    json(out, &choice.reason);
    out.push(b'}');
}

#[cfg(test)]
mod tests;
