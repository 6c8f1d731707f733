//! Memberships with real processes: from two bare folders to members, keys that change under way, a factory behind a firewall, leaving
//! and coming back, and a state that is restored behind what its witness has seen.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use support::http::{Endpoint, Reply, socket_call};
use support::node::Running;
use support::peer::{Peer, Port};
use support::{Ended, Folder, polder, run, until};

const CHAT: &str = "/v1/chat/completions";

/// A loopback address that was free a moment ago.
fn free_address() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

/// A node's folder, and the node where it runs.
struct Site {
    around: PathBuf,
    name: &'static str,
    running: Option<Running>,
}

impl Site {
    /// Makes a node with these options, and starts it.
    fn start(around: &Path, name: &'static str, options: &[&str]) -> Self {
        let mut site = Self { around: around.to_owned(), name, running: None };
        let made = site.init(options);
        assert_eq!(made.code, 0, "{made:?}");
        site.up();
        site
    }

    /// A factory with the toy model; `peers` is where it listens for members, if anywhere.
    fn factory(around: &Path, name: &'static str, peers: Option<&str>) -> Self {
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../demo/model");
        let (model, listen) = (format!("polder-toy={}", model.display()), free_address());
        let mut options = vec!["--model", &model, "--listen", &listen];
        options.extend(peers.iter().flat_map(|peers| ["--peer-listen", peers]));
        Self::start(around, name, &options)
    }

    /// A home of the tenant `bank`.
    fn home(around: &Path, name: &'static str, peers: Option<&str>) -> Self {
        let listen = free_address();
        let mut options = vec!["--tenant", "bank", "--listen", &listen];
        options.extend(peers.iter().flat_map(|peers| ["--peer-listen", peers]));
        Self::start(around, name, &options)
    }

    fn init(&self, options: &[&str]) -> Ended {
        run(polder(&self.around).args(["init", self.name, "--node", self.name]).args(options))
    }

    fn folder(&self) -> PathBuf {
        self.around.join(self.name)
    }

    fn config(&self) -> String {
        self.folder().join("polder.toml").to_str().unwrap().to_owned()
    }

    fn socket(&self) -> PathBuf {
        self.folder().join("state/api.sock")
    }

    fn up(&mut self) {
        self.running = Some(Running::start(&self.around, &["up", "--config", &self.config()]));
    }

    fn stop(&mut self) {
        self.running.take().unwrap().end();
    }

    fn polder(&self, words: &[&str]) -> Ended {
        run(polder(&self.around).args(words).args(["--socket", self.socket().to_str().unwrap()]))
    }

    fn json(&self, words: &[&str]) -> Value {
        let ended = self.polder(&[words, &["-o", "json"]].concat());
        assert_eq!(ended.code, 0, "{words:?}: {ended:?}");
        ended.json()
    }

    /// How a peer stands here.
    fn standing(&self, peer: &str) -> Option<String> {
        let listed = self.json(&["members", "list"]);
        let found = listed["members"].as_array().unwrap().iter().find(|one| one["node"] == peer);
        found.map(|one| one["standing"].as_str().unwrap().to_owned())
    }

    fn stands(&self, peer: &str, how: &str) {
        until(&format!("{peer} {how} at {}", self.name), || {
            (self.standing(peer).as_deref() == Some(how)).then_some(())
        });
    }

    fn invite(&self) -> String {
        self.json(&["invite", "--offers", "one accelerator"])["invitation"].as_str().unwrap().to_owned()
    }

    fn get(&self, path: &str) -> Value {
        socket_call(&self.socket(), "GET", path).json()
    }

    /// What was refused to peers for a cause, so far.
    fn refusals(&self, cause: &str) -> u64 {
        let page = socket_call(&self.socket(), "GET", "/metrics").text();
        let line = format!("polder_peer_refusals_total{{cause=\"{cause}\"}} ");
        page.lines().find_map(|one| one.strip_prefix(&line)).map_or(0, |count| count.parse().unwrap())
    }

