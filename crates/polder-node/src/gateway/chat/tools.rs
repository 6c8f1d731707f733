//! The tools of a chat request: functions that the model may call, and whether it must.
//!
//! Calling them is the application's affair; tools that would run here, such as a web search, are absent.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::super::ApiError;
use super::super::body::Parameters;
use super::parameters::{invalid, unsupported};

/// Most tools of one request.
pub const TOOLS_MAX: usize = 128;
const NAME_RULE: &str = "must be 1 to 64 of letters, digits, `_` and `-`";

/// Whether a text may name a function or a schema.
pub fn is_name(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

/// A name that stands in an object.
pub fn name_in<'a>(object: &'a Map<String, Value>, at: &str) -> Result<&'a str, ApiError> {
    let name = format!("{at}.name");
    match object.get("name") {
        Some(Value::String(text)) if is_name(text) => Ok(text),
        Some(Value::String(_)) => Err(invalid(&name, NAME_RULE)),
        None | Some(Value::Null) => {
            Err(ApiError::parameter(&name, "missing_required_parameter", format!("`{name}` is missing")))
        }
        Some(other) => Parameters::wrong(&name, "a string", other),
    }
}

/// Checks an optional field's kind; null counts as absent.
pub fn optional(
    object: &Map<String, Value>,
    at: &str,
    field: &str,
    expected: &str,
    is: fn(&Value) -> bool,
) -> Result<(), ApiError> {
    match object.get(field) {
        Some(value) if !value.is_null() && !is(value) => Parameters::wrong(&format!("{at}.{field}"), expected, value),
        _ => Ok(()),
    }
}

/// Takes `tools`, `tool_choice` and `parallel_tool_calls`. Without tools the other two say nothing.
pub fn take(parameters: &mut Parameters, rest: &mut Map<String, Value>) -> Result<(), ApiError> {
    let tools = match parameters.take("tools") {
        None => Vec::new(),
        Some(Value::Array(tools)) => tools,
        Some(other) => return Parameters::wrong("tools", "an array", &other),
    };
    if tools.len() > TOOLS_MAX {
        return Err(invalid("tools", &format!("takes at most {TOOLS_MAX} tools")));
    }
    let mut names = BTreeSet::new();
    for (index, tool) in tools.iter().enumerate() {
        let at = format!("tools[{index}]");
        let name = function(&at, tool)?;
        if !names.insert(name) {
            return Err(invalid(&format!("{at}.function.name"), "stands for an earlier tool too"));
        }
    }
    let choice = choice(parameters, &names)?;
    let parallel = parameters.take("parallel_tool_calls");
    if let Some(other) = parallel.as_ref().filter(|value| !value.is_boolean()) {
        return Parameters::wrong("parallel_tool_calls", "a boolean", other);
    }
    if tools.is_empty() {
        return Ok(());
    }
    rest.insert("tools".to_owned(), tools.into());
    let others = [("tool_choice", choice), ("parallel_tool_calls", parallel)];
    rest.extend(others.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
    Ok(())
}

fn function<'a>(at: &str, tool: &'a Value) -> Result<&'a str, ApiError> {
    let Value::Object(tool) = tool else { return Parameters::wrong(at, "an object", tool) };
    match tool.get("type") {
        Some(Value::String(kind)) if kind == "function" => {}
        Some(Value::String(_)) => return Err(unsupported(&format!("{at}.type"), "tools are of type `function`")),
        _ => return Err(invalid(&format!("{at}.type"), "must be `function`")),
    }
    let at = format!("{at}.function");
    match tool.get("function") {
        Some(Value::Object(function)) => {
            optional(function, &at, "description", "a string", Value::is_string)?;
            optional(function, &at, "parameters", "an object", Value::is_object)?;
            optional(function, &at, "strict", "a boolean", Value::is_boolean)?;
            name_in(function, &at)
        }
        None | Some(Value::Null) => {
            Err(ApiError::parameter(&at, "missing_required_parameter", format!("`{at}` is missing")))
        }
        Some(other) => Parameters::wrong(&at, "an object", other),
    }
}

fn choice(parameters: &mut Parameters, names: &BTreeSet<&str>) -> Result<Option<Value>, ApiError> {
    let Some(choice) = parameters.take("tool_choice") else { return Ok(None) };
    match &choice {
        Value::String(word) if matches!(word.as_str(), "none" | "auto") => {}
        Value::String(word) if word == "required" => {
            if names.is_empty() {
                return Err(invalid("tool_choice", "needs `tools`"));
            }
        }
        Value::String(_) => return Err(invalid("tool_choice", "must be none, auto, required or a named function")),
        Value::Object(named) => {
            if named.get("type").is_none_or(|kind| kind != "function") {
                return Err(unsupported("tool_choice.type", "a tool is chosen by `function` and its name"));
            }
            let at = "tool_choice.function";
            let Some(Value::Object(function)) = named.get("function") else {
                return Err(ApiError::parameter(at, "missing_required_parameter", format!("`{at}` is missing")));
            };
            if !names.contains(name_in(function, at)?) {
                return Err(invalid("tool_choice.function.name", "is not among `tools`"));
            }
        }
        other => return Parameters::wrong("tool_choice", "a string or an object", other),
    }
    Ok(Some(choice))
}
