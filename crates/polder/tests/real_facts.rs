//! `polder facts`: signed, taken in, shown with the reason where they do not count, carried from a running demo, and written into
//! the logs of whoever takes them in.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::path::Path;

use serde_json::{Value, json};
use support::demo::Demo;
use support::http::socket_call;
use support::node::Running;
use support::{Ended, Folder, polder, process, run, until};

const SITE: &str = r#"{"kind":"site","country":"FR","city":"Paris"}"#;

fn facts(folder: &Path, arguments: &[&str]) -> Ended {
    run(polder(folder).arg("facts").args(arguments))
}

/// Signs claims about Paris and writes them into a file.
fn sign(folder: &Path, file: &str, issuer: &str, more: &[&str]) -> Value {
    let key = format!("{issuer}.key");
    let named = ["sign", "--make-key", "--key", &key, "--issuer", issuer, "--about", "paris"];
    let ended = facts(folder, &[&named[..], more].concat());
    assert_eq!(ended.code, 0, "{ended:?}");
    std::fs::write(folder.join(file), &ended.stdout).unwrap();
    ended.json()
}

/// A fact's slot, the class at which it counts, and why it does not.
fn shown(folder: &Path, more: &[&str]) -> Vec<(String, Option<String>, Option<String>)> {
    let ended = facts(folder, &[&["show", "passport.json", "-o", "json"], more].concat());
    assert_eq!(ended.code, 0, "{ended:?}");
    let text = |fact: &Value, field: &str| fact[field].as_str().map(str::to_owned);
    let row = |fact: &Value| (text(fact, "slot").unwrap(), text(fact, "counts"), text(fact, "ignored"));
    ended.json()["facts"].as_array().unwrap().iter().map(row).collect()
}

