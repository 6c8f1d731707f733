//! Nodes that die, files that break, receipts that are forged: what a node does after each, as processes show it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::path::{Path, PathBuf};

use rustix::process::Signal;
use serde_json::{Value, json};
use support::demo::Demo;
use support::http::socket_call;
use support::node::Running;
use support::{Ended, polder, process, run, until};

const CHAT: &str = "/v1/chat/completions";
const BROKEN: &str = "permit (principal, action, resource);\n\nforbid (principal action, resource);\n";

fn chat() -> Value {
    json!({"model": "polder-toy", "messages": [{"role": "user", "content": "What is Polder?"}], "max_tokens": 4})
}

/// Kills a node of the demo with SIGKILL and waits for its end.
fn kill(demo: &Demo, name: &str) {
    process::signal(demo.node_pid(name), Signal::KILL);
    until("the node's end", || process::has_ended(demo.node_pid(name)).then_some(()));
}

fn restart(demo: &Demo, name: &str) -> Running {
    Running::start(demo.around(), &["up", "--config", config(demo, name).to_str().unwrap()])
}

fn config(demo: &Demo, name: &str) -> PathBuf {
    demo.node_folder(name).join("node.toml")
}

fn status(demo: &Demo, name: &str) -> Value {
    socket_call(&demo.node_folder(name).join("state/api.sock"), "GET", "/api/v1/status").json()
}

fn verify(demo: &Demo, receipt: &Path, members: &Path) -> Ended {
    run(polder(demo.around()).arg("verify").arg(receipt).args(["--offline", "-o", "json", "--members"]).arg(members))
}

#[test]
fn a_home_killed_by_force_opens_again_and_its_log_goes_on() {
    let demo = Demo::start();
    let members = demo.dir.join("members.json");
    let first = demo.polder(&["ask", "What is Polder?", "--tenant", "bank", "-o", "json"]).json();
    let receipt = PathBuf::from(first["receipt"].as_str().unwrap());
    let leaves = status(&demo, "bank-home")["log_leaves"].as_u64().unwrap();
    let bank = demo.endpoint("bank", "customer-service");
    // In the middle of work, too: half of it may be lost, none of it half-written.
    let busy: Vec<_> = (0..4)
        .map(|_| {
            let bank = bank.clone();
            std::thread::spawn(move || drop(std::panic::catch_unwind(|| bank.post(CHAT, &chat()))))
        })
        .collect();
    std::thread::sleep(std::time::Duration::from_millis(30));
    kill(&demo, "bank-home");
    busy.into_iter().for_each(|thread| thread.join().unwrap());

    let running = restart(&demo, "bank-home");
    let after = status(&demo, "bank-home")["log_leaves"].as_u64().unwrap();
    assert!(after >= leaves, "{after} leaves after {leaves}");
    assert_eq!(verify(&demo, &receipt, &members).code, 0, "an old receipt still holds");
    let decision = first["decision"].as_str().unwrap();
    let why = demo.polder(&["why", decision, "-o", "json"]);
    assert_eq!(why.json()["decision"], decision, "{why:?}");
    let fetched = bank.get(&format!("/api/v1/receipts/{decision}"));
    assert_eq!(fetched.status, 200, "{}", fetched.text());

    let second = until("an answer after the restart", || {
        let told = demo.polder(&["ask", "What is a receipt?", "--tenant", "bank", "-o", "json"]);
        (told.code == 0).then(|| told.json())
    });
    assert_eq!(second["verified"], true);
    let size = |path: &str| -> u64 {
        let receipt: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        receipt["decision"]["checkpoint"].as_str().unwrap().lines().nth(1).unwrap().parse().unwrap()
    };
    assert!(size(second["receipt"].as_str().unwrap()) > size(receipt.to_str().unwrap()), "the same log, grown");
    running.end();
}

