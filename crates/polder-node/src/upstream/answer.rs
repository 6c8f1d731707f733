//! What an engine answers, as events: from a stream, or from an answer in one piece.
//!
//! Everything is read into typed values and nothing of the framing is passed on. Errors never quote an answer.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::Stream;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

mod alike;

use alike::Alike;

use super::connection::Busy;
use super::{ANSWER_BYTES_MAX, failed};
use crate::inference::{Delta, EngineError, Event, Usage};

/// Token counts as OpenAI's API writes them.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
pub struct Counts {
    #[serde(default)]
    pub prompt_tokens: u64,
    #[serde(default)]
    pub completion_tokens: u64,
}

#[derive(Deserialize)]
struct Chunk {
    #[serde(default)]
    choices: Vec<Choice>,
    #[serde(default)]
    usage: Option<Counts>,
    #[serde(default)]
    error: Option<IgnoredAny>,
}

/// A choice of a chunk, or of a whole answer: the one has a delta, the other a message.
#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    index: u32,
    #[serde(default, alias = "message")]
    delta: Piece,
    /// What goes on with a raw prompt.
    #[serde(default)]
    text: Option<String>,
    #[serde(default)]
    logprobs: Option<Value>,
    #[serde(default)]
    finish_reason: Option<String>,
}

/// A delta or a message. Read by hand: serde would keep every field of a flattened one as a value first, for every token.
#[derive(Default)]
struct Piece {
    content: Option<String>,
    rest: Map<String, Value>,
}

impl<'de> Deserialize<'de> for Piece {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Piece;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Piece, A::Error> {
                let mut piece = Piece::default();
                let mut content = false;
                while let Some(Name(name)) = fields.next_key()? {
                    match name.as_ref() {
                        // The gateway writes the roles.
                        "role" => drop(fields.next_value::<IgnoredAny>()?),
                        "content" if std::mem::replace(&mut content, true) => {
                            return Err(serde::de::Error::duplicate_field("content"));
                        }
                        // Content is text; anything else is dropped, as there is no place for it in an answer.
                        "content" => piece.content = text(fields.next_value()?),
                        _ => drop(piece.rest.insert(name.into_owned(), fields.next_value()?)),
                    }
                }
                Ok(piece)
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

/// A field's name, borrowed where it is plain.
struct Name<'de>(Cow<'de, str>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Name<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a field's name")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

fn text(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        _ => None,
    }
}

impl Choice {
    fn into_events(mut self, events: &mut VecDeque<Event>) {
        let content = self.delta.content.take().or(self.text);
        let content = content.filter(|text| !text.is_empty());
        let mut rest = self.delta.rest;
        rest.retain(|_, value| !value.is_null());
        if content.is_some() || self.logprobs.is_some() || !rest.is_empty() {
            events.push_back(Event::Delta(Delta { choice: self.index, content, logprobs: self.logprobs, rest }));
        }
        if let Some(reason) = self.finish_reason {
            events.push_back(Event::Finish { choice: self.index, reason });
        }
    }
}

/// Why a text is not understood, without a word of it.
pub fn not_understood(error: &serde_json::Error) -> EngineError {
    let kind = if error.is_data() { "has other fields or types" } else { "is not JSON" };
    failed(format!("the engine's answer {kind} (line {}, column {})", error.line(), error.column()))
}

/// The events of an answer in one piece.
pub fn whole(text: &[u8]) -> Result<VecDeque<Event>, EngineError> {
    let answer: Chunk = serde_json::from_slice(text).map_err(|e| not_understood(&e))?;
    if answer.error.is_some() {
        return Err(failed("the engine stopped with an error"));
    }
    let mut events = VecDeque::with_capacity(answer.choices.len() * 2 + 1);
    answer.choices.into_iter().for_each(|choice| choice.into_events(&mut events));
    let Counts { prompt_tokens, completion_tokens } = answer.usage.unwrap_or_default();
    events.push_back(Event::Usage(Usage { prompt_tokens, completion_tokens }));
    Ok(events)
}

/// Where a stream stands.
pub struct Reading {
    connection: Option<Busy>,
    /// What came and is no whole line yet.
    buffer: Vec<u8>,
    told: Told,
}

/// What a stream has told so far.
#[derive(Default)]
struct Told {
    ready: VecDeque<Event>,
    alike: Option<Alike>,
    usage: Usage,
    /// Choices that have ended, and how many chunks without choices counted tokens.
    ended: u32,
    counted: u32,
    finished: bool,
}

impl Reading {
    /// The events in an engine's stream. One that ends without saying so is a failure.
    pub fn new(connection: Busy) -> Self {
        Self { connection: Some(connection), buffer: Vec::new(), told: Told::default() }
    }

