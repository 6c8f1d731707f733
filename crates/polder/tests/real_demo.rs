//! The demo as its users meet it: twelve processes, both official SDKs, killed factories, and nothing left behind.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use support::clients::{checks, program};
use support::demo::Demo;
use support::http::Endpoint;
use support::{Folder, polder, process, run, until};

const BANKS_QUESTION: &str = "Summarise this customer's complaint in one sentence.";

fn ask(question: &str) -> Value {
    json!({"model": "polder-toy", "messages": [{"role": "user", "content": question}], "max_tokens": 16, "temperature": 0})
}

/// Runs the official SDKs' checks against an endpoint, all of which must hold.
fn check_with_sdks(endpoint: &Endpoint, mode: &str) {
    for script in ["python/check.py", "node/check.mjs"] {
        let Some(program) = program(Path::new(script), &format!("{script} {mode}")) else { continue };
        let checks = checks(&program, Path::new(script), &[mode], endpoint);
        let failed: Vec<_> = checks.iter().filter(|check| !check.ok).collect();
        assert!(failed.is_empty() && !checks.is_empty(), "{script} {mode}: {failed:?}");
    }
}

#[test]
fn twelve_processes_serve_both_sdks_within_a_gigabyte() {
    let demo = Demo::start();
    let nodes = demo.record["nodes"].as_array().unwrap();
    assert_eq!(nodes.len(), 12);
    let pids: BTreeSet<u32> = nodes.iter().map(|node| demo.node_pid(node["node"].as_str().unwrap())).collect();
    assert_eq!(pids.len(), 12, "each node is a process of its own");
    assert_eq!(demo.printed["factories"].as_array().unwrap().len(), 8);
    assert!(demo.printed["plainly"].as_str().unwrap().contains("not datacentres"));
    assert!(demo.printed["ready_ms"].as_u64().unwrap() < 30_000, "{}", demo.printed["ready_ms"]);

    check_with_sdks(&demo.endpoint("start-up", "product"), "basics");
    check_with_sdks(&demo.endpoint("bank", "website"), "basics");

    let resident: u64 = pids.iter().map(|pid| process::resident_bytes(*pid)).sum();
    eprintln!("ready in {} ms, {} MB resident", demo.printed["ready_ms"], resident >> 20);
    assert!(resident < 1 << 30, "{resident} bytes");
}

#[test]
fn killed_factories_mean_a_refusal_and_never_the_tempting_answer() {
    let demo = Demo::start();
    let bank = demo.endpoint("bank", "customer-service");
    let before = bank.post("/v1/chat/completions", &ask(BANKS_QUESTION));
    assert_eq!(before.status, 200, "{}", before.text());
    assert!(["paris", "munich"].contains(&before.header("polder-factory").unwrap()));

    for name in ["paris", "munich"] {
        assert_eq!(demo.polder(&["kill", name]).code, 0);
    }
    let again = demo.polder(&["kill", "paris"]);
    assert_eq!(again.code, 1, "{again:?}");
    assert!(again.stderr.contains("`paris` is not running"), "{again:?}");

    for stream in [false, true] {
        let mut body = ask(BANKS_QUESTION);
        body["stream"] = stream.into();
        let refused = bank.post("/v1/chat/completions", &body);
        check_refusal(&refused.json()["error"], refused.status, refused.header("x-should-retry"));
        assert!(refused.header("polder-factory").is_none());
    }
    check_with_sdks(&bank, "refusal");

    let told = demo.polder(&["ask", BANKS_QUESTION, "--tenant", "bank", "-o", "json"]);
    assert_eq!(told.code, 3, "{told:?}");
    assert_eq!(told.json()["status"], "refused");
    assert_eq!(told.json()["verified"], true);
    assert!(told.json()["factory"].is_null());
    // Public data of the same bank still runs, and not only in the EU: a refusal is about the data, not the tenant.
    let website = demo.endpoint("bank", "website").post("/v1/chat/completions", &ask("What is Polder?"));
    assert_eq!(website.status, 200, "{}", website.text());
    // `why` shows the same decision, and `status` the dead.
    let why = demo.polder(&["why", told.json()["decision"].as_str().unwrap(), "-o", "json"]).json();
    assert_eq!(why["outcome"], "refused");
    assert_eq!(why["refusals"], told.json()["refusals"]);
    let status = demo.polder(&["status", "-o", "json"]).json();
    let down: Vec<&Value> = status["nodes"].as_array().unwrap().iter().filter(|node| node["down"] == true).collect();
    assert_eq!(down.len(), 2, "{status}");
    assert_eq!(demo.polder(&["doctor"]).code, 1);
}