#[test]
fn a_factory_killed_by_force_comes_back_into_use() {
    let demo = Demo::start();
    let bank = demo.endpoint("bank", "customer-service");
    let placed = bank.post(CHAT, &chat());
    let decision = placed.header("polder-decision").unwrap().to_owned();
    // The factory's half of the receipt follows the answer; once it is there, the factory is no longer needed for it.
    assert_eq!(bank.get(&format!("/api/v1/receipts/{decision}")).status, 200);
    for name in ["paris", "munich"] {
        kill(&demo, name);
    }
    assert_eq!(bank.post(CHAT, &chat()).status, 403);
    let running = restart(&demo, "paris");
    let again = until("an answer from the factory that came back", || {
        let reply = bank.post(CHAT, &chat());
        (reply.status == 200).then_some(reply)
    });
    assert_eq!(again.header("polder-factory"), Some("paris"));
    assert_eq!(bank.get(&format!("/api/v1/receipts/{decision}")).status, 200);
    running.end();
}

#[test]
fn a_broken_policy_changes_nothing_and_says_where() {
    let demo = Demo::start();
    let folder = demo.node_folder("bank-home");
    let policy = folder.join("bank.cedar");
    std::fs::write(&policy, BROKEN).unwrap();
    process::signal(demo.node_pid("bank-home"), Signal::HUP);
    let place = "bank.cedar:3:";
    let problem = until("the problem in `status`", || {
        let status = status(&demo, "bank-home");
        status["home"]["policy_problems"][0].as_str().map(str::to_owned)
    });
    assert!(problem.contains(place), "{problem}");
    assert!(demo.polder(&["status"]).stdout.contains(place));
    // Over the operators' surface, the same.
    let reload = socket_call(&folder.join("state/api.sock"), "POST", "/api/v1/reload");
    assert_eq!(reload.status, 422);
    assert!(reload.json()["detail"].as_str().unwrap().contains(place), "{}", reload.text());
    still_refuses(&demo);

    kill(&demo, "bank-home");
    let running = restart(&demo, "bank-home");
    assert!(status(&demo, "bank-home")["home"]["policy_problems"][0].as_str().unwrap().contains(place));
    still_refuses(&demo);
    // Mended, it is taken.
    std::fs::write(&policy, "permit (principal, action, resource);\n").unwrap();
    process::signal(running.pid(), Signal::HUP);
    until("the mended policy", || (status(&demo, "bank-home")["home"]["policy_problems"] == json!([])).then_some(()));
    running.end();
}

/// The bank's customer data stays where its last good policy lets it.
fn still_refuses(demo: &Demo) {
    let reply = demo.endpoint("bank", "customer-service").post(CHAT, &chat());
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert!(["paris", "munich"].contains(&reply.header("polder-factory").unwrap()));
}

#[test]
fn broken_terms_change_nothing_either() {
    let demo = Demo::start();
    let terms = demo.node_folder("bologna").join("bologna.cedar");
    std::fs::write(&terms, BROKEN).unwrap();
    process::signal(demo.node_pid("bologna"), Signal::HUP);
    let place = "bologna.cedar:3:";
    let problems = || status(&demo, "bologna")["factory"]["terms_problem"].as_str().map(str::to_owned);
    assert!(until("the problem in `status`", problems).contains(place));
    kill(&demo, "bologna");
    let running = restart(&demo, "bologna");
    assert!(problems().unwrap().contains(place));
    // Civil purposes only, as before: the defence firm is refused by the terms.
    let told = demo.polder(&["ask", "Which spare parts?", "--tenant", "defence", "-o", "json"]);
    let refusals = told.json()["refusals"].as_array().unwrap().clone();
    assert!(refusals.iter().any(|one| one["factory"] == "bologna" && one["layer"] == "terms"), "{told:?}");
    running.end();
}

