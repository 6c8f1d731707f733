//! Tests of Anthropic's Messages without a network: requests as conversations, answers as messages and as streams.

use axum::response::IntoResponse as _;
use http::{HeaderMap, HeaderValue, StatusCode};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::super::ApiError;
use super::super::answer::Collected;
use super::super::body::Parameters;
use super::failure::Failure;
use super::request::chat_request;
use super::shape::message;
use super::stream::Writing;
use super::with_bearer;
use crate::inference::{ChatRequest, Delta, EngineError, Event, Usage};

fn asked(body: Value) -> Result<ChatRequest, ApiError> {
    let Value::Object(object) = body else { panic!("an object") };
    chat_request(Parameters(object))
}

fn basic() -> Value {
    json!({"model": "toy", "max_tokens": 16, "messages": [{"role": "user", "content": "Hello"}]})
}

fn with(name: &str, value: Value) -> Value {
    let mut body = basic();
    body[name] = value;
    body
}

/// The status, type and parameter of an error in Anthropic's envelope.
async fn refused(body: Value) -> (StatusCode, String, String) {
    let response = Failure::from(asked(body).unwrap_err()).into_response();
    let status = response.status();
    assert!(response.headers().get("request-id").is_some());
    let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
    let body: Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(body["type"], "error");
    let text = |name: &str| body["error"][name].as_str().unwrap_or_default().to_owned();
    assert!(!text("message").is_empty());
    (status, text("type"), text("param"))
}

#[test]
fn a_conversation_with_tools_and_pictures_keeps_its_order() {
    let body = json!({
        "model": "toy", "max_tokens": 64, "stream": true, "temperature": 0.5, "top_p": 0.9, "top_k": 40,
        "stop_sequences": ["END"], "service_tier": "auto", "thinking": {"type": "disabled"},
        "system": [{"type": "text", "text": "Be short.", "cache_control": {"type": "ephemeral"}}],
        "tools": [{"name": "weather", "description": "Now", "input_schema": {"type": "object"}}],
        "tool_choice": {"type": "any", "disable_parallel_tool_use": true},
        "messages": [
            {"role": "user", "content": [
                {"type": "text", "text": "What is this?"},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGVsbG8="}},
            ]},
            {"role": "assistant", "content": [
                {"type": "text", "text": "I look."},
                {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Delft"}},
            ]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "toolu_1", "content": [{"type": "text", "text": "rain"}], "is_error": true},
                {"type": "text", "text": "And now?"},
            ]},
        ],
    });
    let request = asked(body).unwrap();
    assert_eq!((request.max_tokens, request.stream, &request.stop), (Some(64), true, &vec!["END".to_owned()]));
    assert_eq!((request.temperature, request.top_p), (Some(0.5), Some(0.9)));
    let messages = serde_json::to_value(&request.messages).unwrap();
    let expected = json!([
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": [
            {"type": "text", "text": "What is this?"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGVsbG8="}},
        ]},
        {"role": "assistant", "content": "I look.", "tool_calls": [
            {"id": "toolu_1", "type": "function", "function": {"name": "weather", "arguments": "{\"city\":\"Delft\"}"}},
        ]},
        {"role": "tool", "content": "error: rain", "tool_call_id": "toolu_1"},
        {"role": "user", "content": "And now?"},
    ]);
    assert_eq!(messages, expected);
    let rest = Value::Object(request.rest);
    assert_eq!(rest["top_k"], 40);
    assert_eq!(rest["tool_choice"], "required");
    assert_eq!(rest["parallel_tool_calls"], false);
    let function = json!({"name": "weather", "description": "Now", "parameters": {"type": "object"}});
    assert_eq!(rest["tools"], json!([{"type": "function", "function": function}]));
}

#[test]
fn a_schema_for_the_answer_is_asked_for_as_chat_completions_do() {
    let schema = json!({"type": "object", "properties": {"a": {"type": "integer"}}});
    let request = asked(with("output_config", json!({"format": {"type": "json_schema", "schema": schema}}))).unwrap();
    assert_eq!(request.rest["response_format"]["json_schema"]["schema"], schema);
}

