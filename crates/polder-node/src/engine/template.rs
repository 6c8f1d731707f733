//! A conversation as the text that the model was trained on.
//!
//! Templates are Jinja programs that come with the model, so they run with a bounded amount of
//! work and see nothing but the conversation. Absent: tools and images.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use minijinja::{Environment, ErrorKind, Value, context};
use minijinja_contrib::pycompat::unknown_method_callback;
use serde_json::{Map, json};

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
        environment.add_function("raise_exception", |text: String| -> Result<Value, _> {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, text))
        });
        environment.add_function("strftime_now", |format: String| strftime(&format, now_s()));
        let given = template.is_some();
        environment
            .add_template_owned("chat", template.unwrap_or_else(|| PLAIN.to_owned()))
            .map_err(|e| format!("its chat template is not valid: {e}"))?;
        Ok(Self { environment, bos, eos, given })
    }

    /// Whether the model brought a template, which then also writes the first token.
    pub(crate) fn given(&self) -> bool {
        self.given
    }

    /// The model's token for the end of an answer, written out.
    pub(crate) fn eos(&self) -> &str {
        &self.eos
    }

    /// The text of a conversation, up to where the answer begins.
    pub(crate) fn render(&self, messages: &[Message]) -> Result<String, EngineError> {
        let messages = messages.iter().map(plain).collect::<Result<Vec<_>, _>>()?;
        if messages.is_empty() {
            return Err(invalid("must not be empty"));
        }
        self.environment
            .get_template("chat")
            .and_then(|template| {
                template.render(context! {
                    messages => messages,
                    add_generation_prompt => true,
                    bos_token => self.bos,
                    eos_token => self.eos,
                })
            })
            .map_err(|error| invalid(refusal(&error)))
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

/// A message with its text in one piece. `developer` is OpenAI's newer word for `system`.
fn plain(message: &Message) -> Result<Map<String, serde_json::Value>, EngineError> {
    let role = match message.role.as_str() {
        "developer" | "system" => "system",
        "user" => "user",
        "assistant" => "assistant",
        "tool" | "function" => return Err(unsupported()),
        other => return Err(invalid(format!("have the unknown role `{other}`"))),
    };
    let calls = ["tool_calls", "function_call"];
    let calls_tools = calls.iter().filter_map(|name| message.rest.get(*name));
    if calls_tools.into_iter().any(|v| !v.is_null() && v != &json!([])) {
        return Err(unsupported());
    }
    let text = match &message.content {
        None if role == "assistant" => String::new(),
        None => return Err(invalid("lack a `content`")),
        Some(Content::Text(text)) => text.clone(),
        Some(Content::Parts(parts)) => parts.iter().map(part_text).collect::<Result<_, _>>()?,
    };
    let mut plain = message.rest.clone();
    plain.insert("role".into(), role.into());
    plain.insert("content".into(), text.into());
    Ok(plain)
}

fn part_text(part: &Map<String, serde_json::Value>) -> Result<String, EngineError> {
    let field = |name: &str| part.get(name).and_then(|v| v.as_str());
    match (field("type"), field("text")) {
        (Some("text"), Some(text)) => Ok(text.to_owned()),
        (Some("text"), None) => Err(invalid("have a text part without a `text`")),
        _ => Err(unsupported()),
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
