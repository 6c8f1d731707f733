//! Files and batches of running nodes: the whole way through, each line on its own, and what a crash, a stop, a revoked key or
//! the end of the time leaves of them.
//!
//! Most tests have the node speak to a stand-in for an engine that counts what reaches it and hangs when it is told to.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::collections::BTreeMap;
use std::path::Path;

use rustix::process::Signal;
use serde_json::{Value, json};
use support::demo::Demo;
use support::engine::{Engine, Mode};
use support::http::{Endpoint, Reply};
use support::node::Running;
use support::{Folder, polder, process, run, until};

const BATCHES: &str = "/v1/batches";
const CHAT: &str = "/v1/chat/completions";
const FILES: &str = "/v1/files";
const MODEL: &str = "stand-in";
const CANARY: &str = "canary-4711 lives at Quay Street";

/// A form's parts: name, file name where it is a file, and content.
type Parts<'a> = &'a [(&'a str, Option<&'a str>, &'a [u8])];

fn form(parts: Parts<'_>) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, file, content) in parts {
        let file = file.map_or_else(String::new, |file| format!("; filename=\"{file}\""));
        body.extend(format!("--b0\r\nContent-Disposition: form-data; name=\"{name}\"{file}\r\n\r\n").bytes());
        body.extend_from_slice(content);
        body.extend(b"\r\n");
    }
    body.extend(b"--b0--\r\n");
    body
}

fn send(endpoint: &Endpoint, body: &[u8]) -> Reply {
    endpoint.call("POST", FILES, &[("content-type", "multipart/form-data; boundary=b0")], body)
}

/// Brings a file of lines; its id.
fn bring(endpoint: &Endpoint, lines: &[Value]) -> String {
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let reply = send(endpoint, &form(&[("purpose", None, b"batch"), ("file", Some("lines.jsonl"), text.as_bytes())]));
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json()["id"].as_str().unwrap().to_owned()
}

fn line(id: &str, model: &str, more: Value) -> Value {
    let mut body = json!({"model": model, "messages": [{"role": "user", "content": id}], "max_tokens": 8});
    more.as_object().unwrap().iter().for_each(|(name, value)| body[name] = value.clone());
    json!({"custom_id": id, "method": "POST", "url": CHAT, "body": body})
}

fn numbered(count: usize) -> Vec<Value> {
    (0..count).map(|number| line(&format!("line-{number}"), MODEL, json!({}))).collect()
}

/// Begins a batch over lines; its id.
fn begin(endpoint: &Endpoint, lines: &[Value]) -> String {
    let body = json!({"input_file_id": bring(endpoint, lines), "endpoint": CHAT, "completion_window": "24h"});
    let reply = endpoint.post(BATCHES, &body);
    assert_eq!((reply.status, &reply.json()["status"]), (200, &json!("validating")), "{}", reply.text());
    reply.json()["id"].as_str().unwrap().to_owned()
}

fn look(endpoint: &Endpoint, id: &str) -> Value {
    let reply = endpoint.get(&format!("{BATCHES}/{id}"));
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json()
}

/// A batch once it is at its end.
fn ended(endpoint: &Endpoint, id: &str) -> Value {
    until("the end of a batch", || {
        let batch = look(endpoint, id);
        ["completed", "failed", "expired", "cancelled"].contains(&batch["status"].as_str().unwrap()).then_some(batch)
    })
}

/// The lines of a batch's file, by `custom_id`; none where there is no file.
fn read(endpoint: &Endpoint, file: &Value) -> BTreeMap<String, Value> {
    let Some(id) = file.as_str() else { return BTreeMap::new() };
    let reply = endpoint.get(&format!("{FILES}/{id}/content"));
    assert_eq!(reply.status, 200, "{}", reply.text());
    let lines: Vec<Value> = reply.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let count = lines.len();
    let named: BTreeMap<_, _> =
        lines.into_iter().map(|line| (line["custom_id"].as_str().unwrap().to_owned(), line)).collect();
    assert_eq!(named.len(), count, "no line stands there twice");
    named
}

fn counts(batch: &Value) -> (u64, u64, u64) {
    let count = |name: &str| batch["request_counts"][name].as_u64().unwrap();
    (count("total"), count("completed"), count("failed"))
}

/// A node in front of an engine.
struct World {
    running: Option<Running>,
    engine: Engine,
    folder: Folder,
    endpoint: Endpoint,
}

impl World {
    fn start(batches: &str) -> Self {
        let (engine, folder) = (Engine::start("says this", MODEL), Folder::new());
        let listen = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let arguments = ["up", "--upstream", &engine.url(), "--listen", &listen, "--state", "front"];
        Running::start(folder.path(), &arguments).end();
        let file = folder.path().join("front/node.toml");
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, format!("{text}\n[home.batches]\n{batches}\n")).unwrap();
        let key = std::fs::read_to_string(folder.path().join("front/key")).unwrap().trim().to_owned();
        let endpoint = Endpoint::new(&format!("http://{listen}/v1"), &key);
        let mut world = Self { running: None, engine, folder, endpoint };
        world.run();
        world
    }

    fn run(&mut self) {
        self.running = Some(Running::start(self.folder.path(), &["up", "--config", "front/node.toml"]));
        until("the engine's model", || {
            let listed = self.endpoint.get("/v1/models").json();
            listed["data"].as_array().is_some_and(|data| data.len() == 1).then_some(())
        });
    }

    fn kill(&mut self) {
        let pid = self.running.as_ref().unwrap().pid();
        process::signal(pid, Signal::KILL);
        // Dropping it waits for its end.
        drop(self.running.take());
    }

    fn told(&self, arguments: &[&str]) -> Value {
        let mut command = polder(self.folder.path());
        let ended = run(command.args(arguments).args(["--socket", "front/state/api.sock", "-o", "json"]));
        assert_eq!(ended.code, 0, "{arguments:?}: {ended:?}");
        ended.json()
    }

    /// How often each line reached the engine.
    fn asked(&self) -> BTreeMap<String, usize> {
        let mut asked = BTreeMap::new();
        for one in self.engine.asked().iter().filter(|one| one.path == CHAT) {
            *asked.entry(one.body["messages"][0]["content"].as_str().unwrap().to_owned()).or_default() += 1;
        }
        asked
    }
}