#[tokio::test]
async fn what_is_not_supported_is_named() {
    let image =
        |source: Value| with("messages", json!([{"role": "user", "content": [{"type": "image", "source": source}]}]));
    for (body, parameter) in [
        (with("thinking", json!({"type": "enabled", "budget_tokens": 1024})), "thinking"),
        (with("inference_geo", json!("eu")), "inference_geo"),
        (with("container", json!("x")), "container"),
        (with("api_base", json!("http://127.0.0.1")), "api_base"),
        (with("output_config", json!({"effort": "low"})), "output_config.effort"),
        (with("tools", json!([{"type": "web_search_20250305", "name": "web_search"}])), "tools[0].type"),
        (with("messages", json!([{"role": "assistant", "content": "So"}])), "messages[0].role"),
        (with("messages", json!([{"role": "user", "content": [{"type": "document"}]}])), "messages[0].content[0].type"),
        (image(json!({"type": "url", "url": "http://10.0.0.1/x.png"})), "messages[0].content[0].source"),
        (
            image(json!({"type": "base64", "media_type": "text/html", "data": "aa"})),
            "messages[0].content[0].source.media_type",
        ),
        (
            image(json!({"type": "base64", "media_type": "image/png", "data": "a\"a"})),
            "messages[0].content[0].source.data",
        ),
        (with("tool_choice", json!({"type": "tool", "name": "x"})), "tool_choice.name"),
        (with("tool_choice", json!({"type": "any"})), "tools"),
        (with("max_tokens", Value::Null), "max_tokens"),
        (with("max_tokens", json!(0)), "max_tokens"),
        (with("temperature", json!(1.5)), "temperature"),
        (with("system", json!(7)), "system"),
        (with("messages", json!([])), "messages"),
        (with("messages", json!([{"role": "user", "content": []}])), "messages[0].content"),
        (with("messages", json!([{"role": "system", "content": "x"}])), "messages[0].role"),
    ] {
        let (status, kind, param) = refused(body.clone()).await;
        assert_eq!((status, kind.as_str()), (StatusCode::BAD_REQUEST, "invalid_request_error"), "{body}");
        assert_eq!(param, parameter, "{body}");
    }
}

#[test]
fn the_key_is_read_from_either_header() {
    let mut headers = HeaderMap::new();
    headers.insert("x-api-key", HeaderValue::from_static("k1"));
    let read = with_bearer(headers.clone());
    assert_eq!(super::super::bearer(&read), Some("k1"));
    headers.insert("authorization", HeaderValue::from_static("Bearer k2"));
    assert_eq!(super::super::bearer(&with_bearer(headers)), Some("k2"));
    assert_eq!(super::super::bearer(&with_bearer(HeaderMap::new())), None);
}

fn text(content: &str) -> Event {
    Event::Delta(Delta { content: Some(content.to_owned()), ..Delta::default() })
}

fn call(index: u64, id: Option<&str>, name: Option<&str>, arguments: &str) -> Event {
    let mut function = json!({"arguments": arguments});
    if let Some(name) = name {
        function["name"] = name.into();
    }
    let mut call = json!({"index": index, "function": function});
    if let Some(id) = id {
        call["id"] = id.into();
    }
    let mut rest = Map::new();
    rest.insert("tool_calls".to_owned(), json!([call]));
    Event::Delta(Delta { rest, ..Delta::default() })
}

fn finish(reason: &str) -> Event {
    Event::Finish { choice: 0, reason: reason.to_owned() }
}

const COUNTS: Usage = Usage { prompt_tokens: 3, completion_tokens: 5 };

/// The events of a stream, each of which must be named by its own type.
fn streamed(events: &[Event]) -> Vec<Value> {
    let mut writing = Writing::new("msg-0".to_owned());
    let mut bytes = writing.begin("toy").to_vec();
    for event in events {
        bytes.extend(writing.event(event.clone()));
    }
    let text = String::from_utf8(bytes).unwrap();
    let one = |block: &str| {
        let (name, data) = block.split_once('\n').unwrap();
        let data: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!(name, format!("event: {}", data["type"].as_str().unwrap()));
        data
    };
    text.trim_end_matches("\n\n").split("\n\n").map(one).collect()
}

/// What an SDK makes of a stream: the message with its blocks.
fn put_together(events: &[Value]) -> Value {
    let mut message = events[0]["message"].clone();
    let mut inputs: Vec<String> = Vec::new();
    let mut open = None;
    for event in &events[1..] {
        let index = event["index"].as_u64().map(|index| index as usize);
        match event["type"].as_str().unwrap() {
            "content_block_start" => {
                assert_eq!(open, None, "a block begins inside another: {event}");
                let blocks = message["content"].as_array_mut().unwrap();
                assert_eq!(index, Some(blocks.len()));
                blocks.push(event["content_block"].clone());
                inputs.push(String::new());
                open = index;
            }
            "content_block_delta" => {
                assert_eq!(open, index);
                let block = &mut message["content"][index.unwrap()];
                match event["delta"]["type"].as_str().unwrap() {
                    "text_delta" => {
                        let whole =
                            format!("{}{}", block["text"].as_str().unwrap(), event["delta"]["text"].as_str().unwrap());
                        block["text"] = whole.into();
                    }
                    "input_json_delta" => {
                        inputs[index.unwrap()].push_str(event["delta"]["partial_json"].as_str().unwrap())
                    }
                    other => panic!("{other}"),
                }
            }
            "content_block_stop" => {
                assert_eq!(open.take(), index);
                let input = &inputs[index.unwrap()];
                if !input.is_empty() {
                    message["content"][index.unwrap()]["input"] = serde_json::from_str(input).unwrap();
                }
            }
            "message_delta" => {
                message["stop_reason"] = event["delta"]["stop_reason"].clone();
                message["usage"] = event["usage"].clone();
            }
            "message_stop" => assert_eq!(event, events.last().unwrap()),
            other => panic!("{other}"),
        }
    }
    assert_eq!(open, None);
    message
}

