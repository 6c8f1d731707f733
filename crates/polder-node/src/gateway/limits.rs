//! Limits as applications hear of them: OpenAI's codes and headers, and what a request may use at most.
//!
//! Counting is absent; that is the ledger's.

use axum::response::Response;
use http::{HeaderMap, HeaderValue, StatusCode};
use polder_core::ids::{ModelId, NodeId};
use polder_core::labels::{Action, Labels};
use polder_core::ledger::{Bucket, Short};
use polder_core::request::Request;

use super::{ApiError, Caller, Gateway};
use crate::clock::now_ms;
use crate::inference::{ChatRequest, Content, EmbedInput, EmbedRequest, ImageRequest, PROMPT};
use crate::ledger::{Asked, Denied, Level, Meter, Stop};

/// Bytes of text that are taken for a token before an engine has counted.
const BYTES_PER_TOKEN: u64 = 4;
/// Tokens that a message or an input has beside its text.
const TOKENS_AROUND: u64 = 8;
/// Tokens that a picture is taken for before an engine has counted; OpenAI's largest counts 6,240.
const PICTURE_TOKENS: u64 = 8_192;
/// Longest wait that is advised, in seconds: the SDKs wait no longer.
const RETRY_S_MAX: u64 = 120;

impl Gateway {
    /// Reserves for a conversation. One that could not be stopped before it is too dear is asked for piece by piece.
    pub(super) async fn meter_chat(
        &self,
        caller: &Caller,
        labels: &Labels,
        model: &ModelId,
        request: &mut ChatRequest,
    ) -> Result<Meter, ApiError> {
        // A raw request may hold several texts, each with choices of its own.
        let raws = request.rest.get(PROMPT).and_then(serde_json::Value::as_array).map_or(1, Vec::len).max(1);
        let choices = u64::from(request.choices()).saturating_mul(u64::try_from(raws).unwrap_or(u64::MAX));
        let paid_max = request.max_tokens.map(|tokens| u64::from(tokens).saturating_mul(choices));
        let price_max = self.price_max(caller, labels, model, Action::Infer);
        if paid_max.is_none() && price_max > 0 {
            request.stream = true;
        }
        let asked = Asked { prompt: prompt_tokens(request), paid_max, pieces: request.stream, price_max, reads: false };
        self.meter(caller, &asked).await
    }

    /// Reserves for vectors: what is read is what is paid for, and no token is shorter than a byte.
    pub(super) async fn meter_embed(
        &self,
        caller: &Caller,
        labels: &Labels,
        model: &ModelId,
        request: &EmbedRequest,
    ) -> Result<Meter, ApiError> {
        let most = |input: &EmbedInput| match input {
            EmbedInput::Text(text) => text.len(),
            EmbedInput::Tokens(tokens) => tokens.len(),
        };
        self.meter_texts(caller, labels, model, request.inputs.iter().map(most)).await
    }

    /// Reserves for reading texts of so many bytes or tokens each.
    pub(super) async fn meter_texts(
        &self,
        caller: &Caller,
        labels: &Labels,
        model: &ModelId,
        lengths: impl Iterator<Item = usize>,
    ) -> Result<Meter, ApiError> {
        let whole = |length: usize| u64::try_from(length).unwrap_or(u64::MAX).saturating_add(TOKENS_AROUND);
        let paid_max = lengths.map(whole).fold(0, u64::saturating_add);
        let price_max = self.price_max(caller, labels, model, Action::Embed);
        self.meter(caller, &Asked { prompt: 0, paid_max: Some(paid_max), pieces: false, price_max, reads: true }).await
    }

    /// Reserves for pictures. What one costs in tokens nobody knows before, so a budget lends for the most that is usual.
    pub(super) async fn meter_image(
        &self,
        caller: &Caller,
        labels: &Labels,
        model: &ModelId,
        request: &ImageRequest,
    ) -> Result<Meter, ApiError> {
        let price_max = self.price_max(caller, labels, model, Action::GenerateImage);
        let prompt = u64::try_from(request.prompt.len()).unwrap_or(u64::MAX) / BYTES_PER_TOKEN;
        let paid_max = Some(u64::from(request.n).saturating_mul(PICTURE_TOKENS));
        self.meter(caller, &Asked { prompt, paid_max, pieces: false, price_max, reads: false }).await
    }

    async fn meter(&self, caller: &Caller, asked: &Asked) -> Result<Meter, ApiError> {
        match self.ledger.meter(&caller.key, asked).await {
            Ok(meter) => Ok(meter),
            Err(stop) => Err(self.stopped(caller, stop)),
        }
    }

