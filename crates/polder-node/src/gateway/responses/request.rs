//! What a request for a response says: the conversation, what the answer must be like, and whether it is kept.
//!
//! It is checked here in its own words and becomes a chat request, so that both surfaces allow and refuse alike. What is not
//! offered is refused by name: tools that would run here, conversations, prompts kept elsewhere.

use serde_json::{Map, Value, json};

use super::super::ApiError;
use super::super::body::Parameters;
use super::super::chat::parameters::{EFFORTS, chat_request, invalid, unsupported};
use super::items::{conversation, items};
use crate::inference::ChatRequest;

/// A request, checked as far as that goes without what was kept before.
pub struct Asked {
    /// The items of this request.
    pub input: Vec<Value>,
    /// The response that this one follows.
    pub previous: Option<String>,
    /// Whether the answer comes as a stream.
    pub stream: bool,
    /// Whether it runs on without its client.
    pub background: bool,
    /// Whether it is kept.
    pub store: bool,
    /// What the response repeats of the request.
    pub echo: Map<String, Value>,
    instructions: Option<String>,
    chat: Map<String, Value>,
}

/// Not offered, and why.
const REFUSED: [(&str, &str); 16] = [
    ("access_programs", "there are none here"),
    ("background_options", "background responses run as soon as they can"),
    ("context_management", "nothing of a conversation is left out"),
    ("conversation", "use `previous_response_id`"),
    ("image", "images are read as they are"),
    ("moderation", "answers are not moderated here"),
    ("prompt", "prompts are not kept here: use `instructions` and `input`"),
    ("messages", "use `input`"),
    ("max_tokens", "use `max_output_tokens`"),
    ("max_completion_tokens", "use `max_output_tokens`"),
    ("response_format", "use `text.format`"),
    ("reasoning_effort", "use `reasoning.effort`"),
    ("n", "a response is one answer"),
    ("logprobs", "use `include` with `message.output_text.logprobs`"),
    ("functions", "use `tools`"),
    ("function_call", "use `tool_choice`"),
];

/// What may be included beside the answer. All but the likelihoods belong to tools that are not offered, or are there anyway.
const INCLUDABLE: [&str; 8] = [
    LOGPROBS,
    "message.input_image.image_url",
    "reasoning.encrypted_content",
    "code_interpreter_call.outputs",
    "computer_call_output.output.image_url",
    "file_search_call.results",
    "web_search_call.action.sources",
    "web_search_call.results",
];
const LOGPROBS: &str = "message.output_text.logprobs";

impl Asked {
    /// Reads a request whose labels were taken out of `metadata`.
    pub fn of(mut parameters: Parameters, metadata: Map<String, Value>) -> Result<Self, ApiError> {
        for (name, why) in REFUSED {
            if parameters.take(name).is_some() {
                return Err(unsupported(name, why));
            }
        }
        check_metadata(&metadata)?;
        let stream = parameters.flag("stream")?;
        let background = parameters.flag("background")?;
        stream_options(&mut parameters, stream)?;
        let store = switch(&mut parameters, "store")?.unwrap_or(true);
        if background && !store {
            return Err(invalid("background", "needs `store`: an answer that nobody waits for must be kept"));
        }
        parameters.take("max_tool_calls");
        if parameters.word("truncation", &["auto", "disabled"])?.is_some_and(|word| word == "auto") {
            return Err(unsupported("truncation", "nothing of a conversation is left out"));
        }
        let instructions = optional_text(&mut parameters, "instructions")?;
        let previous = optional_text(&mut parameters, "previous_response_id")?;
        let input = items(parameters.required("input")?)?;
        let mut echo = echo(&parameters);
        let (none, previous_id) = (Value::Null, json!(previous));
        echo.extend([
            ("background".to_owned(), background.into()),
            ("instructions".to_owned(), instructions.as_deref().map_or(none, Value::from)),
            ("metadata".to_owned(), metadata.into()),
            ("previous_response_id".to_owned(), previous_id),
            ("store".to_owned(), store.into()),
        ]);
        let chat = chat(parameters)?;
        Ok(Self { input, previous, stream, background, store, echo, instructions, chat })
    }

