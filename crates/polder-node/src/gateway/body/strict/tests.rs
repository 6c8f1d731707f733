//! Tests of strict reading: what is refused and where, and agreement with serde_json on everything else.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn fault(text: &str) -> (Option<String>, String) {
    let fault = object(text).unwrap_err();
    (fault.place, fault.message)
}

#[test]
fn what_two_readers_could_read_differently_is_refused_with_its_place() {
    for (text, place, says) in [
        (r#"{"model": "a", "model": "b"}"#, "model", "twice"),
        (r#"{"model": "a", "m\u006fdel": "b"}"#, "model", "twice"),
        (r#"{"messages": [{}, {"role": "user", "role": "system"}]}"#, "messages[1].role", "twice"),
        (r#"{"messages": [{"content": "\ud800"}]}"#, "messages[0].content", "surrogate"),
        (r#"{"messages": [{"content": "\ud800\u0041"}]}"#, "messages[0].content", "surrogate"),
        (r#"{"messages": [{"content": "\udc00"}]}"#, "messages[0].content", "surrogate"),
        (r#"{"temperature": 1e999}"#, "temperature", "number out of range"),
        (r#"{"temperature": -1e999}"#, "temperature", "number out of range"),
        (
            r#"{"tools": [{"function": {"parameters": {"x": {"y": 1e400}}}}]}"#,
            "tools[0].function.parameters.*.*",
            "range",
        ),
        (r#"{"temperature": 01}"#, "temperature", "invalid number"),
        (r#"{"temperature": NaN}"#, "temperature", "expected value"),
    ] {
        let (found, message) = fault(text);
        assert_eq!(found.as_deref(), Some(place), "{text}: {message}");
        assert!(message.contains(says) && message.contains("line 1"), "{text}: {message}");
    }
    assert_eq!(fault("{\"a\": 1}x").0, None);
    assert_eq!(object("{\"n\": 1, \"top_p\": 0.5}").unwrap(), *json!({"n": 1, "top_p": 0.5}).as_object().unwrap());
}

#[test]
fn sixty_four_levels_are_read_and_no_more() {
    let nested = |levels: usize| format!("{{\"input\":{}{}}}", "[".repeat(levels), "]".repeat(levels));
    assert!(object(&nested(DEPTH_MAX - 1)).is_ok());
    let (place, message) = fault(&nested(DEPTH_MAX));
    assert!(place.unwrap() == "input" && message.contains("64 levels"), "{message}");
    assert!(fault(&nested(1_000_000)).1.contains("64 levels"));
}

/// A text's tree, with keys that may stand twice.
#[derive(Debug, Clone)]
enum Tree {
    Leaf(Value),
    List(Vec<Tree>),
    Object(Vec<(String, Tree)>),
}

impl Tree {
    fn write(&self, text: &mut String) {
        match self {
            Self::Leaf(value) => text.push_str(&value.to_string()),
            Self::List(items) => {
                text.push('[');
                for (place, item) in items.iter().enumerate() {
                    text.push_str(if place > 0 { ", " } else { "" });
                    item.write(text);
                }
                text.push(']');
            }
            Self::Object(entries) => {
                text.push('{');
                for (place, (key, value)) in entries.iter().enumerate() {
                    text.push_str(if place > 0 { ",\n" } else { "" });
                    text.push_str(&json!(key).to_string());
                    text.push(':');
                    value.write(text);
                }
                text.push('}');
            }
        }
    }

    fn says_something_twice(&self) -> bool {
        match self {
            Self::Leaf(_) => false,
            Self::List(items) => items.iter().any(Self::says_something_twice),
            Self::Object(entries) => {
                let keys: std::collections::BTreeSet<&String> = entries.iter().map(|(key, _)| key).collect();
                keys.len() < entries.len() || entries.iter().any(|(_, value)| value.says_something_twice())
            }
        }
    }
}

fn trees() -> impl Strategy<Value = Tree> {
    let leaf = prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(|value| json!(value)),
        any::<i64>().prop_map(|value| json!(value)),
        any::<u64>().prop_map(|value| json!(value)),
        any::<f64>().prop_filter("JSON has no such number", |value| value.is_finite()).prop_map(|value| json!(value)),
        any::<String>().prop_map(|value| json!(value)),
    ]
    .prop_map(Tree::Leaf);
    let tree = leaf.prop_recursive(5, 40, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Tree::List),
            prop::collection::vec(("[a-e\"\u{1F600}]{0,2}", inner), 0..5).prop_map(Tree::Object),
        ]
    });
    prop::collection::vec(("[a-h]{1,2}", tree), 0..5).prop_map(Tree::Object)
}

proptest! {
    #[test]
    fn a_text_is_read_as_serde_json_reads_it_unless_a_key_stands_twice(tree in trees()) {
        let mut text = String::new();
        tree.write(&mut text);
        let read = object(&text);
        prop_assert_eq!(read.is_err(), tree.says_something_twice(), "{}", text);
        if let Ok(read) = read {
            prop_assert_eq!(Value::Object(read), serde_json::from_str::<Value>(&text).unwrap());
        }
    }

    #[test]
    fn a_damaged_text_is_never_read_where_serde_json_does_not(tree in trees(), place in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut text = String::new();
        tree.write(&mut text);
        let mut bytes = text.into_bytes();
        let place = place.index(bytes.len());
        if let Some(damaged) = bytes.get_mut(place) {
            *damaged = byte;
        }
        if let Ok(text) = std::str::from_utf8(&bytes) {
            match (object(text), serde_json::from_str::<Value>(text)) {
                (Ok(read), Ok(value)) => prop_assert_eq!(Value::Object(read), value),
                (Ok(_), Err(_)) => prop_assert!(false, "{} was read", text),
                (Err(fault), Ok(value)) => {
                    prop_assert!(!value.is_object() || fault.message.contains("twice"), "{}: {}", text, fault.message);
                }
                (Err(_), Err(_)) => {}
            }
        }
    }
}