fn check_refusal(error: &Value, status: u16, should_retry: Option<&str>) {
    assert_eq!((status, error["code"].as_str()), (403, Some("policy_unsatisfiable")), "{error}");
    assert_eq!(should_retry, Some("false"));
    let refusals = error["refusals"].as_array().unwrap();
    let refused: BTreeSet<&str> = refusals.iter().map(|one| one["factory"].as_str().unwrap()).collect();
    assert_eq!(refused.len(), 8, "{refused:?}");
    assert!(refusals.iter().all(|one| one["rule"].is_string() && one["reason"].is_string()), "{error}");
    let of = |factory: &str, rule: &str| refusals.iter().any(|one| one["factory"] == factory && one["rule"] == rule);
    assert!(of("frankfurt", "customer-data-under-eu-control") && of("virginia", "customer-data-in-the-eu"), "{error}");
    let nearest = error["nearest"].as_array().unwrap();
    assert!(!nearest.is_empty());
    assert!(nearest.iter().all(|one| !one["sentence"].as_str().unwrap().is_empty()), "{error}");
    // The nearest way out is one that the owner declared themselves willing to go, and not over the US parent.
    assert!(
        !nearest[0].to_string().contains("frankfurt") && !nearest[0].to_string().contains("virginia"),
        "{nearest:?}"
    );
    // And somebody could mend it without the owner giving up anything: what Kajaani declares could be attested.
    let fact = json!({ "fact": { "slot": "certifications/iso-27001", "from": "C", "to": "B" } });
    let attested = |one: &Value| one["factory"] == "kajaani" && one["changes"] == json!([fact]);
    assert!(nearest.iter().any(attested), "{nearest:?}");
}

#[test]
fn the_story_is_one_json_document_and_leaves_no_process() {
    let folder = Folder::new();
    let dir = folder.path().join("once");
    let ended = run(polder(folder.path()).args(["demo", "--once", "-o", "json", "--dir"]).arg(&dir));
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(process::left_behind(&dir, Duration::from_secs(5)), Vec::<u32>::new());
    let told = ended.json();
    assert!(told["ready_ms"].is_u64());
    assert_eq!(told["factories"].as_array().unwrap().len(), 8);
    assert_eq!(told["killed"].as_array().unwrap().len(), 2);
    let answers = told["answers"].as_array().unwrap();
    let outcome =
        |answer: &Value| format!("{} {}", answer["tenant"].as_str().unwrap(), answer["status"].as_str().unwrap());
    let outcomes: Vec<String> = answers.iter().map(outcome).collect();
    assert_eq!(
        outcomes,
        ["bank placed", "defence placed", "image-lab placed", "start-up placed", "bank refused"],
        "{told}"
    );
    for answer in answers {
        assert_eq!(answer["verified"], true, "{answer}");
        assert_eq!(answer["factory"].is_string(), answer["status"] == "placed", "{answer}");
        for refusal in answer["refusals"].as_array().unwrap() {
            assert!(["factory", "rule", "reason"].iter().all(|key| refusal[key].is_string()), "{refusal}");
        }
        check_receipt(Path::new(answer["receipt"].as_str().unwrap()), answer, &dir.join("members.json"));
    }
    let again = run(polder(folder.path()).args(["demo", "--once", "--dir"]).arg(&dir));
    assert_eq!(again.code, 1);
    assert!(again.stderr.contains("holds a demo already"), "{again:?}");
}

fn check_receipt(path: &Path, answer: &Value, members: &Path) {
    let folder = path.parent().unwrap();
    let ended = run(polder(folder).arg("verify").arg(path).args(["--offline", "--members"]).arg(members));
    assert_eq!(ended.code, 0, "{ended:?}");
    let receipt: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    if answer["status"] == "placed" {
        let execution = &receipt["execution"]["statement"];
        assert_eq!(execution["backend"], "cpu", "what really ran, whatever chips are declared: {execution}");
        assert_eq!(execution["factory"], answer["factory"]);
    } else {
        assert!(receipt.get("execution").is_none());
    }
}

#[test]
fn however_it_ends_no_process_stays() {
    // Ctrl-C in a terminal reaches the whole group.
    for (signal, group, code) in
        [(Signal::INT, true, Some(0)), (Signal::TERM, false, Some(0)), (Signal::KILL, false, None)]
    {
        let demo = Demo::start();
        let dir = demo.dir.clone();
        assert_eq!(process::of_folder(&dir).len(), 13, "the demo and its nodes");
        let (ended, left) = demo.end(signal, group);
        assert_eq!(ended, code, "{signal:?}");
        assert_eq!(left, Vec::<u32>::new(), "{signal:?}");
    }
}

#[test]
fn a_node_told_to_stop_stops_and_ends_answers_first() {
    let demo = Demo::start();
    // The bank's home has answered and holds open connections to its factories.
    let bank = demo.endpoint("bank", "website");
    assert_eq!(bank.post("/v1/chat/completions", &ask("What is Polder?")).status, 200);
    let asking = std::thread::spawn(move || {
        let mut body = ask("Tell me about receipts.");
        body["stream"] = true.into();
        body["max_tokens"] = 200.into();
        bank.post("/v1/chat/completions", &body)
    });
    std::thread::sleep(Duration::from_millis(15));
    for name in ["bank-home", "paris", "munich", "kajaani", "bologna", "krakow", "barcelona", "frankfurt", "virginia"] {
        process::signal(demo.node_pid(name), Signal::TERM);
    }
    // Either it came too late to be taken, which no answer shows, or it is whole.
    let reply = asking.join().unwrap();
    if reply.status != 0 {
        assert_eq!(reply.events().last().map(String::as_str), Some("[DONE]"), "{} {}", reply.status, reply.text());
    }
    let stopped = |name: &str| !process::of_folder(&demo.dir).contains(&demo.node_pid(name));
    for name in ["bank-home", "paris", "virginia"] {
        until("the node's end", || stopped(name).then_some(()));
        assert!(!demo.node_folder(name).join("state/api.sock").exists(), "`{name}` leaves no socket behind");
    }
}
