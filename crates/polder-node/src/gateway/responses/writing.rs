//! A response while it is written: an engine's events in, the API's events and at last the whole response out.
//!
//! Every event has its number, from 0. A text and the calls of functions are items of the output, in the order in which they
//! began. Keeping and sending are absent.

use serde_json::{Map, Value, json};

use super::super::ApiError;
use crate::inference::{Delta, Event, Usage};

/// A response under way.
pub struct Writing {
    fields: Map<String, Value>,
    digits: String,
    output: Vec<Item>,
    reason: Option<String>,
    next: u64,
    ended: bool,
}

/// One item of the output.
enum Item {
    Text { text: String, logprobs: Vec<Value>, done: bool },
    Call { index: u64, call_id: String, name: String, arguments: String, done: bool },
}

/// One event of the API's; its name stands in `type`.
pub type Said = Value;

impl Writing {
    /// A response of this id that repeats these fields of its request.
    pub fn new(id: &str, created_s: u64, echo: Map<String, Value>) -> Self {
        let mut fields = echo;
        fields.extend([
            ("id".to_owned(), id.into()),
            ("object".to_owned(), "response".into()),
            ("created_at".to_owned(), created_s.into()),
            ("status".to_owned(), "in_progress".into()),
            ("error".to_owned(), Value::Null),
            ("incomplete_details".to_owned(), Value::Null),
            ("output".to_owned(), json!([])),
            ("usage".to_owned(), Value::Null),
        ]);
        let digits = id.rsplit_once('_').map_or(id, |(_, digits)| digits).to_owned();
        Self { fields, digits, output: Vec::new(), reason: None, next: 0, ended: false }
    }

    /// Says more of the response than the request did.
    pub fn set(&mut self, field: &str, value: Value) {
        self.fields.insert(field.to_owned(), value);
    }

    /// The response as it stands.
    pub fn object(&self) -> Value {
        Value::Object(self.fields.clone())
    }

    /// Whether nothing more will come.
    pub fn ended(&self) -> bool {
        self.ended
    }

    /// An event about the response as a whole, with a status where that changes.
    pub fn whole(&mut self, name: &str, status: Option<&str>) -> Said {
        if let Some(status) = status {
            self.set("status", status.into());
        }
        let response = self.object();
        self.said(name, json!({"response": response}))
    }

    fn said(&mut self, name: &str, mut what: Value) -> Said {
        what["type"] = name.into();
        what["sequence_number"] = self.next.into();
        self.next = self.next.saturating_add(1);
        what
    }

    /// Takes an engine's event. The last one, the usage, ends the response.
    pub fn take(&mut self, event: Event) -> Vec<Said> {
        let mut said = Vec::new();
        match event {
            // A response has one choice; an engine that makes more was not asked to.
            Event::Delta(delta) if delta.choice == 0 => self.delta(delta, &mut said),
            Event::Finish { choice: 0, reason } => self.reason = Some(reason),
            Event::Delta(_) | Event::Finish { .. } => {}
            Event::Usage(usage) => self.complete(&usage, &mut said),
        }
        said
    }

    fn delta(&mut self, delta: Delta, said: &mut Vec<Said>) {
        if let Some(text) = delta.content {
            self.text(&text, delta.logprobs, said);
        }
        let Some(Value::Array(calls)) = delta.rest.get("tool_calls") else { return };
        calls.iter().for_each(|call| self.call(call, said));
    }

    fn text(&mut self, more: &str, likely: Option<Value>, said: &mut Vec<Said>) {
        if !matches!(self.output.last(), Some(Item::Text { done: false, .. })) {
            self.close_all("completed", said);
            self.output.push(Item::Text { text: String::new(), logprobs: Vec::new(), done: false });
            let place = self.output.len() - 1;
            let item = json!({"id": self.id(place), "type": "message", "status": "in_progress", "role": "assistant", "content": []});
            said.push(self.said("response.output_item.added", json!({"output_index": place, "item": item})));
            let part = json!({"type": "output_text", "text": "", "annotations": [], "logprobs": []});
            let at = self.at(place);
            said.push(self.said("response.content_part.added", with(at, "part", part)));
        }
        let fresh = match likely {
            Some(Value::Object(mut likely)) => match likely.remove("content") {
                Some(Value::Array(tokens)) => tokens,
                _ => Vec::new(),
            },
            _ => Vec::new(),
        };
        if let Some(Item::Text { text, logprobs, .. }) = self.output.last_mut() {
            text.push_str(more);
            logprobs.extend(fresh.iter().cloned());
        }
        let at = with(self.at(self.output.len() - 1), "delta", more.into());
        said.push(self.said("response.output_text.delta", with(at, "logprobs", fresh.into())));
    }

    fn call(&mut self, piece: &Value, said: &mut Vec<Said>) {
        let wanted = piece.get("index").and_then(Value::as_u64).unwrap_or_default();
        let function = piece.get("function");
        let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
        let (name_piece, more) =
            (text(function.and_then(|f| f.get("name"))), text(function.and_then(|f| f.get("arguments"))));
        let known = self.output.iter().position(|item| matches!(item, Item::Call { index, .. } if *index == wanted));
        let place = match known {
            Some(place) => place,
            None => {
                if matches!(self.output.last(), Some(Item::Text { .. })) {
                    self.close_all("completed", said);
                }
                let call_id = match text(piece.get("id")) {
                    id if id.is_empty() => format!("call_{}_{wanted}", self.digits),
                    id => id,
                };
                let (name, arguments) = (name_piece, String::new());
                self.output.push(Item::Call { index: wanted, call_id, name, arguments, done: false });
                let place = self.output.len() - 1;
                let item = self.item(place, "in_progress");
                said.push(self.said("response.output_item.added", json!({"output_index": place, "item": item})));
                place
            }
        };
        if more.is_empty() {
            return;
        }
        if let Some(Item::Call { arguments, .. }) = self.output.get_mut(place) {
            arguments.push_str(&more);
        }
        let what = json!({"item_id": self.id(place), "output_index": place, "delta": more});
        said.push(self.said("response.function_call_arguments.delta", what));
    }

