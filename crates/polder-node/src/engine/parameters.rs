//! What a request may ask of the embedded engine, checked before any work.
//!
//! A parameter that would change the answer and is not built is refused by name: a wrong
//! answer is worse than none. What cannot change the answer is accepted and ignored.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::form::Wanted;
use super::model::invalid;
use crate::inference::{ChatRequest, EngineError};

/// A request's sampling parameters, checked.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Parameters {
    pub temperature: f64,
    pub top_p: f64,
    pub max_tokens: Option<u32>,
    pub seed: Option<u64>,
    pub stop: Vec<String>,
    /// How many choices to make.
    pub choices: u32,
    /// How many likely tokens to name beside each one taken; none where likelihoods were not asked for.
    pub likely: Option<usize>,
    pub penalties: Penalties,
    pub wanted: Wanted,
}

/// What is added to tokens' scores before one is drawn.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Penalties {
    /// Taken off for each time that a token stands in the answer.
    pub frequency: f32,
    /// Taken off once for a token that stands in the answer.
    pub presence: f32,
    /// Added to these tokens always.
    pub bias: BTreeMap<u32, f32>,
}

/// Most choices of one request. They run one after the other in one place.
const CHOICES_MAX: u64 = 16;
/// OpenAI's own limits.
const LIKELY_MAX: u64 = 20;
const BIASES_MAX: usize = 1024;

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
            } else if !READ.contains(&name.as_str()) && !harmless(name, value) {
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
        let rest = &request.rest;
        Ok(Self {
            temperature,
            top_p,
            max_tokens,
            seed: request.seed,
            stop: request.stop.clone(),
            choices: count(rest, "n", 1..=CHOICES_MAX)?.unwrap_or(1) as u32,
            likely: likely(rest)?,
            penalties: Penalties {
                frequency: penalty(rest, "frequency_penalty")?,
                presence: penalty(rest, "presence_penalty")?,
                bias: bias(rest)?,
            },
            wanted: Wanted::of(rest)?,
        })
    }
}

/// Read elsewhere in this file or in `form.rs`, and checked there.
const READ: [&str; 9] = [
    "n", "logprobs", "top_logprobs", "frequency_penalty", "presence_penalty", "logit_bias", "response_format", "tools",
    "tool_choice",
];

fn given<'a>(rest: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    rest.get(name).filter(|value| !value.is_null())
}

fn count(
    rest: &Map<String, Value>,
    name: &str,
    range: std::ops::RangeInclusive<u64>,
) -> Result<Option<u64>, EngineError> {
    let Some(value) = given(rest, name) else { return Ok(None) };
    let fits = value.as_u64().filter(|number| range.contains(number));
    let wrong = || invalid(name, format!("must be a whole number from {} to {}", range.start(), range.end()));
    fits.map(Some).ok_or_else(wrong)
}

fn likely(rest: &Map<String, Value>) -> Result<Option<usize>, EngineError> {
    let top = count(rest, "top_logprobs", 0..=LIKELY_MAX)?;
    match given(rest, "logprobs") {
        Some(Value::Bool(true)) => Ok(Some(top.unwrap_or(0) as usize)),
        None | Some(Value::Bool(false)) => match top {
            None | Some(0) => Ok(None),
            Some(_) => Err(invalid("top_logprobs", "needs `logprobs` to be true")),
        },
        Some(_) => Err(invalid("logprobs", "must be a boolean")),
    }
}

fn penalty(rest: &Map<String, Value>, name: &str) -> Result<f32, EngineError> {
    let Some(value) = given(rest, name) else { return Ok(0.0) };
    let fits = value.as_f64().filter(|number| (-2.0..=2.0).contains(number));
    fits.map(|number| number as f32).ok_or_else(|| invalid(name, "must be a number from -2 to 2"))
}

fn bias(rest: &Map<String, Value>) -> Result<BTreeMap<u32, f32>, EngineError> {
    let wrong =
        || invalid("logit_bias", format!("must map at most {BIASES_MAX} token ids to numbers from -100 to 100"));
    let Some(value) = given(rest, "logit_bias") else { return Ok(BTreeMap::new()) };
    let entries = value.as_object().filter(|entries| entries.len() <= BIASES_MAX).ok_or_else(wrong)?;
    let read = |(id, bias): (&String, &Value)| {
        let bias = bias.as_f64().filter(|bias| (-100.0..=100.0).contains(bias));
        Some((id.parse().ok()?, bias? as f32))
    };
    entries.iter().map(|entry| read(entry).ok_or_else(wrong)).collect()
}

/// Whether a parameter with this value leaves the answer as it is.
fn harmless(name: &str, value: &Value) -> bool {
    if value.is_null() || IGNORED.contains(&name) {
        return true;
    }
    let number = value.as_f64();
    match name {
        "best_of" | "repetition_penalty" => number == Some(1.0),
        "min_p" => number == Some(0.0),
        "top_k" => matches!(number, Some(0.0 | -1.0)),
        "ignore_eos" | "echo" => value == &Value::Bool(false),
        "functions" => value.as_array().is_some_and(|tools| tools.is_empty()),
        "function_call" => matches!(value.as_str(), Some("none" | "auto")),
        "modalities" => value == &serde_json::json!(["text"]),
        _ => false,
    }
}
