//! The bounds of labels, and that counters of one name are one.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;

fn page() -> String {
    prometheus::TextEncoder::new().encode_to_string(&gathered()).unwrap()
}

#[test]
fn what_is_known_is_bounded_and_made_once() {
    let known: Known<String, u32> = Known::new();
    let of = |key: &str, value| known.of(key, 2, || key.to_owned(), || Some(value));
    assert_eq!(of("a", 1).as_deref(), Some(&1));
    assert_eq!(of("b", 2).as_deref(), Some(&2));
    assert_eq!(of("a", 9).as_deref(), Some(&1), "made once");
    assert_eq!(of("c", 3), None, "there is no room for a third");
}

#[test]
fn codes_and_rules_beyond_the_bound_are_other() {
    let metrics = metrics().unwrap();
    for number in 0..RULES_MAX + 10 {
        told_error(&format!("code-{number}"));
        metrics.refused_by(LayerKind::Owner, &format!("rule-{number}"));
    }
    let page = page();
    let codes = page.lines().filter(|line| line.starts_with("polder_errors_total{")).count();
    let rules = page.lines().filter(|line| line.starts_with("polder_refusals_total{")).count();
    assert_eq!((codes, rules), (RULES_MAX + 1, RULES_MAX + 1));
    let other = |name: &str| {
        page.lines().any(|line| line.starts_with(name) && line.contains("_OTHER") && line.ends_with(" 10"))
    };
    assert!(other("polder_errors_total") && other("polder_refusals_total"), "{page}");
}

#[test]
fn what_is_open_is_counted_until_it_is_dropped() {
    let gauge = metrics().map(|metrics| &metrics.connections);
    let before = gauge.unwrap().get();
    let (one, two) = (connection(), connection());
    assert_eq!(gauge.unwrap().get(), before + 2);
    drop((one, two));
    assert_eq!(gauge.unwrap().get(), before);
}