    /// The chat request behind `before`, the items of the responses that this one follows.
    pub fn chat_request(&self, before: &[Value]) -> Result<ChatRequest, ApiError> {
        let mut messages = Vec::new();
        if let Some(instructions) = &self.instructions {
            messages.push(json!({"role": "system", "content": instructions}));
        }
        conversation(before, "previous", &mut messages)?;
        conversation(&self.input, "input", &mut messages)?;
        if messages.is_empty() {
            return Err(invalid("input", "must hold at least one message"));
        }
        let mut chat = self.chat.clone();
        chat.insert("messages".to_owned(), messages.into());
        // Always as a stream: pieces are put together here, and a background answer is followed while it is written.
        chat_request(Parameters(chat), self.stream || self.background).map_err(in_own_words)
    }
}

/// Errors of the chat request, with the names that this surface has for its parameters.
pub fn in_own_words(error: ApiError) -> ApiError {
    error.renamed(|name| match name {
        "messages" => Some("input".to_owned()),
        "max_tokens" | "max_completion_tokens" => Some("max_output_tokens".to_owned()),
        "reasoning_effort" => Some("reasoning.effort".to_owned()),
        "verbosity" => Some("text.verbosity".to_owned()),
        _ if name.starts_with("tools[") => Some(name.replace(".function.", ".")),
        _ if name.starts_with("tool_choice") => Some(name.replace(".function", "")),
        _ if name.starts_with("response_format") => {
            Some(name.replace("response_format.json_schema", "text.format").replace("response_format", "text.format"))
        }
        _ => None,
    })
}

/// The parameters of chat that say the same.
fn chat(mut parameters: Parameters) -> Result<Map<String, Value>, ApiError> {
    let mut chat = Map::new();
    let mut say = |name: &str, value: Value| drop(chat.insert(name.to_owned(), value));
    if let Some(tokens) = parameters.integer("max_output_tokens", 1)? {
        say("max_completion_tokens", tokens.into());
    }
    if let Some(Value::Array(tools)) = parameters.0.get("tools") {
        say("tools", tools.iter().map(nested).collect());
        parameters.0.remove("tools");
    }
    match parameters.take("tool_choice") {
        Some(choice @ Value::Object(_)) => say("tool_choice", nested(&choice)),
        Some(choice) => say("tool_choice", choice),
        None => {}
    }
    text(&mut parameters, &mut say)?;
    let mut reasoning = Parameters(parameters.object("reasoning")?);
    if let Some(effort) = reasoning.word("effort", &EFFORTS).map_err(|error| within("reasoning", error))? {
        say("reasoning_effort", effort.into());
    }
    if let Some(name) = reasoning.0.iter().find(|(_, value)| !value.is_null()).map(|(name, _)| name) {
        return Err(unsupported(&format!("reasoning.{name}"), "what a model thought is not told"));
    }
    let include = parameters.texts("include", 16)?;
    if !include.iter().all(|wanted| INCLUDABLE.contains(&wanted.as_str())) {
        return Err(invalid("include", &format!("must be a list of {}", INCLUDABLE.join(", "))));
    }
    let top = parameters.integer_in("top_logprobs", 0..=20)?;
    if include.iter().any(|wanted| wanted == LOGPROBS) || top.is_some_and(|top| top > 0) {
        say("logprobs", true.into());
        say("top_logprobs", top.unwrap_or(0).into());
    }
    // What is left is chat's too (`model`, `temperature`, …) or an engine's own.
    chat.extend(parameters.0);
    Ok(chat)
}

