//! The log as a stranger reads it, and its witnesses: tiles over HTTP, cosignatures, logs that lie, witnesses that are slow, and
//! nodes that are killed a hundred times.
//!
//! Trees and signatures are checked here by a few lines that share nothing with Polder's.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use rustix::process::Signal;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use support::demo::Demo;
use support::http::{Endpoint, Reply, socket_call};
use support::node::Running;
use support::painter::Painter;
use support::{Folder, polder, process, run, until};

type Hash = [u8; 32];

fn node_hash(left: &Hash, right: &Hash) -> Hash {
    Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
}

fn leaf_hash(entry: &[u8]) -> Hash {
    Sha256::new().chain_update([0]).chain_update(entry).finalize().into()
}

/// RFC 9162 §2.1.1, as it is written there.
fn root(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => Sha256::digest([]).into(),
        [one] => *one,
        _ => {
            let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
            node_hash(&root(left), &root(right))
        }
    }
}

/// A checkpoint's name, size and root, and under which names it is signed.
#[derive(Debug, Clone, PartialEq)]
struct Shown {
    text: String,
    origin: String,
    size: u64,
    root: Hash,
    lines: Vec<(String, Vec<u8>)>,
}

fn read(note: &str) -> Shown {
    let (text, signatures) = note.split_once("\n\n").unwrap();
    let mut lines = text.lines();
    let (origin, size) = (lines.next().unwrap().to_owned(), lines.next().unwrap().parse().unwrap());
    let root = BASE64.decode(lines.next().unwrap()).unwrap().try_into().unwrap();
    let line = |line: &str| {
        let (name, encoded) = line.strip_prefix("\u{2014} ").unwrap().split_once(' ').unwrap();
        (name.to_owned(), BASE64.decode(encoded).unwrap())
    };
    Shown { text: format!("{text}\n"), origin, size, root, lines: signatures.lines().map(line).collect() }
}

fn checkpoint(site: &Endpoint) -> Shown {
    let reply = site.get("/log/checkpoint");
    assert_eq!((reply.status, reply.header("content-type")), (200, Some("text/plain; charset=utf-8")));
    read(&reply.text())
}

fn path(index: u64) -> String {
    assert!(index < 1_000_000);
    if index < 1_000 { format!("{index:03}") } else { format!("x{:03}/{:03}", index / 1_000, index % 1_000) }
}

/// Every leaf up to a size, from the tiles of level 0, each compared with its bundle of entries.
fn leaves(site: &Endpoint, size: u64) -> Vec<Hash> {
    let mut all = Vec::new();
    for tile in 0..size.div_ceil(256) {
        let width = (size - tile * 256).min(256);
        let partial = if width < 256 { format!(".p/{width}") } else { String::new() };
        let fetch = |kind: &str| {
            let reply = site.get(&format!("/log/tile/{kind}/{}{partial}", path(tile)));
            assert_eq!(reply.status, 200, "{kind} {tile}{partial}: {}", reply.text());
            assert_eq!(reply.header("content-type"), Some("application/octet-stream"));
            assert!(reply.header("cache-control").unwrap().contains("immutable"));
            reply.body
        };
        let hashes: Vec<Hash> = fetch("0").chunks(32).map(|hash| hash.try_into().unwrap()).collect();
        let entries: Vec<Hash> = fetch("entries")
            .chunks(34)
            .map(|entry| {
                assert_eq!(entry[..2], [0, 32], "entries are commitments");
                leaf_hash(&entry[2..])
            })
            .collect();
        assert_eq!((hashes.len() as u64, &hashes), (width, &entries));
        all.extend(hashes);
    }
    all
}

/// A node's endpoint for strangers, without a key.
fn site(demo: &Demo, node: &str) -> Endpoint {
    let text = std::fs::read_to_string(demo.node_folder(node).join("node.toml")).unwrap();
    let listen = text.lines().find_map(|line| line.strip_prefix("listen = ")).unwrap().trim_matches('"').to_owned();
    Endpoint { address: listen, key: String::new() }
}

/// A key of a node's card.
fn key_of(demo: &Demo, node: &str, role: &str) -> VerifyingKey {
    let members: Value = serde_json::from_slice(&std::fs::read(demo.dir.join("members.json")).unwrap()).unwrap();
    let member = members.as_array().unwrap().iter().find(|one| one["card"]["node"] == node).unwrap();
    let mut key = [0; 32];
    hex::decode_to_slice(member["card"]["keys"][role]["key"].as_str().unwrap(), &mut key).unwrap();
    VerifyingKey::from_bytes(&key).unwrap()
}

