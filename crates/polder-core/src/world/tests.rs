//! Tests of worlds as data: a small world is decided, and what is wrong with one is said.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use serde_json::{Value, json};

use super::*;
use crate::placement::{Outcome, decide};
use crate::tests::{BANK, schema};

fn bank() -> Value {
    json!({
        "tenant": "bank", "project": "letters", "model": "polder-toy", "class": "customer", "purposes": ["finance"],
        "world": {
            "owner": {"file": "policies/bank.cedar"},
            "factories": [
                {"name": "paris", "facts": [
                    {"kind": "site", "country": "FR", "city": "Paris", "evidence": "B"},
                    {"kind": "operator", "name": "Seine", "country": "FR", "evidence": "B"},
                    {"kind": "control", "owners": [], "evidence": "B"},
                    {"kind": "certification", "scheme": "iso-27001", "evidence": "B"},
                ]},
                {"name": "virginia", "facts": [{"kind": "site", "country": "US", "city": "Ashburn", "evidence": "A"}]},
            ],
        },
    })
}

fn snapshot(file: &Value) -> Result<(Snapshot, Request), WorldError> {
    let asked: WorldRequest = serde_json::from_value(file.clone()).unwrap();
    let read = |path: &str| match path {
        "policies/bank.cedar" => Ok(BANK.to_owned()),
        _ => Err("no such file".to_owned()),
    };
    Ok((asked.snapshot(&schema(), &read)?, asked.request()))
}

#[test]
fn a_world_is_decided_and_written_back_as_it_was_read() {
    let (snapshot, request) = snapshot(&bank()).unwrap();
    let decision = decide(&snapshot, &request, &BTreeMap::new());
    assert_eq!(decision.outcome, Outcome::Placed);
    assert_eq!(decision.factory.unwrap().as_str(), "paris");
    let virginia = decision.verdicts.iter().find(|verdict| verdict.factory.as_str() == "virginia").unwrap();
    assert_eq!(virginia.causes[0].clause.as_ref().unwrap().file, "bank.cedar");
    let read: WorldRequest = serde_json::from_value(bank()).unwrap();
    let again: WorldRequest = serde_json::from_value(serde_json::to_value(&read).unwrap()).unwrap();
    assert_eq!(read, again);
}

#[test]
fn a_text_in_the_world_is_taken_and_no_file_is_read() {
    let mut file = bank();
    file["world"]["owner"] = json!({"file": "none.cedar", "text": ""});
    let (snapshot, request) = snapshot(&file).unwrap();
    let decision = decide(&snapshot, &request, &BTreeMap::new());
    assert!(decision.verdicts.iter().all(|verdict| verdict.causes[0].rule == "not-permitted"));
}

#[test]
fn facts_that_contradict_each_other_mean_absent() {
    let mut file = bank();
    let site = json!({"kind": "site", "country": "DE", "city": "Bonn", "evidence": "B"});
    file["world"]["factories"][0]["facts"].as_array_mut().unwrap().push(site);
    let (snapshot, request) = snapshot(&file).unwrap();
    // The same issuer says both; neither is later, so one replaces the other: still a site, still placed.
    assert_eq!(decide(&snapshot, &request, &BTreeMap::new()).outcome, Outcome::Placed);
}

#[test]
fn what_is_wrong_is_said() {
    let wrong = |change: &dyn Fn(&mut Value)| {
        let mut file = bank();
        change(&mut file);
        snapshot(&file).map(drop).unwrap_err().to_string()
    };
    assert_eq!(wrong(&|file| file["purposes"] = json!([])), "`purposes` is empty: name at least one");
    assert_eq!(wrong(&|file| file["world"]["owner"]["file"] = "x.cedar".into()), "`x.cedar`: no such file");
    assert_eq!(
        wrong(&|file| file["world"]["factories"][1]["name"] = "paris".into()),
        "the factory `paris` stands twice in the world"
    );
    let broken = wrong(&|file| file["world"]["factories"][0]["terms"] = json!({"file": "t", "text": "permit ("}));
    assert!(broken.starts_with("t:1:"), "{broken}");
    for (pointer, field) in [("", "colour"), ("/world", "colour"), ("/world/factories/0/facts/0", "colour")] {
        let mut file = bank();
        file.pointer_mut(pointer).unwrap()[field] = "red".into();
        assert!(serde_json::from_value::<WorldRequest>(file).is_err(), "{pointer} takes no unknown field");
    }
}
