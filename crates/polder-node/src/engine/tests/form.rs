//! `response_format`: answers that are JSON, and schemas that cannot be held to.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::choices::{whole, with};
use super::{ask, engine, refused};
use crate::inference::{ChatRequest, EngineError};

pub(super) fn format(schema: Value) -> Value {
    json!({"type": "json_schema", "json_schema": {"name": "answer", "strict": true, "schema": schema}})
}

/// A request hot enough that nothing but the form keeps the toy model in order.
pub(super) fn hot(seed: u64) -> ChatRequest {
    ChatRequest { temperature: Some(2.0), seed: Some(seed), max_tokens: Some(200), ..ask("Tell me all.") }
}

#[tokio::test]
async fn json_object_gives_an_object() {
    let engine = engine();
    let mut whole_ones = 0;
    for seed in 0..12 {
        // The toy knows no JSON and would seldom close a text: quotes and braces are made likelier.
        let warm = with(ChatRequest { temperature: Some(1.0), ..hot(seed) }, "logit_bias", json!({"6": 6, "97": 12}));
        let request = with(warm, "response_format", json!({"type": "json_object"}));
        let (choices, _) = whole(&engine, request).await.unwrap();
        assert!(choices[0].text.starts_with('{'), "{}", choices[0].text);
        match choices[0].reason.as_str() {
            "stop" => {
                whole_ones += 1;
                assert!(serde_json::from_str::<Value>(&choices[0].text).unwrap().is_object());
            }
            reason => assert_eq!(reason, "length"),
        }
    }
    assert!(whole_ones > 0, "a free text may go on for long, but not always");
}

#[tokio::test]
async fn a_schema_is_kept_and_a_cut_is_said() {
    let engine = engine();
    let schema = json!({
        "type": "object",
        "properties": {
            "city": {"type": "string", "enum": ["Paris", "Rome", "Trondheim"]},
            "people": {"type": "integer", "minimum": 1, "maximum": 9_999_999},
        },
        "required": ["city", "people"],
        "additionalProperties": false,
    });
    let request = with(ask("What is the capital of France?"), "response_format", format(schema));
    let (choices, _) = whole(&engine, request.clone()).await.unwrap();
    let value: Value = serde_json::from_str(&choices[0].text).unwrap();
    assert_eq!(choices[0].reason, "stop");
    assert!(["Paris", "Rome", "Trondheim"].contains(&value["city"].as_str().unwrap()), "{value}");
    assert!((1..=9_999_999).contains(&value["people"].as_i64().unwrap()), "{value}");
    assert_eq!(value.as_object().unwrap().len(), 2);
    let (cut, usage) = whole(&engine, ChatRequest { max_tokens: Some(4), ..request.clone() }).await.unwrap();
    assert_eq!((cut[0].reason.as_str(), usage.completion_tokens), ("length", 4));
    assert!(choices[0].text.starts_with(&cut[0].text));
    // Choices and likelihoods go with it.
    let request = with(with(request, "n", json!(3)), "logprobs", json!(true));
    let (three, _) = whole(&engine, ChatRequest { temperature: Some(2.0), ..request }).await.unwrap();
    for choice in &three {
        assert!(serde_json::from_str::<Value>(&choice.text).unwrap()["people"].is_i64());
        let told: String = choice.logprobs.iter().map(|one| one["token"].as_str().unwrap()).collect();
        assert_eq!(told, choice.text);
    }
}

