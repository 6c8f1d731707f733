//! What is kept and what goes, at a running home: erasure by hand, legal holds, and age under a clock that runs ahead.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::path::{Path, PathBuf};

use rustix::process::Signal;
use serde_json::{Value, json};
use support::demo::Demo;
use support::http::socket_call;
use support::node::Running;
use support::{Ended, polder, process, run, until};

/// Where Debian's `libfaketime` lies: it gives one process another time.
const FAKETIME: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";

fn ask(demo: &Demo) -> (String, PathBuf) {
    let asked = demo.polder(&["ask", "What is Polder?", "--tenant", "bank", "-o", "json"]);
    assert_eq!(asked.code, 0, "{asked:?}");
    let told = asked.json();
    (told["decision"].as_str().unwrap().to_owned(), PathBuf::from(told["receipt"].as_str().unwrap()))
}

fn bank(demo: &Demo, words: &[&str]) -> Ended {
    demo.polder(&[words, &["--tenant", "bank"]].concat())
}

/// The command without a demo.
fn alone(demo: &Demo, words: &[&str]) -> Ended {
    run(polder(demo.around()).args(words))
}

fn get(demo: &Demo, path: &str) -> Value {
    socket_call(&demo.node_folder("bank-home").join("state/api.sock"), "GET", path).json()
}

/// Whether any file of the home's database holds these bytes.
fn on_disk(demo: &Demo, bytes: &[u8]) -> bool {
    let state = demo.node_folder("bank-home").join("state");
    let files = ["node.db", "node.db-wal"].map(|name| std::fs::read(state.join(name)).unwrap_or_default());
    files.iter().any(|file| file.windows(bytes.len()).any(|window| window == bytes))
}

fn log_is_well(demo: &Demo, deleted: u64) {
    let socket = demo.node_folder("bank-home").join("state/api.sock");
    // What is published is checked; the last leaves are within a second.
    until("the deletions are published", || {
        let checked = socket_call(&socket, "POST", "/api/v1/log/check").json();
        assert_eq!(checked["wrong"], json!([]), "{checked}");
        (checked["deleted"] == json!(deleted)).then_some(())
    });
}

#[test]
fn an_erasure_unlinks_a_leaf_and_says_so_everywhere_and_a_hold_forbids_it() {
    let demo = Demo::start();
    let ((gone, file), (stays, _)) = (ask(&demo), ask(&demo));
    let receipt: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let salt = hex::decode(receipt["decision"]["salt"].as_str().unwrap()).unwrap();
    until("the leaf is on disk", || on_disk(&demo, &salt).then_some(()));

    // Too young for a word alone, and the clause is named; held, not even an erasure takes it.
    let young = bank(&demo, &["receipt", "forget", &gone]);
    assert!(young.code == 1 && young.stderr.contains("Art. 19(1) and 26(6)"), "{young:?}");
    assert!(young.stderr.contains("--erasure"), "{young:?}");
    let put = bank(&demo, &["hold", "put", "--receipt", &gone, "--reason", "case 2026-117", "-o", "json"]).json();
    let hold = put["id"].as_str().unwrap();
    let held = bank(&demo, &["receipt", "forget", &gone, "--erasure"]);
    assert!(held.code == 1 && held.stderr.contains(hold), "{held:?}");
    assert_eq!(bank(&demo, &["why", &gone]).code, 0, "it is still there");
    let lifted = bank(&demo, &["hold", "lift", hold, "--reason", "case closed"]);
    assert_eq!(lifted.code, 0, "{lifted:?}");
    let listed = bank(&demo, &["hold", "list"]);
    assert!(listed.stdout.contains("case 2026-117") && listed.stdout.contains("lifted 20"), "{listed:?}");
    assert_eq!(bank(&demo, &["hold", "lift", hold, "--reason", "again"]).code, 1);
    assert_eq!(bank(&demo, &["hold", "put", "--project", "website", "--reason", " "]).code, 1, "a reason is needed");

    let erased = bank(&demo, &["receipt", "forget", &gone, "--erasure", "-o", "json"]);
    assert_eq!((erased.code, &erased.json()["leaves"]), (0, &json!(1)), "{erased:?}");
    assert!(!on_disk(&demo, &salt), "the salt is in no file");
    assert!(!on_disk(&demo, gone.trim_start_matches("decision-").as_bytes()));
    let sources = demo.around().join("sources.json");
    for words in [
        vec!["why", &gone],
        vec!["receipt", "export", &gone, "--format", "cose", "--out", "x.cose"],
        vec!["replay", file.to_str().unwrap(), "--keep", sources.to_str().unwrap()],
        vec!["receipt", "forget", &gone, "--erasure"],
    ] {
        let told = bank(&demo, &words);
        let says = told.stderr.contains("was deleted on 20") && told.stderr.contains("retention class `log-duty`");
        assert!(told.code == 1 && says, "{words:?}: {told:?}");
    }
    // What was handed out holds still, what stayed is there, and the log is whole and says what went.
    assert_eq!(alone(&demo, &["verify", file.to_str().unwrap()]).code, 0);
    assert_eq!(bank(&demo, &["why", &stays]).code, 0);
    log_is_well(&demo, 1);
    let deletion = &get(&demo, "/api/v1/log/changes?kind=deletion")["changes"][0];
    let said = &deletion["statement"];
    let place = &receipt["decision"]["index"];
    assert_eq!((&said["leaves"], &said["ground"]), (&json!([[place, place]]), &json!("erasure")));
    assert!(!said.to_string().contains(&gone[9..]), "it names the place and not the id");
    let (leaf, out) = (deletion["leaf"].to_string(), demo.around().join("deletion.cose"));
    let export = ["receipt", "export", &leaf, "--part", "deletion", "--format", "cose", "--out", out.to_str().unwrap()];
    let exported = bank(&demo, &export);
    assert_eq!(exported.code, 0, "{exported:?}");
    let verified = alone(&demo, &["verify", out.to_str().unwrap()]);
    assert!(verified.stdout.contains("deleted 1 statements") && verified.stdout.contains("`log-duty`"), "{verified:?}");
    let changes = get(&demo, "/api/v1/log/changes?kind=hold")["changes"].as_array().unwrap().len();
    assert_eq!(changes, 2, "putting and lifting are leaves");
}

