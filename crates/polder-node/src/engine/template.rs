//! A conversation as the text that the model was trained on.
//!
//! Templates are Jinja programs that come with the model, so they run with a bounded amount of
//! work and see nothing but the conversation and the tools. Absent: images.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use minijinja::{Environment, ErrorKind, Value, context};
use minijinja_contrib::pycompat::unknown_method_callback;
use serde_json::{Map, json};

use super::calls;
use super::files::{model_file, read_json, read_text};
use crate::inference::{Content, EngineError, Message};

/// Most work that one rendering may do, in minijinja's units.
const FUEL: u64 = 5_000_000;

/// How a model wants conversations written.
pub(crate) struct ChatTemplate {
    environment: Environment<'static>,
    bos: String,
    eos: String,
    given: bool,
    shows_tools: bool,
    finds_calls: bool,
}

/// What is used where a model brings no template: each message as `Role: text`, a blank line
/// between them, and `Assistant:` at the end.
const PLAIN: &str = "{% for message in messages %}{{ message.role | capitalize }}: \
{{ message.content }}\n\n{% endfor %}Assistant:";

impl ChatTemplate {
    /// Reads `chat_template.jinja` or `tokenizer_config.json` of a folder.
    pub(crate) fn read(folder: &Path) -> Result<Self, EngineError> {
        let path = folder.join("tokenizer_config.json");
        let settings = match path.is_file() {
            true => read_json(&path)?,
            false => serde_json::Value::Null,
        };
        let alone = folder.join("chat_template.jinja");
        let (path, template) = match alone.is_file() {
            true => (alone.clone(), Some(read_text(&alone)?)),
            false => (path, template_of(settings.get("chat_template"))),
        };
        let token = |name: &str| token_of(settings.get(name));
        Self::new(template, token("bos_token"), token("eos_token")).map_err(|reason| model_file(&path, reason))
    }

