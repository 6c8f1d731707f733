//! The messages of a chat request: roles, contents and what their parts point at.
//!
//! A part that points at something by a URL is refused unless the URL holds the thing itself (`data:`): whoever fetched it would
//! be made to fetch for somebody else. What parts mean to an engine is absent.

use serde_json::{Map, Value};

use super::super::ApiError;
use super::super::body::Parameters;
use super::parameters::{invalid, unsupported};
use crate::inference::{Content, Message};

const ROLES: [&str; 5] = ["system", "developer", "user", "assistant", "tool"];

/// Checks a conversation.
pub fn messages(value: Value) -> Result<Vec<Message>, ApiError> {
    let Value::Array(items) = value else { return Parameters::wrong("messages", "an array", &value) };
    if items.is_empty() {
        return Err(invalid("messages", "must hold at least one message"));
    }
    items.into_iter().enumerate().map(|(index, item)| message(&format!("messages[{index}]"), item)).collect()
}

fn missing(name: &str) -> ApiError {
    ApiError::parameter(name, "missing_required_parameter", format!("`{name}` is missing"))
}

fn message(name: &str, item: Value) -> Result<Message, ApiError> {
    let Value::Object(mut fields) = item else { return Parameters::wrong(name, "an object", &item) };
    let role = match fields.remove("role") {
        Some(Value::String(role)) if ROLES.contains(&role.as_str()) => role,
        None => return Err(missing(&format!("{name}.role"))),
        Some(_) => return Err(invalid(&format!("{name}.role"), &format!("must be one of {}", ROLES.join(", ")))),
    };
    let content = content(&format!("{name}.content"), fields.remove("content"))?;
    fields.retain(|_, value| !value.is_null());
    if fields.contains_key("function_call") {
        return Err(unsupported(&format!("{name}.function_call"), "it is deprecated: use `tool_calls`"));
    }
    if fields.contains_key("audio") {
        return Err(unsupported(&format!("{name}.audio"), "conversations are text"));
    }
    if let Some(calls) = fields.get("tool_calls") {
        tool_calls(&format!("{name}.tool_calls"), calls)?;
    }
    if role == "tool" && !fields.get("tool_call_id").is_some_and(Value::is_string) {
        return Err(missing(&format!("{name}.tool_call_id")));
    }
    let said = fields.contains_key("tool_calls") || fields.contains_key("refusal");
    if content.is_none() && !(role == "assistant" && said) {
        return Err(missing(&format!("{name}.content")));
    }
    Ok(Message { role, content, rest: fields })
}

fn content(name: &str, value: Option<Value>) -> Result<Option<Content>, ApiError> {
    let items = match value {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(text)) => return Ok(Some(Content::Text(text))),
        Some(Value::Array(items)) if items.is_empty() => return Err(invalid(name, "must hold at least one part")),
        Some(Value::Array(items)) => items,
        Some(other) => return Parameters::wrong(name, "a string or an array of parts", &other),
    };
    let mut parts = Vec::with_capacity(items.len());
    for (index, item) in items.into_iter().enumerate() {
        let name = format!("{name}[{index}]");
        let Value::Object(part) = item else { return Parameters::wrong(&name, "an object", &item) };
        check_part(&name, &part)?;
        parts.push(part);
    }
    Ok(Some(Content::Parts(parts)))
}

fn check_part(name: &str, part: &Map<String, Value>) -> Result<(), ApiError> {
    match part.get("type") {
        Some(Value::String(kind)) if kind == "text" => match part.get("text") {
            Some(Value::String(_)) => Ok(()),
            _ => Err(ApiError::parameter(
                &format!("{name}.text"),
                "invalid_type",
                format!("`{name}.text` must be a string"),
            )),
        },
        Some(Value::String(kind)) if kind == "file" => Err(unsupported(name, "files are not read into a conversation")),
        Some(Value::String(_)) => part.iter().try_for_each(|(key, value)| no_url(&format!("{name}.{key}"), key, value)),
        None => Err(missing(&format!("{name}.type"))),
        Some(other) => Parameters::wrong(&format!("{name}.type"), "a string", other),
    }
}

/// Refuses URLs that would have to be fetched, at whatever depth of a part.
fn no_url(name: &str, key: &str, value: &Value) -> Result<(), ApiError> {
    match value {
        Value::String(text) if (key == "url" || key.ends_with("_url")) && !text.starts_with("data:") => {
            let message = format!("`{name}` must be a `data:` URL: user-given URLs are never fetched");
            Err(ApiError::parameter(name, "unsupported_parameter", message))
        }
        Value::Object(fields) => {
            fields.iter().try_for_each(|(key, value)| no_url(&format!("{name}.{key}"), key, value))
        }
        Value::Array(items) => {
            items.iter().enumerate().try_for_each(|(index, value)| no_url(&format!("{name}[{index}]"), key, value))
        }
        _ => Ok(()),
    }
}

fn tool_calls(name: &str, value: &Value) -> Result<(), ApiError> {
    let Value::Array(calls) = value else { return Parameters::wrong(name, "an array", value) };
    for (index, call) in calls.iter().enumerate() {
        let name = format!("{name}[{index}]");
        if call.get("type").is_some_and(|kind| kind != "function") {
            return Err(unsupported(&format!("{name}.type"), "tools are of type `function`"));
        }
        let function = call.get("function");
        let texts = [
            ("id", call.get("id")),
            ("function.name", function.and_then(|function| function.get("name"))),
            ("function.arguments", function.and_then(|function| function.get("arguments"))),
        ];
        match texts.iter().find(|(_, text)| !text.is_some_and(Value::is_string)) {
            Some((field, None)) => return Err(missing(&format!("{name}.{field}"))),
            Some((field, Some(other))) => return Parameters::wrong(&format!("{name}.{field}"), "a string", other),
            None => {}
        }
    }
    Ok(())
}
