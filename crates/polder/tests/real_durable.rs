//! What waits for the disk, and tiles in a bucket: a node whose database or whose bucket is held up, refuses, is gone or is slow.
//!
//! The bucket is served by another program over HTTP (`support/bucket.rs`); trees are computed here by a few lines of their own.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rustix::process::Signal;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use support::bucket::Bucket;
use support::http::{Endpoint, Reply};
use support::node::Running;
use support::painter::Painter;
use support::{Folder, polder, process, run, skip, until};

const SECRET: &str = "not a secret to anybody";

const UP: [&str; 3] = ["up", "--config", "front/node.toml"];

/// A node in front of an engine, and how to start it again.
struct Front {
    folder: Folder,
    engine: Painter,
    listen: String,
    key: String,
}

impl Front {
    /// Lays it out; `change` may change its configuration.
    fn new(change: impl FnOnce(String) -> String) -> Self {
        let (folder, engine) = (Folder::new(), Painter::start());
        let listen = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let mut front = Self { folder, engine, listen, key: String::new() };
        let first = ["up", "--upstream", &front.engine.url, "--listen", &front.listen, "--state", "front"];
        let running = Running::start(front.folder.path(), &first);
        front.key = running.printed["key"].as_str().unwrap().to_owned();
        running.end();
        let models = "\n[factory.upstream.models.ranker]\noffers = [\"rerank\"]\n";
        front.configure(|text| change(text + models));
        front
    }

    fn start(&self) -> Running {
        Running::start(self.folder.path(), &UP)
    }

    fn configure(&self, change: impl FnOnce(String) -> String) {
        let file = self.folder.path().join("front/node.toml");
        std::fs::write(&file, change(std::fs::read_to_string(&file).unwrap())).unwrap();
    }

    fn site(&self) -> Endpoint {
        Endpoint { address: self.listen.clone(), key: self.key.clone() }
    }

    fn ask(&self) -> Reply {
        let question = json!({"model": "ranker", "query": "one two", "documents": ["one", "two"]});
        self.site().post("/v1/rerank", &question)
    }

    /// Asks until it is answered: the node may not know its engine's models yet. The decision's id.
    fn answered(&self) -> String {
        until("an answer", || Some(self.ask()).filter(|reply| reply.status == 200))
            .header("polder-decision")
            .unwrap()
            .to_owned()
    }

    /// How often the engine was asked.
    fn heard(&self) -> usize {
        self.engine.heard("/rerank").len()
    }
}

/// Holds the database's write lock, as a disk does that does not answer.
struct Held(Child);

impl Held {
    fn of(database: &Path) -> Option<Self> {
        let script = "import sqlite3, sys; held = sqlite3.connect(sys.argv[1], isolation_level=None); \
                      held.execute('BEGIN IMMEDIATE'); print('held', flush=True); sys.stdin.read()";
        let mut command = Command::new("python3");
        command.args(["-c", script]).arg(database).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().ok()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "held\n");
        Some(Self(child))
    }

    fn release(mut self) {
        self.0.stdin.take().unwrap().flush().unwrap();
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.0.try_wait().unwrap().is_none() {
            self.0.kill().unwrap();
            self.0.wait().unwrap();
        }
    }
}

#[test]
fn a_strict_project_sends_nothing_before_its_leaf_is_on_disk() {
    if Command::new("python3").arg("--version").output().is_err() {
        skip("real_durable: strict", "python3 is not on the PATH");
        return;
    }
    let front = Front::new(|text| text);
    let database = front.folder.path().join("front/state/node.db");
    // By default the answer does not wait for the disk.
    let running = front.start();
    front.answered();
    let (held, before) = (Held::of(&database).unwrap(), front.heard());
    assert_eq!((front.ask().status, front.heard()), (200, before + 1));
    held.release();
    running.end();
    front.configure(|text| text.replacen("[[home.projects]]\n", "[[home.projects]]\nassurance = \"strict\"\n", 1));
    let running = front.start();
    front.answered();
    // Strict, it waits, and nothing has left the node.
    let (held, before) = (Held::of(&database).unwrap(), front.heard());
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| front.ask());
        std::thread::sleep(Duration::from_millis(1_500));
        assert!(!asked.is_finished() && front.heard() == before, "it was sent before it was on disk");
        held.release();
        let reply = asked.join().unwrap();
        assert_eq!((reply.status, front.heard()), (200, before + 1), "{}", reply.text());
    });
    // A disk that does not come back: an error, and the engine never hears of it.
    let (held, before) = (Held::of(&database).unwrap(), front.heard());
    let reply = front.ask();
    assert!(reply.status >= 500 && front.heard() == before, "{} {}", reply.status, reply.text());
    held.release();
    front.answered();
    running.end();
}

type Hash = [u8; 32];

/// RFC 9162 §2.1.1, as it is written there.
fn root(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => Sha256::digest([]).into(),
        [one] => *one,
        _ => {
            let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
            Sha256::new().chain_update([1]).chain_update(root(left)).chain_update(root(right)).finalize().into()
        }
    }
}

/// Size and root of a checkpoint.
fn read(note: &str) -> (u64, Hash) {
    let mut lines = note.lines().skip(1);
    let size = lines.next().unwrap().parse().unwrap();
    (size, BASE64.decode(lines.next().unwrap()).unwrap().try_into().unwrap())
}

fn checkpoint(site: &Endpoint) -> (u64, Hash) {
    read(&site.get("/log/checkpoint").text())
}