#[test]
fn a_batch_is_decided_line_by_line_and_seen_by_nobody_else() {
    let demo = Demo::start();
    let bank = demo.endpoint("bank", "customer-service");
    let lines = [
        line("first", "polder-toy", json!({})),
        line("second", "polder-toy", json!({"metadata": {"polder.purpose": "finance"}})),
        line("refused", "polder-toy", json!({"metadata": {"polder.countries": "JP"}})),
        line("wrong", "polder-toy", json!({"temperature": "hot"})),
        line("streamed", "polder-toy", json!({"stream": true})),
        line("unknown", "no-such-model", json!({})),
    ];
    let input = bring(&bank, &lines);
    let asked = json!({
        "input_file_id": input, "endpoint": CHAT, "completion_window": "24h", "metadata": {"ticket": "7"},
        "output_expires_after": {"anchor": "created_at", "seconds": 7200},
    });
    let begun = bank.post(BATCHES, &asked).json();
    let id = begun["id"].as_str().unwrap().to_owned();
    let batch = ended(&bank, &id);
    assert_eq!((&batch["status"], counts(&batch)), (&json!("completed"), (6, 2, 4)), "{batch}");
    assert_eq!(batch["metadata"], json!({"ticket": "7"}));
    assert_eq!(batch["expires_at"].as_u64().unwrap() - batch["created_at"].as_u64().unwrap(), 86_400);
    let (good, bad) = (read(&bank, &batch["output_file_id"]), read(&bank, &batch["error_file_id"]));
    assert_eq!(good.keys().collect::<Vec<_>>(), ["first", "second"]);
    let mut receipts = Vec::new();
    for line in good.values() {
        assert_eq!((&line["response"]["status_code"], &line["error"]), (&json!(200), &Value::Null));
        assert!(!line["response"]["body"]["choices"][0]["message"]["content"].as_str().unwrap().is_empty(), "{line}");
        assert_eq!(line["response"]["request_id"], line["polder"]["decision"]);
        let receipt = line["polder"]["receipt"].as_str().unwrap();
        assert_eq!(bank.get(receipt).status, 200, "{line}");
        receipts.push(receipt.to_owned());
    }
    assert_ne!(receipts[0], receipts[1]);
    let error = |id: &str| {
        let response = &bad[id]["response"];
        (response["status_code"].as_u64().unwrap(), response["body"]["error"]["code"].as_str().unwrap().to_owned())
    };
    assert_eq!(error("refused"), (403, "policy_unsatisfiable".to_owned()));
    assert!(!bad["refused"]["response"]["body"]["error"]["refusals"].as_array().unwrap().is_empty());
    assert_eq!(bank.get(bad["refused"]["polder"]["receipt"].as_str().unwrap()).status, 200);
    assert_eq!(error("wrong"), (400, "invalid_type".to_owned()));
    assert_eq!(error("streamed"), (400, "unsupported_parameter".to_owned()));
    assert_eq!(error("unknown"), (404, "model_not_found".to_owned()));
    let output = batch["output_file_id"].as_str().unwrap();
    let file = bank.get(&format!("{FILES}/{output}")).json();
    assert_eq!(file["purpose"], "batch_output");
    assert_eq!(file["expires_at"].as_u64().unwrap() - file["created_at"].as_u64().unwrap(), 7_200);

    // A batch's own labels hold for every line.
    let narrowed = bank.call(
        "POST",
        BATCHES,
        &[("content-type", "application/json"), ("polder-countries", "JP")],
        asked.to_string().as_bytes(),
    );
    let narrowed = ended(&bank, narrowed.json()["id"].as_str().unwrap());
    assert_eq!(counts(&narrowed), (6, 0, 6), "{narrowed}");
    assert_eq!(read(&bank, &narrowed["error_file_id"])["first"]["response"]["status_code"], 403);

    // For another project and another tenant none of it exists.
    for (tenant, project) in [("start-up", "product"), ("bank", "website")] {
        let stranger = demo.endpoint(tenant, project);
        for path in [format!("{BATCHES}/{id}"), format!("{FILES}/{output}"), format!("{FILES}/{input}/content")] {
            assert_eq!(stranger.get(&path).status, 404, "{path}");
        }
        assert_eq!(stranger.call("DELETE", &format!("{FILES}/{output}"), &[], b"").status, 404);
        assert_eq!(stranger.post(&format!("{BATCHES}/{id}/cancel"), &json!({})).status, 404);
        for list in [BATCHES, FILES] {
            assert_eq!(stranger.get(list).json()["data"], json!([]), "{list}");
        }
        let stolen = stranger.post(BATCHES, &asked);
        assert_eq!((stolen.status, stolen.error().1.as_deref()), (400, Some("input_file_id")));
    }
    // What is deleted is gone with its bytes.
    assert_eq!(bank.call("DELETE", &format!("{FILES}/{output}"), &[], b"").json()["deleted"], true);
    assert_eq!(bank.get(&format!("{FILES}/{output}/content")).status, 404);
}