fn text(parameters: &mut Parameters, say: &mut impl FnMut(&str, Value)) -> Result<(), ApiError> {
    let mut text = Parameters(parameters.object("text")?);
    if let Some(verbosity) =
        text.word("verbosity", &["low", "medium", "high"]).map_err(|error| within("text", error))?
    {
        say("verbosity", verbosity.into());
    }
    match text.object("format").map_err(|error| within("text", error))? {
        format if format.is_empty() => {}
        mut format => match format.get("type").and_then(Value::as_str) {
            Some("json_schema") => {
                format.remove("type");
                say("response_format", json!({"type": "json_schema", "json_schema": format}));
            }
            _ => say("response_format", format.into()),
        },
    }
    match text.0.into_iter().find(|(_, value)| !value.is_null()) {
        Some((name, _)) => Err(unsupported(&format!("text.{name}"), "it is not known")),
        None => Ok(()),
    }
}

/// The error of a parameter inside another.
fn within(outer: &'static str, error: ApiError) -> ApiError {
    error.renamed(|name| Some(format!("{outer}.{name}")))
}

/// A tool or a choice of one as chat writes it: what describes the function stands in `function`.
fn nested(flat: &Value) -> Value {
    let Value::Object(flat) = flat else { return flat.clone() };
    if flat.get("type").is_none_or(|kind| kind != "function") {
        return flat.clone().into();
    }
    let function: Map<String, Value> =
        flat.iter().filter(|(key, _)| *key != "type").map(|(k, v)| (k.clone(), v.clone())).collect();
    json!({"type": "function", "function": function})
}

/// What a response repeats of a request, with what holds where it says nothing.
fn echo(parameters: &Parameters) -> Map<String, Value> {
    let said = |name: &str| parameters.0.get(name).filter(|value| !value.is_null()).cloned();
    let field = |name: &str, otherwise: Value| (name.to_owned(), said(name).unwrap_or(otherwise));
    Map::from_iter([
        field("max_output_tokens", Value::Null),
        ("max_tool_calls".to_owned(), Value::Null),
        field("model", Value::Null),
        field("parallel_tool_calls", true.into()),
        field("reasoning", json!({"effort": null, "summary": null})),
        field("temperature", Value::Null),
        field("text", json!({"format": {"type": "text"}})),
        field("tool_choice", "auto".into()),
        field("tools", json!([])),
        field("top_logprobs", 0.into()),
        field("top_p", Value::Null),
        ("truncation".to_owned(), "disabled".into()),
        ("service_tier".to_owned(), "default".into()),
        field("user", Value::Null),
    ])
}

fn switch(parameters: &mut Parameters, name: &str) -> Result<Option<bool>, ApiError> {
    match parameters.take(name) {
        None => Ok(None),
        Some(Value::Bool(flag)) => Ok(Some(flag)),
        Some(other) => Parameters::wrong(name, "a boolean", &other),
    }
}

fn optional_text(parameters: &mut Parameters, name: &str) -> Result<Option<String>, ApiError> {
    match parameters.take(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => Parameters::wrong(name, "a string", &other),
    }
}

fn stream_options(parameters: &mut Parameters, stream: bool) -> Result<(), ApiError> {
    let options = parameters.object("stream_options")?;
    if !options.is_empty() && !stream {
        return Err(invalid("stream_options", "is only allowed with `stream`"));
    }
    // Padding against guesses from lengths; leaving it out changes no answer.
    match options.into_iter().find(|(name, value)| !value.is_null() && name != "include_obfuscation") {
        Some((name, _)) => {
            Err(unsupported(&format!("stream_options.{name}"), "usage always comes with the last event"))
        }
        None => Ok(()),
    }
}

/// Checks what a request says of itself: few pairs, and short ones.
pub fn check_metadata(metadata: &Map<String, Value>) -> Result<(), ApiError> {
    let fits = |(key, value): (&String, &Value)| {
        key.chars().count() <= 64 && value.as_str().is_some_and(|text| text.chars().count() <= 512)
    };
    match metadata.len() <= 16 && metadata.iter().all(fits) {
        true => Ok(()),
        false => Err(invalid("metadata", "takes up to 16 pairs, keys of up to 64 and texts of up to 512 characters")),
    }
}
