//! Anthropic's content blocks as a conversation's messages.
//!
//! One turn of the user's may become several messages: the results of tools first become messages of their own, in the order
//! in which they stand. Images come as bytes; addresses that a request names are never fetched.

use serde_json::{Map, Value, json};

use super::super::ApiError;
use super::request::{unsupported, wrong};
use crate::inference::{Content, Message};

/// Blocks may carry hints for caches; they are without effect.
const WITHOUT_EFFECT: [&str; 2] = ["cache_control", "citations"];

fn message(role: &str, content: Option<Content>) -> Message {
    Message { role: role.to_owned(), content, rest: Map::new() }
}

/// The system prompt: a text, or blocks of text.
pub(super) fn system(system: Value) -> Result<Option<Message>, ApiError> {
    let content = match system {
        Value::String(text) if text.is_empty() => return Ok(None),
        Value::String(text) => Content::Text(text),
        Value::Array(items) if items.is_empty() => return Ok(None),
        Value::Array(items) => {
            let part = |(index, item)| text_part(&format!("system[{index}]"), item);
            content(items.into_iter().enumerate().map(part).collect::<Result<_, _>>()?)
        }
        _ => return Err(wrong("system", "a string or an array of text blocks")),
    };
    Ok(Some(message("system", Some(content))))
}

/// The turns of a conversation, added behind the system prompt.
pub(super) fn turns(turns: Value, messages: &mut Vec<Message>) -> Result<(), ApiError> {
    let items = match turns {
        Value::Array(items) if !items.is_empty() => items,
        _ => return Err(wrong("messages", "an array of at least one message")),
    };
    let last = items.len() - 1;
    for (index, item) in items.into_iter().enumerate() {
        let name = format!("messages[{index}]");
        let Value::Object(mut turn) = item else { return Err(wrong(&name, "an object")) };
        let content = turn.remove("content").unwrap_or_default();
        match turn.get("role").and_then(Value::as_str) {
            Some("user") => user(&name, content, messages)?,
            Some("assistant") if index == last => {
                let why = "the last message must be the user's; an answer that was begun is not continued";
                return Err(unsupported(&format!("{name}.role"), why));
            }
            Some("assistant") => messages.push(assistant(&name, content)?),
            _ => return Err(wrong(&format!("{name}.role"), "`user` or `assistant`")),
        }
    }
    Ok(())
}

/// A message's blocks; a text is one block.
fn blocks(name: &str, content: Value) -> Result<Vec<Value>, ApiError> {
    match content {
        Value::String(text) => Ok(vec![json!({"type": "text", "text": text})]),
        Value::Array(items) => Ok(items),
        _ => Err(wrong(&format!("{name}.content"), "a string or an array of blocks")),
    }
}

fn kind(item: &Value) -> &str {
    item.get("type").and_then(Value::as_str).unwrap_or_default()
}

fn user(name: &str, content_of: Value, messages: &mut Vec<Message>) -> Result<(), ApiError> {
    let (before, mut parts) = (messages.len(), Vec::new());
    for (index, item) in blocks(name, content_of)?.into_iter().enumerate() {
        let name = format!("{name}.content[{index}]");
        match kind(&item) {
            "text" => parts.push(text_part(&name, item)?),
            "image" => parts.push(image_part(&name, &item)?),
            "tool_result" => {
                if !parts.is_empty() {
                    messages.push(message("user", Some(content(std::mem::take(&mut parts)))));
                }
                messages.push(tool_result(&name, item)?);
            }
            other => return Err(unknown_block(&name, other)),
        }
    }
    if !parts.is_empty() {
        messages.push(message("user", Some(content(parts))));
    }
    if messages.len() == before {
        return Err(wrong(&format!("{name}.content"), "at least one block"));
    }
    Ok(())
}

fn assistant(name: &str, content_of: Value) -> Result<Message, ApiError> {
    let (mut parts, mut calls) = (Vec::new(), Vec::new());
    for (index, item) in blocks(name, content_of)?.into_iter().enumerate() {
        let name = format!("{name}.content[{index}]");
        match kind(&item) {
            "text" => parts.push(text_part(&name, item)?),
            "tool_use" => calls.push(tool_call(&name, &item)?),
            other => return Err(unknown_block(&name, other)),
        }
    }
    let mut message = message("assistant", (!parts.is_empty()).then(|| content(parts)));
    match (calls.is_empty(), &message.content) {
        (true, None) => return Err(wrong(&format!("{name}.content"), "at least one block")),
        (true, Some(_)) => {}
        (false, _) => drop(message.rest.insert("tool_calls".to_owned(), calls.into())),
    }
    Ok(message)
}