#[test]
fn files_come_and_go_and_odd_forms_are_refused() {
    let mut world = World::start("file_bytes_max = 100000");
    let endpoint = world.endpoint.clone();
    let file = |content: &'static [u8]| ("file", Some("a.jsonl"), content);
    let purpose = ("purpose", None, b"batch".as_slice());
    let long = vec![b'x'; 100_001];
    let very_long = vec![b'x'; 300_000];
    let odd: &[(Vec<u8>, u16, &str)] = &[
        (form(&[purpose]), 400, "missing_required_parameter"),
        (form(&[file(b"x")]), 400, "missing_required_parameter"),
        (form(&[purpose, file(b"")]), 400, "empty_file"),
        (form(&[purpose, file(b"x"), file(b"y")]), 400, "invalid_value"),
        (form(&[purpose, purpose, file(b"x")]), 400, "invalid_value"),
        (form(&[("purpose", None, b"mischief"), file(b"x")]), 400, "invalid_value"),
        (form(&[purpose, file(b"x"), ("url", None, b"http://127.0.0.1/")]), 400, "unsupported_parameter"),
        (form(&[purpose, ("file", None, b"x")]), 400, "invalid_value"),
        (form(&[purpose, ("expires_after[seconds]", None, b"3600"), file(b"x")]), 400, "invalid_value"),
        (form(&[("file", Some("a"), &long), purpose]), 413, "body_too_large"),
        (form(&[("file", Some("a"), &very_long), purpose]), 413, "body_too_large"),
        (form(&[("purpose", None, &long), file(b"x")]), 400, "invalid_value"),
        (form(&[purpose, file(b"x")]).split_last_chunk::<8>().unwrap().0.to_vec(), 400, "invalid_multipart"),
        (
            [
                b"--b0\r\nContent-Disposition: form-data; name=\"file\"; filename=\"\xff\"\r\n\r\nx\r\n".to_vec(),
                form(&[purpose]),
            ]
            .concat(),
            400,
            "invalid_value",
        ),
        (b"no form at all".to_vec(), 400, "invalid_multipart"),
        (Vec::new(), 400, "invalid_multipart"),
    ];
    for (body, status, code) in odd {
        let reply = send(&endpoint, body);
        let shown = String::from_utf8_lossy(&body[..body.len().min(200)]).into_owned();
        assert_eq!((reply.status, reply.error().0.as_str()), (*status, *code), "{shown}: {}", reply.text());
    }
    let plain = endpoint.call("POST", FILES, &[("content-type", "application/json")], b"{}");
    assert_eq!((plain.status, plain.error().0.as_str()), (400, "invalid_multipart"));
    assert_eq!(endpoint.get(FILES).json()["data"], json!([]), "nothing is left of what was refused");
    let content = world.folder.path().join("front/state/content");
    assert_eq!(std::fs::read_dir(&content).unwrap().count(), 1, "only the check file");

    let text = format!("{CANARY}\n");
    let mut ids = Vec::new();
    for purpose in ["batch", "user_data", "batch"] {
        let parts: Parts<'_> = &[
            ("file", Some("Akte \u{e4}.jsonl"), text.as_bytes()),
            ("purpose", None, purpose.as_bytes()),
            ("expires_after[anchor]", None, b"created_at"),
            ("expires_after[seconds]", None, b"3600"),
        ];
        let kept = send(&endpoint, &form(parts)).json();
        assert_eq!((&kept["filename"], &kept["bytes"]), (&json!("Akte \u{e4}.jsonl"), &json!(text.len())), "{kept}");
        assert_eq!(kept["expires_at"].as_u64().unwrap() - kept["created_at"].as_u64().unwrap(), 3_600);
        assert_eq!(endpoint.get(&format!("{FILES}/{}", kept["id"].as_str().unwrap())).json(), kept);
        ids.push(kept["id"].clone());
    }
    let listed = |query: &str| {
        let page = endpoint.get(&format!("{FILES}{query}")).json();
        let ids: Vec<Value> = page["data"].as_array().unwrap().iter().map(|file| file["id"].clone()).collect();
        (ids, page["has_more"].as_bool().unwrap())
    };
    let newest: Vec<Value> = ids.iter().rev().cloned().collect();
    assert_eq!(listed(""), (newest.clone(), false));
    assert_eq!(listed("?order=asc&limit=2"), (ids[..2].to_vec(), true));
    assert_eq!(listed(&format!("?order=asc&after={}", ids[1].as_str().unwrap())), (ids[2..].to_vec(), false));
    assert_eq!(listed("?purpose=user_data"), (vec![ids[1].clone()], false));
    assert_eq!(listed("?purpose=batch&limit=1"), (vec![ids[2].clone()], true));
    for odd in ["?limit=0", "?limit=10001", "?limit=x", "?order=up"] {
        assert_eq!(endpoint.get(&format!("{FILES}{odd}")).status, 400, "{odd}");
    }
    for entry in std::fs::read_dir(&content).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        assert!(!bytes.windows(11).any(|part| part == b"canary-4711"), "sealed");
    }
    // A file outlives its node, and its deletion too.
    let path = format!("{FILES}/{}", ids[0].as_str().unwrap());
    world.kill();
    world.run();
    assert_eq!(endpoint.get(&format!("{path}/content")).text(), text);
    assert_eq!(endpoint.call("DELETE", &path, &[], b"").json()["deleted"], true);
    assert_eq!(endpoint.call("DELETE", &path, &[], b"").status, 404);
    world.kill();
    world.run();
    assert_eq!(endpoint.get(&path).status, 404);
    odd_batches(&endpoint, ids[1].as_str().unwrap());
    world.running.take().unwrap().end();
}