    fn chat(&self) -> Reply {
        let endpoint = self.running.as_ref().unwrap().printed["endpoint"].as_str().unwrap().to_owned();
        let key = std::fs::read_to_string(self.folder().join("key")).unwrap();
        let body = json!({"model": "polder-toy", "messages": [{"role": "user", "content": "What is Polder?"}], "max_tokens": 8});
        Endpoint::new(&endpoint, &key).post(CHAT, &body)
    }

    fn answers_from(&self, factory: &str) {
        until(&format!("an answer from {factory}"), || {
            let reply = self.chat();
            (reply.status == 200 && reply.header("polder-factory") == Some(factory)).then_some(())
        });
    }
}

/// One asks to join the other, who accepts.
fn join(inviter: &Site, joiner: &Site) {
    let asked = joiner.polder(&["join", &inviter.invite()]);
    assert_eq!(asked.code, 0, "{asked:?}");
    inviter.stands(joiner.name, "asks");
    let accepted = inviter.polder(&["members", "accept", joiner.name]);
    assert_eq!(accepted.code, 0, "{accepted:?}");
    joiner.stands(inviter.name, "member");
}

#[test]
fn two_bare_folders_become_members_and_part_again() {
    let folder = Folder::new();
    let address = free_address();
    let paris = Site::factory(folder.path(), "paris", Some(&address));
    let mut bank = Site::home(folder.path(), "bank-home", None);
    // Again: nothing changes, and keys are for their owner only.
    let before = std::fs::read(bank.config()).unwrap();
    let again = bank.init(&["--tenant", "bank"]);
    assert!(again.code == 0 && again.stdout.contains("nothing was changed"), "{again:?}");
    assert_eq!(std::fs::read(bank.config()).unwrap(), before);
    for key in std::fs::read_dir(bank.folder().join("state/keys")).unwrap() {
        assert_eq!(key.unwrap().metadata().unwrap().permissions().mode() & 0o077, 0);
    }
    assert_ne!(bank.chat().status, 200, "nobody is a member yet");

    // A stranger's key is refused while nobody is invited, and finds one door while somebody is.
    let port = Port::of(&paris.folder(), "paris", address.parse().unwrap());
    assert_eq!(port.ask(&Peer::Stranger, "GET", "/peer/v1/status", ""), None);
    let invitation = paris.invite();
    let (status, says) = port.ask(&Peer::Stranger, "GET", "/peer/v1/status", "").unwrap();
    assert!(status == 403 && says.contains("not pinned"), "{says}");
    let (status, _) = port.ask(&Peer::Stranger, "POST", "/peer/v1/join", "{}").unwrap();
    assert_eq!(status, 400);
    assert!(paris.refusals("unpinned") >= 2 && paris.refusals("forged") >= 1);

    let spoiled = bank.polder(&["join", &invitation.replace("-1:", "-2:")]);
    assert!(spoiled.code == 1 && spoiled.stderr.contains("polder invite"), "{spoiled:?}");
    let asked = bank.polder(&["join", &invitation]);
    assert!(asked.code == 0 && asked.stdout.contains("once it accepts"), "{asked:?}");
    paris.stands("bank-home", "asks");
    // One side wants it, and nothing counts.
    assert_ne!(bank.chat().status, 200);
    assert_eq!(bank.standing("paris").as_deref(), Some("asked"));
    // Somebody else with the same invitation comes too late; that it comes in at all is another invitation's doing.
    paris.invite();
    let late = Site::home(folder.path(), "late-home", None);
    assert_eq!(late.polder(&["join", &invitation]).code, 0);
    until("the second use is refused", || (paris.refusals("replayed") >= 1).then_some(()));
    assert_eq!((paris.standing("late-home"), late.standing("paris").as_deref()), (None, Some("asked")));

    let accepted = paris.polder(&["members", "accept", "bank-home"]);
    assert!(accepted.code == 0 && accepted.stdout.contains("is a member"), "{accepted:?}");
    bank.stands("paris", "member");
    bank.answers_from("paris");
    assert_eq!(paris.polder(&["members", "accept", "bank-home"]).code, 1, "nobody waits any more");
    let changes = paris.json(&["log", "changes", "--kind", "member"]);
    assert_eq!(changes["changes"][0]["change"]["statement"]["act"], "accepted", "{changes}");
    // It is still so after a restart.
    bank.stop();
    bank.up();
    bank.answers_from("paris");
    part_and_come_back_by_files(folder.path(), &paris, &bank);
    // A home that is removed is cut off at once.
    assert_eq!(paris.polder(&["members", "remove", "bank-home"]).code, 0);
    until("no answer any more", || (bank.chat().status != 200).then_some(()));
}

