//! `/v1/images/generations`: pictures, from factories whose engine makes them.
//!
//! They come back as bytes. Addresses are absent on purpose: one would lead an application to a place that no policy looked
//! at, and would keep the picture there.

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::HeaderMap;
use polder_core::ids::ModelId;
use serde_json::{Value, json};

use super::answer::begin;
use super::body::{Parameters, read_object};
use super::{ApiError, Gateway, answer_json, labels, limits};
use crate::clock::now_ms;
use crate::inference::{Image, ImageRequest};
use crate::peers::wire::{Frame, Work};

/// Most pictures of one request, as OpenAI has it.
const IMAGES_MAX: u64 = 10;
/// Longest prompt, in characters, as OpenAI has it.
const PROMPT_CHARS_MAX: usize = 32_000;

/// `POST /v1/images/generations`
pub async fn generate(State(gateway): State<Gateway>, headers: HeaderMap, body: Body) -> Result<Response, ApiError> {
    let caller = gateway.caller(&headers)?;
    let mut parameters = Parameters(read_object(&headers, body, gateway.body_bytes_max).await?);
    let mut metadata = parameters.object("metadata")?;
    let labels = labels::labels(&caller.labels, &headers, &mut metadata)?;
    let request = asked(parameters)?;
    gateway.must_offer(&request.model, "make pictures", |offer| offer.image)?;
    let id = ModelId::parse(&request.model).map_err(|_| ApiError::unknown_model(&request.model))?;
    let meter = gateway.meter_image(&caller, &labels, &id, &request).await?;
    let (placed, mut meter) = begin(&gateway, &caller, labels, Work::Image(request), meter).await?;
    let Frame::Images(images) = placed.first else {
        return Err(ApiError::internal("a factory answered something else than pictures"));
    };
    meter.used(images.usage.prompt_tokens, images.usage.completion_tokens);
    gateway.home.keep_rest(placed.decision.clone(), placed.rest);
    let one = |image: Image| match image.revised_prompt {
        Some(prompt) => json!({"b64_json": image.base64, "revised_prompt": prompt}),
        None => json!({"b64_json": image.base64}),
    };
    let data: Vec<Value> = images.images.into_iter().map(one).collect();
    let (read, written) = (images.usage.prompt_tokens, images.usage.completion_tokens);
    let mut body = json!({"created": now_ms() / 1000, "data": data});
    if read > 0 || written > 0 {
        let total = read.saturating_add(written);
        body["usage"] = json!({"input_tokens": read, "output_tokens": written, "total_tokens": total});
    }
    let answer = answer_json(&placed.decision, &placed.factory, &body);
    Ok(limits::with_rates(answer, meter.rates()))
}

fn asked(mut parameters: Parameters) -> Result<ImageRequest, ApiError> {
    let model = parameters.text("model")?;
    let prompt = parameters.text("prompt")?;
    if prompt.is_empty() || prompt.chars().count() > PROMPT_CHARS_MAX {
        let message = format!("`prompt` must have 1 to {PROMPT_CHARS_MAX} characters");
        return Err(ApiError::parameter("prompt", "invalid_value", message));
    }
    let n = parameters.integer("n", 1)?.unwrap_or(1);
    let n = u32::try_from(n)
        .ok()
        .filter(|_| n <= IMAGES_MAX)
        .ok_or_else(|| ApiError::parameter("n", "invalid_value", format!("`n` must be between 1 and {IMAGES_MAX}")))?;
    match parameters.take("response_format") {
        None => {}
        Some(format) if format == "b64_json" => {}
        Some(_) => {
            let message = "`response_format` must be `b64_json`: pictures come as bytes, never as an address";
            return Err(ApiError::parameter("response_format", "unsupported_parameter", message));
        }
    }
    if parameters.flag("stream")? {
        return Err(ApiError::parameter("stream", "unsupported_parameter", "`stream` is not supported for pictures"));
    }
    for name in ["api_base", "base_url", "api_key", "partial_images"] {
        if parameters.take(name).is_some() {
            let message = format!("`{name}` is not supported for pictures");
            return Err(ApiError::parameter(name, "unsupported_parameter", message));
        }
    }
    parameters.take("user");
    let rest = parameters.0.into_iter().filter(|(_, value)| !value.is_null()).collect();
    Ok(ImageRequest { model, prompt, n, rest })
}
