//! `polder audit`: an honest federation of real processes gives no finding; a node that lies is found each time, and by what.
//!
//! Lies are told as an operator with the node's keys would tell them: the database, tiles and old copies are changed while the node
//! is stopped, and the product then signs what it finds. What a changed database looks like is written here by hand.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use sqlx::Connection as _;
use support::demo::Demo;
use support::http::{Endpoint, socket_call};
use support::node::Running;
use support::painter::Painter;
use support::{Ended, Folder, polder, run};

/// The kinds of findings that a run of the monitor printed.
fn kinds(ended: &Ended) -> Vec<String> {
    let findings = ended.json()["findings"].as_array().unwrap().clone();
    findings.iter().map(|one| one["kind"].as_str().unwrap().to_owned()).collect()
}

/// How many decisions were read.
fn decisions(look: &Ended) -> u64 {
    look.json()["logs"].as_array().unwrap().iter().map(|one| one["decisions"].as_u64().unwrap()).sum()
}

#[test]
fn an_honest_federation_gives_no_finding() {
    let demo = Demo::start();
    for tenant in ["bank", "bank", "start-up", "image-lab"] {
        demo.polder(&["ask", "What is Polder?", "--tenant", tenant, "-o", "json"]);
    }
    // A factory that is gone, and a policy that changes.
    assert_eq!(demo.polder(&["kill", "virginia"]).code, 0);
    demo.polder(&["ask", "What is Polder?", "--tenant", "start-up", "-o", "json"]);
    let policy = demo.around().join("open.cedar");
    std::fs::write(&policy, "permit (principal, action, resource);\n").unwrap();
    assert_eq!(demo.polder(&["policy", "activate", policy.to_str().unwrap(), "--tenant", "bank"]).code, 0);
    demo.polder(&["ask", "What is Polder?", "--tenant", "bank", "-o", "json"]);
    let state = demo.around().join("seen.json");
    let look =
        |more: &[&str]| demo.polder(&[&["audit", "monitor", "--once", "--timeout", "30", "-o", "json"], more].concat());
    let with_state = ["--state", state.to_str().unwrap()];
    support::until("every decision is covered", || (decisions(&look(&[])) >= 6).then_some(()));
    let first = look(&with_state);
    // What is gone is a finding; nothing else is.
    assert_eq!((first.code, kinds(&first)), (5, vec!["unreachable".to_owned()]), "{first:?}");
    assert!(decisions(&first) >= 6 && first.json()["paired"].as_u64().unwrap() >= 3, "{first:?}");
    // The day so far is stated, and what was seen is not read again.
    let home = demo.node_folder("bank-home").join("state/api.sock");
    let day = run(polder(demo.around()).args(["log", "day", "-o", "json", "--socket"]).arg(&home));
    assert_eq!(day.code, 0, "{day:?}");
    let second = support::until("the day's statement", || {
        let look = look(&with_state);
        let bank = look.json()["logs"].as_array().unwrap().iter().find(|one| one["log"] == "polder/bank-home").cloned();
        (bank.unwrap()["statements"].as_u64().unwrap() >= 1).then_some(look)
    });
    assert_eq!(kinds(&second), ["unreachable"], "{second:?}");
    // The day's statement as a receipt in others' forms.
    let receipt = demo.around().join("day.tlog-proof");
    let exported = run(polder(demo.around())
        .args(["receipt", "export", "last", "--part", "day", "--format", "tlog-proof", "--socket"])
        .arg(&home)
        .arg("--out")
        .arg(&receipt));
    assert_eq!(exported.code, 0, "{exported:?}");
    let statement = std::fs::read_to_string(demo.around().join("day.tlog-proof.statement")).unwrap();
    let statement: Value = serde_json::from_str(&statement).unwrap();
    assert_eq!(statement["statement"], "polder/day/v1");
    let sum: u64 = statement["kinds"].as_object().unwrap().values().map(|count| count.as_u64().unwrap()).sum();
    assert_eq!(sum, statement["until_leaf"].as_u64().unwrap() - statement["from_leaf"].as_u64().unwrap());
    assert_eq!(run(polder(demo.around()).arg("verify").arg(&receipt)).code, 0);
    // Offline, from files: the same, without any node.
    let mut files = Vec::new();
    for node in demo.record["nodes"].as_array().unwrap().iter().filter(|node| node["node"] != "virginia") {
        let name = node["node"].as_str().unwrap();
        let file = demo.around().join(format!("{name}.json"));
        let written = demo.polder(&["audit", "export", name, "--out", file.to_str().unwrap()]);
        assert_eq!(written.code, 0, "{written:?}");
        files.push(file);
    }
    let members = demo.dir.join("members.json");
    let offline = run(polder(demo.around())
        .args(["audit", "monitor", "--once", "-o", "json", "--members"])
        .arg(&members)
        .args(&files));
    assert_eq!((offline.code, kinds(&offline)), (0, Vec::<String>::new()), "{offline:?}");
    let reconciled = run(polder(demo.around()).args(["audit", "reconcile", "-o", "json"]).args(&files));
    assert_eq!((reconciled.code, reconciled.json()["ok"].clone()), (0, json!(true)), "{reconciled:?}");
    // What is public needs no token: the same log from its URL and from its folder.
    let folder = demo.node_folder("bank-home").join("state/log");
    let public = run(polder(demo.around())
        .args(["audit", "monitor", "--once", "-o", "json", "--members"])
        .arg(&members)
        .arg(&folder));
    assert_eq!((public.code, kinds(&public)), (0, Vec::<String>::new()), "{public:?}");
}

