//! The log: one line to stderr for each event, as text or as JSON, with an allow-list of fields.
//!
//! A field whose name is not on the list is dropped, whoever wrote it. Of what libraries say only the place in their code is
//! written, because their messages may quote what they work on. No line holds what a request or an answer says, or a key.
//! Colours, files and rotation are absent: whoever starts the node keeps its stderr.

use std::fmt::Write as _;
use std::io::Write as _;

use clap::ValueEnum;
use polder_node::log_fields::LOG_FIELDS;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

/// The crates whose words are this project's own.
const OWN: &[&str] = &["polder", "polder_core", "polder_node", "polder_twin"];
/// Longest value, in characters; a chain of causes is shorter.
const VALUE_CHARS_MAX: usize = 2_000;

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line, for programs.
    Json,
}

/// Logs to stderr; `POLDER_LOG` sets what, such as `debug`.
pub fn start(format: LogFormat) {
    let filter = EnvFilter::try_from_env("POLDER_LOG").unwrap_or_else(|_| "info".into());
    let started = tracing_subscriber::registry().with(Lines(format).with_filter(filter)).try_init();
    if let Err(error) = started {
        eprintln!("warning: nothing will be logged: {error}");
    }
}

/// Writes each event as a line.
struct Lines(LogFormat);

/// What of an event may be written.
#[derive(Default)]
struct Said {
    message: String,
    fields: Map<String, Value>,
}

impl Said {
    fn keep(&mut self, field: &Field, value: Value) {
        if LOG_FIELDS.contains(&field.name()) {
            self.fields.insert(field.name().to_owned(), value);
        }
    }
}

fn bounded(text: &str) -> String {
    text.chars().take(VALUE_CHARS_MAX).collect()
}

impl Visit for Said {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let text = format!("{value:?}");
        match field.name() {
            "message" => self.message = bounded(&text),
            _ => self.keep(field, bounded(&text).into()),
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.message = bounded(value),
            _ => self.keep(field, bounded(value).into()),
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.keep(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.keep(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.keep(field, value.into());
    }
}

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        let mut said = Said::default();
        if metadata.target().split("::").next().is_some_and(|name| OWN.contains(&name)) {
            event.record(&mut said);
        } else {
            // The place is the library's own text: a module, a file's name and a line.
            let file = metadata.file().and_then(|path| path.rsplit('/').next()).unwrap_or_default();
            said.message = format!("{file}:{}", metadata.line().unwrap_or_default());
        }
        let mut time = String::new();
        // Without a clock the line has no time.
        let _ = SystemTime.format_time(&mut Writer::new(&mut time));
        let line = match self.0 {
            LogFormat::Text => text(&time, metadata.level().as_str(), metadata.target(), &said),
            LogFormat::Json => json(time, metadata.level().as_str(), metadata.target(), said),
        };
        // Nobody reads it: the node goes on.
        let _ = std::io::stderr().lock().write_all(line.as_bytes());
    }
}

/// A value that could be taken for the end of a line or of a field is quoted.
fn text(time: &str, level: &str, target: &str, said: &Said) -> String {
    let mut line = format!("{time} {level:>5} {target}: {}", said.message);
    for (name, value) in &said.fields {
        let written = match value {
            Value::String(text) => write!(line, " {name}={text:?}"),
            other => write!(line, " {name}={other}"),
        };
        // A text takes everything.
        let _ = written;
    }
    line.push('\n');
    line
}

fn json(time: String, level: &str, target: &str, said: Said) -> String {
    let mut object = said.fields;
    object.insert("timestamp".to_owned(), time.into());
    object.insert("level".to_owned(), level.into());
    object.insert("target".to_owned(), target.into());
    object.insert("message".to_owned(), said.message.into());
    let mut line = Value::Object(object).to_string();
    line.push('\n');
    line
}

#[cfg(test)]
mod tests;
