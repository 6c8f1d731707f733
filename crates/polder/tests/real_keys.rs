//! A node's own keys: files that others may read, rotation with an overlap, revocation, and a log key in a PKCS#11 token.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;
use serde_json::{Value, json};
use support::demo::Demo;
use support::http::socket_call;
use support::node::Running;
use support::{Ended, polder, process, run, until};

/// What Debian's `softhsm2` brings: a PKCS#11 token in software.
const SOFTHSM: &str = "/usr/lib/softhsm/libsofthsm2.so";
const PIN: &str = "4711-kanarie-pin";

fn socket(demo: &Demo, node: &str) -> PathBuf {
    demo.node_folder(node).join("state/api.sock")
}

fn get(demo: &Demo, node: &str, path: &str) -> Value {
    socket_call(&socket(demo, node), "GET", path).json()
}

fn node_key(demo: &Demo, node: &str, words: &[&str]) -> Ended {
    let socket = socket(demo, node);
    run(polder(demo.around()).arg("node-key").args(words).args(["--socket", socket.to_str().unwrap()]))
}

/// Asks as the bank, and returns the receipt's id and file.
fn ask(demo: &Demo) -> (String, PathBuf) {
    let told = demo.polder(&["ask", "What is Polder?", "--tenant", "bank", "-o", "json"]);
    assert_eq!(told.code, 0, "{told:?}");
    let told = told.json();
    (told["decision"].as_str().unwrap().to_owned(), PathBuf::from(told["receipt"].as_str().unwrap()))
}

/// The lines under the checkpoint that the bank's home publishes: its log's own, and those of witnesses.
fn lines(checkpoint: &str) -> (usize, usize) {
    let lines = checkpoint.lines().filter(|line| line.starts_with('\u{2014}'));
    let (witnesses, own): (Vec<_>, Vec<_>) = lines.partition(|line| line.contains("/witness "));
    (own.len(), witnesses.len())
}

fn published(demo: &Demo) -> String {
    demo.endpoint("bank", "customer-service").get("/log/checkpoint").text()
}

fn verify(demo: &Demo, file: &Path, more: &[&str]) -> Ended {
    let members = demo.dir.join("members.json");
    let words = ["verify", file.to_str().unwrap(), "-o", "json", "--members", members.to_str().unwrap()];
    run(polder(demo.around()).args(words).args(more))
}

fn stop(demo: &Demo, node: &str) {
    let pid = demo.node_pid(node);
    process::signal(pid, Signal::TERM);
    until("the node's end", || process::has_ended(pid).then_some(()));
}

#[test]
fn a_key_that_others_may_read_is_refused_and_a_rotation_goes_through_a_restart() {
    let demo = Demo::start();
    let (_, before) = ask(&demo);
    let rotated = node_key(&demo, "bank-home", &["rotate", "--use", "log", "--overlap-h", "1", "-o", "json"]);
    assert_eq!(rotated.code, 0, "{rotated:?}");
    let again = node_key(&demo, "bank-home", &["rotate", "--use", "log"]);
    assert!(again.code == 1 && again.stderr.contains("overlap"), "{again:?}");
    let both = until("both keys sign what witnesses cosign", || {
        let (_, file) = ask(&demo);
        assert_eq!(verify(&demo, &file, &[]).code, 0);
        Some(published(&demo)).filter(|note| matches!(lines(note), (2, 1..)))
    });
    assert!(both.starts_with("polder/bank-home\n"));
    assert_eq!(verify(&demo, &before, &[]).code, 0, "an old receipt holds");
    // The change is a leaf, with both signatures.
    let change = &get(&demo, "bank-home", "/api/v1/log/changes?kind=key")["changes"][0];
    assert_eq!((&change["leaf"], &change["statement"]["change"]["act"]), (&rotated.json()["leaf"], &json!("rotated")));
    let shown = node_key(&demo, "bank-home", &["list"]);
    assert_eq!(shown.stdout.lines().filter(|line| line.starts_with("log ")).count(), 2, "{}", shown.stdout);

    // Others may read it: refused, with what to do.
    stop(&demo, "bank-home");
    let folder = demo.node_folder("bank-home");
    let (config, key) = (folder.join("node.toml"), folder.join("state/keys/log.key"));
    let up = ["up", "--config", config.to_str().unwrap()];
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o640)).unwrap();
    let refused = run(polder(demo.around()).args(up));
    let says = refused.stderr.contains("mode 640") && refused.stderr.contains("chmod 600");
    assert!(refused.code == 1 && says, "{refused:?}");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    // Without the key that the history names the log does not go on; with it, both sign again.
    std::fs::rename(&key, folder.join("away")).unwrap();
    let gone = run(polder(demo.around()).args(up));
    assert!(gone.code == 1 && gone.stderr.contains("put it back"), "{gone:?}");
    std::fs::rename(folder.join("away"), &key).unwrap();
    let node = Running::start(demo.around(), &up);
    let (_, file) = ask(&demo);
    assert_eq!(verify(&demo, &file, &[]).code, 0);
    until("both sign after the restart", || (lines(&published(&demo)).0 == 2).then_some(()));
    node.end();
}

