//! Tests of what is remembered of a route, and of where a conversation falls.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::*;

const LIMITS: Limits = Limits { failures: 2, forget_ms: 60_000, open_ms: 60_000, open_ms_max: 60_000, probe_ms: 1_000 };

fn chat(messages: &[(&str, &str)]) -> ChatRequest {
    let messages: Vec<_> =
        messages.iter().map(|(role, text)| serde_json::json!({"role": role, "content": text})).collect();
    serde_json::from_value(serde_json::json!({"model": "m", "messages": messages})).unwrap()
}

#[test]
fn it_says_when_others_must_look_again() {
    let route = Route::default();
    let (pass, probe) = route.enter(&LIMITS).unwrap();
    assert!(!probe && !route.judge(pass, Came::Failed, &LIMITS));
    assert!(!route.ended(true, &LIMITS), "a whole answer forgives");
    for opens in [false, true] {
        let (pass, _) = route.enter(&LIMITS).unwrap();
        assert_eq!(route.judge(pass, Came::Failed, &LIMITS), opens);
    }
    assert!(matches!(route.standing(), Standing::Open { .. }) && route.enter(&LIMITS).is_err());
}

#[test]
fn measurements_are_smoothed() {
    let route = Route::default();
    assert_eq!(route.first_token_us(), 0);
    route.measure(Duration::from_millis(80));
    assert_eq!(route.first_token_us(), 80_000);
    route.measure(Duration::from_millis(160));
    assert_eq!(route.first_token_us(), 90_000);
    assert_eq!(smoothed(u64::MAX, u64::MAX), u64::MAX, "no overflow");
}

#[test]
fn a_conversation_keeps_its_place_as_it_grows() {
    let salt = [7; 32];
    let first = chat(&[("system", "be brief"), ("user", "hello")]);
    let later = chat(&[("system", "be brief"), ("user", "hello"), ("assistant", "hi"), ("user", "more")]);
    let place = affinity(&salt, "bank", &first);
    assert_eq!(affinity(&salt, "bank", &later), place);
    assert_ne!(affinity(&salt, "bank", &chat(&[("system", "be brief"), ("user", "hullo")])), place);
    assert_ne!(affinity(&salt, "bank", &chat(&[("system", "be briefh"), ("user", "ello")])), place);
    assert_ne!(affinity(&salt, "lab", &first), place, "tenants do not find each other's places");
    assert_ne!(affinity(&[8; 32], "bank", &first), place, "nor does anybody without the salt");
    // Only a beginning is read, whatever the length.
    let long = "x".repeat(1 << 20);
    let one = affinity(&salt, "bank", &chat(&[("system", &long), ("user", "a")]));
    assert_eq!(one, affinity(&salt, "bank", &chat(&[("system", &(long + "y")), ("user", "a")])));
}
