//! `/v1/chat/completions`, plain and streaming.
//!
//! A stream that breaks after its first byte ends with an error event, never silently. What a request may say is beside this file.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::Stream;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, header};

use super::answer::{Answer, Events, ask};
use super::body::{Parameters, read_object};
use super::shape::Shape;
use super::{ApiError, Caller, Gateway, labels, sse};
use crate::clock::now_ms;
use crate::inference::{EngineError, Event};
use crate::together::TOGETHER_BYTES_MAX;

mod format;
mod messages;
pub(super) mod parameters;
mod tools;

use parameters::{chat_request, include_usage};

/// `POST /v1/chat/completions`
pub async fn complete(State(gateway): State<Gateway>, request: Request) -> Result<Response, ApiError> {
    // The headers are taken with the request: as an argument of their own they would be a copy.
    let (Parts { headers, .. }, body) = request.into_parts();
    let caller = gateway.caller(&headers)?;
    let parameters = Parameters(read_object(&headers, body, gateway.body_bytes_max).await?);
    run(gateway, caller, &headers, parameters).await
}

/// The same for a request that was read before, such as a batch's line.
pub async fn run(
    gateway: Gateway,
    caller: Caller,
    headers: &HeaderMap,
    mut parameters: Parameters,
) -> Result<Response, ApiError> {
    let mut metadata = parameters.object("metadata")?;
    let labels = labels::labels(&caller.labels, headers, &mut metadata)?;
    let stream = parameters.flag("stream")?;
    let include_usage = include_usage(&mut parameters, stream)?;
    let request = chat_request(parameters, stream)?;
    let model = request.model.clone();
    let answer = ask(&gateway, &caller, labels, request).await?;
    let shape = Shape::new(&answer.id("chatcmpl"), now_ms() / 1000, &model, include_usage);
    if stream { Ok(streamed(answer, shape)) } else { plain(answer, shape).await }
}

async fn plain(answer: Answer, shape: Shape) -> Result<Response, ApiError> {
    let mut headers = answer.headers();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let collected = answer.collect().await.map_err(|error| ApiError::of_engine(&error))?;
    Ok((headers, shape.whole(&collected)).into_response())
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
    let headers = sse::head(answer.headers());
    let chunks = Chunks { events: Some(answer.events), shape, begun: Begun(0) };
    (headers, Body::from_stream(chunks)).into_response()
}

/// An answer's events as the chunks of its stream: what is ready together in one piece.
struct Chunks {
    /// Nothing once they have ended.
    events: Option<Events>,
    shape: Shape,
    begun: Begun,
}

impl Chunks {
    fn write(&mut self, out: &mut Vec<u8>, event: Result<Event, EngineError>) {
        match event {
            Ok(event) => {
                if let Some(choice) = self.begun.newly(&event) {
                    self.shape.begin(out, choice);
                }
                self.shape.event(out, event);
            }
            Err(error) => out.extend_from_slice(&sse::data(&ApiError::of_engine(&error).body())),
        }
    }
}

impl Stream for Chunks {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let mut out = Vec::new();
        // The first choice has begun; of the others nobody knows before their first event.
        if this.begun.0 == 0 {
            this.begun = Begun(1);
            this.shape.begin(&mut out, 0);
        }
        while out.len() < TOGETHER_BYTES_MAX
            && let Some(events) = &mut this.events
        {
            match events.as_mut().poll_next(cx) {
                Poll::Ready(Some(event)) => this.write(&mut out, event),
                Poll::Ready(None) => this.events = None,
                Poll::Pending if out.is_empty() => return Poll::Pending,
                Poll::Pending => break,
            }
        }
        Poll::Ready((!out.is_empty()).then(|| Ok(out.into())))
    }
}

#[cfg(test)]
mod tests;