#[test]
fn facts_are_signed_taken_in_and_shown_with_their_standing() {
    let folder = Folder::new();
    let path = folder.path();
    let register = sign(path, "site.json", "register", &["--claim", SITE]);
    sign(path, "operator.json", "register", &["--claim", r#"{"kind":"operator","name":"Seine","country":"FR"}"#]);
    sign(path, "stranger.json", "stranger", &["--claim", r#"{"kind":"clearance","country":"FR"}"#]);
    let later = ["--from-ms", "4000000000000", "--claim", r#"{"kind":"personnel","countries":["FR"]}"#];
    sign(path, "later.json", "register", &later);
    let own = sign(path, "own.json", "paris", &["--claim", r#"{"kind":"site","country":"DE","city":"Köln"}"#]);
    assert_eq!((&register[0]["fact"]["evidence"], &own[0]["fact"]["evidence"]), (&json!("B"), &json!("C")));
    let files = ["site.json", "operator.json", "stranger.json", "later.json"];
    let taken = facts(path, &[&["import"], &files[..], &["--into", "passport.json", "-o", "json"]].concat());
    assert_eq!((taken.code, &taken.json()["taken"]), (0, &json!(4)), "{taken:?}");
    let trust =
        json!([{"issuer": "register", "key": register[0]["key"], "at_most": "B", "kinds": ["site", "personnel"]}]);
    std::fs::write(path.join("trust.json"), trust.to_string()).unwrap();
    let with_trust = ["--trust", "trust.json"];
    let standing = shown(path, &with_trust);
    let expected = [
        ("site", Some("B"), None),
        ("operator", None, Some("its issuer is not trusted for this kind of fact")),
        ("clearances/FR", None, Some("its issuer and key are not among those trusted")),
        ("personnel", None, Some("it does not hold yet")),
    ];
    let expected =
        expected.map(|(slot, counts, why)| (slot.to_owned(), counts.map(str::to_owned), why.map(str::to_owned)));
    assert_eq!(standing, expected);
    // The factory's own word, under its own key, contradicts the register: then neither counts.
    let own_key = own[0]["key"].as_str().unwrap();
    assert_eq!(facts(path, &["import", "own.json", "--into", "passport.json"]).code, 0);
    let quarrel = shown(path, &[&with_trust[..], &["--authority", own_key]].concat());
    let contested = quarrel.iter().filter(|(_, _, why)| why.as_deref().is_some_and(|why| why.contains("contradicts")));
    assert_eq!(contested.count(), 2, "{quarrel:?}");
    // In ten years all of it has expired.
    let expired = shown(path, &[&with_trust[..], &["--at-ms", "4100000000000"]].concat());
    assert!(expired.iter().any(|(slot, _, why)| slot == "site" && why.as_deref() == Some("it has expired")));
    // An issuer's newer word takes the place of its older one.
    sign(path, "moved.json", "register", &["--claim", SITE]);
    let again = facts(path, &["import", "moved.json", "--into", "passport.json", "-o", "json"]);
    assert_eq!((&again.json()["replaced"], &again.json()["facts"]), (&json!(1), &json!(5)));
}

#[test]
fn what_is_wrong_with_facts_is_named_and_nothing_is_written() {
    let folder = Folder::new();
    let path = folder.path();
    let mut signed = sign(path, "site.json", "register", &["--claim", SITE]);
    signed[0]["fact"]["claim"]["country"] = json!("DE");
    std::fs::write(path.join("forged.json"), signed.to_string()).unwrap();
    let forged = facts(path, &["import", "forged.json", "--into", "passport.json"]);
    assert!(forged.code == 5 && forged.stderr.contains("signature"), "{forged:?}");
    assert!(!path.join("passport.json").exists());
    sign(path, "old.json", "register", &["--from-ms", "1000", "--days", "1", "--claim", SITE]);
    let old = facts(path, &["import", "old.json", "--into", "passport.json"]);
    assert!(old.code == 1 && old.stderr.contains("expired on 1970-01-02"), "{old:?}");
    let one = |claim: &str| {
        facts(path, &["sign", "--key", "register.key", "--issuer", "register", "--about", "paris", "--claim", claim])
    };
    for (claim, says) in [
        (r#"{"kind":"moon"}"#, "moon"),
        (r#"{"kind":"site","country":"XX","city":"Paris"}"#, "XX"),
        (r#"{"kind":"energy","renewable_percent":101,"carbon_g_per_kwh":1,"pue_percent":120}"#, "renewable_percent"),
        (r#"{"kind":"jurisdiction","countries":[]}"#, "countries"),
    ] {
        let ended = one(claim);
        assert!(ended.code == 2 && ended.stderr.contains(says), "{claim}: {ended:?}");
    }
    let many = Value::Array(vec![signed[0].clone(); 100_000]).to_string();
    std::fs::write(path.join("many.json"), many).unwrap();
    let many = facts(path, &["import", "many.json", "--into", "passport.json"]);
    assert!(many.code == 1 && many.stderr.contains("at most") || many.stderr.contains("larger than"), "{many:?}");
    let no_key = facts(path, &["sign", "--key", "none.key", "--issuer", "a", "--about", "b", "--claim", SITE]);
    assert!(no_key.code == 1 && no_key.stderr.contains("--make-key"), "{no_key:?}");
}

#[test]
fn a_running_home_shows_standings_and_hands_out_passports() {
    let demo = Demo::start();
    let show = demo.polder(&["facts", "show", "--factory", "frankfurt", "-o", "json"]).json();
    let control = show["facts"].as_array().unwrap().iter().filter(|fact| fact["slot"] == "control");
    assert!(control.clone().count() == 2 && control.clone().all(|fact| fact["counts"].is_null()), "{show}");
    let table = demo.polder(&["facts", "show", "--factory", "frankfurt"]);
    assert!(table.stdout.contains("no: another fact contradicts it, so neither counts"), "{}", table.stdout);
    let exported = demo.polder(&["facts", "export", "--factory", "paris"]);
    assert_eq!(exported.code, 0, "{exported:?}");
    let path = demo.around().join("paris.json");
    std::fs::write(&path, &exported.stdout).unwrap();
    let trust = demo.dir.join("nodes/bank-home/trust.json");
    let offline = ["facts", "show", path.to_str().unwrap(), "--trust", trust.to_str().unwrap(), "-o", "json"];
    let (offline, online) =
        (demo.polder(&offline).json(), demo.polder(&["facts", "show", "--factory", "paris", "-o", "json"]).json());
    assert_eq!((&offline["facts"], &offline["root"]), (&online["facts"], &online["root"]));
    let mut changed: Value = serde_json::from_str(&exported.stdout).unwrap();
    changed["facts"].as_array_mut().unwrap().pop();
    std::fs::write(&path, changed.to_string()).unwrap();
    let caught = demo.polder(&["facts", "show", path.to_str().unwrap()]);
    assert!(caught.code == 5 && caught.stderr.contains("root"), "{caught:?}");
    let unknown = demo.polder(&["facts", "show", "--factory", "atlantis"]);
    assert!(unknown.code == 1 && unknown.stderr.contains("paris"), "{unknown:?}");
}

/// What a node's log says of imports about Paris, the newest first.
fn imports(demo: &Demo, node: &str) -> Vec<Value> {
    let socket = demo.node_folder(node).join("state/api.sock");
    let told = socket_call(&socket, "GET", "/api/v1/log/changes?kind=import").json();
    let changes = told["changes"].as_array().unwrap().iter();
    changes.filter(|change| change["statement"]["about"] == "paris").cloned().collect()
}

#[test]
fn what_is_taken_in_is_a_leaf_before_anything_rests_on_it() {
    let demo = Demo::start();
    let placed = demo.polder(&["ask", "What is Polder?", "--tenant", "bank", "-o", "json"]).json();
    let receipt: Value = serde_json::from_slice(&std::fs::read(placed["receipt"].as_str().unwrap()).unwrap()).unwrap();
    let (home, own) = (imports(&demo, "bank-home"), imports(&demo, "paris"));
    assert_eq!((home.len(), own.len()), (1, 1), "once each, however often the home looks");
    let said = &home[0]["statement"];
    assert_eq!((&said["node"], &said["from"], &said["previous"]), (&json!("bank-home"), &json!("peer"), &Value::Null));
    assert_eq!(own[0]["statement"]["from"], "file");
    assert_eq!((&said["root"], &said["taken"]), (&own[0]["statement"]["root"], &own[0]["statement"]["taken"]));
    assert!(home[0]["leaf"].as_u64() < receipt["decision"]["index"].as_u64(), "before the decision");
    let passport = demo.polder(&["facts", "export", "--factory", "paris"]).json();
    assert_eq!(
        (&said["root"], said["taken"].as_array().map(Vec::len)),
        (&passport["root"], passport["facts"].as_array().map(Vec::len)),
        "{said}"
    );

    // Its proof, for those who have only the file.
    let socket = demo.node_folder("bank-home").join("state/api.sock");
    let (leaf, out) = (home[0]["leaf"].to_string(), demo.around().join("import.cose"));
    let (out, socket) = (out.to_str().unwrap(), socket.to_str().unwrap());
    let export = |part: &str| {
        let words = ["receipt", "export", &leaf, "--part", part, "--format", "cose", "--out", out, "--socket", socket];
        run(polder(demo.around()).args(words))
    };
    assert_eq!(export("import").code, 0);
    let verified = run(polder(demo.around()).args(["verify", out]));
    assert!(verified.code == 0 && verified.stdout.contains("facts about `paris` from itself"), "{verified:?}");
    assert_eq!(export("view").code, 1, "no other kind stands at that place");

    // A fact is gone from the file: the factory says so at its next start, and the home when it hears of it.
    process::signal(demo.node_pid("paris"), rustix::process::Signal::KILL);
    let folder = demo.node_folder("paris");
    let file = folder.join("passport.json");
    let mut facts: Vec<Value> = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    facts.pop();
    std::fs::write(&file, serde_json::to_vec(&facts).unwrap()).unwrap();
    until("paris is gone", || process::has_ended(demo.node_pid("paris")).then_some(()));
    let again = Running::start(demo.around(), &["up", "--config", folder.join("node.toml").to_str().unwrap()]);
    let heard = until("the home hears of it", || Some(imports(&demo, "bank-home")).filter(|all| all.len() == 2));
    let newest = &heard[0]["statement"];
    assert_eq!((&newest["previous"], &newest["taken"]), (&said["root"], &json!([])));
    assert_eq!(newest["dropped"].as_array().map(Vec::len), Some(1));
    assert_eq!(imports(&demo, "paris")[0]["statement"]["dropped"], newest["dropped"]);
    let table = demo.polder(&["log", "changes", "--kind", "import"]);
    assert!(table.stdout.contains("took in 0 facts about `paris` from itself, and 1 are gone"), "{}", table.stdout);
    again.end();
}