fn whole(events: &[Event]) -> Result<Value, EngineError> {
    let mut collected = Collected::default();
    events.iter().cloned().for_each(|event| collected.add(event));
    message("msg-0", "toy", collected)
}

#[test]
fn a_stream_and_a_whole_answer_say_the_same() {
    let events = [
        text("I look"),
        text(" it up."),
        call(0, Some("a"), Some("weather"), ""),
        call(0, None, None, "{\"city\":"),
        call(0, None, None, "\"Delft\"}"),
        call(1, Some("b"), Some("time"), ""),
        finish("tool_calls"),
        Event::Usage(COUNTS),
    ];
    let whole = whole(&events).unwrap();
    assert_eq!(put_together(&streamed(&events)), whole);
    assert_eq!(whole["stop_reason"], "tool_use");
    assert_eq!(whole["usage"], json!({"input_tokens": 3, "output_tokens": 5}));
    let blocks = json!([
        {"type": "text", "text": "I look it up."},
        {"type": "tool_use", "id": "a", "name": "weather", "input": {"city": "Delft"}},
        {"type": "tool_use", "id": "b", "name": "time", "input": {}},
    ]);
    assert_eq!(whole["content"], blocks);
}

#[test]
fn ends_have_anthropics_names() {
    for (reason, expected) in
        [("stop", "end_turn"), ("length", "max_tokens"), ("content_filter", "refusal"), ("tool_calls", "tool_use")]
    {
        let events = [text("x"), finish(reason), Event::Usage(COUNTS)];
        assert_eq!(whole(&events).unwrap()["stop_reason"], expected);
        assert_eq!(put_together(&streamed(&events))["stop_reason"], expected);
    }
    let named = [call(0, Some("a"), Some("f"), "{}"), finish("stop"), Event::Usage(COUNTS)];
    assert_eq!(whole(&named).unwrap()["stop_reason"], "tool_use");
}

#[test]
fn a_call_that_is_no_object_is_a_failure_and_a_cut_one_is_left_out() {
    let broken = |reason| [text("x"), call(0, Some("a"), Some("f"), "{\"a\":"), finish(reason), Event::Usage(COUNTS)];
    assert!(matches!(whole(&broken("tool_calls")), Err(EngineError::Failed { .. })));
    let cut = whole(&broken("length")).unwrap();
    assert_eq!((cut["content"].as_array().unwrap().len(), &cut["stop_reason"]), (1, &json!("max_tokens")));
}

#[test]
fn a_broken_stream_ends_with_one_error() {
    let mut writing = Writing::new("msg-0".to_owned());
    assert!(!writing.event(text("x")).is_empty());
    let last = String::from_utf8(writing.failed(&EngineError::Failed { reason: "gone".to_owned() }).to_vec()).unwrap();
    assert!(last.starts_with("event: error\ndata: {") && last.contains("\"type\":\"api_error\""), "{last}");
    assert!(writing.event(Event::Usage(COUNTS)).is_empty() && writing.event(text("y")).is_empty());
    // A call that goes on after the next one began cannot be written as blocks that follow one another.
    let mut writing = Writing::new("msg-0".to_owned());
    for event in [call(0, Some("a"), Some("f"), "{"), call(1, Some("b"), Some("g"), "{")] {
        assert!(!writing.event(event).is_empty());
    }
    let said = String::from_utf8(writing.event(call(0, None, None, "}")).to_vec()).unwrap();
    assert!(said.starts_with("event: error\n"), "{said}");
}

proptest! {
    /// Whatever an engine says, its stream is Anthropic's: blocks that follow one another, and the same text as the whole.
    #[test]
    fn any_text_comes_through(pieces in proptest::collection::vec(".{0,12}", 0..8)) {
        let mut events: Vec<Event> = pieces.iter().map(|piece| text(piece)).collect();
        events.extend([finish("stop"), Event::Usage(COUNTS)]);
        prop_assert_eq!(put_together(&streamed(&events)), whole(&events).unwrap());
    }

    /// Nothing that a client sends makes the reading of a request panic.
    #[test]
    fn any_message_is_read_or_refused(role in "(user|assistant|tool)?", kind in "(text|image|tool_use|tool_result|x)?", extra in ".{0,8}") {
        let block = json!({"type": kind, "text": extra, "id": extra, "name": extra, "input": {}, "tool_use_id": extra, "content": extra});
        let _ = asked(with("messages", json!([{"role": role, "content": [block]}, {"role": "user", "content": extra}])));
    }
}