    /// The dearest price at which a request may run; 0 where nobody pays from a budget.
    fn price_max(&self, caller: &Caller, labels: &Labels, model: &ModelId, action: Action) -> u64 {
        if !self.ledger.pays(&caller.key) {
            return 0;
        }
        let (tenant, project) = (self.home.tenant.clone(), caller.project.clone());
        let request = Request { action, tenant, project, model: Some(model.clone()), labels: labels.clone() };
        self.home.view.dearest(&self.home.view.snapshot(now_ms()), &request)
    }

    /// A factory's price for a million tokens, in micro-euro.
    pub(super) fn price_of(&self, factory: &NodeId) -> u64 {
        self.home.view.price_of(factory, now_ms())
    }

    fn stopped(&self, caller: &Caller, stop: Stop) -> ApiError {
        match stop {
            Stop::Limit(level, Short::Money { .. }) => {
                let level = level.as_str();
                let message = format!(
                    "the budget of this {level} does not cover this request: whoever keeps it can raise it, or ask for fewer tokens with `max_tokens`"
                );
                ApiError::quota(message)
            }
            Stop::Limit(level, short) => {
                let error = too_fast(level, short);
                let mut headers = HeaderMap::new();
                say_rates(&mut headers, self.ledger.rates(&caller.key));
                headers
                    .iter()
                    .fold(error, |error, (name, value)| error.header(name.as_str(), value.to_str().unwrap_or_default()))
            }
            Stop::Broken => {
                tracing::error!("the ledger did not lend in time; a request was refused");
                let message = "the ledger does not answer: try again; its operator's log says why";
                ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "ledger_unavailable", message)
            }
        }
    }
}

fn too_fast(level: Level, short: Short) -> ApiError {
    let (what, wait_ms) = match short {
        Short::Requests(ms) => ("requests per minute", ms),
        Short::Tokens(ms) => ("tokens per minute", ms),
        Short::Streams | Short::Money { .. } => ("answers at once", 1_000),
    };
    let message = format!("this {} has reached its limit of {what}; try again a little later", level.as_str());
    ApiError::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_exceeded", message).retry_after(wait_ms)
}

/// OpenAI's headers for the rates that a key has, requests and tokens.
pub(super) fn say_rates(headers: &mut HeaderMap, rates: [Option<Bucket>; 2]) {
    const NAMES: [[&str; 3]; 2] = [
        ["x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"],
        ["x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"],
    ];
    for (bucket, [limit, remaining, reset]) in rates.into_iter().zip(NAMES) {
        let Some(mut bucket) = bucket else { continue };
        let now = now_ms();
        headers.insert(limit, bucket.per_minute().into());
        headers.insert(remaining, bucket.left(now).into());
        if let Ok(wait) = HeaderValue::from_str(&format!("{}ms", bucket.full_in_ms(now))) {
            headers.insert(reset, wait);
        }
    }
}

/// An answer that says what its key's rates leave.
pub(super) fn with_rates(mut response: Response, rates: [Option<Bucket>; 2]) -> Response {
    say_rates(response.headers_mut(), rates);
    response
}

/// A wait in the seconds that a header carries.
pub(super) fn retry_s(wait_ms: u64) -> u64 {
    wait_ms.div_ceil(1_000).clamp(1, RETRY_S_MAX)
}

/// Why a key is not let in, in the words that tell nothing of other keys.
pub(super) fn denied(denied: Denied) -> ApiError {
    match denied {
        Denied::Unknown => {
            let message = "this API key is not known here: check OPENAI_API_KEY";
            ApiError::new(StatusCode::UNAUTHORIZED, "invalid_api_key", message)
        }
        Denied::Guessing(wait_ms) => {
            let message = "too many wrong API keys came from this address: check OPENAI_API_KEY, then wait a minute";
            ApiError::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_exceeded", message).retry_after(wait_ms)
        }
    }
}

/// About how many tokens a conversation is, before anything has counted them.
fn prompt_tokens(request: &ChatRequest) -> u64 {
    let bytes = |content: &Option<Content>| match content {
        Some(Content::Text(text)) => text.len(),
        Some(Content::Parts(parts)) => parts.iter().filter_map(|part| part.get("text")?.as_str()).map(str::len).sum(),
        None => 0,
    };
    let raw = match request.rest.get(PROMPT) {
        Some(serde_json::Value::String(text)) => text.len(),
        Some(serde_json::Value::Array(texts)) => texts.iter().filter_map(|text| text.as_str()).map(str::len).sum(),
        _ => 0,
    };
    let text: usize = request.messages.iter().map(|message| bytes(&message.content)).sum::<usize>().saturating_add(raw);
    let around = TOKENS_AROUND.saturating_mul(u64::try_from(request.messages.len()).unwrap_or(u64::MAX));
    (u64::try_from(text).unwrap_or(u64::MAX) / BYTES_PER_TOKEN).saturating_add(around)
}
