//! The parameters of a chat request, each checked by name.
//!
//! What OpenAI documents is checked here and either understood, known to change nothing, or refused by name. What OpenAI does not
//! know (such as vLLM's `top_k`) travels on, and the engine says whether it knows it. Where to run and what to fetch are never
//! taken from a request.

use serde_json::{Map, Value};

use super::super::ApiError;
use super::super::body::Parameters;
use super::{format, messages, tools};
use crate::inference::ChatRequest;

/// Most choices of one request.
pub const CHOICES_MAX: u64 = 16;
/// Most likelihoods of one token.
pub const TOP_LOGPROBS_MAX: u64 = 20;
/// Most texts that end an answer.
pub const STOPS_MAX: usize = 4;
/// How much thought an answer may be given, in OpenAI's words.
pub const EFFORTS: [&str; 6] = ["none", "minimal", "low", "medium", "high", "xhigh"];

/// OpenAI's parameters that do not change an answer's content; `metadata` was read before.
const NO_OPS: [&str; 7] =
    ["user", "store", "service_tier", "safety_identifier", "prompt_cache_key", "prompt_cache_retention", "prediction"];

/// OpenAI's parameters that are not offered, and what to do instead.
const REFUSED: [(&str, &str); 4] = [
    ("functions", "it is deprecated: use `tools`"),
    ("function_call", "it is deprecated: use `tool_choice`"),
    ("audio", "answers are text"),
    ("web_search_options", "nothing is fetched from the web"),
];

/// What would say where a request runs, or with whose key.
const ELSEWHERE: [&str; 3] = ["api_base", "base_url", "api_key"];

/// Refuses a parameter by name.
pub fn unsupported(name: &str, why: &str) -> ApiError {
    ApiError::parameter(name, "unsupported_parameter", format!("`{name}` is not supported: {why}"))
}

/// A value that is not what it should be.
pub fn invalid(name: &str, rule: &str) -> ApiError {
    ApiError::parameter(name, "invalid_value", format!("`{name}` {rule}"))
}

/// Refuses what would say where a request runs: that is decided by policy.
pub fn nowhere_else(parameters: &Parameters) -> Result<(), ApiError> {
    match ELSEWHERE.iter().find(|name| parameters.0.contains_key(**name)) {
        Some(name) => Err(unsupported(name, "where a request runs is decided by policy")),
        None => Ok(()),
    }
}

/// Makes a request of the parameters that are left once labels and the answer's form were taken out.
pub fn chat_request(mut parameters: Parameters, stream: bool) -> Result<ChatRequest, ApiError> {
    let messages = parameters.take("messages");
    let mut request = raw_request(parameters, Map::new(), stream)?;
    let missing = || ApiError::parameter("messages", "missing_required_parameter", "`messages` is missing");
    request.messages = messages::messages(messages.ok_or_else(missing)?)?;
    Ok(request)
}

/// A request without messages; `rest` was taken before, in another surface's words.
pub fn raw_request(
    mut parameters: Parameters,
    rest: Map<String, Value>,
    stream: bool,
) -> Result<ChatRequest, ApiError> {
    nowhere_else(&parameters)?;
    for (name, why) in REFUSED {
        if parameters.take(name).is_some_and(|value| value != Value::Array(Vec::new())) {
            return Err(unsupported(name, why));
        }
    }
    NO_OPS.iter().for_each(|name| drop(parameters.take(name)));
    let mut rest = rest;
    numbers(&mut parameters, &mut rest)?;
    words(&mut parameters, &mut rest)?;
    tools::take(&mut parameters, &mut rest)?;
    format::take(&mut parameters, &mut rest)?;
    let model = parameters.text("model")?;
    let old = parameters.integer("max_tokens", 1)?;
    let new = parameters.integer("max_completion_tokens", 1)?;
    let (temperature, top_p) = (parameters.number("temperature", 0.0..=2.0)?, parameters.number("top_p", 0.0..=1.0)?);
    let (seed, stop) = (seed(&mut parameters)?, parameters.texts("stop", STOPS_MAX)?);
    rest.extend(parameters.0.into_iter().filter(|(_, value)| !value.is_null()));
    Ok(ChatRequest {
        model,
        messages: Vec::new(),
        max_tokens: new.or(old).map(|tokens| u32::try_from(tokens).unwrap_or(u32::MAX)),
        temperature,
        top_p,
        seed,
        stop,
        stream,
        rest,
    })
}

