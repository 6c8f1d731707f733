//! Anthropic's parameters as a conversation.
//!
//! What would change the answer and is not supported is refused by name, as is every name that is not known. The content of
//! messages is [`super::blocks`]'s.

use serde_json::{Map, Value, json};

use super::super::ApiError;
use super::super::body::Parameters;
use super::blocks;
use crate::inference::ChatRequest;

/// Most texts that end an answer.
const STOPS_MAX: usize = 16;
/// Most tools of one request.
const TOOLS_MAX: usize = 128;

/// Documented, and without effect on an answer; `metadata` was read before.
const WITHOUT_EFFECT: [&str; 4] = ["service_tier", "cache_control", "diagnostics", "user_profile_id"];

/// An error that names a parameter that is not supported.
pub(super) fn unsupported(name: &str, why: &str) -> ApiError {
    ApiError::parameter(name, "unsupported_parameter", format!("`{name}` is not supported: {why}"))
}

/// An error that names a parameter of a wrong shape.
pub(super) fn wrong(name: &str, must: &str) -> ApiError {
    ApiError::parameter(name, "invalid_value", format!("`{name}` must be {must}"))
}

/// The conversation that the parameters ask for.
pub(super) fn chat_request(mut parameters: Parameters) -> Result<ChatRequest, ApiError> {
    let model = parameters.text("model")?;
    let max_tokens = parameters.integer("max_tokens", 1)?.ok_or_else(|| {
        ApiError::parameter(
            "max_tokens",
            "missing_required_parameter",
            "`max_tokens` is missing: say how long the answer may be",
        )
    })?;
    let mut messages = Vec::new();
    if let Some(system) = parameters.take("system") {
        messages.extend(blocks::system(system)?);
    }
    blocks::turns(parameters.required("messages")?, &mut messages)?;
    let temperature = parameters.number("temperature", 0.0..=1.0)?;
    let top_p = parameters.number("top_p", 0.0..=1.0)?;
    let stop = parameters.texts("stop_sequences", STOPS_MAX)?;
    let stream = parameters.flag("stream")?;
    let mut rest = Map::new();
    if let Some(top_k) = parameters.integer("top_k", 1)? {
        rest.insert("top_k".to_owned(), top_k.into());
    }
    tools(&mut parameters, &mut rest)?;
    output(&mut parameters, &mut rest)?;
    refuse_the_rest(parameters)?;
    let max_tokens = Some(u32::try_from(max_tokens).unwrap_or(u32::MAX));
    Ok(ChatRequest { model, messages, max_tokens, temperature, top_p, seed: None, stop, stream, rest })
}

fn refuse_the_rest(mut parameters: Parameters) -> Result<(), ApiError> {
    for name in WITHOUT_EFFECT {
        parameters.take(name);
    }
    let disabled = |thinking: &Value| thinking.get("type").and_then(Value::as_str) == Some("disabled");
    if parameters.take("thinking").is_some_and(|thinking| !disabled(&thinking)) {
        return Err(unsupported("thinking", "leave it out, or send `{\"type\": \"disabled\"}`"));
    }
    if parameters.take("inference_geo").is_some() {
        return Err(unsupported("inference_geo", "say where it may run with the header `polder-countries`"));
    }
    for name in ["base_url", "api_base", "api_key"] {
        if parameters.take(name).is_some() {
            return Err(unsupported(name, "where it runs is decided by policy"));
        }
    }
    match parameters.0.into_iter().find(|(_, value)| !value.is_null()) {
        Some((name, _)) => Err(unsupported(&name, "it would change the answer, and no engine here knows it")),
        None => Ok(()),
    }
}

fn tools(parameters: &mut Parameters, rest: &mut Map<String, Value>) -> Result<(), ApiError> {
    let tools = match parameters.take("tools") {
        None => Vec::new(),
        Some(Value::Array(tools)) if tools.len() <= TOOLS_MAX => tools,
        Some(_) => return Err(wrong("tools", &format!("an array of at most {TOOLS_MAX} tools"))),
    };
    let tools = tools.into_iter().enumerate().map(|(index, item)| tool(index, item));
    let tools = tools.collect::<Result<Vec<Value>, _>>()?;
    if let Some(choice) = parameters.take("tool_choice") {
        tool_choice(choice, &tools, rest)?;
    }
    if !tools.is_empty() {
        rest.insert("tools".to_owned(), tools.into());
    }
    Ok(())
}

