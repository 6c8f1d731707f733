//! `/v1/chat/completions`, plain and streaming.
//!
//! Parameters that Polder reads are checked here; others travel on and the engine says whether it knows them. A stream that breaks
//! after its first byte ends with an error event, never silently.

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt as _;
use http::{HeaderMap, HeaderValue, header};
use serde_json::Value;

use super::answer::{Answer, CHOICES_MAX, ask};
use super::body::{Parameters, read_object};
use super::shape::Shape;
use super::{ApiError, Gateway, labels, proof_headers, sse};
use crate::clock::now_ms;
use crate::inference::{ChatRequest, Message};

/// `POST /v1/chat/completions`
pub async fn complete(State(gateway): State<Gateway>, headers: HeaderMap, body: Body) -> Result<Response, ApiError> {
    let caller = gateway.caller(&headers)?;
    let mut parameters = Parameters(read_object(&headers, body, gateway.body_bytes_max).await?);
    let mut metadata = parameters.object("metadata")?;
    let labels = labels::labels(&caller.labels, &headers, &mut metadata)?;
    let stream = parameters.flag("stream")?;
    let include_usage = include_usage(&mut parameters)?;
    let request = chat_request(parameters, stream)?;
    let model = request.model.clone();
    let answer = ask(&gateway, &caller, labels, request).await?;
    let shape = Shape::new(&answer.id("chatcmpl"), now_ms() / 1000, &model, include_usage);
    if stream { Ok(streamed(answer, shape)) } else { plain(answer, shape).await }
}

fn include_usage(parameters: &mut Parameters) -> Result<bool, ApiError> {
    match parameters.object("stream_options")?.remove("include_usage") {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(flag)) => Ok(flag),
        Some(_) => {
            let name = "stream_options.include_usage";
            Err(ApiError::parameter(name, "invalid_type", format!("`{name}` must be a boolean")))
        }
    }
}

fn chat_request(mut parameters: Parameters, stream: bool) -> Result<ChatRequest, ApiError> {
    let model = parameters.text("model")?;
    let messages = messages(parameters.required("messages")?)?;
    let old = parameters.integer("max_tokens", 1)?;
    let new = parameters.integer("max_completion_tokens", 1)?;
    let max_tokens = new.or(old).map(|tokens| u32::try_from(tokens).unwrap_or(u32::MAX));
    // Each choice counts in full, so it must be known how many there are; the engine may allow fewer.
    match parameters.integer("n", 1)? {
        None | Some(1) => {}
        Some(n) if n <= CHOICES_MAX => drop(parameters.0.insert("n".to_owned(), n.into())),
        Some(_) => {
            let message = format!("`n` must be a whole number from 1 to {CHOICES_MAX}");
            return Err(ApiError::parameter("n", "invalid_value", message));
        }
    }
    for name in ["api_base", "base_url", "api_key"] {
        if parameters.0.contains_key(name) {
            let message = format!("`{name}` is not taken from a request: where it runs is decided by policy");
            return Err(ApiError::parameter(name, "unsupported_parameter", message));
        }
    }
    // OpenAI's documented no-ops for an answer's content; `metadata` was read before.
    for name in ["user", "store", "service_tier", "safety_identifier", "prompt_cache_key", "prompt_cache_retention"] {
        parameters.take(name);
    }
    Ok(ChatRequest {
        model,
        messages,
        max_tokens,
        temperature: parameters.number("temperature", 0.0..=2.0)?,
        top_p: parameters.number("top_p", 0.0..=1.0)?,
        seed: seed(&mut parameters)?,
        stop: parameters.texts("stop", 4)?,
        stream,
        rest: parameters.0.into_iter().filter(|(_, value)| !value.is_null()).collect(),
    })
}

/// OpenAI's seed is any 64-bit integer, negative ones among them.
fn seed(parameters: &mut Parameters) -> Result<Option<u64>, ApiError> {
    match parameters.take("seed") {
        None => Ok(None),
        Some(value) => match value.as_u64().or(value.as_i64().map(i64::cast_unsigned)) {
            Some(seed) => Ok(Some(seed)),
            None => Err(ApiError::parameter("seed", "invalid_type", "`seed` must be a 64-bit whole number")),
        },
    }
}

fn messages(value: Value) -> Result<Vec<Message>, ApiError> {
    let Value::Array(items) = value else {
        return Err(ApiError::parameter("messages", "invalid_type", "`messages` must be an array"));
    };
    if items.is_empty() {
        return Err(ApiError::parameter("messages", "invalid_value", "`messages` must hold at least one message"));
    }
    let mut messages = Vec::with_capacity(items.len());
    for (index, item) in items.into_iter().enumerate() {
        let name = format!("messages[{index}]");
        if !item.is_object() {
            return Err(ApiError::parameter(&name, "invalid_type", format!("`{name}` must be an object")));
        }
        const ROLES: [&str; 5] = ["system", "developer", "user", "assistant", "tool"];
        let role = item.get("role").and_then(Value::as_str);
        if !role.is_some_and(|role| ROLES.contains(&role)) {
            let name = format!("{name}.role");
            return Err(ApiError::parameter(
                &name,
                "invalid_value",
                format!("`{name}` must be one of {}", ROLES.join(", ")),
            ));
        }
        // What is left to go wrong is the content: neither text, nor parts, nor null.
        let message = serde_json::from_value(item).map_err(|_| {
            let name = format!("{name}.content");
            ApiError::parameter(&name, "invalid_type", format!("`{name}` must be a string or an array of parts"))
        })?;
        messages.push(message);
    }
    Ok(messages)
}

async fn plain(answer: Answer, shape: Shape) -> Result<Response, ApiError> {
    let mut headers = proof_headers(&answer.decision, Some(&answer.factory));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let collected = answer.collect().await.map_err(|error| ApiError::of_engine(&error))?;
    Ok((headers, shape.whole(&collected)).into_response())
}

fn streamed(answer: Answer, shape: Shape) -> Response {
    let mut headers = proof_headers(&answer.decision, Some(&answer.factory));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    let first = futures_util::stream::iter([shape.begin(0)]);
    let rest = answer.events.map(move |event| match event {
        Ok(event) => shape.event(event),
        Err(error) => sse::data(&ApiError::of_engine(&error).body()),
    });
    (headers, Body::from_stream(sse::together(first.chain(rest)))).into_response()
}