/// The leaves of a tree, each tile of level 0 got by `get`.
fn leaves(size: u64, get: impl Fn(&str) -> Vec<u8>) -> Vec<Hash> {
    let tile = |index: u64| {
        let width = (size - index * 256).min(256);
        let name = if width < 256 { format!("tile/0/{index:03}.p/{width}") } else { format!("tile/0/{index:03}") };
        get(&name).chunks(32).map(|hash| hash.try_into().unwrap()).collect::<Vec<Hash>>()
    };
    (0..size.div_ceil(256)).flat_map(tile).collect()
}

#[test]
fn a_log_in_a_bucket_outlives_kills_of_its_node() {
    let place = Folder::new();
    let Some(bucket) = Bucket::start(place.path(), SECRET, "real_durable: kills") else { return };
    let front = Front::new(|text| text + &bucket.config("s3.secret"));
    std::fs::write(front.folder.path().join("front/s3.secret"), format!("{SECRET}\n")).unwrap();
    let (site, mut seen) = (front.site(), Vec::new());
    for round in 0..8 {
        let running = front.start();
        front.answered();
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(150 + round * 40) {
            front.ask();
            seen.push(checkpoint(&site));
        }
        process::signal(running.pid(), Signal::KILL);
    }
    let running = front.start();
    until("a full tile in the bucket", || {
        front.answered();
        bucket.kept("tile/0/000").is_file().then_some(())
    });
    let served = |name: &str| {
        let reply = site.get(&format!("/log/{name}"));
        assert_eq!(reply.status, 200, "{name}: {}", reply.text());
        reply.body
    };
    let (size, end) = checkpoint(&site);
    let all = leaves(size, served);
    assert_eq!(root(&all), end);
    for (size, shown) in seen {
        assert_eq!(
            root(&all[..usize::try_from(size).unwrap()]),
            shown,
            "the tree of {size} leaves is no prefix any more"
        );
    }
    running.end();
    // The bucket holds a whole log by itself, and the node serves from it: what is taken from it is put back when it is asked for.
    let (size, shown) = read(&std::fs::read_to_string(bucket.kept("checkpoint")).unwrap());
    let at_rest = leaves(size, |name| std::fs::read(bucket.kept(name)).unwrap());
    assert_eq!(root(&at_rest), shown);
    assert!(size >= end_size(&all), "{size}");
    let running = front.start();
    let (full, bundle) = (bucket.kept("tile/0/000"), bucket.kept("tile/entries/000"));
    let mut other = std::fs::read(&bundle).unwrap();
    *other.last_mut().unwrap() ^= 1;
    std::fs::write(&bundle, &other).unwrap();
    assert_eq!(served("tile/entries/000"), other, "bundles are served from the bucket");
    let kept = std::fs::read(&full).unwrap();
    std::fs::remove_file(&full).unwrap();
    assert_eq!(served("tile/0/000"), kept);
    until("the tile in the bucket again", || (std::fs::read(&full).ok()? == kept).then_some(()));
    running.end();
}

fn end_size(all: &[Hash]) -> u64 {
    u64::try_from(all.len()).unwrap()
}

fn said(running: &Running) -> String {
    std::fs::read_to_string(&running.log).unwrap()
}

#[test]
fn a_bucket_that_is_gone_slow_or_refuses_loses_nothing() {
    let place = Folder::new();
    let Some(mut bucket) = Bucket::start(place.path(), SECRET, "real_durable: gone") else { return };
    let front = Front::new(|text| text + &bucket.config("s3.secret"));
    std::fs::write(front.folder.path().join("front/s3.secret"), SECRET).unwrap();
    let (site, running) = (front.site(), front.start());
    front.answered();
    let rested = |size: u64| {
        let kept = std::fs::read_to_string(bucket_checkpoint(place.path())).ok()?;
        (read(&kept).0 >= size).then_some(())
    };
    until("a checkpoint in the bucket", || rested(2));
    // Gone: requests go on, the fault is named, and what needs a tile that cannot be laid to rest is not published.
    bucket.end();
    let full = (0..130).map(|_| front.answered()).collect::<Vec<_>>();
    until("the fault in the node's messages", || said(&running).contains(&bucket.place()).then_some(()));
    assert!(checkpoint(&site).0 < 256, "{:?}", checkpoint(&site));
    assert!(!said(&running).contains(SECRET));
    bucket.run(SECRET);
    until("all of it in the bucket", || rested(260));
    assert!(checkpoint(&site).0 >= 260);
    // Slow: it stands still, and requests do not.
    bucket.signal(Signal::STOP);
    let begun = Instant::now();
    let slow = (0..10).map(|_| front.answered()).collect::<Vec<_>>();
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    bucket.signal(Signal::CONT);
    until("all of it in the bucket", || rested(280));
    for id in full.iter().chain(&slow) {
        let reply = site.get(&format!("/api/v1/decisions/{id}"));
        assert_eq!(reply.status, 200, "{id}: {}", reply.text());
    }
    running.end();
    // Refuses: the node does not start on a log that it cannot read, and says why and what to do.
    bucket.end();
    bucket.run("another secret");
    let ended = run(polder(front.folder.path()).args(UP));
    assert!(ended.code != 0 && ended.stderr.contains(&bucket.place()) && ended.stderr.contains("403"), "{ended:?}");
    assert!(!ended.stderr.contains(SECRET) && ended.stderr.lines().count() < 8, "{ended:?}");
    let told: Value = json!({"stderr": ended.stderr});
    assert!(told["stderr"].as_str().unwrap().contains("key_id"), "{ended:?}");
}

fn bucket_checkpoint(folder: &Path) -> std::path::PathBuf {
    folder.join("tiles").join(support::bucket::PREFIX).join("checkpoint")
}
