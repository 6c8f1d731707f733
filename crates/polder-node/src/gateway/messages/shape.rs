//! A whole answer as Anthropic's message: its blocks, why it ended, and its tokens.
//!
//! Which of several `stop_sequences` ended an answer is absent: engines do not say it, so such an end is an `end_turn`.

use serde_json::{Map, Value, json};

use super::super::answer::Collected;
use crate::inference::{EngineError, Usage};

/// Why an answer ended, in Anthropic's words.
pub(super) fn stop_reason(reason: Option<&str>, called: bool) -> &'static str {
    match reason {
        Some("length") => "max_tokens",
        Some("content_filter") => "refusal",
        Some("tool_calls" | "function_call") => "tool_use",
        // Some engines say `stop` where a tool was asked for by name.
        _ if called => "tool_use",
        _ => "end_turn",
    }
}

/// Token counts in Anthropic's names.
pub(super) fn usage(usage: &Usage) -> Value {
    json!({"input_tokens": usage.prompt_tokens, "output_tokens": usage.completion_tokens})
}

/// A message's fields around its content.
pub(super) fn frame(id: &str, model: &str, content: Vec<Value>, reason: Option<&str>, counts: &Usage) -> Value {
    json!({
        "id": id, "type": "message", "role": "assistant", "model": model, "content": content,
        "stop_reason": reason, "stop_sequence": null, "usage": usage(counts),
    })
}

/// The id of a tool's call that the engine left without one.
pub(super) fn call_id(message: &str, index: usize) -> String {
    let digits = message.trim_start_matches("msg-");
    format!("toolu-{digits}-{index}")
}

/// The whole answer. A call whose arguments are no JSON object cannot be written as one, and is the engine's failure;
/// where the answer was cut off, what was cut is left out.
pub(super) fn message(id: &str, model: &str, collected: Collected) -> Result<Value, EngineError> {
    let usage = collected.usage;
    let choice = collected.choices.into_iter().next().unwrap_or_default();
    let mut content = Vec::new();
    if let Some(text) = choice.text.filter(|text| !text.is_empty()) {
        content.push(json!({"type": "text", "text": text}));
    }
    let calls = choice.rest.get("tool_calls").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let cut = choice.reason.as_deref() == Some("length");
    for (index, call) in calls.iter().enumerate() {
        let field = |path: &str| call.pointer(path).and_then(Value::as_str).unwrap_or_default();
        let Some(input) = arguments(field("/function/arguments")) else {
            if cut {
                continue;
            }
            return Err(EngineError::Failed {
                reason: "it called a tool with arguments that are no JSON object".to_owned(),
            });
        };
        let call_id = match field("/id") {
            "" => call_id(id, index),
            given => given.to_owned(),
        };
        content.push(json!({"type": "tool_use", "id": call_id, "name": field("/function/name"), "input": input}));
    }
    let reason = stop_reason(choice.reason.as_deref(), !calls.is_empty());
    Ok(frame(id, model, content, Some(reason), &usage))
}

fn arguments(text: &str) -> Option<Map<String, Value>> {
    if text.trim().is_empty() {
        return Some(Map::new());
    }
    serde_json::from_str(text).ok()
}
