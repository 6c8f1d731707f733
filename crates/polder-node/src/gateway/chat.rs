//! `/v1/chat/completions`, plain and streaming.
//!
//! Parameters that Polder reads are checked here; others travel on and the engine says whether it knows them. A stream that breaks
//! after its first byte ends with an error event, never silently.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use http::{HeaderMap, HeaderValue, header};
use polder_core::ids::ModelId;
use polder_core::labels::Action;
use serde_json::{Map, Value, json};

use super::body::{Parameters, read_object};
use super::{ApiError, Gateway, answer, labels, project_of, proof_headers, sse};
use crate::clock::{now_ms, random};
use crate::home::{Home, Placed};
use crate::inference::{ChatRequest, Delta, EngineError, Event, Message, Usage};
use crate::peers::wire::{Frame, Work};

/// What an answer is called and how it is to be written.
struct Shape {
    id: String,
    created_s: u64,
    model: String,
    include_usage: bool,
}

/// `POST /v1/chat/completions`
pub async fn complete(State(gateway): State<Gateway>, headers: HeaderMap, body: Body) -> Result<Response, ApiError> {
    let (project, project_labels) = project_of(&gateway.home, &headers)?;
    let mut parameters = Parameters(read_object(&headers, body, gateway.body_bytes_max).await?);
    let mut metadata = parameters.object("metadata")?;
    let labels = labels::labels(project_labels, &headers, &mut metadata)?;
    let stream = parameters.flag("stream")?;
    let include_usage = include_usage(&mut parameters)?;
    let request = chat_request(parameters)?;
    let unknown = || ApiError::unknown_model(&request.model);
    let model = ModelId::parse(&request.model).map_err(|_| unknown())?;
    if !gateway.home.offers(&model, Action::Infer) {
        return Err(unknown());
    }
    let tokens_max = request.max_tokens.unwrap_or(u32::MAX);
    let shape = Shape {
        id: format!("chatcmpl-{}", hex::encode(random::<16>().map_err(|e| ApiError::internal(&e.to_string()))?)),
        created_s: now_ms() / 1000,
        model: request.model.clone(),
        include_usage,
    };
    let work = Work::Chat(request);
    let placed = gateway.home.run(project, labels, &work, tokens_max).await?;
    gateway.home.link_answer(&shape.id, &placed.decision).await;
    if stream { Ok(streamed(gateway.home, placed, shape)) } else { plain(gateway.home, placed, shape).await }
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

fn chat_request(mut parameters: Parameters) -> Result<ChatRequest, ApiError> {
    let model = parameters.text("model")?;
    let messages = messages(parameters.required("messages")?)?;
    let old = parameters.integer("max_tokens", 1)?;
    let new = parameters.integer("max_completion_tokens", 1)?;
    let max_tokens = new.or(old).map(|tokens| u32::try_from(tokens).unwrap_or(u32::MAX));
    if parameters.integer("n", 1)?.is_some_and(|n| n > 1) {
        return Err(ApiError::parameter("n", "unsupported_parameter", "`n` above 1 is not supported"));
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

/// The frames of an answer, the first among them, as events or the failure that ended them.
fn events(placed: Placed, home: Arc<Home>) -> impl Stream<Item = Result<Event, EngineError>> + Send {
    let Placed { decision, first, rest, .. } = placed;
    let state = (Some(first), Some((rest, home, decision)));
    futures_util::stream::unfold(state, |(mut first, mut source)| async move {
        let frame = match first.take() {
            Some(frame) => Some(Ok(frame)),
            None => source.as_mut()?.0.next().await,
        };
        let failed = |reason: String| Some((Err(EngineError::Failed { reason }), (None, None)));
        match frame {
            Some(Ok(Frame::Event(event))) => {
                // Nothing but the receipt comes after the usage: it is kept while the answer ends.
                let last = matches!(event, Event::Usage(_));
                if let Some((mut rest, home, decision)) = source.take_if(|_| last) {
                    tokio::spawn(async move { home.keep_receipt(&decision, &mut rest).await });
                }
                Some((Ok(event), (None, source)))
            }
            Some(Ok(Frame::Failed(error))) => Some((Err(error), (None, None))),
            Some(Ok(_)) => failed("the factory sent what does not belong into an answer".to_owned()),
            Some(Err(error)) => failed(error.to_string()),
            None => failed("the factory's answer broke off".to_owned()),
        }
    })
}

async fn plain(home: Arc<Home>, placed: Placed, shape: Shape) -> Result<Response, ApiError> {
    let (decision, factory) = (placed.decision.clone(), placed.factory.clone());
    let mut collected = Collected::default();
    let stream = events(placed, home);
    futures_util::pin_mut!(stream);
    while let Some(event) = stream.next().await {
        collected.add(event.map_err(|error| ApiError::of_engine(&error))?);
    }
    let mut body = shape.body("chat.completion", collected.choices());
    body["usage"] = usage(&collected.usage);
    Ok(answer(&decision, &factory, &body))
}

/// An answer put together from its events.
#[derive(Default)]
struct Collected {
    text: String,
    has_text: bool,
    rest: Map<String, Value>,
    reason: Option<String>,
    usage: Usage,
}

impl Collected {
    fn add(&mut self, event: Event) {
        match event {
            Event::Delta(Delta { content, rest, .. }) => {
                if let Some(content) = content {
                    self.text.push_str(&content);
                    self.has_text = true;
                }
                merge(&mut self.rest, rest);
            }
            Event::Finish { reason, .. } => self.reason = Some(reason),
            Event::Usage(usage) => self.usage = usage,
        }
    }

    fn choices(&self) -> Value {
        let content = if self.has_text || self.rest.is_empty() { json!(self.text) } else { Value::Null };
        let mut message = json!({"role": "assistant", "content": content, "refusal": null});
        for (key, value) in &self.rest {
            message[key] = value.clone();
        }
        json!([{"index": 0, "message": message, "logprobs": null, "finish_reason": self.reason}])
    }
}

/// Adds the pieces of a delta to what came before: texts are joined, lists are merged by `index`, other values replaced.
fn merge(whole: &mut Map<String, Value>, piece: Map<String, Value>) {
    for (key, value) in piece {
        match (whole.get_mut(&key), value) {
            (Some(Value::String(before)), Value::String(more)) => before.push_str(&more),
            (Some(Value::Object(before)), Value::Object(more)) => merge(before, more),
            (Some(Value::Array(before)), Value::Array(more)) => {
                more.into_iter().for_each(|item| merge_item(before, item))
            }
            (_, value) => drop(whole.insert(key, value)),
        }
    }
}

fn merge_item(list: &mut Vec<Value>, item: Value) {
    let index = item.get("index").cloned();
    let place = index.and_then(|index| list.iter_mut().find(|known| known.get("index") == Some(&index)));
    match (place, item) {
        (Some(Value::Object(before)), Value::Object(more)) => merge(before, more),
        (_, item) => list.push(item),
    }
}

fn usage(usage: &Usage) -> Value {
    json!({
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    })
}

impl Shape {
    fn body(&self, object: &str, choices: Value) -> Value {
        json!({
            "id": self.id, "object": object, "created": self.created_s, "model": self.model,
            "system_fingerprint": null, "choices": choices,
        })
    }

    fn chunk(&self, delta: Value, reason: Option<&str>, choice: u32) -> Bytes {
        let choices = json!([{"index": choice, "delta": delta, "logprobs": null, "finish_reason": reason}]);
        let mut body = self.body("chat.completion.chunk", choices);
        if self.include_usage {
            body["usage"] = Value::Null;
        }
        sse::data(&body)
    }

    fn event(&self, event: Event) -> Vec<Bytes> {
        match event {
            Event::Delta(Delta { choice, content, rest }) => {
                let mut delta = Value::Object(rest);
                if let Some(content) = content {
                    delta["content"] = content.into();
                }
                vec![self.chunk(delta, None, choice)]
            }
            Event::Finish { choice, reason } => vec![self.chunk(json!({}), Some(&reason), choice)],
            Event::Usage(counts) if self.include_usage => {
                let mut body = self.body("chat.completion.chunk", json!([]));
                body["usage"] = usage(&counts);
                vec![sse::data(&body), sse::done()]
            }
            Event::Usage(_) => vec![sse::done()],
        }
    }
}

fn streamed(home: Arc<Home>, placed: Placed, shape: Shape) -> Response {
    let mut headers = proof_headers(&placed.decision, Some(&placed.factory));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    let first = shape.chunk(json!({"role": "assistant", "content": ""}), None, 0);
    let rest = events(placed, home).map(move |event| match event {
        Ok(event) => shape.event(event),
        Err(error) => vec![sse::data(&ApiError::of_engine(&error).body())],
    });
    let chunks = futures_util::stream::iter([first]).chain(rest.flat_map(futures_util::stream::iter));
    (headers, Body::from_stream(chunks.map(Ok::<_, Infallible>))).into_response()
}
