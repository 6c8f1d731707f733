//! `/v1/chat/completions`, plain and streaming.
//!
//! A stream that breaks after its first byte ends with an error event, never silently. What a request may say is beside this file.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt as _;
use http::request::Parts;
use http::{HeaderValue, header};

use super::answer::{Answer, ask};
use super::body::{Parameters, read_object};
use super::shape::Shape;
use super::{ApiError, Gateway, labels, proof_headers, sse};
use crate::clock::now_ms;
use crate::inference::Event;
use crate::together::together;

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
    let mut parameters = Parameters(read_object(&headers, body, gateway.body_bytes_max).await?);
    let mut metadata = parameters.object("metadata")?;
    let labels = labels::labels(&caller.labels, &headers, &mut metadata)?;
    let stream = parameters.flag("stream")?;
    let include_usage = include_usage(&mut parameters, stream)?;
    let request = chat_request(parameters, stream)?;
    let model = request.model.clone();
    let answer = ask(&gateway, &caller, labels, request).await?;
    let shape = Shape::new(&answer.id("chatcmpl"), now_ms() / 1000, &model, include_usage);
    if stream { Ok(streamed(answer, shape)) } else { plain(answer, shape).await }
}

async fn plain(answer: Answer, shape: Shape) -> Result<Response, ApiError> {
    let mut headers = proof_headers(&answer.decision, Some(&answer.factory));
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
    let headers = sse::head(proof_headers(&answer.decision, Some(&answer.factory)));
    let first = futures_util::stream::iter([shape.begin(0)]);
    // The first choice has begun; of the others nobody knows before their first event.
    let mut begun = Begun(1);
    let rest = answer.events.flat_map(move |event| {
        let pieces = match event {
            Ok(event) => [begun.newly(&event).map(|choice| shape.begin(choice)), Some(shape.event(event))],
            Err(error) => [None, Some(sse::data(&ApiError::of_engine(&error).body()))],
        };
        futures_util::stream::iter(pieces.into_iter().flatten())
    });
    (headers, Body::from_stream(together(first.chain(rest)))).into_response()
}

#[cfg(test)]
mod tests;