fn odd_batches(endpoint: &Endpoint, no_input: &str) {
    let input = bring(endpoint, &[json!({"custom_id": "a"})]);
    let good = json!({"input_file_id": input, "endpoint": CHAT, "completion_window": "24h"});
    for (name, value, param) in [
        ("input_file_id", json!("file-0"), "input_file_id"),
        ("input_file_id", json!(no_input), "input_file_id"),
        ("input_file_id", json!(7), "input_file_id"),
        ("endpoint", json!("/v1/files"), "endpoint"),
        ("completion_window", json!("1h"), "completion_window"),
        ("metadata", json!({"a": 1}), "metadata"),
        ("metadata", json!({"polder.purpose": "mischief"}), "polder.purpose"),
        ("base_url", json!("http://127.0.0.1/"), "base_url"),
        ("output_expires_after", json!({"anchor": "created_at", "seconds": 1}), "output_expires_after[seconds]"),
    ] {
        let mut body = good.clone();
        body[name] = value;
        let reply = endpoint.post(BATCHES, &body);
        assert_eq!((reply.status, reply.error().1.as_deref()), (400, Some(param)), "{body}: {}", reply.text());
    }
    let begun = endpoint.post(BATCHES, &good).json();
    let failed = ended(endpoint, begun["id"].as_str().unwrap());
    assert_eq!((&failed["status"], &failed["errors"]["data"][0]["line"]), (&json!("failed"), &json!(1)), "{failed}");
    let (duplicate, mut lines) = (line("line-1", MODEL, json!({})), numbered(3));
    lines.push(duplicate);
    let failed = ended(endpoint, &begin(endpoint, &lines));
    let problem = &failed["errors"]["data"][0];
    assert_eq!((&problem["code"], &problem["line"]), (&json!("duplicate_custom_id"), &json!(4)), "{failed}");
    assert_eq!((counts(&failed), &failed["output_file_id"]), ((0, 0, 0), &Value::Null));
}