/// The names of the members whose cosignature under a checkpoint holds (C2SP `tlog-cosignature`); one that does not hold fails.
fn cosigners(demo: &Demo, shown: &Shown) -> Vec<String> {
    let mut names = Vec::new();
    for (name, blob) in &shown.lines {
        let Some(node) = name.strip_prefix("polder/").and_then(|rest| rest.strip_suffix("/witness")) else { continue };
        let key = key_of(demo, node, "witness");
        let id = Sha256::new().chain_update(name).chain_update([b'\n', 4]).chain_update(key.as_bytes()).finalize();
        assert_eq!(blob[..4], id[..4]);
        let time = u64::from_be_bytes(blob[4..12].try_into().unwrap());
        let message = format!("cosignature/v1\ntime {time}\n{}", shown.text);
        key.verify_strict(message.as_bytes(), &Signature::from_slice(&blob[12..]).unwrap()).unwrap();
        names.push(node.to_owned());
    }
    names
}

/// A checkpoint that a node's log key really signs, over whatever tree: what a lying node can make.
fn forge(demo: &Demo, node: &str, size: u64, root: &Hash) -> String {
    let seed = std::fs::read_to_string(demo.node_folder(node).join("state/keys/log.key")).unwrap();
    let mut bytes = [0; 32];
    hex::decode_to_slice(seed.trim(), &mut bytes).unwrap();
    let (key, origin) = (SigningKey::from_bytes(&bytes), format!("polder/{node}"));
    let text = format!("{origin}\n{size}\n{}\n", BASE64.encode(root));
    let public = key.verifying_key();
    let id = Sha256::new().chain_update(&origin).chain_update([b'\n', 1]).chain_update(public.as_bytes()).finalize();
    let blob = [&id[..4], &key.sign(text.as_bytes()).to_bytes()].concat();
    format!("{text}\n\u{2014} {origin} {}\n", BASE64.encode(blob))
}

fn submit(site: &Endpoint, old: u64, proof: &[Hash], note: &str) -> Reply {
    let proof: String = proof.iter().map(|hash| BASE64.encode(hash) + "\n").collect();
    site.call("POST", "/witness/add-checkpoint", &[], format!("old {old}\n{proof}\n{note}").as_bytes())
}

fn alarms(demo: &Demo, node: &str) -> Vec<Value> {
    let told = socket_call(&demo.node_folder(node).join("state/api.sock"), "GET", "/api/v1/alarms").json();
    told["alarms"].as_array().unwrap().clone()
}

fn ask(demo: &Demo) -> Value {
    demo.polder(&["ask", "What is Polder?", "--tenant", "bank", "-o", "json"]).json()
}

#[test]
fn strangers_read_the_log_and_its_cosignatures() {
    let demo = Demo::start();
    for _ in 0..3 {
        assert_eq!(ask(&demo)["verified"], true);
    }
    let bank = site(&demo, "bank-home");
    let shown = until("a checkpoint over all of it with cosignatures", || {
        let shown = checkpoint(&bank);
        // Every factory is a witness.
        (shown.size >= 4 && cosigners(&demo, &shown).len() == 8).then_some(shown)
    });
    assert_eq!(shown.origin, "polder/bank-home");
    assert_eq!(root(&leaves(&bank, shown.size)), shown.root);
    let (log_name, blob) = &shown.lines[0];
    assert_eq!(log_name, "polder/bank-home");
    let signature = Signature::from_slice(&blob[4..]).unwrap();
    key_of(&demo, "bank-home", "log").verify_strict(shown.text.as_bytes(), &signature).unwrap();
    // What does not exist yet, or is no path, is not there.
    for wrong in ["0/000", "1/000", "0/000.p/200", "0/001.p/1", "0/0", "0/000.p/0", "x/000", "entries/001"] {
        assert_eq!(bank.get(&format!("/log/tile/{wrong}")).status, 404, "{wrong}");
    }
    // At rest it is the same log: whoever serves the folder serves it.
    let folder = demo.node_folder("bank-home").join("state/log");
    let rested = until("the checkpoint at rest", || {
        let rested = read(&std::fs::read_to_string(folder.join("checkpoint")).ok()?);
        (rested.size == shown.size).then_some(rested)
    });
    let tile = std::fs::read(folder.join(format!("tile/0/000.p/{}", rested.size))).unwrap();
    assert_eq!(root(&tile.chunks(32).map(|hash| hash.try_into().unwrap()).collect::<Vec<_>>()), shown.root);
    let status = demo.polder(&["log", "check", "-o", "json"]);
    assert_eq!((status.code, &status.json()["ok"]), (0, &json!(true)), "{status:?}");
}

