//! Tests of reading streams: a line means the same whatever lines came before it.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use proptest::prelude::*;
use serde_json::json;

use super::*;

/// A chunk of one choice around a text, in one of several forms.
fn chunk(form: u8, text: &str) -> String {
    let plain = json!({"id": "c", "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": null}]});
    let value = match form {
        0..=4 => plain,
        5 => json!({"id": "c", "choices": [{"index": 1, "delta": {"content": text}, "finish_reason": null}]}),
        6 => json!({"id": "c", "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": "stop"}]}),
        7 => json!({"id": "c", "choices": [{"index": 0, "delta": {"content": text, "refusal": {"content": text}}}]}),
        8 => json!({"id": "c", "choices": [{"index": 0, "text": text, "delta": {}}], "model": {"content": text}}),
        9 => json!({"id": "c", "choices": [{"index": 0, "delta": {"content": text, "reasoning_content": text}}]}),
        10 => json!({"id": "c", "choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2}}),
        _ => json!({"id": text, "choices": [{"index": 0, "delta": {"content": text}, "logprobs": {"content": []}}]}),
    };
    format!("data: {value}")
}

fn events(told: &mut Told, line: &str) -> Vec<Event> {
    told.line(line.as_bytes()).unwrap();
    told.ready.drain(..).collect()
}

proptest! {
    #[test]
    fn a_line_means_the_same_after_any_others(
        lines in proptest::collection::vec((0_u8..12, r#"[ab"\\{}:,é\n\u{1}\u{7f}]{0,6}"#), 1..24),
    ) {
        let mut told = Told::default();
        for (form, text) in lines {
            let line = chunk(form, &text);
            prop_assert_eq!(events(&mut told, &line), events(&mut Told::default(), &line), "{}", line);
        }
    }
}

#[test]
fn lines_that_differ_in_their_text_alone_are_known_again() {
    let mut told = Told::default();
    assert_eq!(events(&mut told, &chunk(0, "one")).len(), 1);
    let alike = told.alike.as_ref().unwrap();
    let data = |text: &str| chunk(0, text).trim_start_matches("data: ").to_owned();
    for text in ["two", " three", "vier é"] {
        assert_eq!(alike.event(data(text).as_bytes()), events(&mut Told::default(), &chunk(0, text)).pop());
    }
    for text in ["", "a \"quote\"", "back\\slash", "line\nfeed"] {
        assert_eq!(alike.event(data(text).as_bytes()), None, "{text}");
    }
    // What is no JSON is none, however much it looks like the line before.
    for broken in [data("zz").replace("zz", "z\"z"), data("zz").replace("zz", "\u{1}"), data("zz").replace("}]", "}}")]
    {
        assert!(told.line(format!("data: {broken}").as_bytes()).is_err(), "{broken}");
    }
    assert!(told.line(b"data: {\"choices\":[{\"delta\":{\"content\":\"\xff\"}}]}").is_err());
}