/// Lines that have ended, once that stands still.
fn still(endpoint: &Endpoint, id: &str, engine: &Engine) -> u64 {
    let mut before = (0, 0);
    until("a batch whose lines all hang", || {
        std::thread::sleep(std::time::Duration::from_millis(200));
        let now = (counts(&look(endpoint, id)).1, engine.chats());
        (std::mem::replace(&mut before, now) == now).then_some(now.0)
    })
}

#[test]
fn a_batch_goes_on_after_a_crash_and_no_finished_line_runs_again() {
    let mut world = World::start("lines_at_once = 4");
    let endpoint = world.endpoint.clone();
    let id = begin(&endpoint, &numbered(300));
    until("some lines", || (world.engine.chats() >= 40).then_some(()));
    world.engine.now(Mode::Hangs);
    let done = still(&endpoint, &id, &world.engine);
    assert!((40..300).contains(&done), "{done}");
    assert_eq!(u64::from(world.engine.chats()), done + 4);
    let parts = std::fs::read_dir(world.folder.path().join("front/state/content")).unwrap().count();
    assert!(parts < 100, "many writes are put together: {parts}");
    let input = look(&endpoint, &id)["input_file_id"].as_str().unwrap().to_owned();
    let in_use = endpoint.call("DELETE", &format!("{FILES}/{input}"), &[], b"");
    assert_eq!((in_use.status, in_use.error().0.as_str()), (400, "file_in_use"));
    world.kill();
    // Again without an end: what hung runs a second time. A stop in good order does not count against a line.
    world.run();
    until("the lines that hung", || (u64::from(world.engine.chats()) >= done + 8).then_some(()));
    assert_eq!(counts(&look(&endpoint, &id)), (300, done, 0));
    world.running.take().unwrap().end();
    world.engine.now(Mode::Answers);
    world.run();
    let batch = ended(&endpoint, &id);
    assert_eq!((&batch["status"], counts(&batch)), (&json!("completed"), (300, 300, 0)), "{batch}");
    let good = read(&endpoint, &batch["output_file_id"]);
    assert_eq!((good.len(), &batch["error_file_id"]), (300, &Value::Null));
    let asked = world.asked();
    let often: Vec<_> = asked.iter().filter(|(_, count)| **count > 1).collect();
    assert_eq!((asked.len(), often.len()), (300, 4), "{often:?}");
    assert!(often.iter().all(|(_, count)| **count == 3), "{often:?}");
    // The journal is gone: there are the input, the output, the batch and the check file.
    let left = until("the end of the journal", || {
        let left = std::fs::read_dir(world.folder.path().join("front/state/content")).unwrap().count();
        (left == 4).then_some(left)
    });
    assert_eq!(left, 4);
    world.running.take().unwrap().end();
}

