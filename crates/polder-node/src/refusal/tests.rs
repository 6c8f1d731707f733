//! Tests of the refusal's sentences: each kind of change reads as one clause.
#![allow(clippy::unwrap_used)]

use super::*;

fn sentence_of(changes: &str) -> String {
    let text = format!(r#"{{"factory":"a","changes":{changes},"distance":1}}"#);
    relaxation_sentence(&serde_json::from_str(&text).unwrap())
}

#[test]
fn each_change_is_a_clause() {
    let cases = [
        (r#"[{"layer":"owner","rule":"r"}]"#, "you gave up `r`"),
        (r#"[{"layer":"terms","rule":"not-permitted"}]"#, "the factory permitted it"),
        (r#"[{"layer":"availability","rule":"unreachable"}]"#, "it answered again"),
        (r#"[{"layer":"availability","rule":"model-not-served"}]"#, "`model-not-served` no longer held"),
        (r#"[{"fact":{"slot":"control","from":"C","to":"B"}}]"#, "its `control` were attested by a third party (B)"),
        (r#"[{"fact":{"slot":"clearances/FR","to":"C"}}]"#, "it had `clearances/FR`, declared (C)"),
        (
            r#"[{"fact":{"slot":"control","says":"Owner (FR)","issuer":"register","to":"B"}}]"#,
            "nobody contradicted `register` that its `control` is Owner (FR)",
        ),
        (
            r#"[{"layer":"baseline","rule":"r"},{"fact":{"slot":"site","from":"B","to":"A"}}]"#,
            "the federation gave up `r` and its `site` were measured (A)",
        ),
    ];
    for (changes, clause) in cases {
        assert_eq!(sentence_of(changes), format!("a would run it if {clause}"));
    }
}
