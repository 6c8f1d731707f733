//! Calls of tools in an answer's text, as OpenAI's `tool_calls` deltas.
//!
//! Two ways lead to a call. Where one is demanded, the answer is held to `{"name": …, "arguments": …}` and is written on as
//! it comes. Where the model is free, calls are looked for in the syntax that its template taught it:
//! `<tool_call>{…}</tool_call>`, as in the Hermes and Qwen families. Absent: the syntaxes of other families; their calls
//! stay text.

use serde_json::{Map, Value, json};

use super::places::failed;
use super::vocabulary::overlap;
use crate::inference::{Delta, EngineError};

/// What begins and ends a call in an answer that is free.
pub(crate) const OPEN: &str = "<tool_call>";
const CLOSE: &str = "</tool_call>";
/// Longest name of a function with all that stands around it, in bytes.
const HEAD_BYTES_MAX: usize = 256;

/// Makes deltas of an answer's text.
pub(crate) enum Writer {
    /// The text is the answer.
    Text,
    /// The text is one call.
    Call(Demanded),
    /// The text may hold calls.
    Found(Finder),
}

impl Writer {
    /// What more text means.
    pub(crate) fn push(&mut self, text: &str) -> Result<Vec<Delta>, EngineError> {
        match self {
            Writer::Text => Ok(content(text).into_iter().collect()),
            Writer::Call(call) => call.push(text),
            Writer::Found(finder) => finder.push(text),
        }
    }

    /// What is left at the end, and why the answer ended, given why its text did.
    pub(crate) fn finish(&mut self, reason: &'static str) -> (Vec<Delta>, &'static str) {
        match self {
            Writer::Text => (Vec::new(), reason),
            Writer::Call(call) => call.finish(reason),
            Writer::Found(finder) => finder.finish(reason),
        }
    }

    /// Whether likelihoods belong to the text; a call has none.
    pub(crate) fn is_text(&self) -> bool {
        !matches!(self, Writer::Call(_))
    }
}

fn content(text: &str) -> Option<Delta> {
    let text = Some(text.to_owned()).filter(|text| !text.is_empty())?;
    Some(Delta { content: Some(text), ..Delta::default() })
}

/// A piece of a call; the first one names it.
fn piece(index: u32, name: Option<&str>, arguments: &str) -> Result<Delta, EngineError> {
    let mut call = json!({"index": index, "function": {"arguments": arguments}});
    if let Some(name) = name {
        let mut random = [0u8; 12];
        getrandom::fill(&mut random).map_err(|error| failed(format!("no random id: {error}")))?;
        call = json!({
            "index": index, "id": format!("call_{}", hex::encode(random)), "type": "function",
            "function": {"name": name, "arguments": arguments},
        });
    }
    let rest = Map::from_iter([("tool_calls".to_owned(), json!([call]))]);
    Ok(Delta { rest, ..Delta::default() })
}

/// One call that the answer is held to.
#[derive(Default)]
pub(crate) struct Demanded {
    /// The text up to the arguments, until they begin.
    head: String,
    begun: bool,
    /// A closing brace that may be the call's own and not the arguments'.
    brace: bool,
}

impl Demanded {
    fn push(&mut self, text: &str) -> Result<Vec<Delta>, EngineError> {
        let mut deltas = Vec::new();
        let mut arguments = String::new();
        if self.begun {
            arguments.push_str(text);
        } else {
            self.head.push_str(text);
            let named = self.head.strip_prefix("{\"name\": \"").and_then(|rest| rest.split_once("\", \"arguments\": "));
            let Some((name, rest)) = named else {
                return if self.head.len() > HEAD_BYTES_MAX { Err(failed("a call has no name")) } else { Ok(deltas) };
            };
            deltas.push(piece(0, Some(name), "")?);
            arguments.push_str(rest);
            self.begun = true;
        }
        if self.brace && !arguments.is_empty() {
            arguments.insert(0, '}');
            self.brace = false;
        }
        if arguments.ends_with('}') {
            arguments.pop();
            self.brace = true;
        }
        if !arguments.is_empty() {
            deltas.push(piece(0, None, &arguments)?);
        }
        Ok(deltas)
    }

    fn finish(&mut self, reason: &'static str) -> (Vec<Delta>, &'static str) {
        if reason == "stop" {
            return (Vec::new(), "tool_calls");
        }
        // Cut short: the brace belonged to the arguments.
        let left = if self.brace { piece(0, None, "}").into_iter().collect() } else { Vec::new() };
        (left, reason)
    }
}

/// Looks for calls in an answer that is free.
#[derive(Default)]
pub(crate) struct Finder {
    held: String,
    inside: bool,
    calls: u32,
}

impl Finder {
    fn push(&mut self, text: &str) -> Result<Vec<Delta>, EngineError> {
        self.held.push_str(text);
        let mut deltas = Vec::new();
        loop {
            let mark = if self.inside { CLOSE } else { OPEN };
            let Some(at) = self.held.find(mark) else { break };
            let before = self.held.get(..at).unwrap_or_default().to_owned();
            self.held.drain(..at + mark.len());
            match self.inside {
                true => deltas.push(self.call(&before)?),
                false => deltas.extend(self.text(&before)),
            }
            self.inside = !self.inside;
        }
        if !self.inside {
            let keep = overlap(&self.held, OPEN);
            let rest = self.held.split_off(self.held.len() - keep);
            let certain = std::mem::replace(&mut self.held, rest);
            deltas.extend(self.text(&certain));
        }
        Ok(deltas)
    }

    /// Text beside calls; blanks between them are no text.
    fn text(&self, text: &str) -> Option<Delta> {
        if self.calls > 0 && text.trim().is_empty() { None } else { content(text) }
    }

    /// What stands between the marks; text where it is no call.
    fn call(&mut self, inside: &str) -> Result<Delta, EngineError> {
        let read = serde_json::from_str::<Value>(inside.trim()).ok();
        let name = read.as_ref().and_then(|call| call.get("name")).and_then(Value::as_str);
        let Some(name) = name else {
            return Ok(content(&format!("{OPEN}{inside}{CLOSE}")).unwrap_or_default());
        };
        let arguments = match read.as_ref().and_then(|call| call.get("arguments")) {
            None | Some(Value::Null) => "{}".to_owned(),
            Some(Value::String(text)) => text.clone(),
            Some(value) => value.to_string(),
        };
        self.calls += 1;
        piece(self.calls - 1, Some(name), &arguments)
    }

    fn finish(&mut self, reason: &'static str) -> (Vec<Delta>, &'static str) {
        let open = if self.inside { OPEN } else { "" };
        let left = format!("{open}{}", std::mem::take(&mut self.held));
        let reason = if self.calls > 0 && reason == "stop" { "tool_calls" } else { reason };
        (self.text(&left).into_iter().collect(), reason)
    }
}