/// One leaves, and is a member again by files alone.
fn part_and_come_back_by_files(folder: &Path, paris: &Site, bank: &Site) {
    assert_eq!(bank.polder(&["leave"]).code, 2, "not without meaning it");
    let left = bank.polder(&["leave", "--yes"]);
    assert_eq!(left.code, 0, "{left:?}");
    paris.stands("bank-home", "left");
    assert_ne!(bank.chat().status, 200);
    assert!(bank.polder(&["invite"]).stderr.contains("has left"));
    // And back, by files alone.
    let request = folder.join("request.json");
    let asked = bank.polder(&["join", &paris.invite(), "--out", request.to_str().unwrap()]);
    assert_eq!(asked.code, 0, "{asked:?}");
    assert_eq!(paris.polder(&["members", "take", request.to_str().unwrap()]).code, 0);
    let answer = folder.join("answer.json");
    let accepted = paris.polder(&["members", "accept", "bank-home", "--out", answer.to_str().unwrap()]);
    assert_eq!(accepted.code, 0, "{accepted:?}");
    assert_eq!(bank.polder(&["members", "take", answer.to_str().unwrap()]).code, 0);
    bank.answers_from("paris");
}

#[test]
fn every_key_but_the_identity_changes_under_way() {
    let folder = Folder::new();
    let paris = Site::factory(folder.path(), "paris", Some(&free_address()));
    let bank = Site::home(folder.path(), "bank-home", None);
    join(&paris, &bank);
    bank.answers_from("paris");
    let keys = |site: &Site, role: &str| -> Vec<Value> {
        let told = site.get("/api/v1/node-keys");
        told["keys"].as_array().unwrap().iter().filter(|life| life["use"] == role).cloned().collect()
    };
    for site in [&paris, &bank] {
        for role in ["transport", "authority", "witness"] {
            let rotated = site.polder(&["node-key", "rotate", "--use", role, "--overlap-s", "8"]);
            assert!(rotated.code == 0 && rotated.stdout.contains(role), "{rotated:?}");
            assert_eq!(keys(site, role).len(), 2);
            assert_eq!(bank.chat().status, 200, "during the overlap of {}'s {role} key", site.name);
        }
    }
    // Once the overlaps are over only the new keys are shown, and the members have followed.
    let pinned = |site: &Site, peer: &str| {
        let listed = site.json(&["members", "list"]);
        let found = listed["members"].as_array().unwrap().iter().find(|one| one["node"] == peer).cloned();
        found.unwrap()["transport_keys"].clone()
    };
    let newest = |site: &Site| json!([keys(site, "transport")[1]["key"]]);
    until("the bank pins paris's new key alone", || (pinned(&bank, "paris") == newest(&paris)).then_some(()));
    until("paris pins the bank's new key alone", || (pinned(&paris, "bank-home") == newest(&bank)).then_some(()));
    std::thread::sleep(Duration::from_secs(3));
    bank.answers_from("paris");
    // Rights that are taken back are granted anew when they are needed.
    until("a right is held", || {
        bank.chat();
        let held = bank.get("/api/v1/capabilities");
        held["capabilities"]["paris"].is_string().then_some(())
    });
    let held = bank.get("/api/v1/capabilities")["capabilities"]["paris"].clone();
    let revoked = support::http::socket_post(&bank.socket(), "/api/v1/capabilities/revoke", &json!({}));
    assert_eq!(revoked.json()["revoked"], json!([held]), "{}", revoked.text());
    assert_eq!(bank.chat().status, 200);
    assert_ne!(bank.get("/api/v1/capabilities")["capabilities"]["paris"], held);
    let said = bank.polder(&["log", "changes", "--kind", "key"]);
    assert!(said.code == 0 && said.stdout.contains("new transport key"), "{said:?}");
}

