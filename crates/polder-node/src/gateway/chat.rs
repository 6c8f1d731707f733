//! `/v1/chat/completions`, plain and streaming.
//!
//! A stream that breaks after its first byte ends with an error event, never silently. What a request may say is beside this file.

use std::convert::Infallible;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::StreamExt as _;
use http::HeaderMap;
use serde_json::{Value, json};

use super::answer::{Answer, ask, usage_json};
use super::body::{Parameters, read_object};
use super::{ApiError, Gateway, answer_json, labels, proof_headers, sse};
use crate::clock::now_ms;
use crate::inference::{Delta, Event};

mod format;
mod messages;
pub(super) mod parameters;
mod tools;

use parameters::{chat_request, include_usage};

/// What an answer is called and how it is to be written.
struct Shape {
    id: String,
    created_s: u64,
    model: String,
    include_usage: bool,
}

/// `POST /v1/chat/completions`
pub async fn complete(State(gateway): State<Gateway>, headers: HeaderMap, body: Body) -> Result<Response, ApiError> {
    let caller = gateway.caller(&headers)?;
    let mut parameters = Parameters(read_object(&headers, body, gateway.body_bytes_max).await?);
    let mut metadata = parameters.object("metadata")?;
    let labels = labels::labels(&caller.labels, &headers, &mut metadata)?;
    let stream = parameters.flag("stream")?;
    let include_usage = include_usage(&mut parameters, stream)?;
    let request = chat_request(parameters, stream)?;
    let model = request.model.clone();
    let answer = ask(&gateway, &caller, labels, request).await?;
    let shape = Shape { id: answer.id("chatcmpl"), created_s: now_ms() / 1000, model, include_usage };
    if stream { Ok(streamed(answer, shape)) } else { plain(answer, shape).await }
}

async fn plain(answer: Answer, shape: Shape) -> Result<Response, ApiError> {
    let (decision, factory) = (answer.decision.clone(), answer.factory.clone());
    let collected = answer.collect().await.map_err(|error| ApiError::of_engine(&error))?;
    let mut body = shape.body("chat.completion", collected.choices_json());
    body["usage"] = usage_json(&collected.usage);
    Ok(answer_json(&decision, &factory, &body))
}

impl Shape {
    fn body(&self, object: &str, choices: Value) -> Value {
        json!({
            "id": self.id, "object": object, "created": self.created_s, "model": self.model,
            "system_fingerprint": null, "choices": choices,
        })
    }

    fn chunk(&self, delta: Value, logprobs: Option<Value>, reason: Option<&str>, choice: u32) -> Bytes {
        let choices = json!([{"index": choice, "delta": delta, "logprobs": logprobs, "finish_reason": reason}]);
        let mut body = self.body("chat.completion.chunk", choices);
        if self.include_usage {
            body["usage"] = Value::Null;
        }
        sse::data(&body)
    }

    /// The chunk that begins a choice.
    fn role(&self, choice: u32) -> Bytes {
        self.chunk(json!({"role": "assistant", "content": ""}), None, None, choice)
    }

    fn event(&self, event: Event) -> Vec<Bytes> {
        match event {
            Event::Delta(Delta { choice, content, logprobs, rest }) => {
                let mut delta = Value::Object(rest);
                if let Some(content) = content {
                    delta["content"] = content.into();
                }
                vec![self.chunk(delta, logprobs, None, choice)]
            }
            Event::Finish { choice, reason } => vec![self.chunk(json!({}), None, Some(&reason), choice)],
            Event::Usage(counts) if self.include_usage => {
                let mut body = self.body("chat.completion.chunk", json!([]));
                body["usage"] = usage_json(&counts);
                vec![sse::data(&body), sse::done()]
            }
            Event::Usage(_) => vec![sse::done()],
        }
    }
}

/// The choices that have begun, a bit for each; an engine that claims more is not told apart.
struct Begun(u128);

impl Begun {
    /// The choice that an event begins, if it does.
    fn newly(&mut self, event: &Event) -> Option<u32> {
        let choice = match event {
            Event::Delta(delta) => delta.choice,
            Event::Finish { choice, .. } => *choice,
            Event::Usage(_) => return None,
        };
        let bit = 1u128.checked_shl(choice)?;
        let new = self.0 & bit == 0;
        self.0 |= bit;
        new.then_some(choice)
    }
}

fn streamed(answer: Answer, shape: Shape) -> Response {
    let headers = sse::head(proof_headers(&answer.decision, Some(&answer.factory)));
    let first = shape.role(0);
    // The first choice has begun; of the others nobody knows before their first event.
    let mut begun = Begun(1);
    let rest = answer.events.map(move |event| match event {
        Ok(event) => {
            let role = begun.newly(&event).map(|choice| shape.role(choice));
            role.into_iter().chain(shape.event(event)).collect()
        }
        Err(error) => vec![sse::data(&ApiError::of_engine(&error).body())],
    });
    let chunks = futures_util::stream::iter([first]).chain(rest.flat_map(futures_util::stream::iter));
    (headers, Body::from_stream(chunks.map(Ok::<_, Infallible>))).into_response()
}

#[cfg(test)]
mod tests;
