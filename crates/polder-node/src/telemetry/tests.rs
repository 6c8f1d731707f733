//! What a `traceparent` may be, and what of a trace goes on.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;

const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

#[test]
fn a_traceparent_is_read_and_written_again() {
    let context = Context::parse(GOOD).unwrap();
    assert_eq!((context.span, context.sampled), (0x00f0_67aa_0ba9_02b7, true));
    assert_eq!(context.header().unwrap(), GOOD);
    let later = Context::parse("01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00-what-comes").unwrap();
    assert_eq!((later.trace, later.sampled), (context.trace, false));
}

#[test]
fn what_is_not_a_traceparent_is_not_there() {
    for bad in [
        "",
        "00",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
        "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
        "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
        "My secret prompt",
    ] {
        assert_eq!(Context::parse(bad), None, "{bad}");
    }
    let mut headers = HeaderMap::new();
    headers.append("traceparent", HeaderValue::from_static(GOOD));
    assert!(Origin::of_peer(&headers).is_some());
    headers.append("traceparent", HeaderValue::from_static(GOOD));
    assert!(Origin::of_peer(&headers).is_none(), "two of them say nothing");
}

#[tokio::test]
async fn what_is_asked_next_is_a_child_and_the_flag_stays() {
    assert_eq!(header(), None, "outside of a request");
    let origin = Origin { trace: 7, parent: Some(8), sampled: false };
    let trace = Trace::begin(origin);
    let passed = within(Some(&trace), async { header() }).await.unwrap();
    let passed = Context::parse(passed.to_str().unwrap()).unwrap();
    assert_eq!(passed, Context { trace: 7, span: trace.context.span, sampled: false });
    assert_eq!(within(None, async { header() }).await, None);
    let sampled = Trace::begin(Origin { sampled: true, ..origin });
    let (outer, inner, after) = within(Some(&sampled), async {
        let outer = header();
        let child = engine_call(Some("here"), None);
        let inner = header();
        drop(child);
        (outer, inner, header())
    })
    .await;
    assert_ne!(outer, inner);
    assert_eq!(outer, after, "what comes after a child is its sibling");
}