#[test]
fn a_factory_that_only_connects_outwards_serves() {
    let folder = Folder::new();
    let bank = Site::home(folder.path(), "bank-home", Some(&free_address()));
    let mut cellar = Site::factory(folder.path(), "cellar", None);
    join(&bank, &cellar);
    bank.answers_from("cellar");
    let listed = bank.json(&["members", "list"]);
    assert_eq!(listed["members"][0]["address"], Value::Null, "{listed}");
    // A stream too, and again after it was away.
    cellar.stop();
    until("no answer while it is away", || (bank.chat().status != 200).then_some(()));
    cellar.up();
    bank.answers_from("cellar");
}

#[test]
fn a_restored_node_does_not_sign_behind_what_its_witness_has_seen() {
    let folder = Folder::new();
    let mut paris = Site::factory(folder.path(), "paris", Some(&free_address()));
    let mut bank = Site::home(folder.path(), "bank-home", None);
    join(&paris, &bank);
    bank.answers_from("paris");
    let phrase = folder.path().join("phrase");
    std::fs::write(&phrase, "correct horse battery\n").unwrap();
    std::fs::set_permissions(&phrase, std::fs::Permissions::from_mode(0o600)).unwrap();
    let (phrase, config) = (phrase.to_str().unwrap(), bank.config());
    let backup = |name: &str| {
        let file = folder.path().join(name);
        let words = ["backup", file.to_str().unwrap(), "--config", &config, "--keys-passphrase-file", phrase];
        let made = run(polder(folder.path()).args(words).args(["-o", "json"]));
        assert_eq!(made.code, 0, "{made:?}");
        assert!(made.json()["leaves"].as_u64().unwrap() > 0);
        file
    };
    // While it runs: the old one, and, after more has been cosigned, the new one.
    let old = backup("old.backup");
    assert_eq!(std::fs::metadata(&old).unwrap().permissions().mode() & 0o077, 0);
    for _ in 0..3 {
        assert_eq!(bank.chat().status, 200);
    }
    until("the witness has signed it all", || {
        let status = bank.get("/api/v1/status");
        let all = status["log_published"] == status["log_leaves"] && status["log_cosignatures"].as_u64() >= Some(1);
        all.then_some(())
    });
    bank.stop();
    let last = backup("last.backup");
    let state = bank.folder().join("state");
    let restore = |from: &Path| {
        drop(std::fs::remove_dir_all(&state));
        let words = ["restore", from.to_str().unwrap(), "--config", &config, "--keys-passphrase-file", phrase];
        run(polder(folder.path()).args(words))
    };
    let up = || run(polder(folder.path()).args(["up", "--config", &config]));
    assert_eq!(restore(&old).code, 0);
    let refused = up();
    assert!(refused.code == 1 && refused.stderr.contains("log"), "{refused:?}");
    // A witness that does not answer is waited for by not starting.
    assert_eq!(restore(&last).code, 0);
    paris.stop();
    let waits = up();
    assert!(waits.code == 1 && waits.stderr.contains("`paris` does not say"), "{waits:?}");
    paris.up();
    bank.up();
    bank.answers_from("paris");
    assert!(!state.join("restored.json").exists());
    bank.stop();
    // Into a folder with a state, with a wrong phrase, or of a file that is none: refused.
    let words = ["restore", last.to_str().unwrap(), "--config", &config];
    assert!(run(polder(folder.path()).args(words)).stderr.contains("holds a state already"));
    drop(std::fs::remove_dir_all(&state));
    let without = run(polder(folder.path()).args(words));
    assert!(without.code == 1 && without.stderr.contains("put them into"), "{without:?}");
}
