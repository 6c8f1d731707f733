//! `polder decide` against the running demo: the same verdicts as asking, with nothing run and no leaf made.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use serde_json::{Value, json};
use support::demo::Demo;

fn decide(demo: &Demo, question: &Value) -> support::Ended {
    let file = demo.around().join("request.json");
    std::fs::write(&file, question.to_string()).unwrap();
    demo.polder(&["decide", "--tenant", "bank", "--request", file.to_str().unwrap(), "-o", "json"])
}

fn leaves(demo: &Demo) -> u64 {
    let nodes = demo.polder(&["status", "-o", "json"]).json();
    nodes["nodes"].as_array().unwrap().iter().map(|node| node["log_leaves"].as_u64().unwrap()).sum()
}

#[test]
fn deciding_runs_nothing_and_says_what_asking_would() {
    let demo = Demo::start();
    demo.count_all();
    let before = leaves(&demo);
    let placed = decide(&demo, &json!({"project": "customer-service", "model": "polder-toy"}));
    assert_eq!((placed.code, &placed.json()["factory"]), (0, &json!("munich")));
    assert_eq!(placed.json()["verdicts"].as_array().unwrap().len(), 8);
    let french = decide(&demo, &json!({"project": "customer-service", "model": "polder-toy", "countries": ["FR"]}));
    assert_eq!(french.json()["factory"], "paris");
    let nowhere = decide(&demo, &json!({"project": "customer-service", "model": "polder-toy", "countries": ["US"]}));
    assert_eq!((nowhere.code, &nowhere.json()["outcome"]), (3, &json!("refused")));
    assert!(!nowhere.json()["nearest"].as_array().unwrap().is_empty());
    for (bad, word) in [
        (json!({"project": "nobody", "model": "polder-toy"}), "nobody"),
        (json!({"project": "customer-service", "model": "polder-toy", "class": "public"}), "widen"),
        (json!({"project": "customer-service", "model": "polder-toy", "colour": "blue"}), "colour"),
    ] {
        let ended = decide(&demo, &bad);
        assert!(ended.code == 1 && ended.stderr.contains(word), "{ended:?}");
    }
    assert_eq!(leaves(&demo), before, "nothing was recorded, because nothing was decided for anyone");
}
