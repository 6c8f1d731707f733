//! `polder policy check`, `test` and `schema`: what an owner sees before a node ever sees the file.

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

const TESTED: &str = "permit (principal, action, resource);\n@id(\"french\")\n@reason(\"in France\")\n\
                      forbid (principal, action, resource)\nwhen { context.class != Class::\"public\" }\n\
                      unless { resource has site && resource.site.country == Country::\"FR\" };\n";
const TESTS: &str = "policy = \"rules.cedar\"\n[request]\nclass = \"customer\"\npurposes = [\"finance\"]\n\
                     [[factories]]\nname = \"lyon\"\nfacts = [{ kind = \"site\", country = \"FR\", city = \"Lyon\", evidence = \"C\" }]\n\
                     [[factories]]\nname = \"bonn\"\nfacts = [{ kind = \"site\", country = \"DE\", city = \"Bonn\", evidence = \"C\" }]\n\
                     [[cases]]\nname = \"in France\"\nfactory = \"lyon\"\nexpect = \"placed\"\n\
                     [[cases]]\nname = \"in Germany\"\nfactory = \"bonn\"\nexpect = \"refused\"\nby = [\"french\"]\n";
const PUBLIC: &str = "[[cases]]\nname = \"public\"\nfactory = \"bonn\"\nclass = \"public\"\nexpect = \"placed\"\n";

#[test]
fn a_policy_is_held_against_its_own_tests() {
    let folder = Folder::new();
    let tested = |policy: &str, tests: &str, more: &[&str]| {
        std::fs::write(folder.path().join("rules.cedar"), policy).unwrap();
        std::fs::write(folder.path().join("rules.test.toml"), tests).unwrap();
        run(polder(folder.path()).args(["policy", "test", "rules.test.toml"]).args(more))
    };
    let passes = tested(TESTED, TESTS, &[]);
    assert_eq!(
        (passes.code, passes.stdout.as_str()),
        (0, "rules.test.toml: rules.cedar passes 2 cases\n"),
        "{passes:?}"
    );
    // The rule that was expected and the one that answered both stand there.
    let fails = tested(&TESTED.replace("\"french\"", "\"gallic\""), TESTS, &[]);
    assert_eq!(fails.code, 1, "{fails:?}");
    for line in
        ["fails 1 of 2 cases", "`in Germany` at bonn", "expected: refused by `french`", "answered: refused by `gallic`"]
    {
        assert!(fails.stdout.contains(line), "{line}: {}", fails.stdout);
    }
    // Nobody asks with public data: the condition could go.
    let lacking = tested(TESTED, TESTS, &["--mutations"]);
    assert_eq!(lacking.code, 1, "{lacking:?}");
    assert!(lacking.stdout.contains("no case notices that `french` lacks the whole `when`"), "{}", lacking.stdout);
    let whole = tested(TESTED, &format!("{TESTS}{PUBLIC}"), &["--mutations", "-o", "json"]);
    assert_eq!((whole.code, &whole.json()["files"][0]["unnoticed"]), (0, &serde_json::json!([])), "{whole:?}");
    let wrong = tested(TESTED, &TESTS.replace("bonn", "BONN"), &[]);
    assert!(wrong.code == 1 && wrong.stderr.contains("rules.test.toml:"), "{wrong:?}");
}