    /// Reads the lines that are there.
    fn lines(&mut self) -> Result<(), EngineError> {
        let mut begin = 0;
        while let Some(length) = memchr::memchr(b'\n', self.buffer.get(begin..).unwrap_or_default()) {
            if !self.told.finished {
                self.told.line(self.buffer.get(begin..begin + length).unwrap_or_default())?;
            }
            begin += length + 1;
        }
        // A stream that waits for its next event holds nothing.
        match begin == self.buffer.len() {
            true => self.buffer = Vec::new(),
            false => drop(self.buffer.drain(..begin)),
        }
        if self.buffer.len() > ANSWER_BYTES_MAX {
            return Err(failed("an event of the engine is too long"));
        }
        Ok(())
    }

    /// The engine has said that it is through: its last bytes are awaited for a moment, so that the connection can be kept.
    fn finish(&mut self, context: &mut Context<'_>) {
        let Some(mut connection) = self.connection.take() else { return };
        if let Poll::Ready(Ok(false)) = connection.poll_body(context, &mut self.buffer) {
            connection.give_back();
        }
    }
}

impl Told {
    fn line(&mut self, line: &[u8]) -> Result<(), EngineError> {
        let Some(data) = line.strip_prefix(b"data:").map(<[u8]>::trim_ascii) else { return Ok(()) };
        if data == b"[DONE]" {
            self.ready.push_back(Event::Usage(self.usage));
            self.finished = true;
            return Ok(());
        }
        if let Some(event) = self.alike.as_ref().and_then(|alike| alike.event(data)) {
            self.ready.push_back(event);
            return Ok(());
        }
        let before = self.ready.len();
        self.read(data)?;
        // A line from which more than one event came, or what is no event, teaches nothing.
        if let (true, Some(event)) = (self.ready.len() == before + 1, self.ready.back()) {
            self.alike = Alike::learn(data, event);
        }
        Ok(())
    }

    fn read(&mut self, data: &[u8]) -> Result<(), EngineError> {
        let chunk: Chunk = serde_json::from_slice(data).map_err(|e| not_understood(&e))?;
        if chunk.error.is_some() {
            return Err(failed("the engine stopped with an error"));
        }
        if let Some(counts) = chunk.usage {
            self.count(counts, chunk.choices.is_empty());
        }
        for choice in chunk.choices {
            self.ended = self.ended.saturating_add(u32::from(choice.finish_reason.is_some()));
            choice.into_events(&mut self.ready);
        }
        Ok(())
    }

    /// Takes token counts. Most engines count once, over all choices; llama.cpp counts each choice in a chunk of its own after
    /// the choice has ended.
    fn count(&mut self, counts: Counts, alone: bool) {
        let Counts { prompt_tokens, completion_tokens } = counts;
        let before = if alone && self.counted > 0 && self.counted < self.ended { self.usage } else { Usage::default() };
        self.counted = self.counted.saturating_add(u32::from(alone));
        self.usage = Usage {
            prompt_tokens: before.prompt_tokens.max(prompt_tokens),
            completion_tokens: before.completion_tokens.saturating_add(completion_tokens),
        };
    }
}

impl Stream for Reading {
    type Item = Result<Event, EngineError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if let Some(event) = this.told.ready.pop_front() {
                return Poll::Ready(Some(Ok(event)));
            }
            if this.told.finished {
                this.finish(context);
                return Poll::Ready(None);
            }
            let Some(connection) = &mut this.connection else { return Poll::Ready(None) };
            let ended = match connection.poll_body(context, &mut this.buffer) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(true)) => this.lines().err(),
                Poll::Ready(Ok(false)) => Some(failed("the engine's answer broke off")),
                Poll::Ready(Err(reason)) => Some(failed(reason)),
            };
            if let Some(error) = ended {
                this.connection = None;
                return Poll::Ready(Some(Err(error)));
            }
        }
    }
}

#[cfg(test)]
mod tests;