#[test]
fn a_line_that_broke_the_node_twice_is_not_tried_a_third_time() {
    let mut world = World::start("lines_at_once = 1");
    let endpoint = world.endpoint.clone();
    world.engine.now(Mode::Hangs);
    let id = begin(&endpoint, &numbered(2));
    for times in 1..=2 {
        until("a line that hangs", || (world.engine.chats() == times).then_some(()));
        world.kill();
        world.engine.now(if times == 2 { Mode::Answers } else { Mode::Hangs });
        world.run();
    }
    let batch = ended(&endpoint, &id);
    assert_eq!(counts(&batch), (2, 1, 1), "{batch}");
    assert_eq!(read(&endpoint, &batch["error_file_id"])["line-0"]["error"]["code"], "interrupted");
    assert_eq!(world.asked(), BTreeMap::from([("line-0".to_owned(), 2), ("line-1".to_owned(), 1)]));
    world.running.take().unwrap().end();
}

#[test]
fn what_does_not_run_is_told_line_by_line() {
    let mut world = World::start("lines_at_once = 4");
    let endpoint = world.endpoint.clone();
    let codes = |endpoint: &Endpoint, batch: &Value, count: usize, code: &str| {
        let bad = read(endpoint, &batch["error_file_id"]);
        assert_eq!(bad.len(), count, "{batch}");
        assert!(bad.values().all(|line| line["error"]["code"] == code && line["response"].is_null()), "{bad:?}");
    };
    world.engine.now(Mode::Hangs);
    let id = begin(&endpoint, &numbered(10));
    until("lines under way", || (world.engine.chats() == 4).then_some(()));
    let cancelled = endpoint.post(&format!("{BATCHES}/{id}/cancel"), &json!({}));
    assert_eq!((cancelled.status, &cancelled.json()["status"]), (200, &json!("cancelling")));
    let batch = ended(&endpoint, &id);
    assert_eq!((&batch["status"], counts(&batch)), (&json!("cancelled"), (10, 0, 0)), "{batch}");
    codes(&endpoint, &batch, 10, "batch_cancelled");
    assert_eq!(endpoint.post(&format!("{BATCHES}/{id}/cancel"), &json!({})).status, 400);

    // Every place of the engine is taken: lines wait, and then run.
    world.engine.now(Mode::Status(429));
    let id = begin(&endpoint, &numbered(3));
    until("lines that wait", || (world.engine.chats() >= 8).then_some(()));
    assert_eq!((&look(&endpoint, &id)["status"], counts(&look(&endpoint, &id))), (&json!("in_progress"), (3, 0, 0)));
    world.engine.now(Mode::Answers);
    assert_eq!(counts(&ended(&endpoint, &id)), (3, 3, 0));

    // The key that made a batch is revoked: its lines are nobody's.
    let made = world.told(&["key", "create", "--project", "default"]);
    let other = endpoint.with_key(made["key"].as_str().unwrap());
    world.engine.now(Mode::Hangs);
    let before = world.engine.chats();
    let id = begin(&other, &numbered(10));
    until("lines under way", || (world.engine.chats() == before + 4).then_some(()));
    world.told(&["key", "revoke", made["id"].as_str().unwrap()]);
    let batch = ended(&endpoint, &id);
    assert_eq!((&batch["status"], counts(&batch)), (&json!("failed"), (10, 0, 0)), "{batch}");
    assert_eq!(batch["errors"]["data"][0]["code"], "invalid_api_key");
    codes(&endpoint, &batch, 10, "invalid_api_key");

    // Its time ends.
    world.running.take().unwrap().end();
    let file = world.folder.path().join("front/node.toml");
    let text = std::fs::read_to_string(&file).unwrap().replace("lines_at_once = 4", "window_s = 2");
    std::fs::write(&file, text).unwrap();
    world.run();
    let batch = ended(&endpoint, &begin(&endpoint, &numbered(10)));
    assert_eq!((&batch["status"], counts(&batch)), (&json!("expired"), (10, 0, 0)), "{batch}");
    codes(&endpoint, &batch, 10, "batch_expired");
    no_text_in_clear(world.folder.path());
    world.running.take().unwrap().end();
}

/// What lines said stands nowhere in the node's folder in clear.
fn no_text_in_clear(folder: &Path) {
    let mut folders = vec![folder.join("front")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap()) {
            let path = entry.path();
            if entry.file_type().unwrap().is_dir() {
                folders.push(path);
            } else if let Ok(bytes) = std::fs::read(&path) {
                assert!(!bytes.windows(7).any(|part| part == b"line-1\""), "{}", path.display());
                assert!(!bytes.windows(9).any(|part| part == b"says this"), "{}", path.display());
            }
        }
    }
}
