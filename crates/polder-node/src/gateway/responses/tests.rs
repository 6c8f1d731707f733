//! Tests of a response's reading and writing without a network.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use serde_json::Map;

use super::*;
use crate::inference::{Delta, EngineError, Event, Usage};

fn parse(more: Value) -> Result<Asked, ApiError> {
    let mut body = json!({"model": "m", "input": "hello"});
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    let Value::Object(object) = body else { unreachable!() };
    let mut parameters = Parameters(object);
    let metadata = parameters.object("metadata")?;
    Asked::of(parameters, metadata)
}

fn asked(more: Value) -> Result<crate::inference::ChatRequest, Value> {
    let asked = parse(more).and_then(|asked| asked.chat_request(&[]));
    asked.map_err(|error| error.body()["error"].clone())
}

fn message(role: &str, content: Value) -> Value {
    json!({"role": role, "content": content})
}

#[test]
fn what_is_wrong_is_refused_by_its_name() {
    let input = |item: Value| json!({"input": [item]});
    let tool = json!({"type": "function", "name": "f", "parameters": {"type": "object"}});
    let part = |part: Value| input(message("user", json!([part])));
    for (more, param, code) in [
        (json!({"input": null}), "input", "missing_required_parameter"),
        (json!({"input": []}), "input", "invalid_value"),
        (input(json!({"type": "item_reference", "id": "msg_1"})), "input[0].type", "unsupported_parameter"),
        (input(message("tool", json!("x"))), "input[0].role", "invalid_value"),
        (input(json!({"role": "user"})), "input[0].content", "missing_required_parameter"),
        (part(json!({"type": "input_file", "file_id": "f"})), "input[0].content[0].type", "unsupported_parameter"),
        (part(json!({"type": "input_text"})), "input[0].content[0].text", "missing_required_parameter"),
        (
            part(json!({"type": "input_image", "image_url": "https://example.com/a.png"})),
            "input[0].content[0].image_url",
            "unsupported_parameter",
        ),
        (
            input(json!({"type": "function_call", "name": "f", "arguments": "{}"})),
            "input[0].call_id",
            "missing_required_parameter",
        ),
        (
            input(json!({"type": "function_call_output", "call_id": "c"})),
            "input[0].output",
            "missing_required_parameter",
        ),
        (json!({"conversation": "conv_1"}), "conversation", "unsupported_parameter"),
        (json!({"prompt": {"id": "p"}}), "prompt", "unsupported_parameter"),
        (json!({"messages": []}), "messages", "unsupported_parameter"),
        (json!({"tools": [{"type": "web_search"}]}), "tools[0].type", "unsupported_parameter"),
        (json!({"tools": [{"type": "function"}]}), "tools[0].name", "missing_required_parameter"),
        (json!({"tools": [tool, tool]}), "tools[1].name", "invalid_value"),
        (
            json!({"tools": [tool], "tool_choice": {"type": "function", "name": "g"}}),
            "tool_choice.name",
            "invalid_value",
        ),
        (json!({"tools": [tool], "tool_choice": {"type": "web_search"}}), "tool_choice.type", "unsupported_parameter"),
        (
            json!({"text": {"format": {"type": "json_schema", "name": "a"}}}),
            "text.format.schema",
            "missing_required_parameter",
        ),
        (json!({"text": {"format": {"type": "xml"}}}), "text.format.type", "invalid_value"),
        (json!({"text": {"verbosity": "loud"}}), "text.verbosity", "invalid_value"),
        (json!({"reasoning": {"effort": "huge"}}), "reasoning.effort", "invalid_value"),
        (json!({"reasoning": {"summary": "auto"}}), "reasoning.summary", "unsupported_parameter"),
        (json!({"truncation": "auto"}), "truncation", "unsupported_parameter"),
        (json!({"include": ["everything"]}), "include", "invalid_value"),
        (json!({"background": true, "store": false}), "background", "invalid_value"),
        (json!({"stream_options": {"include_obfuscation": false}}), "stream_options", "invalid_value"),
        (json!({"max_output_tokens": 0}), "max_output_tokens", "invalid_value"),
        (json!({"temperature": 3}), "temperature", "invalid_value"),
        (json!({"metadata": {"a": 1}}), "metadata", "invalid_value"),
        (json!({"base_url": "http://127.0.0.1"}), "base_url", "unsupported_parameter"),
    ] {
        let error = asked(more.clone()).unwrap_err();
        assert_eq!((error["param"].as_str(), error["code"].as_str()), (Some(param), Some(code)), "{more}: {error}");
        assert!(error["message"].as_str().unwrap().contains(param), "{error}");
    }
}

