//! Tests of the canonical form: what two writers could disagree about.
#![allow(clippy::unwrap_used)]

use super::*;
use serde_json::json;

#[test]
fn keys_are_sorted_and_white_space_is_absent() {
    let bytes = to_bytes(&json!({"b": [1, {"z": null, "a": true}], "a": "é\n\u{1}"})).unwrap();
    assert_eq!(String::from_utf8(bytes).unwrap(), "{\"a\":\"é\\n\\u0001\",\"b\":[1,{\"a\":true,\"z\":null}]}");
}

#[test]
fn fractions_and_foreign_keys_are_refused() {
    assert!(matches!(to_bytes(&json!({"a": 1.5})), Err(CanonicalError::Fraction(_))));
    assert!(matches!(to_bytes(&json!({"é": 1})), Err(CanonicalError::Key(_))));
}

#[test]
fn digests_are_read_in_one_form_only() {
    let digest = hash("test", &[b"a"]);
    let text = serde_json::to_string(&digest).unwrap();
    assert_eq!(serde_json::from_str::<Digest>(&text).unwrap(), digest);
    assert!(serde_json::from_str::<Digest>(&text.to_uppercase()).is_err());
    assert!(serde_json::from_str::<Digest>("\"00\"").is_err());
}

#[test]
fn domains_separate() {
    assert_ne!(hash("a", &[b"b"]), hash("ab", &[b""]));
}

/// Canonical JSON by way of a tree: slower, and plainly right.
fn by_tree(value: &serde_json::Value, out: &mut String) {
    use serde_json::Value;
    match value {
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(text_of).collect();
            *out += &format!("[{}]", items.join(","));
        }
        Value::Object(fields) => {
            let sorted: std::collections::BTreeMap<_, _> = fields.iter().collect();
            let fields: Vec<String> =
                sorted.into_iter().map(|(key, item)| format!("{}:{}", json!(key), text_of(item))).collect();
            *out += &format!("{{{}}}", fields.join(","));
        }
        plain => *out += &plain.to_string(),
    }
}

fn text_of(value: &serde_json::Value) -> String {
    let mut out = String::new();
    by_tree(value, &mut out);
    out
}

fn any_json() -> impl proptest::strategy::Strategy<Value = serde_json::Value> {
    use proptest::prelude::*;
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(|b| json!(b)),
        any::<i64>().prop_map(|n| json!(n)),
        any::<u64>().prop_map(|n| json!(n)),
        any::<String>().prop_map(|s| json!(s)),
    ];
    leaf.prop_recursive(4, 64, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(serde_json::Value::Array),
            prop::collection::btree_map("[a-z\"\\\\]{0,6}", inner, 0..6)
                .prop_map(|fields| serde_json::Value::Object(fields.into_iter().collect())),
        ]
    })
}

proptest::proptest! {
    #[test]
    fn one_pass_writes_what_a_tree_does(value in any_json()) {
        let written = String::from_utf8(to_bytes(&value).unwrap()).unwrap();
        proptest::prop_assert_eq!(written, text_of(&value));
    }
}

#[test]
fn every_kind_of_value_is_written_as_serde_json_does() {
    use serde::Serialize;
    #[derive(Serialize)]
    enum Kind {
        Unit,
        Newtype(u8),
        Tuple(u8, u8),
        Struct { z: u8, a: Option<u8> },
    }
    #[derive(Serialize)]
    struct All {
        z: (u8, char),
        kinds: Vec<Kind>,
        map: std::collections::BTreeMap<u16, ()>,
        a: Option<&'static str>,
    }
    let kinds = vec![Kind::Unit, Kind::Newtype(1), Kind::Tuple(1, 2), Kind::Struct { z: 1, a: None }];
    let all = All { z: (1, '"'), kinds, map: [(7, ()), (10, ())].into(), a: None };
    let tree = serde_json::to_value(&all).unwrap();
    assert_eq!(String::from_utf8(to_bytes(&all).unwrap()).unwrap(), text_of(&tree));
    assert!(to_bytes(&1.5_f32).is_err());
}

#[test]
fn a_field_that_stands_there_twice_is_refused() {
    #[derive(serde::Serialize)]
    struct Twice {
        a: u8,
        #[serde(flatten)]
        rest: std::collections::BTreeMap<String, u8>,
    }
    assert!(to_bytes(&Twice { a: 1, rest: [("a".to_owned(), 2)].into() }).is_err());
}