    /// Compiles a template; without one the plain form is used.
    pub(crate) fn new(template: Option<String>, bos: String, eos: String) -> Result<Self, String> {
        let mut environment = Environment::new();
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment.set_unknown_method_callback(unknown_method_callback);
        environment.set_fuel(Some(FUEL));
        environment.add_filter("tojson", to_json);
        environment.add_function("raise_exception", |text: String| -> Result<Value, _> {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, text))
        });
        environment.add_function("strftime_now", |format: String| strftime(&format, now_s()));
        let given = template.is_some();
        let source = template.unwrap_or_else(|| PLAIN.to_owned());
        let has_mark = source.contains(calls::OPEN);
        let invalid = |e: minijinja::Error| format!("its chat template is not valid: {e}");
        environment.add_template_owned("chat", source).map_err(invalid)?;
        let shows_tools =
            environment.get_template("chat").map_err(invalid)?.undeclared_variables(false).contains("tools");
        Ok(Self { environment, bos, eos, given, shows_tools, finds_calls: shows_tools && has_mark })
    }

    /// Whether the template teaches the model the syntax of calls that is looked for in answers.
    pub(crate) fn finds_calls(&self) -> bool {
        self.finds_calls
    }

    /// Whether the model brought a template, which then also writes the first token.
    pub(crate) fn given(&self) -> bool {
        self.given
    }

    /// The model's token for the end of an answer, written out.
    pub(crate) fn eos(&self) -> &str {
        &self.eos
    }

    /// A conversation as the template reads it.
    pub(crate) fn conversation(&self, messages: &[Message]) -> Result<Vec<serde_json::Value>, EngineError> {
        if messages.is_empty() {
            return Err(invalid("must not be empty"));
        }
        messages.iter().map(|message| self.plain(message).map(serde_json::Value::Object)).collect()
    }

    /// The text of a conversation, up to where the answer begins.
    pub(crate) fn render(
        &self,
        messages: &[serde_json::Value],
        tools: &[serde_json::Value],
    ) -> Result<String, EngineError> {
        let tools = if tools.is_empty() { Value::from(()) } else { Value::from_serialize(tools) };
        self.environment
            .get_template("chat")
            .and_then(|template| {
                template.render(context! {
                    messages => messages,
                    tools => tools,
                    add_generation_prompt => true,
                    bos_token => self.bos,
                    eos_token => self.eos,
                })
            })
            .map_err(|error| invalid(refusal(&error)))
    }

    /// A message with its text in one piece. `developer` is OpenAI's newer word for `system`.
    ///
    /// A template that knows no tools gets an earlier call as the assistant's words, and what came of it as the user's.
    fn plain(&self, message: &Message) -> Result<Map<String, serde_json::Value>, EngineError> {
        let mut role = match message.role.as_str() {
            "developer" | "system" => "system",
            "user" => "user",
            "assistant" => "assistant",
            "tool" => "tool",
            "function" => return Err(unsupported()),
            other => return Err(invalid(format!("have the unknown role `{other}`"))),
        };
        let mut plain = message.rest.clone();
        if plain.get("function_call").is_some_and(|call| !call.is_null()) {
            return Err(unsupported());
        }
        let calls = match plain.remove("tool_calls") {
            Some(serde_json::Value::Array(calls)) => calls.iter().map(earlier_call).collect::<Result<Vec<_>, _>>()?,
            None | Some(serde_json::Value::Null) => Vec::new(),
            Some(_) => return Err(invalid("have `tool_calls` that are no array")),
        };
        let mut text = match &message.content {
            None if role == "assistant" => String::new(),
            None => return Err(invalid("lack a `content`")),
            Some(Content::Text(text)) => text.clone(),
            Some(Content::Parts(parts)) => parts.iter().map(part_text).collect::<Result<_, _>>()?,
        };
        if self.shows_tools && !calls.is_empty() {
            plain.insert("tool_calls".into(), calls.into());
        } else if !self.shows_tools {
            let written = calls.iter().filter_map(|call| call.get("function")).map(ToString::to_string);
            let parts = Some(text).filter(|text| !text.is_empty()).into_iter().chain(written);
            text = parts.collect::<Vec<_>>().join("\n");
            role = if role == "tool" { "user" } else { role };
        }
        plain.insert("role".into(), role.into());
        plain.insert("content".into(), text.into());
        Ok(plain)
    }
}

fn invalid(reason: impl Into<String>) -> EngineError {
    EngineError::Invalid { parameter: "messages".into(), reason: reason.into() }
}

/// What a template's own exception says; other errors could quote the conversation.
fn refusal(error: &minijinja::Error) -> String {
    match (error.kind(), error.detail()) {
        (ErrorKind::InvalidOperation, Some(detail)) => {
            format!("are refused by the model's chat template: {detail}")
        }
        (kind, _) => format!("do not fit the model's chat template: {kind}"),
    }
}

fn template_of(value: Option<&serde_json::Value>) -> Option<String> {
    match value? {
        serde_json::Value::String(text) => Some(text.clone()),
        serde_json::Value::Array(named) => named
            .iter()
            .find(|entry| entry.get("name").and_then(|n| n.as_str()) == Some("default"))
            .or(named.first())
            .and_then(|entry| entry.get("template")?.as_str())
            .map(str::to_owned),
        _ => None,
    }
}

fn token_of(value: Option<&serde_json::Value>) -> String {
    let text = value.and_then(|v| v.as_str().or_else(|| v.get("content")?.as_str()));
    text.unwrap_or_default().to_owned()
}

/// A call that an assistant made earlier, with its arguments as a value: templates write them in their own way.
fn earlier_call(call: &serde_json::Value) -> Result<serde_json::Value, EngineError> {
    let function = call.get("function").and_then(|function| function.as_object());
    let name = function.and_then(|function| function.get("name")?.as_str());
    let (Some(function), Some(name)) = (function, name) else {
        return Err(invalid("have a call in `tool_calls` without a function's name"));
    };
    let arguments = match function.get("arguments") {
        None | Some(serde_json::Value::Null) => json!({}),
        Some(serde_json::Value::String(text)) => serde_json::from_str(text).unwrap_or_else(|_| json!(text)),
        Some(value) => value.clone(),
    };
    Ok(json!({"type": "function", "id": call.get("id"), "function": {"name": name, "arguments": arguments}}))
}

