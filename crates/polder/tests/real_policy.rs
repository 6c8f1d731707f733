//! The life of a policy at a running home: activated, compared, proved against guardrails, rolled back, killed in between.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::path::PathBuf;

use rustix::process::Signal;
use serde_json::{Value, json};
use support::demo::Demo;
use support::http::{socket_call, socket_post};
use support::node::Running;
use support::{Ended, has_solver, process, until};

const CHAT: &str = "/v1/chat/completions";
const OPEN: &str = "permit (principal, action, resource);\n";
const IN_THE_EU: &str = "@id(\"in-the-eu\")\n@reason(\"the EU\")\nforbid (principal, action, resource)\n\
                         unless { resource has site && resource.site.in_eu };\n";
const NOT_MUNICH: &str = "@id(\"not-munich\")\n@reason(\"Munich is being rebuilt\")\nforbid (principal, action, resource)\n\
                          when { resource == Factory::\"munich\" };\n";

fn chat() -> Value {
    json!({"model": "polder-toy", "messages": [{"role": "user", "content": "What is Polder?"}], "max_tokens": 4})
}

/// Where the bank's customer data goes now.
fn placed(demo: &Demo) -> Option<String> {
    let reply = demo.endpoint("bank", "customer-service").post(CHAT, &chat());
    assert!([200, 403].contains(&reply.status), "{}", reply.text());
    reply.header("polder-factory").map(str::to_owned)
}

fn bank(demo: &Demo) -> String {
    std::fs::read_to_string(demo.node_folder("bank-home").join("bank.cedar")).unwrap()
}

fn activate(demo: &Demo, name: &str, text: &str) -> Ended {
    let file = demo.around().join(name);
    std::fs::write(&file, text).unwrap();
    demo.polder(&["policy", "activate", file.to_str().unwrap(), "--tenant", "bank", "-o", "json"])
}

