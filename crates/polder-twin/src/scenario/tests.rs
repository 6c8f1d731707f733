//! Tests of the runner itself: what it refuses to read, and that it repeats itself to the byte.
#![allow(clippy::unwrap_used)]

use super::*;

const DEMO: &str = include_str!("../../../../demo/federation.toml");

fn federation() -> Federation {
    let open = |_: &str| Some("permit (principal, action, resource);");
    Federation::parse("federation.toml", DEMO, open).unwrap()
}

#[test]
fn remarks_and_commands_stay_and_old_answers_go() {
    let text = "# A remark.\n\n$ ask bank\nnonsense\nmore of it\n# Another.\n$ verify\n";
    let expected = "# A remark.\n\n$ ask bank\nplaced in virginia\n# Another.\n$ verify\n\
                    the receipt holds: format, keys, members, checkpoint, inclusion, tables, pairing\n";
    let actual = run("a.txt", text, &federation()).unwrap();
    assert_eq!(actual, expected);
    assert_eq!(run("a.txt", &actual, &federation()).unwrap(), actual);
}

#[test]
fn faults_are_named_with_their_line() {
    let cases = [
        ("dance", "`dance` is not a command: use `ask`, `why`"),
        ("", "no command after `$`"),
        ("ask", "`ask` takes a tenant"),
        ("ask nobody", "`nobody` is not a tenant: use one of `bank`, `defence`"),
        ("ask bank --project x", "`x` is not a project: use one of `customer-service`, `website`"),
        ("ask bank --class", "`--class` needs a value"),
        ("ask bank --class secret", "`secret` is not a class: use one of public, internal"),
        ("ask bank --class public --class public", "`--class` is given twice"),
        ("ask bank --purpose fun", "`fun` is not a purpose"),
        ("ask bank --countries XX", "`XX` is not a"),
        ("ask bank --model ?", "`?` is not a model name"),
        ("ask bank --action paint", "`paint` is not a"),
        ("ask bank --colour red", "`--colour` is not an option of `ask`"),
        ("why paris", "there is no receipt yet"),
        ("kill", "`kill` takes one factory"),
        ("kill atlantis", "`atlantis` is not a factory: use one of `paris`"),
        ("revive paris", "`paris` is not gone"),
        ("empty paris", "`paris` is not full"),
        ("expire paris", "`expire` takes a factory, a kind"),
        ("expire paris colour", "`paris` has no fact `colour` that holds: use `site`"),
        ("advance", "`advance` takes a duration"),
        ("advance soon", "`soon` is not a duration"),
        ("advance -1d", "`-1d` is not a duration"),
        ("verify now", "`verify` takes nothing after it"),
        ("verify", "there is no receipt yet: `ask` first"),
        ("flip", "`flip` takes a byte's place"),
        ("flip x", "`x` is not a byte's place"),
        ("audit", "there is no receipt yet"),
    ];
    for (command, expected) in cases {
        let error = run("a.txt", &format!("# One.\n$ {command}\n"), &federation()).unwrap_err().to_string();
        assert!(error.starts_with(&format!("a.txt:2: {expected}")), "{command}: {error}");
    }
    let error = run("a.txt", "placed in paris\n", &federation()).unwrap_err().to_string();
    assert!(error.starts_with("a.txt:1: a transcript before the first command"), "{error}");
    let error = run("a.txt", "$ ask bank\n$ flip 99999999\n", &federation()).unwrap_err().to_string();
    assert!(error.starts_with("a.txt:2: the receipt has "), "{error}");
}

#[test]
fn a_policy_that_cannot_be_read_stops_the_scenario() {
    let broken =
        |path: &str| Some(if path.contains("bank") { "permit (" } else { "permit (principal, action, resource);" });
    let federation = Federation::parse("federation.toml", DEMO, broken).unwrap();
    let error = run("a.txt", "$ ask bank\n", &federation).unwrap_err().to_string();
    assert!(error.contains("bank.cedar:1:"), "{error}");
}
