//! `polder policy check` and `schema`: what an owner sees before a node ever sees the file.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::path::Path;

use support::{Ended, Folder, polder, run};

fn check(text: &str) -> Ended {
    let folder = Folder::new();
    std::fs::write(folder.path().join("rules.cedar"), text).unwrap();
    run(polder(folder.path()).args(["policy", "check", "rules.cedar"]))
}

#[test]
fn the_demos_policies_hold() {
    let folder = Folder::new();
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../demo");
    for place in ["policies", "terms"] {
        for entry in std::fs::read_dir(demo.join(place)).unwrap() {
            let ended = run(polder(folder.path()).args(["policy", "check"]).arg(entry.unwrap().path()));
            assert!(ended.code == 0 && ended.stdout.contains("holds"), "{ended:?}");
        }
    }
}

#[test]
fn a_fault_is_shown_with_line_column_and_caret() {
    let ended = check("permit (principal, action, resource);\n\n@id(\"a\")\nforbid (principal, action, resource);\n");
    assert_eq!(ended.code, 1);
    assert!(ended.stdout.starts_with("rules.cedar:4:1: "), "{}", ended.stdout);
    assert!(ended.stdout.contains("4 | forbid (principal, action, resource);\n  | ^"), "{}", ended.stdout);
    assert!(ended.stdout.contains("next: put `@id("), "{}", ended.stdout);
    let syntax = check("permit (principal, action resource);\n");
    assert!(syntax.code == 1 && syntax.stdout.contains("rules.cedar:1:27: "), "{}", syntax.stdout);
}

#[test]
fn a_file_beyond_the_limit_is_not_read() {
    let ended = check(&"// much\n".repeat(200_000));
    assert!(ended.code == 1 && ended.stderr.contains("at most"), "{ended:?}");
}

#[test]
fn the_schema_is_printed() {
    let folder = Folder::new();
    let ended = run(polder(folder.path()).args(["policy", "schema"]));
    assert!(ended.code == 0 && ended.stdout.contains("entity Factory"), "{}", ended.stdout);
}
