//! Tests of what counts as only narrower: what is added, taken away, said otherwise, or merely renamed.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::policy::LayerKind;
use crate::tests::{BANK, OPEN, schema};

fn narrower(old: &str, new: &str) -> bool {
    let parse = |text: &str| Layer::parse(LayerKind::Owner, "test.cedar", text, &schema()).unwrap();
    is_only_narrower(&parse(old), &parse(new))
}

const RULE: &str = "@id(\"eu\")\n@reason(\"stays in the EU\")\nforbid (principal, action, resource)\n\
                    unless { resource has site && resource.site.in_eu };";

#[test]
fn more_forbids_and_fewer_permits_are_narrower() {
    let ruled = format!("{OPEN}\n{RULE}");
    assert!(narrower(BANK, BANK));
    assert!(narrower(OPEN, &ruled));
    assert!(narrower(BANK, &format!("{BANK}\n{RULE}")));
    assert!(narrower(&ruled, RULE), "without its permit it permits nothing");
    assert!(narrower(OPEN, ""));
}

#[test]
fn another_name_reason_order_or_layout_changes_nothing() {
    let renamed = RULE.replace("\"eu\"", "\"europe\"").replace("stays", "remains").replace("@id", "@relax(\"2\")\n@id");
    assert!(narrower(&format!("{OPEN}\n{RULE}"), &format!("// moved\n{renamed}\n\n{OPEN}")));
}

#[test]
fn fewer_forbids_and_more_permits_are_not() {
    let ruled = format!("{OPEN}\n{RULE}");
    assert!(!narrower(&ruled, OPEN));
    assert!(!narrower(&ruled, &ruled.replace("in_eu", "in_eea")));
    assert!(!narrower("", OPEN));
    let embed = "permit (principal, action == Action::\"embed\", resource);";
    assert!(!narrower(embed, OPEN));
    assert!(!narrower(embed, &embed.replace("embed", "infer")));
    assert!(!narrower(OPEN, embed), "narrower in truth, but not to be seen from the words");
}