#[test]
fn a_first_start_with_a_broken_policy_ends_with_line_and_column() {
    let demo = Demo::start();
    kill(&demo, "bank-home");
    kill(&demo, "bologna");
    for (node, file) in [("bank-home", "bank.cedar"), ("bologna", "bologna.cedar")] {
        let folder = demo.node_folder(node);
        std::fs::write(folder.join(file), BROKEN).unwrap();
        // No text of before: as if it never ran.
        for entry in std::fs::read_dir(folder.join("state")).unwrap().flatten() {
            if entry.file_name().to_string_lossy().starts_with("node.db") {
                std::fs::remove_file(entry.path()).unwrap();
            }
        }
        // A log that has published more than its database holds would not go on.
        drop(std::fs::remove_dir_all(folder.join("state/log")));
        let ended = run(polder(demo.around()).args(["up", "--config"]).arg(folder.join("node.toml")));
        assert_eq!(ended.code, 1, "{ended:?}");
        assert!(ended.stderr.contains(&format!("{file}:3:")), "{ended:?}");
        let doctor = run(polder(demo.around()).args(["doctor", "--config"]).arg(folder.join("node.toml")));
        assert_eq!(doctor.code, 1);
        assert!(doctor.stdout.contains(&format!("{file}:3:")), "{doctor:?}");
    }
}

#[test]
fn a_taken_port_or_state_folder_is_named() {
    let demo = Demo::start();
    let text = std::fs::read_to_string(config(&demo, "bank-home")).unwrap();
    let listen = text.lines().find_map(|line| line.strip_prefix("listen = ")).unwrap().trim_matches('"');
    let port = listen.rsplit(':').next().unwrap();
    let same_state = run(polder(demo.around()).args(["up", "--config"]).arg(config(&demo, "bank-home")));
    assert_eq!(same_state.code, 1, "{same_state:?}");
    assert!(same_state.stderr.contains("another node runs in this folder"), "{same_state:?}");

    let other = demo.node_folder("bank-home").join("other.toml");
    std::fs::write(&other, text.replace("state = \"state\"", "state = \"other\"")).unwrap();
    for extra in [&[][..], &["--tether"]] {
        let mut command = polder(demo.around());
        let ended = run(command.args(["up", "--config"]).arg(&other).args(extra));
        assert_eq!(ended.code, 1, "{ended:?}");
        assert!(ended.stderr.contains(&format!("port {port} is already taken")), "{ended:?}");
        assert!(ended.stderr.contains("choose another for `listen`"), "{ended:?}");
    }
    let doctor = run(polder(demo.around()).args(["doctor", "--config"]).arg(&other));
    assert_eq!(doctor.code, 1);
    assert!(doctor.stdout.contains(&format!("port {port} is already taken")), "{doctor:?}");
    // The node that was there first is not disturbed.
    assert_eq!(demo.endpoint("bank", "website").post(CHAT, &chat()).status, 200);
    assert_eq!(status(&demo, "bank-home")["node"], "bank-home");
}

#[test]
fn a_damaged_model_is_named_and_the_node_stays_up() {
    let demo = Demo::start();
    for name in ["paris", "munich"] {
        kill(&demo, name);
    }
    let file = demo.dir.join("model/model.safetensors");
    let whole = std::fs::read(&file).unwrap();
    let header = usize::try_from(u64::from_le_bytes(whole[..8].try_into().unwrap())).unwrap();
    let mut garbled = whole.clone();
    garbled[8..8 + header].fill(b'x');
    let renamed = {
        // One tensor goes under another name: the first that the model then misses is named.
        let text = String::from_utf8(whole[8..8 + header].to_vec())
            .unwrap()
            .replacen("model.norm.weight", "model.mron.weight", 1);
        [&whole[..8], text.as_bytes(), &whole[8 + header..]].concat()
    };
    for (damage, bytes, tensor) in [
        ("truncated", whole[..whole.len() / 2].to_vec(), None),
        ("garbled", garbled, None),
        ("empty", Vec::new(), None),
        ("a tensor short", renamed, Some("model.norm.weight")),
    ] {
        // A new file in the old one's place: the nodes that run have the old one open.
        std::fs::remove_file(&file).unwrap();
        std::fs::write(&file, bytes).unwrap();
        let running = restart(&demo, "paris");
        let problems = status(&demo, "paris")["factory"]["model_problems"].clone();
        let error = problems[0]["error"].as_str().unwrap_or_else(|| panic!("{damage}: {problems}")).to_owned();
        assert!(error.contains("model.safetensors"), "{damage}: {error}");
        assert!(tensor.is_none_or(|tensor| error.contains(tensor)), "{damage}: {error}");
        assert!(demo.polder(&["status"]).stdout.contains("model.safetensors"), "{damage}");
        let doctor = run(polder(demo.around()).args(["doctor", "--config"]).arg(config(&demo, "paris")));
        assert_eq!(doctor.code, 1, "{damage}");
        assert!(doctor.stdout.contains("model.safetensors"), "{damage}: {doctor:?}");
        // Nothing falls back to where it may not run.
        assert_eq!(demo.endpoint("bank", "customer-service").post(CHAT, &chat()).status, 403, "{damage}");
        running.end();
    }
}