fn unknown_block(name: &str, kind: &str) -> ApiError {
    let name = format!("{name}.type");
    if kind.is_empty() {
        return wrong(&name, "a block's type, such as `text`");
    }
    let kind: String = kind.chars().take(64).collect();
    unsupported(&name, &format!("blocks of type `{kind}` are not read; text, image, tool_use and tool_result are"))
}

/// One part alone is a plain text, which every engine reads.
fn content(mut parts: Vec<Map<String, Value>>) -> Content {
    if let [only] = parts.as_mut_slice()
        && only.get("type").and_then(Value::as_str) == Some("text")
        && let Some(Value::String(text)) = only.remove("text")
    {
        return Content::Text(text);
    }
    Content::Parts(parts)
}

fn part(value: Value) -> Map<String, Value> {
    if let Value::Object(part) = value { part } else { Map::new() }
}

fn text_part(name: &str, item: Value) -> Result<Map<String, Value>, ApiError> {
    let Value::Object(mut block) = item else { return Err(wrong(name, "a block")) };
    if block.remove("type").as_ref().and_then(Value::as_str) != Some("text") {
        return Err(wrong(&format!("{name}.type"), "`text`"));
    }
    let Some(Value::String(text)) = block.remove("text") else {
        return Err(wrong(&format!("{name}.text"), "a string"));
    };
    for known in WITHOUT_EFFECT {
        block.remove(known);
    }
    match block.into_iter().find(|(_, value)| !value.is_null()) {
        Some((field, _)) => Err(unsupported(&format!("{name}.{field}"), "a block of text has its text only")),
        None => Ok(part(json!({"type": "text", "text": text}))),
    }
}

fn image_part(name: &str, block: &Value) -> Result<Map<String, Value>, ApiError> {
    const TYPES: [&str; 4] = ["image/jpeg", "image/png", "image/gif", "image/webp"];
    let source = format!("{name}.source");
    let field = |field: &str| block.pointer(&format!("/source/{field}")).and_then(Value::as_str);
    match field("type") {
        Some("base64") => {}
        Some("url") => {
            return Err(unsupported(&source, "addresses in a request are never fetched; send the bytes as base64"));
        }
        Some(_) => return Err(unsupported(&source, "send the bytes as base64")),
        None => return Err(wrong(&source, "the image's bytes as base64")),
    }
    let media = field("media_type").filter(|media| TYPES.contains(media));
    let media = media.ok_or_else(|| wrong(&format!("{source}.media_type"), &format!("one of {}", TYPES.join(", "))))?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte);
    let data = field("data").filter(|data| !data.is_empty() && data.bytes().all(plain));
    let data = data.ok_or_else(|| wrong(&format!("{source}.data"), "base64"))?;
    Ok(part(json!({"type": "image_url", "image_url": {"url": format!("data:{media};base64,{data}")}})))
}

fn tool_call(name: &str, block: &Value) -> Result<Value, ApiError> {
    let text = |field: &str| {
        let found = block.get(field).and_then(Value::as_str).filter(|text| !text.is_empty());
        found.ok_or_else(|| wrong(&format!("{name}.{field}"), "a string"))
    };
    let input = block.get("input").filter(|input| input.is_object());
    let input = input.ok_or_else(|| wrong(&format!("{name}.input"), "an object"))?;
    let function = json!({"name": text("name")?, "arguments": input.to_string()});
    Ok(json!({"id": text("id")?, "type": "function", "function": function}))
}

/// What a tool answered, as a message of its own. Chat completions have no mark for a failure, so it is said in words.
fn tool_result(name: &str, item: Value) -> Result<Message, ApiError> {
    let Value::Object(mut block) = item else { return Err(wrong(name, "a block")) };
    let Some(Value::String(id)) = block.remove("tool_use_id") else {
        return Err(wrong(&format!("{name}.tool_use_id"), "a string"));
    };
    let mut text = String::new();
    let within = block.remove("content").unwrap_or_else(|| json!(""));
    for (index, item) in blocks(name, within)?.into_iter().enumerate() {
        let name = format!("{name}.content[{index}]");
        if kind(&item) != "text" {
            return Err(unsupported(&format!("{name}.type"), "a tool's result is read as text only"));
        }
        if let Some(Value::String(more)) = text_part(&name, item)?.get("text") {
            text.push_str(more);
        }
    }
    if block.get("is_error") == Some(&Value::Bool(true)) {
        text.insert_str(0, "error: ");
    }
    let mut message = message("tool", Some(Content::Text(text)));
    message.rest.insert("tool_call_id".to_owned(), id.into());
    Ok(message)
}