/// The home's file with lines at its end.
fn extended(demo: &Demo, lines: &str) -> PathBuf {
    let file = demo.node_folder("bank-home").join("node.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let other = file.with_file_name("retention.toml");
    std::fs::write(&other, format!("{text}\n{lines}\n")).unwrap();
    other
}

fn later(demo: &Demo, config: &Path) -> Running {
    let environment = [("LD_PRELOAD", FAKETIME), ("FAKETIME", "+200d"), ("FAKETIME_DONT_FAKE_MONOTONIC", "1")];
    let words = ["up", "--config", config.to_str().unwrap()];
    Running::start_in(demo.around(), &words, "info", &environment)
}

#[test]
fn what_is_old_goes_by_itself_unless_it_is_held_or_the_clock_is_not_to_be_believed() {
    assert!(Path::new(FAKETIME).is_file(), "Debian's `libfaketime` is not installed; `cargo xtask test` installs it");
    let demo = Demo::start();
    let ((gone, _), (held, _)) = (ask(&demo), ask(&demo));
    assert_eq!(bank(&demo, &["hold", "put", "--receipt", &held, "--reason", "case 2026-117"]).code, 0);
    let short = extended(&demo, "[retention]\ndefault = \"brief\"\n[retention.classes]\nbrief = 30");
    let refused = alone(&demo, &["up", "--config", short.to_str().unwrap()]);
    assert!(refused.code == 1 && refused.stderr.contains("Art. 19(1) and 26(6)"), "{refused:?}");
    let config = extended(&demo, "[retention]\ndefault = \"brief\"\n[retention.classes]\nbrief = 190");

    // 200 days on by this clock, and the peers say otherwise: nothing goes.
    let pid = demo.node_pid("bank-home");
    process::signal(pid, Signal::TERM);
    until("the home's end", || process::has_ended(pid).then_some(()));
    let node = later(&demo, &config);
    until("the clock is doubted", || {
        let said = std::fs::read_to_string(&node.log).unwrap();
        said.contains("nothing is deleted by its age").then_some(())
    });
    assert_eq!(bank(&demo, &["why", &gone]).code, 0);
    node.end();

    // With nobody to say otherwise the clock is believed: what is old goes, what is held stays.
    let factories: Vec<String> = get_factories(&demo);
    for factory in &factories {
        assert_eq!(demo.polder(&["kill", factory]).code, 0);
    }
    let node = later(&demo, &config);
    let told = until("what is old is gone", || Some(bank(&demo, &["why", &gone])).filter(|told| told.code != 0));
    assert!(told.stderr.contains("retention class `brief`, because its time was over"), "{told:?}");
    assert_eq!(bank(&demo, &["why", &held]).code, 0, "held");
    log_is_well(&demo, 1);
    node.end();
}

fn get_factories(demo: &Demo) -> Vec<String> {
    let nodes = demo.record["nodes"].as_array().unwrap().iter();
    let names = nodes.filter_map(|node| node["node"].as_str()).filter(|name| !name.ends_with("-home"));
    names.map(str::to_owned).collect()
}
