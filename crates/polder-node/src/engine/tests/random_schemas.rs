//! Random schemas, a hot toy model, and a judge that shares no code with the engine: what is written to its end is valid.

use boon::{Compiler, Schemas};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Map, Value, json};

use super::choices::{whole, with};
use super::engine;
use super::form::{format, hot};

fn leaf() -> impl Strategy<Value = Value> {
    let number = prop_oneof![
        Just(json!({"type": "integer"})),
        (-50i64..50, 0i64..1000)
            .prop_map(|(low, more)| json!({"type": "integer", "minimum": low, "maximum": low + more})),
        (-50i64..50).prop_map(|low| json!({"type": "integer", "exclusiveMinimum": low})),
        (1i64..20).prop_map(|step| json!({"type": "integer", "multipleOf": step, "minimum": 0, "maximum": 500})),
        (-5i64..5, 1i64..9)
            .prop_map(|(low, more)| json!({"type": "number", "minimum": low, "exclusiveMaximum": low + more})),
    ];
    let text = prop_oneof![
        Just(json!({"type": "string", "maxLength": 40})),
        (0u64..6, 0u64..6).prop_map(|(low, more)| json!({"type": "string", "minLength": low, "maxLength": low + more})),
        Just(json!({"type": "string", "pattern": "^[a-c]{2,5}-[0-9]+\\.$"})),
        Just(json!({"type": "string", "pattern": "^(ja|nein|peut-être)$"})),
        prop::sample::select(vec!["date", "time", "date-time", "uuid", "ipv4", "email", "duration"])
            .prop_map(|format| json!({"type": "string", "format": format})),
    ];
    let other = prop_oneof![
        Just(json!({"type": "boolean"})),
        Just(json!({"type": "null"})),
        Just(json!({"type": ["boolean", "null"]})),
        Just(json!({"enum": ["Grüße", 7, null, {"a": [1, "\"quoted\""]}, 1.5]})),
        Just(json!({"type": "string", "enum": ["", "a\nb", "漢字", "</script>"]})),
        Just(json!({"const": {"fixed": true, "<|end|>": "<|end|>"}})),
        Just(json!({"$ref": "#/$defs/flag", "description": "a reference"})),
        Just(json!({"$ref": "#/$defs/chain"})),
    ];
    prop_oneof![number, text, other]
}

fn schema() -> impl Strategy<Value = Value> {
    leaf().prop_recursive(3, 12, 3, |inner| {
        let names = prop::sample::subsequence(vec!["a", "b c", "é\"q", "$ref", "type"], 0..=4);
        let object = (names, prop::collection::vec((inner.clone(), any::<bool>()), 5)).prop_map(|(names, parts)| {
            let mut properties = Map::new();
            let mut required = Vec::new();
            for (name, (schema, needed)) in names.into_iter().zip(parts) {
                properties.insert(name.into(), schema);
                required.extend(needed.then_some(name));
            }
            json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
        });
        let open = inner.clone().prop_map(|schema| {
            json!({"type": "object", "properties": {"id": {"type": "boolean"}}, "required": ["id"], "additionalProperties": schema})
        });
        let list = (inner.clone(), 0u64..3, 0u64..3).prop_map(|(items, low, more)| {
            json!({"type": "array", "items": items, "minItems": low, "maxItems": low + more})
        });
        let tuple = prop::collection::vec(inner.clone(), 1..3).prop_map(|items| {
            let count = items.len();
            json!({"type": "array", "prefixItems": items, "items": false, "minItems": count})
        });
        let either = prop::collection::vec(inner, 1..4).prop_map(|options| json!({"anyOf": options}));
        prop_oneof![3 => object, 1 => open, 1 => list, 1 => tuple, 1 => either]
    })
}

/// The definitions that leaves refer to.
fn rooted(mut schema: Value) -> Value {
    schema["$defs"] = json!({
        "flag": {"type": "boolean"},
        "chain": {
            "type": "object",
            "properties": {"on": {"type": "boolean"}, "next": {"anyOf": [{"$ref": "#/$defs/chain"}, {"type": "null"}]}},
            "required": ["on", "next"],
            "additionalProperties": false,
        },
    });
    schema
}

fn judged(schema: &Value, value: &Value) -> Result<(), String> {
    let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
    compiler.enable_format_assertions();
    compiler.add_resource("http://localhost/schema.json", schema.clone()).unwrap();
    let index = compiler.compile("http://localhost/schema.json", &mut schemas).unwrap();
    schemas.validate(value, index).map_err(|error| format!("{error:#}"))
}

#[test]
fn what_is_written_to_its_end_is_valid() {
    let engine = engine();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let counts = std::cell::Cell::new((0u32, 0u32));
    let mut runner = TestRunner::new_with_rng(
        Config { cases: 60, max_shrink_iters: 20, failure_persistence: None, ..Config::default() },
        TestRunner::deterministic().new_rng(),
    );
    let outcome = runner.run(&(schema(), any::<u64>()), |(schema, seed)| {
        let schema = rooted(schema);
        let request = with(hot(seed), "response_format", format(schema.clone()));
        let (choices, _) =
            runtime.block_on(whole(&engine, request)).map_err(|e| TestCaseError::fail(format!("{e} {schema}")))?;
        let (stopped, cut) = counts.get();
        if choices[0].reason == "length" {
            counts.set((stopped, cut + 1));
            return Ok(());
        }
        counts.set((stopped + 1, cut));
        let text = &choices[0].text;
        let value = serde_json::from_str(text).map_err(|e| TestCaseError::fail(format!("{e}: {text}")))?;
        judged(&schema, &value).map_err(|e| TestCaseError::fail(format!("{e}: {text} {schema}")))
    });
    let (stopped, cut) = counts.get();
    eprintln!("{stopped} whole answers, {cut} cut by the limit");
    outcome.unwrap();
    assert!(stopped > cut, "too few whole answers to judge: {stopped} of {}", stopped + cut);
}

#[test]
fn the_judge_finds_what_is_wrong() {
    let schema =
        rooted(json!({"type": "object", "properties": {"a": {"type": "string", "format": "date"}}, "required": ["a"]}));
    assert!(judged(&schema, &json!({"a": "2026-11-22"})).is_ok());
    assert!(judged(&schema, &json!({"a": "yesterday"})).is_err());
    assert!(judged(&schema, &json!({})).is_err());
}
