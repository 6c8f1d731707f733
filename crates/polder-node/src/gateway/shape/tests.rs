//! Tests of the shapes: whatever an engine says, what is written is JSON with OpenAI's fields.
#![allow(clippy::unwrap_used)]

use serde_json::json;

use super::*;

const SPITEFUL: &str = "a \"quote\", a\nline, \u{1} and data: [DONE]\n\n";

fn read(chunk: &Bytes) -> Value {
    let text = std::str::from_utf8(chunk).unwrap();
    let line = text.strip_prefix("data: ").unwrap().strip_suffix("\n\n").unwrap();
    assert!(!line.contains('\n'), "one event is one line");
    serde_json::from_str(line).unwrap()
}

fn event(shape: &Shape, event: Event) -> Bytes {
    let mut out = Vec::new();
    shape.event(&mut out, event);
    out.into()
}

fn begin(shape: &Shape, choice: u32) -> Bytes {
    let mut out = Vec::new();
    shape.begin(&mut out, choice);
    out.into()
}

fn delta(content: Option<&str>, rest: Value) -> Event {
    let Value::Object(rest) = rest else { panic!() };
    Event::Delta(Delta { choice: 1, content: content.map(str::to_owned), logprobs: None, rest })
}

#[test]
fn chunks_are_json_whatever_the_engine_says() {
    let shape = Shape::new("chatcmpl-1", 7, SPITEFUL, true);
    let chunk = read(&event(&shape, delta(Some(SPITEFUL), json!({SPITEFUL: [SPITEFUL]}))));
    assert_eq!(chunk["model"], SPITEFUL);
    assert_eq!(chunk["object"], "chat.completion.chunk");
    assert_eq!(chunk["created"], 7);
    assert!(chunk["usage"].is_null() && chunk.get("usage").is_some());
    let choice = &chunk["choices"][0];
    assert_eq!(choice["index"], 1);
    assert_eq!(choice["delta"], json!({"content": SPITEFUL, SPITEFUL: [SPITEFUL]}));
    assert!(choice["finish_reason"].is_null());
    let finish = read(&event(&shape, Event::Finish { choice: 0, reason: SPITEFUL.to_owned() }));
    assert_eq!(finish["choices"][0]["finish_reason"], SPITEFUL);
    assert_eq!(read(&begin(&shape, 2))["choices"][0]["delta"], json!({"role": "assistant", "content": ""}));
}

#[test]
fn usage_stands_in_the_last_chunk_only_if_it_was_asked_for() {
    let usage = Event::Usage(Usage { prompt_tokens: 3, completion_tokens: 4 });
    let asked = event(&Shape::new("a", 0, "m", true), usage.clone());
    let text = std::str::from_utf8(&asked).unwrap();
    let (last, done) = text.split_once("\n\n").unwrap();
    assert_eq!(done, "data: [DONE]\n\n");
    let last: Value = serde_json::from_str(last.strip_prefix("data: ").unwrap()).unwrap();
    assert_eq!(last["choices"], json!([]));
    assert_eq!(last["usage"], json!({"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}));
    let unasked = Shape::new("a", 0, "m", false);
    assert_eq!(event(&unasked, usage), "data: [DONE]\n\n");
    assert!(read(&begin(&unasked, 0)).get("usage").is_none());
}

#[test]
fn a_whole_answer_holds_every_choice() {
    let mut collected = Collected::default();
    let tool = json!({"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": "{}"}}]});
    collected.add(delta(None, tool));
    collected.add(Event::Delta(Delta { content: Some(SPITEFUL.to_owned()), ..Delta::default() }));
    collected.add(Event::Finish { choice: 0, reason: "stop".to_owned() });
    let whole: Value = serde_json::from_slice(&Shape::new("a", 0, "m", false).whole(&collected)).unwrap();
    let [text, call] = [&whole["choices"][0], &whole["choices"][1]];
    assert_eq!(text["message"], json!({"role": "assistant", "content": SPITEFUL, "refusal": null}));
    assert_eq!(text["finish_reason"], "stop");
    assert!(call["message"]["content"].is_null());
    let called = json!([{"function": {"name": "f", "arguments": "{}"}, "type": "function"}]);
    assert_eq!(call["message"]["tool_calls"], called);
    assert_eq!(whole["usage"]["total_tokens"], 0);
}
