//! What a request may ask of the embedded engine, checked before any work.
//!
//! A parameter that would change the answer and is not built is refused by name: a wrong
//! answer is worse than none. What cannot change the answer is accepted and ignored.

use serde_json::Value;

use crate::inference::{ChatRequest, EngineError};

/// A request's sampling parameters, checked.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Parameters {
    pub temperature: f64,
    pub top_p: f64,
    pub max_tokens: Option<u32>,
    pub seed: Option<u64>,
    pub stop: Vec<String>,
}

const STOPS_MAX: usize = 16;
const STOP_BYTES_MAX: usize = 1024;

/// Accepted and ignored: they tell of the caller, of storage or of transport, not of the answer.
const IGNORED: [&str; 13] = [
    "user",
    "metadata",
    "store",
    "service_tier",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "verbosity",
    "stream",
    "stream_options",
    "parallel_tool_calls",
    "prediction",
    "model",
];

impl Parameters {
    /// Checks a request's parameters.
    pub(crate) fn of(request: &ChatRequest) -> Result<Self, EngineError> {
        let mut max_tokens = request.max_tokens;
        for (name, value) in &request.rest {
            if name == "max_completion_tokens" && !value.is_null() {
                let given = value.as_u64().and_then(|n| u32::try_from(n).ok());
                let given = given.ok_or_else(|| invalid(name, "is not a count"))?;
                max_tokens = max_tokens.or(Some(given));
            } else if !harmless(name, value) {
                return Err(EngineError::Unsupported { parameter: name.clone() });
            }
        }
        if max_tokens == Some(0) {
            return Err(invalid("max_tokens", "must be at least 1"));
        }
        let temperature = request.temperature.unwrap_or(1.0);
        if !(0.0..=2.0).contains(&temperature) {
            return Err(invalid("temperature", "must lie between 0 and 2"));
        }
        let top_p = request.top_p.unwrap_or(1.0);
        if !(top_p > 0.0 && top_p <= 1.0) {
            return Err(invalid("top_p", "must lie above 0 and be at most 1"));
        }
        if request.stop.len() > STOPS_MAX {
            return Err(invalid("stop", format!("holds more than {STOPS_MAX} texts")));
        }
        if request.stop.iter().any(|s| s.is_empty() || s.len() > STOP_BYTES_MAX) {
            let reason = format!("holds a text that is empty or longer than {STOP_BYTES_MAX} bytes");
            return Err(invalid("stop", reason));
        }
        Ok(Self { temperature, top_p, max_tokens, seed: request.seed, stop: request.stop.clone() })
    }
}

fn invalid(parameter: &str, reason: impl Into<String>) -> EngineError {
    EngineError::Invalid { parameter: parameter.into(), reason: reason.into() }
}

/// Whether a parameter with this value leaves the answer as it is.
fn harmless(name: &str, value: &Value) -> bool {
    if value.is_null() || IGNORED.contains(&name) {
        return true;
    }
    let number = value.as_f64();
    match name {
        "n" | "best_of" | "repetition_penalty" => number == Some(1.0),
        "frequency_penalty" | "presence_penalty" | "top_logprobs" | "min_p" => number == Some(0.0),
        "top_k" => matches!(number, Some(0.0 | -1.0)),
        "logprobs" | "ignore_eos" | "echo" => value == &Value::Bool(false),
        "logit_bias" => value.as_object().is_some_and(|bias| bias.is_empty()),
        "tools" | "functions" => value.as_array().is_some_and(|tools| tools.is_empty()),
        "tool_choice" | "function_call" => matches!(value.as_str(), Some("none" | "auto")),
        "response_format" => value.get("type").and_then(Value::as_str) == Some("text"),
        "modalities" => value == &serde_json::json!(["text"]),
        _ => false,
    }
}
