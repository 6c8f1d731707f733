//! Tests of what a chat request may say, and of how a stream's choices and calls begin.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use serde_json::{Map, Value, json};

use super::super::calls::Calls;
use super::*;
use crate::inference::{ChatRequest, Delta};

fn ask(more: Value) -> Result<ChatRequest, Value> {
    let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "hello"}]});
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    let Value::Object(object) = body else { unreachable!() };
    let mut parameters = Parameters(object);
    let usage = include_usage(&mut parameters, false);
    usage.and_then(|_| chat_request(parameters, false)).map_err(|error| error.body()["error"].clone())
}

fn rest(more: Value) -> Map<String, Value> {
    ask(more).unwrap().rest
}

fn tool(name: &str) -> Value {
    json!({"type": "function", "function": {"name": name, "parameters": {"type": "object"}}})
}

#[test]
fn what_is_wrong_is_refused_by_its_name() {
    let named = |name: &str| json!({"type": "function", "function": {"name": name}});
    let user = |content: Value| json!([{"role": "user", "content": content}]);
    let call = |more: Value| {
        let mut call = json!({"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}});
        more.as_object().unwrap().iter().for_each(|(key, value)| call[key] = value.clone());
        json!([{"role": "assistant", "tool_calls": [call]}])
    };
    let schema = |schema: Value| json!({"type": "json_schema", "json_schema": schema});
    for (more, param, code) in [
        (json!({"n": 1000}), "n", "invalid_value"),
        (json!({"n": 0}), "n", "invalid_value"),
        (json!({"n": 1.5}), "n", "invalid_value"),
        (json!({"top_logprobs": 3}), "top_logprobs", "invalid_value"),
        (json!({"logprobs": true, "top_logprobs": 21}), "top_logprobs", "invalid_value"),
        (json!({"logprobs": 5}), "logprobs", "invalid_type"),
        (json!({"frequency_penalty": 2.1}), "frequency_penalty", "invalid_value"),
        (json!({"presence_penalty": "much"}), "presence_penalty", "invalid_type"),
        (json!({"logit_bias": {"50256": 101}}), "logit_bias", "invalid_value"),
        (json!({"logit_bias": {"the": 1}}), "logit_bias", "invalid_value"),
        (json!({"stop": ["a", "b", "c", "d", "e"]}), "stop", "invalid_value"),
        (json!({"stream_options": {"include_usage": true}}), "stream_options", "invalid_value"),
        (json!({"reasoning_effort": "huge"}), "reasoning_effort", "invalid_value"),
        (json!({"modalities": ["text", "audio"]}), "modalities", "unsupported_parameter"),
        (json!({"audio": {"voice": "alloy"}}), "audio", "unsupported_parameter"),
        (json!({"web_search_options": {}}), "web_search_options", "unsupported_parameter"),
        (json!({"functions": [{"name": "f"}]}), "functions", "unsupported_parameter"),
        (json!({"function_call": "auto"}), "function_call", "unsupported_parameter"),
        (json!({"base_url": "http://127.0.0.1"}), "base_url", "unsupported_parameter"),
        (json!({"api_base": null}), "api_base", "unsupported_parameter"),
        (json!({"api_key": "sk"}), "api_key", "unsupported_parameter"),
        (json!({"response_format": "json"}), "response_format", "invalid_type"),
        (json!({"response_format": {"type": "xml"}}), "response_format.type", "invalid_value"),
        (
            json!({"response_format": {"type": "json_schema"}}),
            "response_format.json_schema",
            "missing_required_parameter",
        ),
        (
            json!({"response_format": schema(json!({"schema": {}}))}),
            "response_format.json_schema.name",
            "missing_required_parameter",
        ),
        (
            json!({"response_format": schema(json!({"name": "a b", "schema": {}}))}),
            "response_format.json_schema.name",
            "invalid_value",
        ),
        (
            json!({"response_format": schema(json!({"name": "a"}))}),
            "response_format.json_schema.schema",
            "missing_required_parameter",
        ),
        (
            json!({"response_format": schema(json!({"name": "a", "schema": [], "strict": true}))}),
            "response_format.json_schema.schema",
            "invalid_type",
        ),
        (
            json!({"response_format": schema(json!({"name": "a", "schema": {}, "strict": 1}))}),
            "response_format.json_schema.strict",
            "invalid_type",
        ),
        (json!({"tools": [tool("a"), tool("a")]}), "tools[1].function.name", "invalid_value"),
        (json!({"tools": [tool("a b")]}), "tools[0].function.name", "invalid_value"),
        (json!({"tools": [{"type": "web_search"}]}), "tools[0].type", "unsupported_parameter"),
        (json!({"tools": [{"type": "function"}]}), "tools[0].function", "missing_required_parameter"),
        (json!({"tools": vec![tool("a"); 129]}), "tools", "invalid_value"),
        (json!({"tools": [tool("a")], "tool_choice": named("b")}), "tool_choice.function.name", "invalid_value"),
        (json!({"tools": [tool("a")], "tool_choice": "never"}), "tool_choice", "invalid_value"),
        (json!({"tool_choice": "required"}), "tool_choice", "invalid_value"),
        (json!({"tools": [tool("a")], "parallel_tool_calls": 1}), "parallel_tool_calls", "invalid_type"),
        (json!({"messages": []}), "messages", "invalid_value"),
        (json!({"messages": [{"content": "x"}]}), "messages[0].role", "missing_required_parameter"),
        (json!({"messages": [{"role": "robot", "content": "x"}]}), "messages[0].role", "invalid_value"),
        (json!({"messages": [{"role": "user"}]}), "messages[0].content", "missing_required_parameter"),
        (
            json!({"messages": [{"role": "tool", "content": "x"}]}),
            "messages[0].tool_call_id",
            "missing_required_parameter",
        ),
        (json!({"messages": user(json!(3))}), "messages[0].content", "invalid_type"),
        (json!({"messages": user(json!([]))}), "messages[0].content", "invalid_value"),
        (json!({"messages": user(json!([{"type": "text"}]))}), "messages[0].content[0].text", "invalid_type"),
        (
            json!({"messages": user(json!([{"type": "file", "file": {"file_id": "f"}}]))}),
            "messages[0].content[0]",
            "unsupported_parameter",
        ),
        (
            json!({"messages": user(json!([{"type": "image_url", "image_url": {"url": "http://169.254.169.254/"}}]))}),
            "messages[0].content[0].image_url.url",
            "unsupported_parameter",
        ),
        (
            json!({"messages": user(json!([{"type": "video_url", "video_url": "file:///etc/passwd"}]))}),
            "messages[0].content[0].video_url",
            "unsupported_parameter",
        ),
        (
            json!({"messages": call(json!({"type": "custom"}))}),
            "messages[0].tool_calls[0].type",
            "unsupported_parameter",
        ),
        (json!({"messages": call(json!({"id": null}))}), "messages[0].tool_calls[0].id", "invalid_type"),
    ] {
        let error = ask(more.clone()).unwrap_err();
        assert_eq!((error["param"].as_str(), error["code"].as_str()), (Some(param), Some(code)), "{more}: {error}");
        assert!(error["message"].as_str().unwrap().contains(param), "{error}");
    }
}

#[test]
fn what_is_understood_travels_on_and_what_changes_nothing_does_not() {
    let no_ops = json!({
        "user": "u", "store": true, "service_tier": "auto", "safety_identifier": "s", "prompt_cache_key": "k",
        "prompt_cache_retention": "24h", "modalities": ["text"], "n": 1, "logprobs": false, "top_logprobs": 0, "tools": [],
        "tool_choice": "auto", "parallel_tool_calls": true, "response_format": {"type": "text"}, "logit_bias": {},
        "functions": [], "seed": null,
    });
    assert_eq!(rest(no_ops), Map::new());
    let kept = json!({
        "n": 3, "logprobs": true, "top_logprobs": 20, "frequency_penalty": -2.0, "presence_penalty": 0.5,
        "logit_bias": {"50256": -100}, "tools": [tool("a"), tool("b")], "parallel_tool_calls": false, "verbosity": "low",
        "tool_choice": {"type": "function", "function": {"name": "b"}}, "reasoning_effort": "low",
        "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}, "strict": true}},
        "top_k": 5, "min_p": 0.1, "guided_json": {"type": "object"},
    });
    assert_eq!(&rest(kept.clone()), kept.as_object().unwrap());
    let request = ask(json!({"max_tokens": 5, "max_completion_tokens": 7, "seed": -1, "stop": "x"})).unwrap();
    assert_eq!((request.max_tokens, request.seed, request.stop.len()), (Some(7), Some(u64::MAX), 1));
    let image = json!([{"role": "user", "content": [
        {"type": "text", "text": "what is on http://example.com?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA==", "detail": "low"}},
    ]}]);
    assert_eq!(serde_json::to_value(ask(json!({"messages": image})).unwrap().messages).unwrap(), image);
}

fn streamed_text(more: Value, stream: bool) -> Result<bool, Value> {
    let mut parameters = Parameters(json!({"stream_options": more}).as_object().cloned().unwrap());
    include_usage(&mut parameters, stream).map_err(|error| error.body()["error"]["param"].clone())
}

#[test]
fn stream_options_belong_to_streams() {
    assert_eq!(streamed_text(json!({"include_usage": true, "include_obfuscation": false}), true), Ok(true));
    assert_eq!(streamed_text(json!(null), false), Ok(false));
    assert_eq!(streamed_text(json!({}), false), Err(json!("stream_options")));
    assert_eq!(streamed_text(json!({"include_usage": "yes"}), true), Err(json!("stream_options.include_usage")));
    assert_eq!(streamed_text(json!({"chunks": 3}), true), Err(json!("stream_options.chunks")));
}

fn delta(choice: u32, rest: Value) -> Event {
    Event::Delta(Delta { choice, rest: rest.as_object().cloned().unwrap(), ..Delta::default() })
}

#[test]
fn each_choice_begins_once() {
    let mut begun = Begun(1);
    let finish = Event::Finish { choice: 2, reason: "stop".to_owned() };
    let seen =
        [delta(0, json!({})), delta(1, json!({})), delta(1, json!({})), finish.clone(), finish, delta(500, json!({}))];
    let newly: Vec<_> = seen.iter().map(|event| begun.newly(event)).collect();
    assert_eq!(newly, [None, Some(1), None, Some(2), None, None]);
}

#[test]
fn calls_without_a_number_get_one() {
    let mut calls = Calls::default();
    let mut numbers = |choice, call: Value| {
        let Event::Delta(delta) = calls.numbered(delta(choice, json!({"tool_calls": call}))) else { unreachable!() };
        let calls = delta.rest["tool_calls"].as_array().unwrap().clone();
        calls.iter().map(|call| call["index"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    let piece = json!({"function": {"arguments": "{"}});
    assert_eq!(numbers(0, json!([{"id": "a"}])), [0]);
    assert_eq!(numbers(0, json!([piece])), [0]);
    assert_eq!(numbers(0, json!([{"id": "b"}, {"function": {"name": "c"}}])), [1, 2]);
    assert_eq!(numbers(0, json!([piece])), [2]);
    assert_eq!(numbers(1, json!([piece])), [0]);
    assert_eq!(numbers(0, json!([{"index": 7, "id": "d"}])), [7]);
    assert_eq!(numbers(0, json!([{"id": "e"}])), [8]);
}
