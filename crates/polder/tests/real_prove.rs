//! `polder policy prove` and `polder decide` as a person uses them: a claim is proven, another refuted, and the request that
//! shows it is decided from its file alone, without any node.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use serde_json::Value;
use support::{Folder, has_solver, polder, run};

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

const EUROPE: &str = "permit (principal, action, resource);\n\n@id(\"in-the-eea\")\n@reason(\"Europe\")\nforbid (principal, \
                      action, resource)\nunless { resource has site && resource.site.in_eea };\n";

#[test]
fn a_proven_claim_says_so_and_in_how_long() {
    if !has_solver("prove_proven") {
        return;
    }
    let folder = Folder::new();
    std::fs::write(folder.path().join("europe.cedar"), EUROPE).unwrap();
    let words = ["-o", "json", "policy", "prove", "--claim", "start-up-in-the-eea", "--policy", "europe.cedar"];
    let ended = run(polder(folder.path()).args(words));
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let claim = &json(&ended.stdout)["claims"][0];
    assert_eq!(claim["name"], "start-up-in-the-eea");
    assert_eq!(claim["verdict"], "proven");
    assert_eq!(claim["policy_set"][0], "europe.cedar");
    assert!(claim["ms"].as_u64().is_some());
}

#[test]
fn a_refuted_claim_gives_a_request_that_is_decided_the_same_way() {
    if !has_solver("prove_refuted") {
        return;
    }
    let folder = Folder::new();
    std::fs::write(folder.path().join("europe.cedar"), EUROPE).unwrap();
    let claim = "name = \"norway\"\nsays = \"Nothing runs in Norway.\"\npolicies = [\"europe.cedar\"]\n\
                 never_permitted_when = 'resource has site && resource.site.country == Country::\"NO\"'\n";
    std::fs::write(folder.path().join("norway.toml"), claim).unwrap();
    let ended = run(polder(folder.path()).args(["policy", "prove", "--claim", "norway.toml", "--write", "shown"]));
    assert_eq!(ended.code, 5, "{}{}", ended.stdout, ended.stderr);
    assert!(ended.stdout.contains("refuted") && ended.stdout.contains("Nothing runs in Norway."), "{}", ended.stdout);
    let file = std::fs::read_to_string(folder.path().join("shown/norway.request.json")).unwrap();
    let facts = json(&file)["world"]["factories"][0]["facts"].clone();
    assert_eq!(facts.as_array().unwrap().len(), 1, "what the exception does not need is left out: {facts}");
    assert_eq!(facts[0]["country"], "NO");
    let ended = run(polder(folder.path()).args(["-o", "json", "decide", "--request", "shown/norway.request.json"]));
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert_eq!(json(&ended.stdout)["outcome"], "placed");
}

#[test]
fn a_world_of_ones_own_is_decided_from_its_files() {
    let folder = Folder::new();
    std::fs::create_dir(folder.path().join("policies")).unwrap();
    std::fs::write(folder.path().join("policies/europe.cedar"), EUROPE).unwrap();
    let request = r#"{"tenant": "bank", "project": "letters", "model": "polder-toy", "class": "customer", "purposes": ["finance"],
        "world": {"owner": {"file": "policies/europe.cedar"}, "factories": [
            {"name": "virginia", "facts": [{"kind": "site", "country": "US", "city": "Ashburn", "evidence": "B"}]}]}}"#;
    std::fs::write(folder.path().join("request.json"), request).unwrap();
    let ended = run(polder(folder.path()).args(["decide", "--request", "request.json"]));
    assert_eq!(ended.code, 3, "{}{}", ended.stdout, ended.stderr);
    assert!(ended.stdout.contains("in-the-eea"), "{}", ended.stdout);
    std::fs::remove_file(folder.path().join("policies/europe.cedar")).unwrap();
    let ended = run(polder(folder.path()).args(["decide", "--request", "request.json"]));
    assert_eq!(ended.code, 1);
    assert!(ended.stderr.contains("policies/europe.cedar"), "{}", ended.stderr);
}

#[test]
fn without_a_solver_nothing_is_proven() {
    let folder = Folder::new();
    let mut command = polder(folder.path());
    command.args(["policy", "prove", "--all"]).env("PATH", folder.path()).env_remove("POLDER_CVC5");
    let ended = run(&mut command);
    assert_eq!(ended.code, 1);
    assert!(ended.stderr.contains("no solver") && ended.stdout.is_empty(), "{}", ended.stderr);
}