#[test]
fn forged_receipts_fail_at_a_named_check() {
    let demo = Demo::start();
    let told = demo.polder(&["ask", "What is Polder?", "--tenant", "bank", "-o", "json"]).json();
    let path = PathBuf::from(told["receipt"].as_str().unwrap());
    let whole = std::fs::read(&path).unwrap();
    let members = demo.dir.join("members.json");
    let forged = demo.around().join("forged.json");
    let check = |bytes: &[u8]| -> Ended {
        std::fs::write(&forged, bytes).unwrap();
        verify(&demo, &forged, &members)
    };
    assert_eq!(check(&whole).code, 0);

    let text = String::from_utf8(whole.clone()).unwrap();
    let receipt: Value = serde_json::from_str(&text).unwrap();
    // A value inside the file, with one letter or digit changed so that it stays readable.
    let change = |pointer: &str| {
        let value = receipt.pointer(pointer).unwrap_or_else(|| panic!("no {pointer}"));
        let old = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let last = old.chars().last().unwrap();
        let new = format!("{}{}", &old[..old.len() - last.len_utf8()], if last == '1' { '2' } else { '1' });
        let mut changed = receipt.clone();
        *changed.pointer_mut(pointer).unwrap() =
            if value.is_string() { new.into() } else { serde_json::from_str(&new).unwrap() };
        format!("{}\n", changed).into_bytes()
    };
    for (pointer, expected) in [
        ("/decision/statement/at_ms", "inclusion"),
        ("/execution/statement/completion_tokens", "inclusion"),
        ("/decision/salt", "inclusion"),
        ("/execution/path/0", "inclusion"),
        ("/decision/card/identity", "keys"),
        ("/receipt", "format"),
    ] {
        if receipt.pointer(pointer).is_none() {
            continue;
        }
        let ended = check(&change(pointer));
        assert_eq!(ended.code, 5, "{pointer}: {ended:?}");
        assert_eq!(ended.json()["verified"], false);
        assert_eq!(ended.json()["check"], expected, "{pointer}: {ended:?}");
    }
    let checkpoint = receipt["decision"]["checkpoint"].as_str().unwrap();
    let root = checkpoint.lines().nth(2).unwrap();
    let other_root = if root.starts_with('A') { root.replacen('A', "B", 1) } else { format!("A{}", &root[1..]) };
    assert_eq!(check(text.replacen(root, &other_root, 1).as_bytes()).json()["check"], "checkpoint");
    let mut paired = receipt.clone();
    paired.as_object_mut().unwrap().retain(|field, _| field != "execution");
    assert_eq!(check(format!("{paired}\n").as_bytes()).json()["check"], "pairing");
    // Any flipped byte whatsoever.
    for place in (0..whole.len()).step_by((whole.len() / 40).max(1)) {
        let mut bytes = whole.clone();
        bytes[place] ^= 1;
        let ended = check(&bytes);
        assert_eq!(ended.code, 5, "byte {place}: {ended:?}");
        assert!(ended.json()["check"].is_string(), "{ended:?}");
    }
    let table = run(polder(demo.around()).arg("verify").arg(&forged));
    assert!(table.code == 5 && table.stdout.contains("NOT verified: check `"), "{table:?}");
}

#[test]
fn another_federations_members_do_not_vouch() {
    let (demo, other) = (Demo::start(), Demo::start());
    let told = demo.polder(&["ask", "What is Polder?", "--tenant", "bank", "-o", "json"]).json();
    let ended = verify(&demo, Path::new(told["receipt"].as_str().unwrap()), &other.dir.join("members.json"));
    assert_eq!((ended.code, ended.json()["check"].as_str()), (5, Some("members")), "{ended:?}");
}