/// One node that is home and factory, in front of an engine; it is stopped, changed and started at will.
struct Bench {
    folder: Folder,
    _engine: Painter,
    listen: String,
    arguments: Vec<String>,
    key: String,
    vkey: String,
}

/// A statement with its salt.
type Row = ([u8; 32], String);

impl Bench {
    /// A node with a few answers behind it, stopped.
    fn new() -> Self {
        let (folder, engine) = (Folder::new(), Painter::start());
        let listen = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let arguments = ["up", "--upstream", &engine.url, "--listen", &listen, "--state", "front"];
        let arguments: Vec<String> = arguments.map(str::to_owned).into();
        let mut bench = Self { folder, _engine: engine, listen, arguments, key: String::new(), vkey: String::new() };
        bench.start().end();
        let file = bench.folder.path().join("front/node.toml");
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, text + "\n[factory.upstream.models.ranker]\noffers = [\"rerank\"]\n").unwrap();
        let running = bench.start();
        bench.key = running.printed["key"].as_str().unwrap().to_owned();
        bench.ask(4);
        let out = bench.folder.path().join("last.cose");
        let exported = run(polder(bench.folder.path())
            .args(["receipt", "export", "last", "--format", "cose", "--out"])
            .arg(&out)
            .arg("--socket")
            .arg(bench.socket()));
        assert_eq!(exported.code, 0, "{exported:?}");
        bench.vkey = std::fs::read_to_string(bench.folder.path().join("last.cose.vkey")).unwrap().trim().to_owned();
        running.end();
        bench
    }

    fn start(&self) -> Running {
        let arguments: Vec<&str> = self.arguments.iter().map(String::as_str).collect();
        Running::start(self.folder.path(), &arguments)
    }

    fn state(&self) -> PathBuf {
        self.folder.path().join("front/state")
    }

    fn socket(&self) -> PathBuf {
        self.state().join("api.sock")
    }

    /// Asks so many times.
    fn ask(&self, times: usize) {
        let site = Endpoint { address: self.listen.clone(), key: self.key.clone() };
        let question = json!({"model": "ranker", "query": "one two", "documents": ["one", "two"]});
        let mut left = times;
        while left > 0 {
            support::until("an answer", || {
                let reply = site.post("/v1/rerank", &question);
                (reply.status == 200).then_some(())
            });
            left -= 1;
        }
    }

    /// The monitor over some places.
    fn monitor(&self, places: &[&Path], more: &[&str]) -> Ended {
        let mut command = polder(self.folder.path());
        command.args(["audit", "monitor", "--once", "--in-flight", "0", "-o", "json", "--vkey", &self.vkey]);
        run(command.args(more).args(places))
    }

    /// Every statement of the node, which runs.
    fn rows(&self) -> Vec<Row> {
        let shown = socket_call(&self.socket(), "GET", "/api/v1/log/statements").json();
        let row = |row: &Value| {
            let mut salt = [0; 32];
            hex::decode_to_slice(row["salt"].as_str().unwrap(), &mut salt).unwrap();
            (salt, row["statement"].as_str().unwrap().to_owned())
        };
        shown["statements"].as_array().unwrap().iter().map(row).collect()
    }

    /// Copies the state folder of the stopped node.
    fn save(&self, name: &str) -> PathBuf {
        let to = self.folder.path().join(name);
        drop(std::fs::remove_dir_all(&to));
        copy(&self.state(), &to);
        to
    }

    fn restore(&self, from: &Path) {
        std::fs::remove_dir_all(self.state()).unwrap();
        copy(from, &self.state());
    }

    /// Puts other leaves in the place of the stopped node's, so that the next start signs them as its history. What the node
    /// counted goes with them where `recount` says so.
    fn rewrite(&self, rows: &[Row], recount: bool) {
        let database = self.state().join("node.db");
        let (mut keys, mut commitments, mut plain) = (Vec::new(), Vec::new(), Vec::new());
        for (salt, statement) in rows {
            let value: Value = serde_json::from_str(statement).unwrap();
            let kind = match value["statement"].as_str().unwrap() {
                "polder/decision/v1" => Some((0, &value["id"])),
                "polder/execution/v1" => Some((1, &value["decision"])),
                _ => None,
            };
            let mut key = vec![255; 17];
            if let Some((kind, id)) = kind {
                key[0] = kind;
                hex::decode_to_slice(id.as_str().unwrap().rsplit_once('-').unwrap().1, &mut key[1..]).unwrap();
            }
            keys.extend(key);
            commitments.extend(
                Sha256::new()
                    .chain_update(b"polder/commitment/v1\0")
                    .chain_update(salt)
                    .chain_update(statement)
                    .finalize(),
            );
            plain.extend_from_slice(salt);
            plain.extend_from_slice(&u32::try_from(statement.len()).unwrap().to_le_bytes());
            plain.extend_from_slice(statement.as_bytes());
        }
        let count = i64::try_from(rows.len()).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let url = format!("sqlite://{}", database.display());
            let mut connection = sqlx::SqliteConnection::connect(&url).await.unwrap();
            for table in ["leaves", "tree_end", "checkpoint", "change"].iter().chain(recount.then_some(&"counters")) {
                let sql = format!("DELETE FROM {table}");
                sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
            }
            let sql =
                "INSERT INTO leaves (first, count, until_ms, keys, commitments, statements) VALUES (0, ?, 1, ?, ?, ?)";
            let insert = sqlx::query(sql).bind(count).bind(keys).bind(commitments).bind(literal(&plain));
            insert.execute(&mut connection).await.unwrap();
            connection.close().await.unwrap();
        });
        drop(std::fs::remove_dir_all(self.state().join("log")));
    }

    /// Puts an object, packed as the database keeps it, beside the log of the stopped node.
    fn put_object(&self, digest: &[u8], bytes: &[u8]) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let url = format!("sqlite://{}", self.state().join("node.db").display());
            let mut connection = sqlx::SqliteConnection::connect(&url).await.unwrap();
            let insert =
                sqlx::query("INSERT OR REPLACE INTO object (digest, bytes) VALUES (?, ?)").bind(digest).bind(bytes);
            insert.execute(&mut connection).await.unwrap();
            connection.close().await.unwrap();
        });
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let (kind, target) = (entry.file_type().unwrap(), to.join(entry.file_name()));
        if kind.is_dir() {
            copy(&entry.path(), &target);
        } else if kind.is_file() {
            std::fs::copy(entry.path(), &target).unwrap();
        }
    }
}