#[test]
fn a_request_becomes_the_chat_request_that_says_the_same() {
    let tool = json!({"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": true});
    let request = asked(json!({
        "instructions": "Be brief.", "max_output_tokens": 9, "temperature": 0, "tools": [tool], "store": false, "user": "u",
        "tool_choice": {"type": "function", "name": "f"}, "text": {"format": {"type": "json_schema", "name": "a", "schema": {}}},
        "include": ["message.output_text.logprobs"], "top_logprobs": 2, "reasoning": {"effort": "low"}, "top_k": 4,
        "input": [
            {"role": "user", "content": [{"type": "input_text", "text": "a"}]},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "b", "annotations": []}]},
            {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
            {"type": "function_call", "call_id": "c2", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c1", "output": "1"},
            {"type": "reasoning", "summary": []},
            {"role": "user", "content": [{"type": "input_text", "text": "d"}, {"type": "input_image", "image_url": "data:image/png;base64,AA=="}]},
        ],
    }))
    .unwrap();
    let call = |id: &str| json!({"id": id, "type": "function", "function": {"name": "f", "arguments": "{}"}});
    let image = json!({"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}});
    let messages = json!([
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b", "tool_calls": [call("c1"), call("c2")]},
        {"role": "tool", "content": "1", "tool_call_id": "c1"},
        {"role": "user", "content": [{"type": "text", "text": "d"}, image]},
    ]);
    assert_eq!(serde_json::to_value(&request.messages).unwrap(), messages);
    assert_eq!((request.max_tokens, request.temperature), (Some(9), Some(0.0)));
    let function = json!({"name": "f", "parameters": {"type": "object"}, "strict": true});
    let rest = json!({
        "tools": [{"type": "function", "function": function}], "reasoning_effort": "low", "top_k": 4, "logprobs": true,
        "tool_choice": {"type": "function", "function": {"name": "f"}}, "top_logprobs": 2,
        "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {}}},
    });
    assert_eq!(Value::Object(request.rest), rest);
}

fn text(content: &str) -> Event {
    Event::Delta(Delta { content: Some(content.to_owned()), ..Delta::default() })
}

fn call(index: u64, id: &str, name: &str, arguments: &str) -> Event {
    let call = json!({"index": index, "id": id, "function": {"name": name, "arguments": arguments}});
    let rest = json!({"tool_calls": [call]}).as_object().cloned().unwrap();
    Event::Delta(Delta { rest, ..Delta::default() })
}

fn finish(reason: &str) -> Event {
    Event::Finish { choice: 0, reason: reason.to_owned() }
}

const USAGE: Event = Event::Usage(Usage { prompt_tokens: 3, completion_tokens: 4 });

/// The names of all events, and the response.
fn written(events: Vec<Event>) -> (Vec<String>, Value) {
    let mut writing = Writing::new("resp_00ff", 1, Map::new());
    let mut said = vec![writing.whole("response.created", None)];
    for event in events {
        said.extend(writing.take(event));
    }
    for (number, event) in said.iter().enumerate() {
        assert_eq!(event["sequence_number"], json!(number));
    }
    assert!(writing.ended());
    assert_eq!(said.last().unwrap()["response"], writing.object());
    (said.iter().map(|event| event["type"].as_str().unwrap().replace("response.", "")).collect(), writing.object())
}

#[test]
fn a_text_is_written_in_the_order_of_the_api() {
    let (names, response) = written(vec![text("He"), text("llo"), finish("stop"), USAGE]);
    assert_eq!(
        names,
        [
            "created", "output_item.added", "content_part.added", "output_text.delta", "output_text.delta",
            "output_text.done", "content_part.done", "output_item.done", "completed",
        ]
    );
    assert_eq!((response["status"].as_str(), response["usage"]["total_tokens"].as_u64()), (Some("completed"), Some(7)));
    assert_eq!(response["output"][0]["content"][0]["text"], "Hello");
    let (names, response) = written(vec![text("He"), finish("length"), USAGE]);
    assert_eq!(names.last().unwrap(), "incomplete");
    assert_eq!(response["incomplete_details"]["reason"], "max_output_tokens");
    assert_eq!(response["output"][0]["status"], "incomplete");
    let (_, response) = written(vec![finish("stop"), USAGE]);
    assert_eq!(response["output"][0]["content"][0]["text"], "", "a model that says nothing says an empty text");
}

#[test]
fn calls_are_items_of_their_own_also_side_by_side() {
    let (names, response) = written(vec![
        text("So: "),
        call(0, "c1", "f", ""),
        call(0, "", "", "{\"a\""),
        call(1, "c2", "g", "{}"),
        call(0, "", "", ":1}"),
        finish("tool_calls"),
        USAGE,
    ]);
    assert_eq!(names.iter().filter(|name| *name == "function_call_arguments.delta").count(), 3);
    assert_eq!(names.iter().filter(|name| *name == "output_item.done").count(), 3);
    let output = response["output"].as_array().unwrap();
    let told = |place: usize, field: &str| output[place][field].as_str().unwrap().to_owned();
    assert_eq!(
        (told(1, "name"), told(1, "arguments"), told(1, "call_id")),
        ("f".into(), "{\"a\":1}".into(), "c1".into())
    );
    assert_eq!((told(2, "name"), told(2, "arguments"), told(2, "call_id")), ("g".into(), "{}".into(), "c2".into()));
    // What came of it can be sent back as input.
    let mut messages = Vec::new();
    items::conversation(output, "output", &mut messages).unwrap();
    assert_eq!((messages.len(), messages[0]["tool_calls"].as_array().unwrap().len()), (1, 2));
}

#[test]
fn a_failure_ends_it_with_an_error_and_a_failed_response() {
    let mut writing = Writing::new("resp_00ff", 1, Map::new());
    writing.take(text("He"));
    let said = writing.failed(&ApiError::of_engine(&EngineError::Failed { reason: "it broke off".to_owned() }));
    let names: Vec<&str> = said.iter().filter_map(|event| event["type"].as_str()).collect();
    assert_eq!(names[names.len() - 2..], ["error", "response.failed"]);
    assert_eq!(writing.object()["error"]["code"], "engine_failed");
    assert_eq!(writing.object()["output"][0]["content"][0]["text"], "He");
}