#[tokio::test]
async fn what_cannot_be_held_to_is_refused_by_name() {
    let engine = engine();
    let at = "response_format.json_schema.schema";
    let refusal =
        async |schema: Value| match refused(&engine, with(ask("Hello"), "response_format", format(schema))).await {
            EngineError::Unsupported { parameter } => ("unsupported", parameter),
            EngineError::Invalid { parameter, .. } => ("invalid", parameter),
            other => panic!("{other}"),
        };
    for (schema, kind, place) in [
        (json!({"type": "object", "properties": {"a": {"not": {}}}}), "unsupported", ".properties.a.not"),
        (json!({"anyOf": [{"type": "null"}, {"if": {}}]}), "unsupported", ".anyOf[1].if"),
        (json!({"items": {"uniqueItems": true}}), "unsupported", ".items.uniqueItems"),
        (json!({"$defs": {"x": {"allOf": []}}}), "unsupported", ".$defs.x.allOf"),
        (json!({"x-guidance": {"lenient": true}}), "unsupported", ".x-guidance"),
        (json!({"$dynamicRef": "#a"}), "unsupported", ".$dynamicRef"),
        (json!({"type": "sting"}), "invalid", ".type"),
        (json!({"type": []}), "invalid", ".type"),
        (json!({"enum": []}), "invalid", ".enum"),
        (json!({"required": "a"}), "invalid", ".required"),
        (json!({"maxLength": -1}), "invalid", ".maxLength"),
        (json!({"maxItems": 1_000_000_000u64}), "invalid", ".maxItems"),
        (json!({"minimum": "1"}), "invalid", ".minimum"),
        (json!({"multipleOf": 0}), "invalid", ".multipleOf"),
        (json!({"multipleOf": -2}), "invalid", ".multipleOf"),
        (json!({"multipleOf": 999_983}), "invalid", ".multipleOf"),
        (json!({"format": "made-up"}), "invalid", ".format"),
        (json!({"pattern": "x".repeat(2000)}), "invalid", ".pattern"),
        (json!({"properties": []}), "invalid", ".properties"),
        (json!({"properties": {"a": 7}}), "invalid", ".properties.a"),
        (json!({"anyOf": {}}), "invalid", ".anyOf"),
        (json!({"$ref": "#/$defs/none"}), "invalid", ".$ref"),
        (json!({"$ref": "https://example.com/schema"}), "invalid", ".$ref"),
        (json!({"$ref": "#", "type": "object"}), "invalid", ".type"),
        (json!({"anyOf": [{}], "required": []}), "invalid", ".required"),
        (json!({"$ref": "#"}), "invalid", ""),
        (json!({"anyOf": [{"$ref": "#"}]}), "invalid", ""),
        (json!({"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"anyOf": [{"$ref": "#/$defs/a"}]}}}), "invalid", ""),
        (json!({"type": "integer", "minimum": 3, "maximum": 2}), "invalid", ""),
        (json!({"type": "string", "pattern": "(?=x)y"}), "invalid", ""),
        (json!({"type": "string", "pattern": "("}), "invalid", ""),
        (json!(false), "invalid", ""),
        (json!(7), "invalid", ""),
    ] {
        assert_eq!(refusal(schema.clone()).await, (kind, format!("{at}{place}")), "{schema}");
    }
    for (value, parameter) in [
        (json!("json"), "response_format.type"),
        (json!({"type": "yaml"}), "response_format.type"),
        (json!({"type": "json_schema"}), "response_format.json_schema"),
        (json!({"type": "json_schema", "json_schema": {"schema": {}}}), "response_format.json_schema.name"),
        (json!({"type": "json_schema", "json_schema": {"name": "a"}}), "response_format.json_schema.schema"),
    ] {
        let error = refused(&engine, with(ask("Hello"), "response_format", value.clone())).await;
        assert!(matches!(&error, EngineError::Invalid { parameter: p, .. } if p == parameter), "{value}: {error}");
    }
}

/// Schemas made to be costly end soon, with an answer or a refusal, and never by taking the engine down.
#[tokio::test]
async fn costly_schemas_cost_little() {
    let engine = engine();
    let nest =
        |depth: usize, wrap: &dyn Fn(Value) -> Value| (0..depth).fold(json!({"type": "null"}), |inner, _| wrap(inner));
    let many = |count: u32| -> serde_json::Map<String, Value> {
        (0..count).map(|i| (format!("key{i}"), json!({"type": "string"}))).collect()
    };
    let values: Vec<String> = (0..1000).map(|i| format!("value {i}")).collect();
    let schemas = [
        nest(50, &|inner| json!({"type": "array", "items": inner, "minItems": 4096, "maxItems": 4096})),
        nest(10, &|inner| json!({"anyOf": [inner.clone(), {"type": "array", "items": inner}]})),
        json!({"type": "object", "properties": many(256)}),
        json!({"type": "object", "properties": many(2000)}),
        json!({"type": "object", "properties": many(2000), "required": many(2000).keys().collect::<Vec<_>>()}),
        json!({"type": "string", "enum": values}),
        json!({"type": "string", "minLength": 4096, "maxLength": 4096}),
        json!({"type": "string", "pattern": "^((a{1,60}){1,60}){1,60}$"}),
        json!({"type": "string", "pattern": "(a|aa)*(b|bb)*.*.*.*x.{200}"}),
        json!({"type": "integer", "multipleOf": 997, "minimum": -1_000_000_000_000i64, "maximum": 1_000_000_000_000i64}),
        json!({"$defs": {"t": {"type": "array", "items": {"$ref": "#/$defs/t"}}}, "$ref": "#/$defs/t"}),
    ];
    for schema in schemas {
        let begin = Instant::now();
        let request = with(ChatRequest { max_tokens: Some(8), ..hot(1) }, "response_format", format(schema.clone()));
        let name: String = schema.to_string().chars().take(90).collect();
        match whole(&engine, request).await {
            Ok((choices, _)) => assert!(["length", "stop"].contains(&choices[0].reason.as_str())),
            Err(EngineError::Invalid { parameter, .. }) => assert!(parameter.starts_with("response_format"), "{name}"),
            Err(other) => panic!("{name}: {other}"),
        }
        eprintln!("{:?} {name}", begin.elapsed());
        assert!(begin.elapsed() < Duration::from_secs(20), "{name}: {:?}", begin.elapsed());
    }
}
