//! What form an answer must have: any text, JSON that fits a schema, or a call of a tool.
//!
//! Read from `response_format`, `tools` and `tool_choice`, in OpenAI's shapes. Absent: custom tools, and several calls in
//! one answer where a call is demanded; where the model is free it may call as often as it likes.

use serde_json::{Map, Value, json};

use super::model::invalid;
use super::schema;
use crate::inference::EngineError;

/// Most tools of one request; OpenAI's own limit.
const TOOLS_MAX: usize = 128;

/// The form of an answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Form {
    /// Text; where tools are named and the template shows them, calls in the template's syntax too.
    Text,
    /// JSON that fits this schema, which came from the parameter named.
    Json(Value, String),
    /// One call of a tool, as JSON that fits this schema.
    Call(Value, String),
}

/// What a request says of the form.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Wanted {
    pub form: Form,
    /// The tools to show the model.
    pub tools: Vec<Value>,
}

impl Wanted {
    /// Reads a request's parameters.
    pub(crate) fn of(rest: &Map<String, Value>) -> Result<Self, EngineError> {
        let given = |name: &str| rest.get(name).filter(|value| !value.is_null());
        let format = given("response_format").map_or(Ok(Form::Text), format)?;
        let tools = given("tools").map_or(Ok(Vec::new()), read_tools)?;
        let form = match given("tool_choice") {
            None => format,
            Some(Value::String(choice)) => match choice.as_str() {
                "auto" => format,
                "none" => return Ok(Self { form: format, tools: Vec::new() }),
                "required" => call(&tools, "tools")?,
                _ => return Err(invalid("tool_choice", "must be `none`, `auto`, `required` or name a function")),
            },
            Some(choice) => call(&[chosen(choice, &tools)?], "tools")?,
        };
        Ok(Self { form, tools: tools.into_iter().map(|tool| tool.whole).collect() })
    }
}

#[derive(Clone)]
struct Tool {
    name: String,
    /// Where among `$defs` the references of `parameters` hold.
    key: String,
    /// A checked schema of an object.
    parameters: Value,
    whole: Value,
}

fn format(value: &Value) -> Result<Form, EngineError> {
    let at = "response_format.json_schema";
    match value.get("type").and_then(Value::as_str) {
        Some("text") => Ok(Form::Text),
        Some("json_object") => Ok(Form::Json(json!({"type": "object"}), "response_format".into())),
        Some("json_schema") => {
            let about = value.get("json_schema").and_then(Value::as_object);
            let about = about.ok_or_else(|| invalid(at, "is missing or no object"))?;
            if !about.get("name").is_some_and(Value::is_string) {
                return Err(invalid(&format!("{at}.name"), "is missing or no text"));
            }
            let at = format!("{at}.schema");
            let given = about.get("schema").filter(|schema| !schema.is_null());
            let given = given.ok_or_else(|| invalid(&at, "is missing"))?;
            Ok(Form::Json(schema::checked(given, &at, "#")?, at))
        }
        _ => Err(invalid("response_format.type", "must be `text`, `json_object` or `json_schema`")),
    }
}

fn read_tools(value: &Value) -> Result<Vec<Tool>, EngineError> {
    let list = value.as_array().filter(|list| list.len() <= TOOLS_MAX);
    let list = list.ok_or_else(|| invalid("tools", format!("must be an array of at most {TOOLS_MAX} tools")))?;
    let tools = list.iter().enumerate().map(|(i, tool)| read_tool(tool, &format!("tools[{i}]"), i));
    tools.collect()
}

fn read_tool(tool: &Value, at: &str, index: usize) -> Result<Tool, EngineError> {
    if tool.get("type").and_then(Value::as_str) != Some("function") {
        return Err(invalid(&format!("{at}.type"), "must be `function`"));
    }
    let at = format!("{at}.function");
    let function = tool.get("function").and_then(Value::as_object);
    let function = function.ok_or_else(|| invalid(&at, "is missing or no object"))?;
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let name = function.get("name").and_then(Value::as_str);
    let name = name.filter(|name| (1..=64).contains(&name.len()) && name.chars().all(plain));
    let name =
        name.ok_or_else(|| invalid(&format!("{at}.name"), "must be 1 to 64 letters, digits, underscores or hyphens"))?;
    let (at, key) = (format!("{at}.parameters"), format!("t{index}"));
    let mut parameters = match function.get("parameters").filter(|value| !value.is_null()) {
        Some(given) => schema::checked(given, &at, &format!("#/$defs/{key}"))?,
        None => json!({"type": "object", "properties": {}, "additionalProperties": false}),
    };
    match parameters.as_object_mut() {
        Some(object) if object.get("type").is_none_or(|kind| kind == "object") => {
            if !object.contains_key("$ref") && !object.contains_key("anyOf") {
                object.insert("type".into(), "object".into());
            }
        }
        _ => return Err(invalid(&at, "must be the schema of an object")),
    }
    Ok(Tool { name: name.to_owned(), key, parameters, whole: tool.clone() })
}

/// The tool that `tool_choice` names.
fn chosen(choice: &Value, tools: &[Tool]) -> Result<Tool, EngineError> {
    if choice.get("type").and_then(Value::as_str) != Some("function") {
        return Err(invalid("tool_choice", "must be `none`, `auto`, `required` or name a function"));
    }
    let name = choice.pointer("/function/name").and_then(Value::as_str);
    let tool = tools.iter().find(|tool| Some(tool.name.as_str()) == name);
    tool.cloned().ok_or_else(|| invalid("tool_choice.function.name", "names none of the `tools`"))
}

/// One call of one of these tools. Its keys come in this order, because properties are written as the schema lists them.
fn call(tools: &[Tool], at: &str) -> Result<Form, EngineError> {
    if tools.is_empty() {
        return Err(invalid("tool_choice", "asks for a call, and there are no `tools`"));
    }
    let (mut parts, mut options) = (Map::new(), Vec::new());
    for tool in tools {
        parts.insert(tool.key.clone(), tool.parameters.clone());
        options.push(json!({
            "type": "object",
            "properties": {"name": {"const": tool.name}, "arguments": {"$ref": format!("#/$defs/{}", tool.key)}},
            "required": ["name", "arguments"],
            "additionalProperties": false,
        }));
    }
    Ok(Form::Call(json!({"$defs": parts, "anyOf": options}), at.to_owned()))
}