/// A tool as chat completions describe it.
fn tool(index: usize, item: Value) -> Result<Value, ApiError> {
    let at = |field: &str| format!("tools[{index}].{field}");
    let Value::Object(mut tool) = item else { return Err(wrong(&format!("tools[{index}]"), "an object")) };
    if let Some(kind) = tool.remove("type").filter(|kind| !kind.is_null() && kind != "custom") {
        let shown: String = kind.as_str().unwrap_or("this type").chars().take(64).collect();
        return Err(unsupported(
            &at("type"),
            &format!("`{shown}` would run at the model's maker; only tools of your own are"),
        ));
    }
    let Some(Value::String(name)) = tool.remove("name") else { return Err(wrong(&at("name"), "a string")) };
    if name.is_empty() || name.len() > 128 {
        return Err(wrong(&at("name"), "1 to 128 characters long"));
    }
    let schema = tool.remove("input_schema").filter(Value::is_object);
    let schema = schema.ok_or_else(|| wrong(&at("input_schema"), "a JSON schema of an object"))?;
    let mut function = json!({"name": name, "parameters": schema});
    match tool.remove("description") {
        None | Some(Value::Null) => {}
        Some(Value::String(text)) => function["description"] = text.into(),
        Some(_) => return Err(wrong(&at("description"), "a string")),
    }
    match tool.remove("strict") {
        None | Some(Value::Null) => {}
        Some(Value::Bool(strict)) => function["strict"] = strict.into(),
        Some(_) => return Err(wrong(&at("strict"), "a boolean")),
    }
    for name in ["cache_control", "eager_input_streaming"] {
        tool.remove(name);
    }
    match tool.into_iter().find(|(_, value)| !value.is_null()) {
        Some((name, _)) => Err(unsupported(&at(&name), "tools have a name, a description and a schema here")),
        None => Ok(json!({"type": "function", "function": function})),
    }
}

fn tool_choice(choice: Value, tools: &[Value], rest: &mut Map<String, Value>) -> Result<(), ApiError> {
    let one_of = || wrong("tool_choice.type", "one of auto, any, tool, none");
    let kind = choice.get("type").and_then(Value::as_str).ok_or_else(one_of)?;
    let chosen = match kind {
        "auto" | "none" => json!(kind),
        "any" => json!("required"),
        "tool" => {
            let name = choice.get("name").and_then(Value::as_str).unwrap_or_default();
            if !tools.iter().any(|tool| tool.pointer("/function/name").and_then(Value::as_str) == Some(name)) {
                return Err(wrong("tool_choice.name", "the name of one of `tools`"));
            }
            json!({"type": "function", "function": {"name": name}})
        }
        _ => return Err(one_of()),
    };
    if tools.is_empty() {
        // Without tools there is nothing to choose, and chat completions refuse a choice among none.
        return if matches!(kind, "auto" | "none") {
            Ok(())
        } else {
            Err(wrong("tools", "given where one must be used"))
        };
    }
    match choice.get("disable_parallel_tool_use") {
        None | Some(Value::Null) => {}
        Some(Value::Bool(disabled)) => drop(rest.insert("parallel_tool_calls".to_owned(), (!disabled).into())),
        Some(_) => return Err(wrong("tool_choice.disable_parallel_tool_use", "a boolean")),
    }
    rest.insert("tool_choice".to_owned(), chosen);
    Ok(())
}

/// `output_config`: an answer that fits a schema is asked for as chat completions ask for it.
fn output(parameters: &mut Parameters, rest: &mut Map<String, Value>) -> Result<(), ApiError> {
    let mut config = parameters.object("output_config")?;
    if let Some(format) = config.remove("format").filter(|format| !format.is_null()) {
        let json_schema = format.get("type").and_then(Value::as_str) == Some("json_schema");
        let schema = format.get("schema").filter(|schema| json_schema && schema.is_object());
        let schema = schema.ok_or_else(|| wrong("output_config.format", "of type `json_schema`, with a `schema`"))?;
        let described = json!({"name": "answer", "schema": schema, "strict": true});
        rest.insert("response_format".to_owned(), json!({"type": "json_schema", "json_schema": described}));
    }
    match config.into_iter().find(|(_, value)| !value.is_null()) {
        Some((name, _)) => Err(unsupported(&format!("output_config.{name}"), "no engine here knows it")),
        None => Ok(()),
    }
}
