//! `/v1/completions`, the older surface: a text that the model goes on with, as it is, without a conversation around it.
//!
//! It is for engines that take raw prompts; the embedded one does not and says so. Several prompts are one request with one
//! decision, because they go to one engine. Parameters are checked as chat checks them where both have them.

use std::convert::Infallible;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt as _;
use http::HeaderMap;
use serde_json::{Map, Value, json};

use super::answer::{Answer, ask, usage_json};
use super::body::{Parameters, read_object};
use super::chat::parameters::{CHOICES_MAX as N_MAX, include_usage, invalid, raw_request};
use super::{ApiError, Caller, Gateway, labels, sse};
use crate::clock::now_ms;
use crate::inference::{Event, PROMPT};

/// Most choices of one request, over all its prompts.
const CHOICES_MAX: u64 = 128;
/// How much is written where a request does not say, as OpenAI has it.
const TOKENS_UNSAID: u64 = 16;

/// What an answer is called.
struct Shape {
    id: String,
    created_s: u64,
    model: String,
    include_usage: bool,
}

/// `POST /v1/completions`
pub async fn complete(State(gateway): State<Gateway>, headers: HeaderMap, body: Body) -> Result<Response, ApiError> {
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
    let rest = own(&mut parameters)?;
    let request = raw_request(parameters, rest, stream)?;
    let model = request.model.clone();
    let answer = ask(&gateway, &caller, labels, request).await.map_err(in_own_words)?;
    let shape = Shape { id: answer.id("cmpl"), created_s: now_ms() / 1000, model, include_usage };
    if stream { Ok(streamed(answer, shape)) } else { plain(answer, shape).await }
}

fn in_own_words(error: ApiError) -> ApiError {
    error.renamed(|name| (name == "messages").then(|| PROMPT.to_owned()))
}

/// Takes what only this surface has.
fn own(parameters: &mut Parameters) -> Result<Map<String, Value>, ApiError> {
    let mut rest = Map::new();
    let (prompt, count) = prompt(parameters.required(PROMPT)?)?;
    let n = parameters.integer_in("n", 1..=N_MAX)?.unwrap_or(1);
    parameters.0.insert("n".to_owned(), n.into());
    if u64::try_from(count).unwrap_or(u64::MAX).saturating_mul(n) > CHOICES_MAX {
        return Err(invalid(PROMPT, &format!("and `n` ask for more than {CHOICES_MAX} choices")));
    }
    rest.insert(PROMPT.to_owned(), prompt);
    for (name, range) in [("logprobs", 0..=5), ("best_of", 1..=20)] {
        if let Some(number) = parameters.integer_in(name, range)? {
            rest.insert(name.to_owned(), number.into());
        }
    }
    if parameters.flag("echo")? {
        rest.insert("echo".to_owned(), true.into());
    }
    if parameters.0.get("max_tokens").is_none_or(Value::is_null) {
        parameters.0.insert("max_tokens".to_owned(), TOKENS_UNSAID.into());
    }
    Ok(rest)
}

/// A text, a list of texts, a list of token ids, or a list of such lists; and how many prompts that is.
fn prompt(value: Value) -> Result<(Value, usize), ApiError> {
    let tokens = |value: &Value| value.as_u64().is_some_and(|token| u32::try_from(token).is_ok());
    let list_of_tokens =
        |value: &Value| value.as_array().is_some_and(|list| !list.is_empty() && list.iter().all(tokens));
    let count = match &value {
        Value::String(_) => Some(1),
        Value::Array(_) if list_of_tokens(&value) => Some(1),
        Value::Array(items) => {
            let alike = items.iter().all(Value::is_string) || items.iter().all(list_of_tokens);
            (alike && !items.is_empty()).then_some(items.len())
        }
        _ => None,
    };
    let wrong = || invalid(PROMPT, "must be a string, a list of strings, a list of token ids, or a list of such lists");
    Ok((value, count.ok_or_else(wrong)?))
}

impl Shape {
    fn body(&self, choices: Value) -> Value {
        json!({
            "id": self.id, "object": "text_completion", "created": self.created_s, "model": self.model,
            "system_fingerprint": null, "choices": choices,
        })
    }

    fn chunk(&self, index: u32, text: &str, logprobs: Option<Value>, reason: Option<&str>) -> Value {
        let choice = json!({"index": index, "text": text, "logprobs": logprobs, "finish_reason": reason});
        let mut body = self.body(json!([choice]));
        if self.include_usage {
            body["usage"] = Value::Null;
        }
        body
    }

    fn event(&self, event: Event) -> Vec<bytes::Bytes> {
        match event {
            Event::Delta(delta) => {
                let text = delta.content.unwrap_or_default();
                vec![sse::data(&self.chunk(delta.choice, &text, delta.logprobs, None))]
            }
            Event::Finish { choice, reason } => vec![sse::data(&self.chunk(choice, "", None, Some(&reason)))],
            Event::Usage(counts) if self.include_usage => {
                let mut body = self.body(json!([]));
                body["usage"] = usage_json(&counts);
                vec![sse::data(&body), sse::done()]
            }
            Event::Usage(_) => vec![sse::done()],
        }
    }
}

async fn plain(answer: Answer, shape: Shape) -> Result<Response, ApiError> {
    let headers = answer.headers();
    let collected = answer.collect().await.map_err(|error| in_own_words(ApiError::of_engine(&error)))?;
    let choice = |(index, choice): (u32, super::answer::Choice)| {
        let (text, reason) = (choice.text.unwrap_or_default(), choice.reason);
        json!({"index": index, "text": text, "logprobs": choice.logprobs, "finish_reason": reason})
    };
    let mut body = shape.body((0u32..).zip(collected.choices).map(choice).collect());
    body["usage"] = usage_json(&collected.usage);
    Ok((headers, axum::Json(body)).into_response())
}

fn streamed(answer: Answer, shape: Shape) -> Response {
    let headers = sse::head(answer.headers());
    let chunks = answer.events.map(move |event| match event {
        Ok(event) => shape.event(event),
        Err(error) => vec![sse::data(&in_own_words(ApiError::of_engine(&error)).body())],
    });
    let chunks = chunks.flat_map(futures_util::stream::iter);
    (headers, Body::from_stream(chunks.map(Ok::<_, Infallible>))).into_response()
}