#[test]
fn what_rests_on_a_revoked_key_counts_where_witnesses_signed_before() {
    let demo = Demo::start();
    let receipt = |id: &str, name: &str| {
        let reply = socket_call(&socket(&demo, "bank-home"), "GET", &format!("/api/v1/receipts/{id}"));
        let cosigned = lines(reply.json()["decision"]["checkpoint"].as_str().unwrap()).1 > 0;
        let file = demo.around().join(name);
        std::fs::write(&file, reply.text()).unwrap();
        cosigned.then_some(file)
    };
    let (first, _) = ask(&demo);
    let old = until("witnesses have signed", || receipt(&first, "old.json"));
    // Witnesses say when they signed in seconds.
    std::thread::sleep(std::time::Duration::from_millis(2_100));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let since = now.as_millis().to_string();
    let (second, _) = ask(&demo);
    let late = until("witnesses have signed the second", || receipt(&second, "late.json"));

    let revoked = node_key(&demo, "bank-home", &["revoke", "--use", "log", "--since-ms", &since]);
    assert_eq!(revoked.code, 0, "{revoked:?}");
    let keys = demo.around().join("bank-home.keys.json");
    std::fs::write(&keys, node_key(&demo, "bank-home", &["export"]).stdout).unwrap();
    let with_keys = ["--keys", keys.to_str().unwrap()];
    let held = verify(&demo, &old, &with_keys);
    assert!(held.code == 0 && held.stdout.contains("revocation"), "{held:?}");
    let refused = verify(&demo, &late, &with_keys);
    assert_eq!((refused.code, &refused.json()["check"]), (5, &json!("revocation")), "{refused:?}");
    // A history that somebody else signed says nothing.
    let mut forged: Value = serde_json::from_slice(&std::fs::read(&keys).unwrap()).unwrap();
    forged["value"]["number"] = json!(7);
    let other = demo.around().join("forged.json");
    std::fs::write(&other, forged.to_string()).unwrap();
    assert_eq!(verify(&demo, &old, &["--keys", other.to_str().unwrap()]).code, 5);

    // The log goes on under a new key, the witnesses follow it, and what was decided in the window is proved anew.
    let again = until("the witnesses follow", || {
        ask(&demo);
        let note = published(&demo);
        let file = receipt(&second, "again.json")?;
        (lines(&note).0 == 1 && verify(&demo, &file, &with_keys).code == 0).then_some(file)
    });
    assert_eq!(verify(&demo, &again, &[]).code, 0);
    let audit = until("a witness covers the window", || {
        let socket = socket(&demo, "bank-home");
        let audit = run(polder(demo.around()).args(["audit", "keys", "--socket", socket.to_str().unwrap()]));
        (audit.code == 0).then_some(audit)
    });
    assert!(
        audit.stdout.contains("compromise window") && audit.stdout.contains("not to be trusted since"),
        "{audit:?}"
    );
    assert_eq!(get(&demo, "paris", "/api/v1/alarms")["alarms"], json!([]), "a new key is no fork");
}