fn numbers(parameters: &mut Parameters, rest: &mut Map<String, Value>) -> Result<(), ApiError> {
    let mut keep = |name: &str, value: Value| drop(rest.insert(name.to_owned(), value));
    // One choice is what an engine makes unasked.
    if let Some(n) = parameters.integer_in("n", 1..=CHOICES_MAX)?.filter(|n| *n > 1) {
        keep("n", n.into());
    }
    for name in ["frequency_penalty", "presence_penalty"] {
        if let Some(penalty) = parameters.number(name, -2.0..=2.0)? {
            keep(name, penalty.into());
        }
    }
    let logprobs = parameters.flag("logprobs")?;
    let top = parameters.integer_in("top_logprobs", 0..=TOP_LOGPROBS_MAX)?;
    if logprobs {
        keep("logprobs", true.into());
        top.into_iter().for_each(|top| keep("top_logprobs", top.into()));
    } else if top.is_some_and(|top| top > 0) {
        return Err(invalid("top_logprobs", "needs `logprobs` to be true"));
    }
    let bias = parameters.object("logit_bias")?;
    let allowed = |(token, bias): (&String, &Value)| {
        let number = bias.as_f64().is_some_and(|bias| (-100.0..=100.0).contains(&bias));
        number && token.parse::<u32>().is_ok()
    };
    if !bias.iter().all(allowed) {
        return Err(invalid("logit_bias", "must map token ids to numbers between -100 and 100"));
    }
    if !bias.is_empty() {
        keep("logit_bias", bias.into());
    }
    Ok(())
}

fn words(parameters: &mut Parameters, rest: &mut Map<String, Value>) -> Result<(), ApiError> {
    if let Some(effort) = parameters.word("reasoning_effort", &EFFORTS)? {
        rest.insert("reasoning_effort".to_owned(), effort.into());
    }
    if let Some(verbosity) = parameters.word("verbosity", &["low", "medium", "high"])? {
        rest.insert("verbosity".to_owned(), verbosity.into());
    }
    let modalities = parameters.texts("modalities", 2)?;
    if modalities.iter().any(|modality| modality != "text") {
        return Err(unsupported("modalities", "answers are text"));
    }
    Ok(())
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

/// Whether the usage is wanted as a stream's last chunk. What else `stream_options` may hold changes nothing or is refused.
pub fn include_usage(parameters: &mut Parameters, stream: bool) -> Result<bool, ApiError> {
    let name = "stream_options";
    let mut options = Parameters(match parameters.take(name) {
        None => return Ok(false),
        Some(Value::Object(options)) => options,
        Some(other) => return Parameters::wrong(name, "an object", &other),
    });
    let flag = |options: &mut Parameters, option: &str| match options.take(option) {
        None => Ok(false),
        Some(Value::Bool(flag)) => Ok(flag),
        Some(other) => Parameters::wrong(&format!("{name}.{option}"), "a boolean", &other),
    };
    let include_usage = flag(&mut options, "include_usage")?;
    // Padding against guesses from lengths; leaving it out changes no answer.
    flag(&mut options, "include_obfuscation")?;
    match options.0.into_iter().find(|(_, value)| !value.is_null()) {
        Some((option, _)) => Err(unsupported(&format!("{name}.{option}"), "it is not one of OpenAI's options")),
        None if !stream => Err(invalid(name, "is only allowed with `stream`")),
        None => Ok(include_usage),
    }
}
