//! Tests of what counts as a quotation: longer pieces of the texts in a request, and not the names that an error needs.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;

#[test]
fn longer_pieces_of_a_request_are_quotations() {
    let asked = serde_json::json!({
        "model": "a-model-with-a-long-name", "max_tokens": 5,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "The patient of ward seven is called Ada."}]}],
    })
    .to_string();
    let quoted = |error: &str| quotes(error, asked.as_bytes());
    assert!(quoted("cannot read `ward seven is called Ada` here"));
    assert!(!quoted("the model `a-model-with-a-long-name` takes no pictures"), "a model's name is no text");
    assert!(!quoted("max_tokens is 5: choose more than 5 for this model"));
    assert!(!quoted("seven"));
    assert!(!quotes("cannot read `ward seven is called Ada` here", b"no JSON"));
}