#[test]
fn a_witness_answers_as_the_specification_says() {
    let demo = Demo::start();
    let paris = site(&demo, "paris");
    ask(&demo);
    demo.count_all();
    let bank = site(&demo, "bank-home");
    let size = until("a cosignature of paris", || {
        let shown = checkpoint(&bank);
        cosigners(&demo, &shown).contains(&"paris".to_owned()).then_some(shown.size)
    });
    let known = |reply: &Reply| {
        assert_eq!((reply.status, reply.header("content-type")), (409, Some("text/x.tlog.size")), "{}", reply.text());
        reply.text()
    };
    let note = forge(&demo, "bank-home", size + 3, &[7; 32]);
    assert_eq!(known(&submit(&paris, 0, &[], &note)), format!("{size}\n"));
    assert_eq!(submit(&paris, size, &[[1; 32]], &note).status, 422);
    assert_eq!(submit(&paris, size + 4, &[], &note).status, 400);
    assert_eq!(submit(&paris, 0, &[], &note.replace("bank-home", "nobody")).status, 404);
    assert_eq!(
        submit(&paris, size, &[], &note.replace("\u{2014} polder/bank-home ", "\u{2014} polder/other ")).status,
        403
    );
    assert_eq!(paris.call("POST", "/witness/add-checkpoint", &[], b"old 0\n\nwhatever\n").status, 400);
    assert_eq!(paris.call("POST", "/witness/add-checkpoint", &[], &vec![b'a'; 70_000]).status, 413);
    assert_eq!(paris.get("/witness/add-checkpoint").status, 405);
    // A stranger's rubbish around a checkpoint that was really signed accuses nobody.
    assert_eq!(alarms(&demo, "paris"), Vec::<Value>::new());
    assert!(!demo.polder(&["status"]).stdout.contains("ALARM"));
    assert_eq!(demo.polder(&["log", "alarms"]).code, 0);
}

#[test]
fn a_log_with_two_histories_is_found_and_everyone_hears_of_it() {
    let demo = Demo::start();
    // A factory that nobody uses: a witness that does not know its log yet takes what it is shown first. One that does is shown
    // another tree of the size that it knows.
    let (munich, bologna) = (site(&demo, "munich"), site(&demo, "bologna"));
    for (witness, root) in [(&munich, [1; 32]), (&bologna, [2; 32])] {
        let reply = submit(witness, 0, &[], &forge(&demo, "virginia", 3, &root));
        if reply.status == 409 {
            let known = reply.text().trim().parse().unwrap();
            assert_eq!(submit(witness, known, &[], &forge(&demo, "virginia", known, &root)).status, 409);
            continue;
        }
        assert_eq!(reply.status, 200, "{}", reply.text());
        assert!(reply.text().starts_with("\u{2014} polder/"), "{}", reply.text());
    }
    // One that is shown both says so at once: two roots of one size.
    ask(&demo);
    demo.count_all();
    let bank = site(&demo, "bank-home");
    let shown = until("a cosignature", || Some(checkpoint(&bank)).filter(|shown| !cosigners(&demo, shown).is_empty()));
    let witness = cosigners(&demo, &shown)[0].clone();
    let reply = submit(&site(&demo, &witness), 0, &[], &forge(&demo, "bank-home", shown.size, &[9; 32]));
    assert_eq!(reply.status, 409);
    let found = alarms(&demo, &witness);
    let fork = found.iter().find(|one| one["log"] == "bank-home").unwrap();
    assert_eq!((&fork["kind"], &fork["proved"], &fork["heard_from"]), (&json!("fork"), &json!(true), &json!(witness)));
    for name in ["first", "second"] {
        assert_eq!(read(fork["evidence"][name].as_str().unwrap()).size, shown.size);
    }
    // Every node learns of both, also homes, which nobody can call.
    for node in ["kajaani", "virginia", "defence-home", "bank-home", "munich", "bologna"] {
        let heard = until("both alarms", || {
            let alarms = alarms(&demo, node);
            let logs: Vec<&str> = alarms.iter().filter_map(|one| one["log"].as_str()).collect();
            (logs.contains(&"virginia") && logs.contains(&"bank-home")).then_some(alarms)
        });
        assert!(heard.iter().all(|one| one["proved"] == true), "{node}: {heard:?}");
    }
    let table = demo.polder(&["status"]);
    assert!(table.stdout.contains("ALARMS about logs: see `polder log alarms`"), "{table:?}");
    let listed = demo.polder(&["log", "alarms"]);
    assert!(listed.code == 5 && listed.stdout.contains("fork"), "{listed:?}");
    assert!(demo.polder(&["doctor"]).stdout.contains("`polder log alarms` shows the evidence"));
    // The node itself works on.
    assert_eq!(ask(&demo)["verified"], true);
}