    fn id(&self, place: usize) -> String {
        let prefix = if matches!(self.output.get(place), Some(Item::Call { .. })) { "fc" } else { "msg" };
        format!("{prefix}_{}_{place}", self.digits)
    }

    fn at(&self, place: usize) -> Value {
        json!({"item_id": self.id(place), "output_index": place, "content_index": 0})
    }

    fn item(&self, place: usize, status: &str) -> Value {
        let id = self.id(place);
        match self.output.get(place) {
            Some(Item::Text { text, logprobs, .. }) => json!({
                "id": id, "type": "message", "status": status, "role": "assistant",
                "content": [{"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs}],
            }),
            Some(Item::Call { call_id, name, arguments, .. }) => json!({
                "id": id, "type": "function_call", "status": status, "call_id": call_id, "name": name, "arguments": arguments,
            }),
            None => Value::Null,
        }
    }

    /// Ends every item that is open.
    fn close_all(&mut self, status: &str, said: &mut Vec<Said>) {
        for place in 0..self.output.len() {
            let done = match self.output.get_mut(place) {
                Some(Item::Text { done, .. } | Item::Call { done, .. }) => std::mem::replace(done, true),
                None => true,
            };
            if !done {
                self.close(place, status, said);
            }
        }
    }

    fn close(&mut self, place: usize, status: &str, said: &mut Vec<Said>) {
        let at = self.at(place);
        match self.output.get(place) {
            Some(Item::Text { text, logprobs, .. }) => {
                let (text, logprobs) = (Value::from(text.as_str()), Value::from(logprobs.clone()));
                let part = json!({"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs});
                let whole = with(with(at.clone(), "text", text), "logprobs", logprobs);
                said.push(self.said("response.output_text.done", whole));
                said.push(self.said("response.content_part.done", with(at, "part", part)));
            }
            Some(Item::Call { name, arguments, .. }) => {
                let id = self.id(place);
                let what = json!({"item_id": id, "output_index": place, "name": name, "arguments": arguments});
                said.push(self.said("response.function_call_arguments.done", what));
            }
            None => {}
        }
        let item = self.item(place, status);
        said.push(self.said("response.output_item.done", json!({"output_index": place, "item": item})));
    }

    fn complete(&mut self, usage: &Usage, said: &mut Vec<Said>) {
        let cut = match self.reason.as_deref() {
            Some("length") => Some("max_output_tokens"),
            Some("content_filter") => Some("content_filter"),
            _ => None,
        };
        let status = if cut.is_some() { "incomplete" } else { "completed" };
        if self.output.is_empty() {
            // A model that said nothing said an empty text.
            self.text("", None, said);
        }
        self.end(status, said);
        self.set("usage", usage_json(usage));
        match cut {
            Some(reason) => {
                self.set("incomplete_details", json!({"reason": reason}));
                said.push(self.whole("response.incomplete", Some("incomplete")));
            }
            None => {
                let now_s = crate::clock::now_ms() / 1000;
                self.set("completed_at", now_s.into());
                said.push(self.whole("response.completed", Some("completed")));
            }
        }
    }

    fn end(&mut self, status: &str, said: &mut Vec<Said>) {
        self.close_all(status, said);
        let output: Vec<Value> =
            (0..self.output.len()).map(|place| self.item(place, self.status_of(place, status))).collect();
        self.set("output", output.into());
        self.ended = true;
    }

    /// What was cut off is the last item; those before it are whole.
    fn status_of<'a>(&self, place: usize, last: &'a str) -> &'a str {
        if place + 1 == self.output.len() { last } else { "completed" }
    }

    /// Ends the response with an error.
    pub fn failed(&mut self, error: &ApiError) -> Vec<Said> {
        let mut said = Vec::new();
        self.end("incomplete", &mut said);
        let mut error = error.body().get_mut("error").map(Value::take).unwrap_or_default();
        let field = |name: &str| error.get(name).cloned().unwrap_or_default();
        let what = json!({"code": field("code"), "message": field("message"), "param": field("param")});
        said.push(self.said("error", what));
        if let Value::Object(error) = &mut error {
            error.retain(|_, value| !value.is_null());
        }
        self.set("error", error);
        said.push(self.whole("response.failed", Some("failed")));
        said
    }

    /// Ends the response because its client wants it no longer.
    pub fn cancel(&mut self) -> Vec<Said> {
        let mut said = Vec::new();
        self.end("incomplete", &mut said);
        self.set("status", "cancelled".into());
        said
    }
}

fn with(mut value: Value, field: &str, what: Value) -> Value {
    value[field] = what;
    value
}

fn usage_json(usage: &Usage) -> Value {
    json!({
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage.prompt_tokens.saturating_add(usage.completion_tokens),
    })
}
