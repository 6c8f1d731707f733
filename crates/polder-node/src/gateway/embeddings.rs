//! `/v1/embeddings`: texts or token ids in, vectors out, as floats or as base64 of little-endian 32-bit floats.
//!
//! The SDKs ask for base64 unless told otherwise, and one of them reads floats as nothing in that case: the encoding is honoured.

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::HeaderMap;
use polder_core::ids::ModelId;
use polder_core::labels::Action;
use serde_json::{Value, json};

use super::answer::begin;
use super::body::{Parameters, read_object};
use super::{ApiError, Caller, Gateway, answer_json, labels, limits};
use crate::inference::{EmbedInput, EmbedRequest};
use crate::peers::wire::{Frame, Work};

/// Most inputs of one request, as OpenAI has it.
const INPUTS_MAX: usize = 2048;

/// `POST /v1/embeddings`
pub async fn embed(State(gateway): State<Gateway>, headers: HeaderMap, body: Body) -> Result<Response, ApiError> {
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
    let model = parameters.text("model")?;
    let inputs = inputs(parameters.required("input")?)?;
    let dimensions = parameters.integer("dimensions", 1)?.map(|n| u32::try_from(n).unwrap_or(u32::MAX));
    let base64 = encoding_is_base64(&mut parameters)?;
    parameters.take("user");
    if let Some((name, _)) = parameters.0.into_iter().find(|(_, value)| !value.is_null()) {
        let message = format!("`{name}` is not supported for embeddings");
        return Err(ApiError::parameter(&name, "unsupported_parameter", message));
    }
    let id = ModelId::parse(&model).map_err(|_| ApiError::unknown_model(&model))?;
    if !gateway.home.offers(&id, Action::Embed) {
        return Err(ApiError::unknown_model(&model));
    }
    let request = EmbedRequest { model: model.clone(), inputs, dimensions };
    let meter = gateway.meter_embed(&caller, &labels, &id, &request).await?;
    let (placed, mut meter) = begin(&gateway, &caller, labels, Work::Embed(request), meter).await?;
    let Frame::Embeddings(embeddings) = placed.first else {
        return Err(ApiError::internal("a factory answered something else than embeddings"));
    };
    meter.used_by_reading(embeddings.prompt_tokens);
    gateway.home.keep_rest(placed.decision.clone(), placed.rest);
    let data: Vec<Value> = (0..)
        .zip(embeddings.vectors)
        .map(|(index, vector): (u32, _)| json!({"object": "embedding", "index": index, "embedding": encode(&vector, base64)}))
        .collect();
    let tokens = embeddings.prompt_tokens;
    let usage = json!({"prompt_tokens": tokens, "total_tokens": tokens});
    let body = json!({"object": "list", "data": data, "model": model, "usage": usage});
    let answer = answer_json(&placed.decision, &placed.factory, &body);
    Ok(limits::with_rates(answer, meter.rates()))
}

fn encoding_is_base64(parameters: &mut Parameters) -> Result<bool, ApiError> {
    match parameters.take("encoding_format") {
        None => Ok(false),
        Some(Value::String(format)) if format == "float" => Ok(false),
        Some(Value::String(format)) if format == "base64" => Ok(true),
        Some(_) => {
            let message = "`encoding_format` must be `float` or `base64`";
            Err(ApiError::parameter("encoding_format", "invalid_value", message))
        }
    }
}

fn encode(vector: &[f32], base64: bool) -> Value {
    if base64 {
        let bytes: Vec<u8> = vector.iter().flat_map(|value| value.to_le_bytes()).collect();
        return BASE64.encode(bytes).into();
    }
    json!(vector)
}

/// A text, a list of texts, a list of token ids, or a list of such lists.
fn inputs(value: Value) -> Result<Vec<EmbedInput>, ApiError> {
    let wrong = || {
        let message = "`input` must be a string, a list of strings, a list of token ids, or a list of such lists";
        ApiError::parameter("input", "invalid_type", message)
    };
    let inputs = match value {
        Value::String(text) => vec![EmbedInput::Text(text)],
        Value::Array(items) if items.iter().all(Value::is_number) && !items.is_empty() => {
            vec![EmbedInput::Tokens(serde_json::from_value(Value::Array(items)).map_err(|_| wrong())?)]
        }
        Value::Array(items) => items
            .into_iter()
            .map(|item| serde_json::from_value(item).map_err(|_| wrong()))
            .collect::<Result<Vec<EmbedInput>, _>>()?,
        _ => return Err(wrong()),
    };
    let empty = |input: &EmbedInput| match input {
        EmbedInput::Text(text) => text.is_empty(),
        EmbedInput::Tokens(tokens) => tokens.is_empty(),
    };
    if inputs.is_empty() || inputs.len() > INPUTS_MAX || inputs.iter().any(empty) {
        let message = format!("`input` must hold 1 to {INPUTS_MAX} inputs, none of them empty");
        return Err(ApiError::parameter("input", "invalid_value", message));
    }
    Ok(inputs)
}