/// An LZ4 block of literals alone, with its length before it (4 bytes, little end first).
fn literal(plain: &[u8]) -> Vec<u8> {
    let mut packed = u32::try_from(plain.len()).unwrap().to_le_bytes().to_vec();
    packed.push(0xf0);
    let mut rest = plain.len() - 15;
    while rest >= 255 {
        packed.push(255);
        rest -= 255;
    }
    packed.push(u8::try_from(rest).unwrap());
    packed.extend_from_slice(plain);
    packed
}

/// The rows with one changed: the first that holds a word, after so many that do.
fn changed(rows: &[Row], holds: &str, change: impl Fn(&str) -> Option<String>) -> Vec<Row> {
    let place = rows.iter().rposition(|(_, statement)| statement.contains(holds)).unwrap();
    let mut rows = rows.to_vec();
    match change(&rows[place].1) {
        Some(other) => rows[place].1 = other,
        None => drop(rows.remove(place)),
    }
    rows
}

const DECISION: &str = "polder/decision/v1";
const EXECUTION: &str = "polder/execution/v1";

#[test]
fn a_node_that_lies_is_found_and_by_what() {
    let bench = Bench::new();
    let (socket, tiles) = (bench.socket(), bench.state().join("log"));
    let other_tiles = bench.folder.path().join("other-tiles");
    let before = bench.save("before");
    let seen = bench.folder.path().join("seen.json");
    let with_state = ["--state", seen.to_str().unwrap()];
    // Honest: stopped and started, with everything stated.
    let running = bench.start();
    bench.ask(2);
    support::until("every execution is covered", || {
        (bench.monitor(&[&socket], &[]).json()["paired"].as_u64() >= Some(6)).then_some(())
    });
    let honest = bench.monitor(&[&socket], &with_state);
    assert_eq!((honest.code, kinds(&honest)), (0, Vec::<String>::new()), "{honest:?}");
    running.end();
    let honest = bench.save("honest");
    // With the links that were written when it stopped.
    let running = bench.start();
    let rows = bench.rows();
    running.end();

    // An old copy, on which the node goes on: another history than the one that was seen.
    bench.restore(&before);
    let running = bench.start();
    let shrunk = bench.monitor(&[&socket], &with_state);
    assert!(shrunk.code == 5 && kinds(&shrunk).contains(&"shrunk".to_owned()), "{shrunk:?}");
    bench.ask(6);
    // It shows once the log is published at the size that was seen.
    let forked = support::until("the fork", || {
        let look = bench.monitor(&[&socket], &with_state);
        kinds(&look).contains(&"fork".to_owned()).then_some(look)
    });
    let evidence =
        forked.json()["findings"].as_array().unwrap().iter().find(|one| one["kind"] == "fork").cloned().unwrap();
    assert!(evidence["evidence"]["first"].is_string() && evidence["index"].is_u64(), "{evidence}");
    running.end();
    copy(&tiles, &other_tiles);

    // Two askers are shown two histories: neither was seen before.
    bench.restore(&honest);
    let running = bench.start();
    let split = bench.monitor(&[&other_tiles, &socket], &[]);
    assert!(kinds(&split).contains(&"fork".to_owned()), "{split:?}");
    running.end();

    // What is said in the log is changed, and all of it signed anew; the monitor has never seen it before.
    let older = |text: &str| {
        let value: Value = serde_json::from_str(text).unwrap();
        let at = value["at_ms"].as_u64().unwrap();
        Some(text.replace(&format!(r#""at_ms":{at}"#), &format!(r#""at_ms":{}"#, at - 7_200_000)))
    };
    let deny = "forbid (principal, action, resource);";
    let denied: [u8; 32] = Sha256::new().chain_update(b"polder/policy/v1\0").chain_update(deny).finalize().into();
    let by_another_policy = |text: &str| {
        let value: Value = serde_json::from_str(text).unwrap();
        Some(text.replace(value["policies"]["owner"].as_str().unwrap(), &hex::encode(denied)))
    };
    let another_ticket = |text: &str| {
        let value: Value = serde_json::from_str(text).unwrap();
        Some(text.replace(value["ticket"].as_str().unwrap(), &hex::encode([7; 32])))
    };
    let unplaced = |text: &str| {
        let value: Value = serde_json::from_str(text).unwrap();
        let id = value["decision"].as_str().unwrap();
        Some(text.replace(id, &format!("{}{}", &id[..id.len() - 8], "00000000")))
    };
    type Change<'a> = &'a dyn Fn(&str) -> Option<String>;
    let lies: [(&str, &str, Change<'_>, &[&str]); 6] = [
        ("omitted", DECISION, &|_| None, &["unpaired-execution"]),
        ("taken out of the count", EXECUTION, &|_| None, &["gap", "double-number"]),
        ("backdated", DECISION, &older, &["backdated"]),
        ("wrong verdict", DECISION, &by_another_policy, &["verdict"]),
        ("unpaired", EXECUTION, &unplaced, &["unpaired-execution"]),
        ("another ticket", EXECUTION, &another_ticket, &["mismatch"]),
    ];
    for (name, kind, change, expected) in lies {
        bench.restore(&honest);
        bench.put_object(&denied, &literal(deny.as_bytes()));
        bench.rewrite(&changed(&rows, kind, change), false);
        let running = bench.start();
        let found = bench.monitor(&[&socket], &[]);
        let words = kinds(&found);
        assert!(found.code == 5 && words.iter().any(|word| expected.contains(&word.as_str())), "{name}: {found:?}");
        for finding in found.json()["findings"].as_array().unwrap() {
            assert!(["claimed", "follows", "next"].iter().all(|part| finding[part].as_str().unwrap().len() > 5));
        }
        // Whoever had seen the honest log finds every one of them by its history alone.
        let again = bench.folder.path().join("seen-again.json");
        drop(std::fs::remove_file(&again));
        let by_history = bench.monitor(&[&honest.join("log"), &socket], &["--state", again.to_str().unwrap()]);
        let words = kinds(&by_history);
        assert!(words.iter().any(|word| word == "fork" || word == "shrunk"), "{name}: {by_history:?}");
        running.end();
    }
}

#[test]
fn whoever_does_not_answer_is_a_finding_and_holds_nothing_up() {
    let folder = Folder::new();
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let slow = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endless = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = |listener: &std::net::TcpListener| format!("http://{}", listener.local_addr().unwrap());
    let urls = [url(&silent), url(&slow), url(&endless), "http://127.0.0.1:9".to_owned()];
    std::thread::spawn(move || {
        let mut held: Vec<_> = slow.incoming().flatten().take(1).collect();
        held[0].write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n").unwrap();
        // A byte now and then: it never ends, and it never stops.
        while held[0].write_all(b"p").is_ok() {
            std::thread::sleep(Duration::from_millis(200));
        }
    });
    std::thread::spawn(move || {
        let mut held: Vec<_> = endless.incoming().flatten().take(1).collect();
        held[0].write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").unwrap();
        let chunk = [b"10000\r\n".as_slice(), &[b'x'; 0x10000], b"\r\n"].concat();
        while held[0].write_all(&chunk).is_ok() {}
    });
    let begun = Instant::now();
    let found =
        run(polder(folder.path()).args(["audit", "monitor", "--once", "--timeout", "1", "-o", "json"]).args(&urls));
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    assert_eq!((found.code, kinds(&found)), (5, vec!["unreachable".to_owned(); 4]), "{found:?}");
}
