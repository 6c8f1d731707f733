//! Tests of the limits: whatever is within them is read on a small stack, whatever is not is refused with its place.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use super::*;
use crate::policy::{Layer, LayerKind, PolicyError};
use crate::tests::schema;

/// As large as a worker's stack in a node.
const STACK_BYTES: usize = 2 << 20;

/// Reads a layer on a thread with a node's stack.
fn parse(text: String) -> Result<Layer, PolicyError> {
    let read = move || Layer::parse(LayerKind::Terms, "terms.cedar", &text, &schema());
    std::thread::Builder::new().stack_size(STACK_BYTES).spawn(read).unwrap().join().unwrap()
}

fn refused(text: String) -> String {
    let error = parse(text).unwrap_err();
    assert!(error.hint.is_some());
    error.to_string()
}

fn rule(condition: &str) -> String {
    format!(
        "permit (principal, action, resource);\n@id(\"a\")\n@reason(\"b\")\nforbid (principal, action, resource)\nwhen {{ {condition} }};\n"
    )
}

#[test]
fn ten_megabytes_of_anything_are_refused_with_the_limit() {
    let many = "@id(\"a\")@reason(\"b\")forbid(principal,action,resource)when{context.class==Class::\"public\"};\n";
    for text in ["(", "!", "{a:", "[", many, "a.", "\"", "//", "permit", "é"] {
        let text = text.repeat(10 * TEXT_BYTES_MAX / text.len());
        let length = text.len();
        assert_eq!(refused(text), format!("terms.cedar:1:1: the text has {length} bytes; at most 1048576 are read"));
    }
}

#[test]
fn a_megabyte_of_anything_deep_is_refused_where_it_becomes_too_much() {
    let full = |text: &str| text.repeat((TEXT_BYTES_MAX - 200) / text.len());
    for (text, says) in [
        (full("("), "brackets nest"),
        (full("["), "brackets nest"),
        (full("{a:"), "brackets nest"),
        (full("!("), "brackets nest"),
        (full("!"), "operators and brackets"),
        (full("-"), "operators and brackets"),
        (format!("true{}", full("&&true")), "operators and brackets"),
        (format!("true{}", full(" || true")), "operators and brackets"),
        (format!("1{} == 1", full("+1")), "operators and brackets"),
        (format!("resource{}", full(".a")), "operators and brackets"),
        (format!("resource{}", full("[\"a\"]")), "operators and brackets"),
        (format!("[1]{}", full(".contains(1)")), "operators and brackets"),
        (format!("true}}{}when{{true", full("when{true}")), "operators and brackets"),
        (format!("{}true", full("if true then true else ")), "operators and brackets"),
        (format!("[{}1].contains(1)", full("1,")), "entries"),
    ] {
        let error = refused(rule(&text));
        assert!(error.starts_with("terms.cedar:5:") && error.contains(says), "{error}");
    }
    assert!(refused(full("permit(principal,action,resource);")).contains("more than 1000 policies"));
}

/// A node with a small stack lives through everything that the limits let pass.
#[test]
fn what_is_just_within_the_limits_does_not_end_the_process() {
    let shapes = [
        ("(", ")", NESTING_MAX - 1),
        ("!(", ")", NESTING_MAX - 1),
        ("[", "]", NESTING_MAX - 1),
        ("{a:", "}", NESTING_MAX - 1),
        ("[1].contains(", ")", NESTING_MAX - 1),
        ("if true then ", " else true", OPERATORS_MAX - 10),
    ];
    for (open, close, count) in shapes {
        let read = parse(rule(&format!("{}true{}", open.repeat(count), close.repeat(count))));
        assert!(read.err().is_none_or(|error| !error.message.contains("more than")), "{open}");
    }
    for chain in ["&& true", "|| true", "&& resource has site", "|| !true"] {
        let count = (OPERATORS_MAX - 10) / (1 + usize::from(chain.contains('!')));
        parse(rule(&format!("true {}", format!("{chain} ").repeat(count)))).unwrap();
    }
    // The deepest that brackets and operators make together.
    let mixed = "true && (".repeat(NESTING_MAX - 1) + "true" + &" && true".repeat(150) + &")".repeat(NESTING_MAX - 1);
    parse(rule(&mixed)).unwrap();
    let countries = ["FR", "DE"].iter().cycle().take(ENTRIES_MAX - 5).map(|one| format!("Country::\"{one}\""));
    let listed = format!(
        "context has countries && [{}].containsAny(context.countries)",
        countries.collect::<Vec<_>>().join(",")
    );
    parse(rule(&listed)).unwrap();
}

#[test]
fn what_stands_in_strings_and_comments_does_not_count() {
    let quoted = format!("context.project == \"{}\\\"{}\"", "(".repeat(400), "permit (".repeat(2_000));
    parse(rule(&quoted)).unwrap();
    parse(format!("{}{}\n", rule("true"), "// ((((".repeat(10_000))).unwrap();
    let many: String = (0..POLICIES_MAX - 1)
        .map(|number| rule("true").replace("\"a\"", &format!("\"a{number}\"")).split_off(38))
        .collect();
    assert_eq!(
        parse(format!("permit (principal, action, resource);\n{many}")).unwrap().rules().count(),
        POLICIES_MAX - 1
    );
}
