//! The items of a response's input and output, and the conversation that they make.
//!
//! A conversation is kept as the items that applications see; an engine gets chat messages made of them. Items of tools that
//! would run here are absent.

use serde_json::{Map, Value, json};

use super::super::ApiError;
use super::super::body::Parameters;
use super::super::chat::parameters::{invalid, unsupported};

const ROLES: [&str; 4] = ["user", "assistant", "system", "developer"];

/// A place's own random digits, for ids.
pub fn digits() -> Result<String, ApiError> {
    let random: [u8; 16] = crate::clock::random().map_err(|e| ApiError::internal(&e.to_string()))?;
    Ok(hex::encode(random))
}

fn missing(name: &str) -> ApiError {
    ApiError::parameter(name, "missing_required_parameter", format!("`{name}` is missing"))
}

/// The items of an input, each with a type and an id. A text is one message of the user's.
pub fn items(input: Value) -> Result<Vec<Value>, ApiError> {
    let items = match input {
        Value::String(text) => vec![json!({"role": "user", "content": [{"type": "input_text", "text": text}]})],
        Value::Array(items) if items.is_empty() => return Err(invalid("input", "must hold at least one item")),
        Value::Array(items) => items,
        other => return Parameters::wrong("input", "a string or an array of items", &other),
    };
    let seed = digits()?;
    let mut named = Vec::with_capacity(items.len());
    for (index, item) in items.into_iter().enumerate() {
        let name = format!("input[{index}]");
        let Value::Object(mut item) = item else { return Parameters::wrong(&name, "an object", &item) };
        let kind = match item.get("type") {
            None => "message".to_owned(),
            Some(Value::String(kind)) => kind.clone(),
            Some(other) => return Parameters::wrong(&format!("{name}.type"), "a string", other),
        };
        let prefix = match kind.as_str() {
            "message" => "msg",
            "function_call" => "fc",
            "function_call_output" => "fco",
            "reasoning" => "rs",
            _ => {
                let why = "items are messages, function calls and their outputs";
                return Err(unsupported(&format!("{name}.type"), why));
            }
        };
        item.insert("type".to_owned(), kind.into());
        if !item.get("id").is_some_and(Value::is_string) {
            item.insert("id".to_owned(), format!("{prefix}_{seed}_{index}").into());
        }
        named.push(Value::Object(item));
    }
    Ok(named)
}

/// The chat messages that items make, behind those that are there already.
pub fn conversation(items: &[Value], at: &str, messages: &mut Vec<Value>) -> Result<(), ApiError> {
    for (index, item) in items.iter().enumerate() {
        let name = format!("{at}[{index}]");
        let Value::Object(item) = item else { return Parameters::wrong(&name, "an object", item) };
        match item.get("type").and_then(Value::as_str) {
            Some("message") => messages.push(message(&name, item)?),
            Some("function_call") => call(&name, item, messages)?,
            Some("function_call_output") => messages.push(call_output(&name, item)?),
            // What another service thought, sent back with the rest: no engine here can read it.
            _ => {}
        }
    }
    Ok(())
}

fn text_in<'a>(item: &'a Map<String, Value>, at: &str, field: &str) -> Result<&'a str, ApiError> {
    match item.get(field) {
        Some(Value::String(text)) => Ok(text),
        None | Some(Value::Null) => Err(missing(&format!("{at}.{field}"))),
        Some(other) => Parameters::wrong(&format!("{at}.{field}"), "a string", other),
    }
}

fn message(at: &str, item: &Map<String, Value>) -> Result<Value, ApiError> {
    let role = text_in(item, at, "role")?;
    if !ROLES.contains(&role) {
        return Err(invalid(&format!("{at}.role"), &format!("must be one of {}", ROLES.join(", "))));
    }
    let content = match item.get("content") {
        None | Some(Value::Null) => return Err(missing(&format!("{at}.content"))),
        Some(content) => parts(&format!("{at}.content"), content)?,
    };
    Ok(json!({"role": role, "content": content}))
}

/// A content's parts as chat writes them; one part of text is plain text, which every engine reads.
fn parts(at: &str, content: &Value) -> Result<Value, ApiError> {
    let items = match content {
        Value::String(text) => return Ok(text.as_str().into()),
        Value::Array(items) if items.is_empty() => return Err(invalid(at, "must hold at least one part")),
        Value::Array(items) => items,
        other => return Parameters::wrong(at, "a string or an array of parts", other),
    };
    let mut parts = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        let at = format!("{at}[{index}]");
        let Value::Object(part) = item else { return Parameters::wrong(&at, "an object", item) };
        parts.push(match text_in(part, &at, "type")? {
            "input_text" | "output_text" | "text" => json!({"type": "text", "text": text_in(part, &at, "text")?}),
            "refusal" => json!({"type": "text", "text": text_in(part, &at, "refusal")?}),
            "input_image" => image(&at, part)?,
            _ => return Err(unsupported(&format!("{at}.type"), "parts are texts and images")),
        });
    }
    match parts.as_slice() {
        [only] if only.get("type") == Some(&json!("text")) => Ok(only.get("text").cloned().unwrap_or_default()),
        _ => Ok(parts.into()),
    }
}

fn image(at: &str, part: &Map<String, Value>) -> Result<Value, ApiError> {
    if part.get("file_id").is_some_and(|id| !id.is_null()) {
        return Err(unsupported(&format!("{at}.file_id"), "files are not read into a conversation"));
    }
    let url = text_in(part, at, "image_url")?;
    if !url.starts_with("data:") {
        let name = format!("{at}.image_url");
        let message = format!("`{name}` must be a `data:` URL: user-given URLs are never fetched");
        return Err(ApiError::parameter(&name, "unsupported_parameter", message));
    }
    let mut image = json!({"url": url});
    if let Some(detail @ Value::String(_)) = part.get("detail") {
        image["detail"] = detail.clone();
    }
    Ok(json!({"type": "image_url", "image_url": image}))
}

/// A call that the model made. Calls side by side, and a text before them, are one message of the assistant's.
fn call(at: &str, item: &Map<String, Value>, messages: &mut Vec<Value>) -> Result<(), ApiError> {
    let function = json!({"name": text_in(item, at, "name")?, "arguments": text_in(item, at, "arguments")?});
    let call = json!({"id": text_in(item, at, "call_id")?, "type": "function", "function": function});
    let last = messages.last_mut().filter(|message| message.get("role") == Some(&json!("assistant")));
    match last.and_then(Value::as_object_mut) {
        Some(message) => match message.entry("tool_calls").or_insert_with(|| json!([])) {
            Value::Array(calls) => calls.push(call),
            other => *other = json!([call]),
        },
        None => messages.push(json!({"role": "assistant", "content": null, "tool_calls": [call]})),
    }
    Ok(())
}

fn call_output(at: &str, item: &Map<String, Value>) -> Result<Value, ApiError> {
    let id = text_in(item, at, "call_id")?;
    let output = match item.get("output") {
        None | Some(Value::Null) => return Err(missing(&format!("{at}.output"))),
        Some(output) => parts(&format!("{at}.output"), output)?,
    };
    Ok(json!({"role": "tool", "tool_call_id": id, "content": output}))
}