fn part_text(part: &Map<String, serde_json::Value>) -> Result<String, EngineError> {
    let field = |name: &str| part.get(name).and_then(|v| v.as_str());
    match (field("type"), field("text")) {
        (Some("text"), Some(text)) => Ok(text.to_owned()),
        (Some("text"), None) => Err(invalid("have a text part without a `text`")),
        _ => Err(unsupported()),
    }
}

/// JSON as the library behind most templates writes it: with blanks, and without escapes for HTML.
fn to_json(value: Value, options: minijinja::value::Kwargs) -> Result<String, minijinja::Error> {
    let wrong = |e: serde_json::Error| minijinja::Error::new(ErrorKind::InvalidOperation, "no JSON").with_source(e);
    let indent: Option<usize> = options.get("indent")?;
    let mut text = Vec::new();
    match indent {
        Some(indent) => {
            let blanks = " ".repeat(indent.min(16));
            let formatter = serde_json::ser::PrettyFormatter::with_indent(blanks.as_bytes());
            serde::Serialize::serialize(&value, &mut serde_json::Serializer::with_formatter(&mut text, formatter))
        }
        None => serde::Serialize::serialize(&value, &mut serde_json::Serializer::with_formatter(&mut text, Spaced)),
    }
    .map_err(wrong)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// `{"a": 1, "b": [2, 3]}`
struct Spaced;

impl serde_json::ser::Formatter for Spaced {
    fn begin_array_value<W: ?Sized + std::io::Write>(&mut self, writer: &mut W, first: bool) -> std::io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + std::io::Write>(&mut self, writer: &mut W, first: bool) -> std::io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + std::io::Write>(&mut self, writer: &mut W) -> std::io::Result<()> {
        writer.write_all(b": ")
    }
}

fn unsupported() -> EngineError {
    EngineError::Unsupported { parameter: "messages".into() }
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

const MONTHS: [&str; 12] = [
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
];
const DAYS: [&str; 7] = ["Thursday", "Friday", "Saturday", "Sunday", "Monday", "Tuesday", "Wednesday"];

/// The part of `strftime` that chat templates use, in UTC.
fn strftime(format: &str, now_s: u64) -> String {
    let days = now_s / 86_400;
    let (year, month, day) = civil(days);
    let name = |names: &[&'static str], at: u64| names.get(at as usize).copied().unwrap_or("");
    let (month_name, day_name) = (name(&MONTHS, month - 1), name(&DAYS, days % 7));
    let mut text = String::new();
    let mut rest = format.chars();
    while let Some(c) = rest.next() {
        if c != '%' {
            text.push(c);
            continue;
        }
        match rest.next() {
            Some('Y') => text += &year.to_string(),
            Some('y') => text += &format!("{:02}", year % 100),
            Some('m') => text += &format!("{month:02}"),
            Some('d') => text += &format!("{day:02}"),
            Some('B') => text += month_name,
            Some('b') => text += month_name.get(..3).unwrap_or(month_name),
            Some('A') => text += day_name,
            Some('a') => text += day_name.get(..3).unwrap_or(day_name),
            Some('H') => text += &format!("{:02}", now_s / 3600 % 24),
            Some('M') => text += &format!("{:02}", now_s / 60 % 60),
            Some('S') => text += &format!("{:02}", now_s % 60),
            Some(other) => text.extend(['%', other]),
            None => text.push('%'),
        }
    }
    text
}

/// Year, month and day of a day counted from 1970.
fn civil(mut days: u64) -> (u64, u64, u64) {
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let mut year = 1970;
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let february = 28 + u64::from(leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    (year, month, days + 1)
}