/// A token with a key of this label; returns the configuration that finds it.
fn token(folder: &Path, label: &str) -> PathBuf {
    assert!(Path::new(SOFTHSM).is_file(), "Debian's `softhsm2` is not installed; `cargo xtask test` installs it");
    let (tokens, config) = (folder.join("tokens"), folder.join("softhsm2.conf"));
    std::fs::create_dir_all(&tokens).unwrap();
    let text = format!("directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\n", tokens.display());
    std::fs::write(&config, text).unwrap();
    let tool = |program: &str, words: &[&str]| {
        let done = Command::new(program).args(words).env("SOFTHSM2_CONF", &config).output().unwrap();
        assert!(done.status.success(), "{program}: {}", String::from_utf8_lossy(&done.stderr));
    };
    tool("softhsm2-util", &["--init-token", "--free", "--label", "polder", "--pin", PIN, "--so-pin", "12345678"]);
    let make =
        ["--login", "--pin", PIN, "--keypairgen", "--key-type", "EC:edwards25519", "--label", label, "--id", "01"];
    tool("pkcs11-tool", &[&["--module", SOFTHSM, "--token-label", "polder"], &make[..]].concat());
    config
}

#[test]
fn a_log_moves_on_to_a_token_and_says_what_is_wrong_with_one() {
    let demo = Demo::start();
    ask(&demo);
    stop(&demo, "bank-home");
    let folder = demo.node_folder("bank-home");
    let hsm = token(&folder, "bank-log");
    std::fs::write(folder.join("pin"), format!("{PIN}\n")).unwrap();
    std::fs::set_permissions(folder.join("pin"), std::fs::Permissions::from_mode(0o600)).unwrap();
    let text = std::fs::read_to_string(folder.join("node.toml")).unwrap();
    let config = |name: &str, token: &str, pin: &str, label: &str| {
        let table = format!(
            "[keys]\npkcs11 = \"{SOFTHSM}\"\ntoken = \"{token}\"\npin_file = \"{pin}\"\n[keys.labels]\nlog = \"{label}\"\n"
        );
        let file = folder.join(name);
        std::fs::write(&file, format!("{text}\n{table}")).unwrap();
        file
    };
    let good = config("token.toml", "polder", "pin", "bank-log");
    let environment = [("SOFTHSM2_CONF", hsm.to_str().unwrap())];
    let up = ["up", "--config", good.to_str().unwrap()];
    let node = Running::start_in(demo.around(), &up, "debug", &environment);
    // Until now the log's key lay in a file: it moves on, and the token signs.
    let moved = node_key(&demo, "bank-home", &["rotate", "--use", "log", "--overlap-s", "0", "--label", "bank-log"]);
    assert_eq!(moved.code, 0, "{moved:?}");
    let (_, file) = ask(&demo);
    assert_eq!(verify(&demo, &file, &[]).code, 0);
    until("the token's key alone signs", || (lines(&published(&demo)).0 == 1).then_some(()));
    let said = std::fs::read_to_string(&node.log).unwrap();
    assert!(!said.contains(PIN), "the PIN is in no log line");
    node.end();
    // The file of before is not needed any more, and a restart finds the key in the token.
    std::fs::remove_file(folder.join("state/keys/log.key")).unwrap();
    let node = Running::start_in(demo.around(), &up, "debug", &environment);
    let (id, file) = ask(&demo);
    assert_eq!(verify(&demo, &file, &[]).code, 0);
    let out = demo.around().join("sealed.cose");
    let export = ["receipt", "export", &id, "--format", "cose", "--tenant", "bank", "--out", out.to_str().unwrap()];
    assert_eq!(demo.polder(&export).code, 0, "the token seals, too");
    assert_eq!(run(polder(demo.around()).args(["verify", out.to_str().unwrap()])).code, 0);
    node.end();

    std::fs::write(folder.join("wrong"), "0000\n").unwrap();
    std::fs::set_permissions(folder.join("wrong"), std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::write(folder.join("open"), "0000\n").unwrap();
    std::fs::set_permissions(folder.join("open"), std::fs::Permissions::from_mode(0o644)).unwrap();
    for (token, pin, label, says) in [
        ("polder", "wrong", "bank-log", "refuses the PIN"),
        ("polder", "open", "bank-log", "chmod 600"),
        ("elsewhere", "pin", "bank-log", "no token `elsewhere` is there; the module knows: `polder`"),
        ("polder", "pin", "another", "has no Ed25519 key `another`"),
    ] {
        let file = config("bad.toml", token, pin, label);
        let mut command = polder(demo.around());
        let refused = run(command.args(["up", "--config", file.to_str().unwrap()]).env("SOFTHSM2_CONF", &hsm));
        assert!(refused.code == 1 && refused.stderr.contains(says), "{says}: {refused:?}");
        assert!(!refused.stderr.contains("0000"), "{refused:?}");
    }
}
