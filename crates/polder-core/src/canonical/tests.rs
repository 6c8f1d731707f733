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