fn history(demo: &Demo) -> Value {
    let ended = demo.polder(&["policy", "history", "--tenant", "bank", "-o", "json"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    ended.json()
}

fn call(demo: &Demo, path: &str) -> Value {
    let reply = socket_call(&demo.node_folder("bank-home").join("state/api.sock"), "GET", path);
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json()
}

fn config(demo: &Demo) -> PathBuf {
    demo.node_folder("bank-home").join("node.toml")
}

fn kill(pid: u32) {
    process::signal(pid, Signal::KILL);
    until("the node's end", || process::has_ended(pid).then_some(()));
}

/// Starts the bank's home again with further lines in `[home]`.
fn restart(demo: &Demo, home: &str) -> Running {
    let text = std::fs::read_to_string(config(demo)).unwrap();
    let without: Vec<&str> =
        text.lines().filter(|line| !line.starts_with("guardrails") && !line.starts_with("solver")).collect();
    std::fs::write(config(demo), without.join("\n").replace("[home]\n", &format!("[home]\n{home}\n"))).unwrap();
    Running::start(demo.around(), &["up", "--config", config(demo).to_str().unwrap()])
}

/// Every version has its leaf, and the newest is the one in force.
fn versions_are_whole(demo: &Demo) -> u64 {
    let said = history(demo);
    let versions = said["history"].as_array().unwrap();
    assert_eq!(said["active"], versions[0]);
    let leaves = call(demo, "/api/v1/status")["log_leaves"].as_u64().unwrap();
    let mut before = leaves;
    for (place, version) in versions.iter().enumerate() {
        assert_eq!(version["number"].as_u64().unwrap(), (versions.len() - place) as u64, "no number is left out");
        let shown = call(demo, &format!("/api/v1/policies/{}", version["number"]));
        let proof = &shown["proof"];
        assert_eq!(proof["index"], version["leaf"]);
        assert_eq!(proof["statement"]["statement"], "polder/activation/v1");
        assert_eq!(proof["statement"]["digest"], version["digest"]);
        let previous = versions.get(place + 1).map_or(Value::Null, |one| one["digest"].clone());
        assert_eq!(proof["statement"]["previous"], previous);
        let leaf = version["leaf"].as_u64().unwrap();
        assert!(leaf < before, "{leaf} stands before {before}");
        before = leaf;
    }
    versions.len() as u64
}

#[test]
fn a_policy_is_activated_compared_and_rolled_back() {
    let demo = Demo::start();
    assert_eq!(placed(&demo).as_deref(), Some("munich"));
    let first = history(&demo);
    assert_eq!((&first["active"]["number"], &first["active"]["how"]), (&json!(1), &json!("start")));
    let file = demo.around().join("narrower.cedar");
    std::fs::write(&file, bank(&demo) + NOT_MUNICH).unwrap();

    let diff = demo.polder(&["policy", "diff", file.to_str().unwrap(), "--tenant", "bank", "-o", "json"]).json();
    assert_eq!(diff["rules"], json!({"added": ["not-munich"], "removed": [], "changed": []}));
    assert_eq!((&diff["narrower"], &diff["decisions"]), (&json!(true), &json!(1)));
    let changed = &diff["changed"][0];
    assert_eq!((&changed["was"]["factory"], &changed["would"]["factory"]), (&json!("munich"), &json!("paris")));
    assert_eq!(changed["because"], json!([{"factory": "munich", "rule": "not-munich", "policy": "new"}]));
    assert_eq!(placed(&demo).as_deref(), Some("munich"), "comparing changes nothing");

    let activated = activate(&demo, "narrower.cedar", &(bank(&demo) + NOT_MUNICH));
    assert_eq!(activated.code, 0, "{activated:?}");
    let version = activated.json()["version"].clone();
    assert_eq!((&version["number"], &version["narrower"]), (&json!(2), &json!(true)));
    assert_eq!(placed(&demo).as_deref(), Some("paris"));
    let why = demo.polder(&["why", "last", "--tenant", "bank", "-o", "json"]).json();
    assert_eq!(why["statement"]["policies"]["owner"], version["digest"]);
    // The same text again is no new version.
    assert_eq!(activate(&demo, "narrower.cedar", &(bank(&demo) + NOT_MUNICH)).json()["changed"], false);

    let table = demo.polder(&["policy", "history", "--tenant", "bank"]);
    assert!(table.stdout.contains("narrower.cedar") && table.stdout.contains("only narrower"), "{table:?}");
    let back = demo.polder(&["policy", "rollback", "--tenant", "bank", "-o", "json"]);
    assert_eq!((back.code, &back.json()["version"]["how"]), (0, &json!("rollback")), "{back:?}");
    assert_eq!(back.json()["version"]["digest"], first["active"]["digest"]);
    assert_eq!(placed(&demo).as_deref(), Some("munich"));
    let digits: String = version["digest"].as_str().unwrap().chars().take(12).collect();
    assert_eq!(demo.polder(&["policy", "rollback", &digits, "--tenant", "bank"]).code, 0);
    assert_eq!(placed(&demo).as_deref(), Some("paris"));
    assert_eq!(versions_are_whole(&demo), 4);
    for (bad, says) in [("77", "no version `77`"), ("abcdef0123", "no version"), ("../..", "no version")] {
        let ended = demo.polder(&["policy", "rollback", bad, "--tenant", "bank"]);
        assert!(ended.code == 1 && ended.stderr.contains(says), "{ended:?}");
    }
}

#[test]
fn a_broken_or_boundless_text_changes_nothing() {
    let demo = Demo::start();
    let broken = activate(
        &demo,
        "broken.cedar",
        "permit (principal, action, resource);\n\nforbid (principal action, resource);\n",
    );
    assert_eq!(broken.code, 1, "{broken:?}");
    assert!(broken.stderr.contains("broken.cedar:3:") && broken.stderr.contains("3 | forbid"), "{broken:?}");
    let deep = format!(
        "{OPEN}@id(\"a\")\n@reason(\"b\")\nforbid (principal, action, resource) when {{ {}true{} }};\n",
        "(".repeat(60_000),
        ")".repeat(60_000)
    );
    let ended = activate(&demo, "deep.cedar", &deep);
    assert!(ended.code == 1 && ended.stderr.contains("deep.cedar:4:"), "{}", ended.code);
    assert!(ended.stderr.contains("brackets nest more than"), "{}", ended.stderr.chars().take(300).collect::<String>());
    // Past the command's own check: larger than a policy may be, and larger than a body may be.
    let socket = demo.node_folder("bank-home").join("state/api.sock");
    for (letter, length, status, says) in [
        ("(", 2 << 20, 422, "the text has 2097152 bytes; at most 1048576 are read"),
        ("!", 900_000, 422, "more than 256 operators"),
        ("{a:", 10 << 20, 400, "the body is larger than"),
    ] {
        let rule = "@id(\"a\")@reason(\"b\")forbid(principal,action,resource)when{";
        let text = format!("{rule}{}", letter.repeat(length / letter.len()).get(rule.len()..).unwrap());
        let reply = socket_post(&socket, "/api/v1/policies/activate", &json!({"file": "a.cedar", "text": text}));
        assert_eq!(reply.status, status, "{}", reply.text());
        assert!(reply.json()["detail"].as_str().unwrap().contains(says), "{}", reply.text());
    }
    // An application's key does not say which policy is in force.
    let reply =
        demo.endpoint("bank", "website").post("/api/v1/policies/activate", &json!({"file": "a.cedar", "text": OPEN}));
    assert_eq!(reply.status, 403, "{}", reply.text());
    assert_eq!(demo.endpoint("bank", "website").get("/api/v1/policies").status, 403);
    assert_eq!(placed(&demo).as_deref(), Some("munich"));
    assert_eq!(versions_are_whole(&demo), 1);
}

#[test]
fn guardrails_keep_a_wider_policy_out_and_a_narrower_one_never_waits() {
    if !has_solver("guardrails") {
        return;
    }
    let demo = Demo::start();
    // A version from before there was a guardrail: it lets customer data go anywhere.
    assert_eq!(activate(&demo, "open.cedar", OPEN).code, 0);
    assert_eq!(activate(&demo, "mended.cedar", &bank(&demo)).code, 0);
    kill(demo.node_pid("bank-home"));
    let running = restart(&demo, "guardrails = [\"bank-customer-data-in-the-eu\"]");
    assert_eq!(call(&demo, "/api/v1/status")["home"]["guardrails"], json!(["bank-customer-data-in-the-eu"]));

    let refused = activate(&demo, "wide.cedar", OPEN);
    assert_eq!(refused.code, 5, "{refused:?}");
    let proofs = refused.json()["proofs"].clone();
    assert_eq!(
        (&proofs[0]["name"], &proofs[0]["verdict"]),
        (&json!("bank-customer-data-in-the-eu"), &json!("refuted"))
    );
    assert!(refused.stderr.contains("would not hold"), "{refused:?}");
    // The counterexample is a request that the policy would really let through.
    let example = demo.around().join("example.json");
    std::fs::write(&example, proofs[0]["example"].to_string()).unwrap();
    let decided = demo.polder(&["decide", "--request", example.to_str().unwrap(), "-o", "json"]);
    assert_eq!(decided.code, 0, "{decided:?}");
    // A rollback is no way round.
    let back = demo.polder(&["policy", "rollback", "2", "--tenant", "bank"]);
    assert_eq!(back.code, 5, "{back:?}");
    assert!(back.stdout.contains("refuted") && back.stderr.contains("the policy of before stays in force"), "{back:?}");
    // Nor is the file.
    let file = demo.node_folder("bank-home").join("bank.cedar");
    let text = bank(&demo);
    std::fs::write(&file, OPEN).unwrap();
    process::signal(running.pid(), Signal::HUP);
    until("the refusal in `status`", || {
        let problem = call(&demo, "/api/v1/status")["home"]["policy_problems"][0].as_str()?.to_owned();
        problem.contains("guardrail `bank-customer-data-in-the-eu` would not hold").then_some(())
    });
    assert_eq!(versions_are_whole(&demo), 3);
    std::fs::write(&file, &text).unwrap();

    // Another policy that holds is proved and taken, wider though it is.
    let other = activate(&demo, "other.cedar", &format!("{OPEN}{IN_THE_EU}"));
    assert_eq!(other.code, 0, "{other:?}");
    let version = other.json()["version"].clone();
    assert_eq!((&version["narrower"], &version["proofs"][0]["verdict"]), (&json!(false), &json!("proven")));
    running.end();

    // Without a solver only what forbids more is taken, and at once.
    let running = restart(&demo, "guardrails = [\"bank-customer-data-in-the-eu\"]\nsolver = \"missing/cvc5\"");
    let narrower = activate(&demo, "narrower.cedar", &format!("{OPEN}{IN_THE_EU}{NOT_MUNICH}"));
    assert_eq!((narrower.code, &narrower.json()["version"]["narrower"]), (0, &json!(true)), "{narrower:?}");
    let wider = activate(&demo, "wider.cedar", &format!("{OPEN}{IN_THE_EU}"));
    assert_eq!(wider.code, 5, "{wider:?}");
    assert!(wider.stderr.contains("no solver") && wider.stderr.contains("cvc5"), "{wider:?}");
    assert_ne!(placed(&demo).as_deref(), Some("munich"));
    assert_eq!(versions_are_whole(&demo), 5);
    running.end();
}

#[test]
fn a_kill_at_any_moment_leaves_exactly_one_policy_in_force() {
    let demo = Demo::start();
    let (one, other) = (bank(&demo), bank(&demo) + NOT_MUNICH);
    let mut pid = demo.node_pid("bank-home");
    let mut running = None;
    for pause_ms in [40, 90, 150] {
        let stop = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                // Until the node is gone, and some of it while it goes.
                for turn in 0.. {
                    let (name, text) = if turn % 2 == 0 { ("b.cedar", &other) } else { ("a.cedar", &one) };
                    activate(&demo, name, text);
                    if stop.load(std::sync::atomic::Ordering::Relaxed) {
                        break;
                    }
                }
            });
            std::thread::sleep(std::time::Duration::from_millis(pause_ms));
            kill(pid);
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        drop(running.take());
        let started = restart(&demo, "");
        pid = started.pid();
        running = Some(started);
        versions_are_whole(&demo);
        // What the history says is in force is what decides.
        let active = history(&demo)["active"]["digest"].clone();
        until("an answer after the restart", || placed(&demo));
        let why = demo.polder(&["why", "last", "--tenant", "bank", "-o", "json"]).json();
        assert_eq!(why["statement"]["policies"]["owner"], active);
    }
}

#[test]
fn activations_at_the_same_time_leave_one_whole_history_and_no_reader_waits() {
    let demo = Demo::start();
    let texts: Vec<String> =
        (0..6).map(|number| bank(&demo) + &NOT_MUNICH.replace("not-munich", &format!("rule-{number}"))).collect();
    std::thread::scope(|scope| {
        let readers: Vec<_> =
            (0..2).map(|_| scope.spawn(|| (0..20).map(|_| placed(&demo)).collect::<Vec<_>>())).collect();
        let demo = &demo;
        let calls: Vec<_> = texts
            .iter()
            .enumerate()
            .map(|(number, text)| scope.spawn(move || activate(demo, &format!("{number}.cedar"), text)))
            .collect();
        for call in calls {
            let ended = call.join().unwrap();
            assert_eq!(ended.code, 0, "{ended:?}");
        }
        for reader in readers {
            assert!(
                reader.join().unwrap().iter().all(|factory| matches!(factory.as_deref(), Some("munich" | "paris")))
            );
        }
    });
    assert_eq!(versions_are_whole(&demo), 7);
    assert_eq!(placed(&demo).as_deref(), Some("paris"));
}