#[test]
fn a_witness_that_never_answers_holds_nothing_up() {
    let demo = Demo::start();
    ask(&demo);
    let bank = site(&demo, "bank-home");
    let before = until("all witnesses", || {
        let shown = checkpoint(&bank);
        (cosigners(&demo, &shown).len() == 8).then_some(shown.size)
    });
    let stopped = ["virginia", "krakow"];
    stopped.iter().for_each(|node| process::signal(demo.node_pid(node), Signal::STOP));
    let begun = Instant::now();
    assert_eq!(ask(&demo)["verified"], true);
    let shown = until("the next checkpoint", || Some(checkpoint(&bank)).filter(|shown| shown.size > before));
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    let signed = cosigners(&demo, &shown);
    assert!(signed.len() == 6 && stopped.iter().all(|node| !signed.contains(&(*node).to_owned())), "{signed:?}");
    stopped.iter().for_each(|node| process::signal(demo.node_pid(node), Signal::CONT));
    until("the witnesses that came back", || (cosigners(&demo, &checkpoint(&bank)).len() == 8).then_some(()));
}

/// A witness that has a second key: whoever asks for it finds its cosignature, whoever does not is not disturbed.
#[test]
fn a_witness_cosigns_by_ml_dsa_too() {
    let demo = Demo::start();
    let file = demo.node_folder("paris").join("node.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    assert_eq!(site(&demo, "paris").get("/witness/keys").text().lines().count(), 1);
    let pid = demo.node_pid("paris");
    process::signal(pid, Signal::TERM);
    until("the end of paris", || process::has_ended(pid).then_some(()));
    std::fs::write(&file, format!("{text}\n[log]\nml_dsa_44 = true\n")).unwrap();
    let paris = Running::start(demo.around(), &["up", "--config", file.to_str().unwrap()]);
    let keys = site(&demo, "paris").get("/witness/keys").text();
    let (first, second) = keys.trim_end().split_once('\n').unwrap();
    assert_eq!(ask(&demo)["verified"], true);
    let bank = site(&demo, "bank-home");
    let signed = |shown: &Shown, length: usize| {
        shown.lines.iter().filter(|(name, blob)| name == "polder/paris/witness" && blob.len() == length).count()
    };
    until("both lines of paris", || {
        let shown = checkpoint(&bank);
        (signed(&shown, 4 + 8 + 64) == 1 && signed(&shown, 4 + 8 + 2_420) == 1).then_some(())
    });
    assert_eq!(ask(&demo)["verified"], true);
    let out = demo.around().join("receipt");
    let (policy, out) = (demo.around().join("witnessed"), out.to_str().unwrap());
    for (key, kept) in [(second, 2_432), (first, 76)] {
        std::fs::write(&policy, format!("witness paris {key}\nquorum paris\n")).unwrap();
        let policy = policy.to_str().unwrap();
        let export = ["receipt", "export", "last", "--tenant", "bank", "--format", "tlog-proof", "--policy", policy];
        until("a receipt that paris has witnessed", || {
            let exported = demo.polder(&[export.as_slice(), &["--out", out]].concat());
            (exported.code == 0).then_some(())
        });
        let file = std::fs::read_to_string(out).unwrap();
        let lines: Vec<&str> = file.lines().filter(|line| line.contains(" polder/paris/witness ")).collect();
        assert_eq!(lines.len(), 1, "{file}");
        assert_eq!(BASE64.decode(lines[0].rsplit(' ').next().unwrap()).unwrap().len(), kept);
        let vkey = format!("{out}.vkey");
        let log = std::fs::read_to_string(&vkey).unwrap();
        std::fs::write(policy, format!("log {log}\nwitness paris {key}\nquorum paris\n")).unwrap();
        let verified = run(polder(demo.around()).args(["verify", out, "--policy", policy, "-o", "json"]));
        assert_eq!(verified.code, 0, "{verified:?}");
    }
    paris.end();
}

/// Kills a node under load, starts it again, and again; at the end everything that was ever shown must be a prefix of the log.
#[test]
fn a_node_killed_a_hundred_times_keeps_every_leaf_that_it_showed() {
    let times = std::env::var("POLDER_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(100);
    let (folder, engine) = (Folder::new(), Painter::start());
    let listen = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let arguments = ["up", "--upstream", &engine.url, "--listen", &listen, "--state", "front"];
    Running::start(folder.path(), &arguments).end();
    let file = folder.path().join("front/node.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text + "\n[factory.upstream.models.ranker]\noffers = [\"rerank\"]\n").unwrap();
    let mut seen: BTreeMap<u64, Shown> = BTreeMap::new();
    let mut lost = Vec::new();
    let mut key = String::new();
    for round in 0..times {
        let running = Running::start(folder.path(), &arguments);
        if let Some(printed) = running.printed["key"].as_str().filter(|_| key.is_empty()) {
            key = printed.to_owned();
        }
        let site = Endpoint { address: listen.clone(), key: key.clone() };
        let first = checkpoint(&site);
        let last = seen.last_key_value().map_or(0, |(size, _)| *size);
        assert!(first.size >= last, "round {round}: {} leaves after {last} were shown", first.size);
        let stop = Arc::new(AtomicBool::new(false));
        let busy: Vec<_> = (0..3)
            .map(|_| {
                let (site, stop) = (site.clone(), Arc::clone(&stop));
                std::thread::spawn(move || load(&site, &stop))
            })
            .collect();
        let until = Instant::now() + Duration::from_millis(60 + round % 7 * 20);
        while Instant::now() < until {
            let shown = checkpoint(&site);
            if let Some(before) = seen.get(&shown.size) {
                assert_eq!(before.root, shown.root, "two trees of {} leaves", shown.size);
            }
            seen.insert(shown.size, shown);
        }
        process::signal(running.pid(), Signal::KILL);
        stop.store(true, Ordering::Release);
        lost.push(busy.into_iter().filter_map(|thread| thread.join().unwrap()).collect::<Vec<String>>());
        drop(running);
    }
    let running = Running::start(folder.path(), &arguments);
    let site = Endpoint { address: listen, key };
    let end = checkpoint(&site);
    let all = leaves(&site, end.size);
    assert!(end.size > times, "{} leaves in {times} rounds", end.size);
    seen.insert(end.size, end);
    all_prefixes(&all, &seen);
    // Of each decision that was answered just before the end there is a leaf, or it is said that there is none, and why.
    let mut named = 0;
    for id in lost.iter().flatten() {
        let reply = site.get(&format!("/api/v1/decisions/{id}"));
        match reply.status {
            200 => {}
            404 => {
                assert!(reply.json()["detail"].as_str().unwrap().contains("cut short"), "{}", reply.text());
                assert!(reply.json()["lost"]["leaves"].is_u64(), "{}", reply.text());
                named += 1;
            }
            other => panic!("{other}: {}", reply.text()),
        }
    }
    eprintln!("{times} kills: {} leaves, {} checkpoints seen, {named} answers lost and named", all.len(), seen.len());
    assert!(socket_call(&folder.path().join("front/state/api.sock"), "GET", "/api/v1/status").json()["alarms"] == 0);
    running.end();
}

/// Every tree that was shown is a prefix of these leaves. One pass over them, with the roots of the complete subtrees so far.
fn all_prefixes(leaves: &[Hash], seen: &BTreeMap<u64, Shown>) {
    let mut whole: Vec<(u64, Hash)> = Vec::new();
    for (size, leaf) in (1..).zip(leaves) {
        let mut grown = (1, *leaf);
        while let Some((width, left)) = whole.pop_if(|(width, _)| *width == grown.0) {
            grown = (2 * width, node_hash(&left, &grown.1));
        }
        whole.push(grown);
        let Some(shown) = seen.get(&size) else { continue };
        let roots = whole.iter().map(|(_, root)| *root);
        let root = roots.rev().reduce(|right, left| node_hash(&left, &right)).unwrap();
        assert_eq!(root, shown.root, "the tree of {size} leaves is no prefix any more");
    }
}

/// Asks until it is told to stop or the node is gone; the last decision that was answered.
fn load(site: &Endpoint, stop: &AtomicBool) -> Option<String> {
    let question = json!({"model": "ranker", "query": "one two", "documents": ["one", "two"]});
    let mut last = None;
    while !stop.load(Ordering::Acquire) {
        let asked = std::panic::catch_unwind(|| site.post("/v1/rerank", &question));
        let Ok(reply) = asked else { break };
        match reply.header("polder-decision") {
            Some(decision) if reply.status == 200 => last = Some(decision.to_owned()),
            // It may not know the engine's models yet.
            _ => std::thread::sleep(Duration::from_millis(2)),
        }
    }
    last
}
