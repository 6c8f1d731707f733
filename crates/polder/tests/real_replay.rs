//! `polder replay`: decisions of a running demo come out again byte for byte, with the node, without it, and after the policy
//! has changed; what was altered does not.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::path::PathBuf;

use serde_json::{Value, json};
use support::Ended;
use support::demo::Demo;
use support::http::socket_call;

const CHAT: &str = "/v1/chat/completions";

/// Asks, and keeps the receipt in a file.
fn receipt(demo: &Demo, tenant: &str, project: &str, name: &str) -> PathBuf {
    let body =
        json!({"model": "polder-toy", "messages": [{"role": "user", "content": "What is Polder?"}], "max_tokens": 4});
    let reply = demo.endpoint(tenant, project).post(CHAT, &body);
    let id = reply.header("polder-decision").unwrap().to_owned();
    let socket = demo.node_folder(&format!("{tenant}-home")).join("state/api.sock");
    let receipt = socket_call(&socket, "GET", &format!("/api/v1/receipts/{id}"));
    assert_eq!(receipt.status, 200, "{}", receipt.text());
    let file = demo.around().join(name);
    std::fs::write(&file, receipt.text()).unwrap();
    file
}

fn replay(demo: &Demo, file: &std::path::Path, more: &[&str]) -> Ended {
    demo.polder(&[&["replay", file.to_str().unwrap(), "-o", "json"], more].concat())
}

/// The same receipt with another value at a place, in canonical form again.
fn altered(demo: &Demo, file: &std::path::Path, pointer: &str, value: Value) -> PathBuf {
    let mut receipt: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    *receipt.pointer_mut(pointer).unwrap() = value;
    let other = demo.around().join("altered.json");
    std::fs::write(&other, format!("{receipt}\n")).unwrap();
    other
}

#[test]
fn decisions_come_out_again_with_the_node_and_without() {
    let demo = Demo::start();
    let placed = receipt(&demo, "bank", "website", "placed.json");
    let kept = demo.around().join("sources.json");
    let again = replay(&demo, &placed, &["--tenant", "bank", "--keep", kept.to_str().unwrap()]);
    assert_eq!((again.code, again.json()["same"].as_bool()), (0, Some(true)), "{again:?}");
    assert_eq!(again.json()["given"], json!([]), "everything was derived");
    // The owner's policy changes: what was decided before is derived by the one of before.
    let policy = demo.around().join("open.cedar");
    std::fs::write(&policy, "permit (principal, action, resource);\n").unwrap();
    let active = demo.polder(&["policy", "activate", policy.to_str().unwrap(), "--tenant", "bank"]);
    assert_eq!(active.code, 0, "{active:?}");
    assert_eq!(replay(&demo, &placed, &["--tenant", "bank"]).code, 0);
    let after = receipt(&demo, "bank", "website", "after.json");
    assert_eq!(replay(&demo, &after, &["--tenant", "bank"]).code, 0);
    // Sources of another policy do not fit, and say so.
    let other = replay(&demo, &after, &["--sources", kept.to_str().unwrap()]);
    assert!(other.code == 5 && other.stderr.contains("owner's policy"), "{other:?}");
    // A place that is gone is given, not derived.
    assert_eq!(demo.polder(&["kill", "virginia"]).code, 0);
    let without = support::until("virginia is missed", || {
        let file = receipt(&demo, "bank", "website", "without.json");
        let replayed = replay(&demo, &file, &["--tenant", "bank"]);
        assert_eq!(replayed.code, 0, "{replayed:?}");
        let given = replayed.json()["given"].clone();
        Some(given).filter(|given| given == &json!(["virginia: unreachable"]))
    });
    assert!(without.is_array());
    // Any table, statement or proof that was altered is found before anything is derived.
    let scores = altered(&demo, &placed, "/tables/scores/0/7", json!(1));
    let found = replay(&demo, &scores, &["--sources", kept.to_str().unwrap()]);
    assert!(found.code == 5 && found.stderr.contains("`tables`"), "{found:?}");
    let plain = demo.polder(&["replay", placed.to_str().unwrap(), "--sources", kept.to_str().unwrap()]);
    assert!(plain.code == 0 && plain.stdout.starts_with("the same: decision-"), "{plain:?}");
}

#[test]
fn refusals_come_out_again_with_their_advice() {
    let demo = Demo::start();
    for name in ["paris", "munich"] {
        assert_eq!(demo.polder(&["kill", name]).code, 0);
    }
    let refused = receipt(&demo, "bank", "customer-service", "refused.json");
    let why = demo.polder(&["why", "last", "--tenant", "bank", "-o", "json"]).json();
    assert!(why["outcome"] == "refused" && !why["nearest"].as_array().unwrap().is_empty(), "{why}");
    let again = replay(&demo, &refused, &["--tenant", "bank"]);
    assert_eq!((again.code, again.json()["same"].as_bool()), (0, Some(true)), "{again:?}");
    assert_eq!(again.json()["given"], json!(["munich: unreachable", "paris: unreachable"]));
}
