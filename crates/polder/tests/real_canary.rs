//! Canaries: marked prompts, answers and keys go through every route, well and badly, and are then looked for everywhere.
//!
//! Only the answers to whoever asked may hold them. Looked through are the log at its most verbose, `/metrics`, everything that the
//! collector was sent, error bodies, and every file that a node keeps, its temporary ones too; in clear, as base64, as hex,
//! escaped, and as UTF-16. A route of the gateway that no canary goes through fails the test.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use serde_json::{Value, json};
use support::demo::Demo;
use support::http::{Endpoint, Reply, socket_call};
use support::watched::{TOKENS, Watched};
use support::{echo, until};

/// What stands in each prompt, and in each answer of the engine. Long enough to be found in pieces of an encoding.
const ASKED: &str = "kanarie-7f3a91c2-lives-at-quay-street";
const SAID: &str = "kanarie-e05b6d84-flew-over-the-dike";
/// A key that nobody knows, tried all the same.
const GUESS: &str = "sk-polder-guess-kanarie-5d1c77aa93";

/// A secret in the forms in which it might be written down.
fn forms(secret: &str) -> Vec<(String, Vec<u8>)> {
    let mut forms = vec![("clear".to_owned(), secret.as_bytes().to_vec())];
    let mut add = |name: &str, bytes: Vec<u8>| forms.push((name.to_owned(), bytes));
    add("upper case", secret.to_uppercase().into_bytes());
    add("hex", hex::encode(secret).into_bytes());
    add("upper-case hex", hex::encode_upper(secret).into_bytes());
    add("escaped", secret.bytes().map(|byte| format!("\\u{byte:04x}")).collect::<String>().into_bytes());
    add("UTF-16, little end first", secret.encode_utf16().flat_map(u16::to_le_bytes).collect());
    add("UTF-16, big end first", secret.encode_utf16().flat_map(u16::to_be_bytes).collect());
    // In base64 a text looks different at each of three places; its ends mix with what stands around it.
    for shift in 0..3 {
        let shifted = ["x".repeat(shift).as_bytes(), secret.as_bytes()].concat();
        for (name, code) in [("base64", STANDARD.encode(&shifted)), ("base64 for URLs", URL_SAFE.encode(&shifted))] {
            add(&format!("{name}, shifted by {shift}"), code.as_bytes()[4..code.len() - 4].to_vec());
        }
    }
    forms
}

/// What is looked for.
struct Search(Vec<(String, Vec<u8>)>);

impl Search {
    fn of(secrets: &[&str]) -> Self {
        let named = |secret: &&str| {
            forms(secret).into_iter().map(|(form, bytes)| (format!("`{secret}` as {form}"), bytes)).collect::<Vec<_>>()
        };
        Self(secrets.iter().flat_map(named).collect())
    }

    fn found(&self, bytes: &[u8]) -> Option<&str> {
        let there = |needle: &[u8]| memchr(bytes, needle);
        self.0.iter().find(|(_, needle)| there(needle)).map(|(name, _)| name.as_str())
    }

    /// Fails where something holds a secret.
    fn through(&self, place: &str, bytes: &[u8]) {
        if let Some(name) = self.found(bytes) {
            panic!("{name} stands in {place}:\n{}", around(bytes, &self.0));
        }
    }

    /// Looks through every file of a folder, and counts them.
    fn through_folder(&self, folder: &Path, except: &[PathBuf]) -> usize {
        let mut count = 0;
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            let (path, kind) = (entry.path(), entry.file_type().unwrap());
            if except.contains(&path) {
                continue;
            }
            if kind.is_dir() {
                count += self.through_folder(&path, except);
            } else if kind.is_file() {
                // A file may go while it is looked for.
                let Ok(bytes) = std::fs::read(&path) else { continue };
                self.through(&path.display().to_string(), &bytes);
                self.through(&format!("the name of {}", path.display()), path.as_os_str().as_encoded_bytes());
                count += 1;
            }
        }
        count
    }
}

fn memchr(bytes: &[u8], needle: &[u8]) -> bool {
    let first = needle[0];
    let mut from = 0;
    while let Some(next) = bytes[from..].iter().position(|byte| *byte == first) {
        if bytes[from + next..].starts_with(needle) {
            return true;
        }
        from += next + 1;
    }
    false
}

/// Some text around what was found.
fn around(bytes: &[u8], needles: &[(String, Vec<u8>)]) -> String {
    let place = needles
        .iter()
        .find_map(|(_, needle)| bytes.windows(needle.len()).position(|window| window == needle))
        .unwrap_or(0);
    String::from_utf8_lossy(&bytes[place.saturating_sub(300)..bytes.len().min(place + 200)]).into_owned()
}

#[test]
fn the_search_finds_what_it_is_for() {
    let search = Search::of(&[ASKED]);
    assert!(search.found(b"nothing here").is_none());
    for shift in 0..6 {
        let text = format!("{}{ASKED} and more", "y".repeat(shift));
        assert!(search.found(STANDARD.encode(&text).as_bytes()).is_some(), "base64 at {shift}");
        assert!(search.found(hex::encode(&text).as_bytes()).is_some(), "hex at {shift}");
    }
    assert!(search.found(&ASKED.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>()).is_some());
}

/// The routes of the gateway, as its source has them.
fn routes() -> BTreeSet<String> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../polder-node/src/gateway/mod.rs");
    let text = std::fs::read_to_string(source).unwrap();
    let routes: BTreeSet<String> =
        text.split(".route(\"").skip(1).map(|rest| rest.split('"').next().unwrap().to_owned()).collect();
    assert!(routes.len() >= 13, "{routes:?}");
    routes
}

/// Everything that is asked, and what came of it.
struct Asking<'a> {
    endpoint: &'a Endpoint,
    search: &'a Search,
    asked: BTreeSet<String>,
    errors: usize,
}

impl Asking<'_> {
    /// Asks under a route. An error must not hold what was asked or said, an answer may.
    fn call(&mut self, method: &str, route: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        self.asked.insert(route.to_owned());
        let reply = self.endpoint.call(method, path, headers, body);
        let place = format!("the answer {} to {method} {path} {}", reply.status, String::from_utf8_lossy(body));
        if reply.status >= 400 || reply.status == 0 {
            self.errors += 1;
            self.search.through(&place, &reply.body);
        }
        for (name, value) in &reply.headers {
            self.search.through(&format!("a header of {place}"), format!("{name}: {value}").as_bytes());
        }
        reply
    }

    fn post(&mut self, route: &str, body: &Value) -> Reply {
        self.call("POST", route, route, &[("content-type", "application/json")], body.to_string().as_bytes())
    }
}

/// What each surface that generates is asked: the route, and the field that holds the prompt.
fn prompts(model: &str) -> Vec<(&'static str, Value)> {
    let message = json!([{"role": "user", "content": ASKED}]);
    let tool = json!([{"type": "function", "function": {"name": "look", "description": ASKED, "parameters": {"type": "object", "description": ASKED}}}]);
    let parts = json!([{"role": "user", "content": [{"type": "text", "text": ASKED}, {"type": "image_url", "image_url": {"url": format!("data:image/png;base64,{}", STANDARD.encode(ASKED))}}]}]);
    let history = json!([
        {"role": "system", "content": ASKED},
        {"role": "assistant", "content": null, "tool_calls": [{"id": "call_0", "type": "function", "function": {"name": "look", "arguments": format!("{{\"place\":\"{ASKED}\"}}")}}]},
        {"role": "tool", "tool_call_id": "call_0", "content": ASKED},
        {"role": "user", "content": ASKED},
    ]);
    vec![
        ("/v1/chat/completions", json!({"model": model, "messages": message, "max_tokens": 9})),
        (
            "/v1/chat/completions",
            json!({"model": model, "messages": message, "max_tokens": 9, "tools": tool, "user": ASKED, "stop": [ASKED]}),
        ),
        ("/v1/chat/completions", json!({"model": model, "messages": parts, "max_tokens": 9})),
        (
            "/v1/chat/completions",
            json!({"model": model, "messages": history, "max_tokens": 9, "metadata": {"note": ASKED}}),
        ),
        ("/v1/completions", json!({"model": model, "prompt": ASKED, "max_tokens": 9})),
        ("/v1/messages", json!({"model": model, "messages": message, "system": ASKED, "max_tokens": 9})),
        (
            "/v1/responses",
            json!({"model": model, "input": ASKED, "instructions": ASKED, "max_output_tokens": 9, "metadata": {"note": ASKED}}),
        ),
    ]
}

fn one_piece(model: &str) -> [(&'static str, Value); 3] {
    [
        ("/v1/embeddings", json!({"model": model, "input": ASKED})),
        ("/v1/rerank", json!({"model": model, "query": ASKED, "documents": [ASKED]})),
        ("/v1/images/generations", json!({"model": model, "prompt": ASKED})),
    ]
}

/// What goes well and what an engine spoils, plain and streamed.
fn engines(asking: &mut Asking<'_>) {
    let mut answered = 0;
    for model in echo::MODELS {
        for (route, mut body) in prompts(model) {
            for stream in [false, true] {
                body["stream"] = stream.into();
                let reply = asking.post(route, &body);
                answered += usize::from(model == "echo" && reply.status == 200 && reply.text().contains(SAID));
            }
        }
        for (route, body) in one_piece(model) {
            asking.post(route, &body);
        }
    }
    assert!(answered >= 12, "the engine's words came through {answered} times");
}

/// What never reaches an engine.
fn refusals(asking: &mut Asking<'_>) {
    for (route, body) in prompts("echo").into_iter().chain(one_piece("echo")) {
        let json = [("content-type", "application/json")];
        let text = body.to_string();
        // Broken off, with a key twice, with another type, too deep, no UTF-8, no JSON.
        let broken = [
            text[..text.len() - 2].to_owned(),
            text.replacen('{', &format!("{{\"model\":\"{ASKED}\","), 1),
            text.replacen("\"model\":\"echo\"", "\"model\":7", 1),
            format!("{}{text}", "[".repeat(70)),
            ASKED.to_owned(),
            text.replacen("\"echo\"", "\"echo\",\"temperature\":1e999", 1),
            text.replacen("\"echo\"", "\"echo\",\"metadata\":{\"polder.countries\":\"JP\"}", 1),
            text.replacen("\"echo\"", "\"echo\",\"metadata\":{\"polder.class\":\"no-such-class\"}", 1),
            text.replacen("\"echo\"", "\"echo\",\"n\":1000", 1),
            text.replacen("\"echo\"", "\"echo\",\"max_tokens\":99999999", 1),
            text.replacen("\"echo\"", "\"none-such\"", 1),
        ];
        for body in broken {
            asking.call("POST", route, route, &json, body.as_bytes());
        }
        asking.call("POST", route, route, &json, &[text.as_bytes(), b"\xff\xfe"].concat());
        asking.call("POST", route, route, &[("content-type", "text/plain")], text.as_bytes());
        asking.call(
            "POST",
            route,
            route,
            &[("content-type", "application/json"), ("content-encoding", "gzip")],
            text.as_bytes(),
        );
        asking.call("PUT", route, route, &json, text.as_bytes());
        let large = body.to_string().replacen(ASKED, &ASKED.repeat(300_000), 1);
        let endpoint = asking.endpoint;
        let stranger = endpoint.with_key(GUESS).call("POST", route, &json, text.as_bytes());
        asking.search.through("the answer to a wrong key", &stranger.body);
        asking.call("POST", route, route, &json, large.as_bytes());
    }
}

/// What is kept, repeated, run without a client, or somebody else's.
fn kept(asking: &mut Asking<'_>) {
    let json = [("content-type", "application/json"), ("idempotency-key", "the-same-again")];
    let body = json!({"model": "echo", "messages": [{"role": "user", "content": ASKED}], "max_tokens": 9}).to_string();
    for _ in 0..2 {
        assert_eq!(
            asking.call("POST", "/v1/chat/completions", "/v1/chat/completions", &json, body.as_bytes()).status,
            200
        );
    }
    let other = body.replace("\"max_tokens\":9", "\"max_tokens\":8");
    asking.call("POST", "/v1/chat/completions", "/v1/chat/completions", &json, other.as_bytes());
    for (stream, background) in [(false, false), (true, false), (false, true), (true, true)] {
        let body = json!({"model": "echo", "input": ASKED, "stream": stream, "background": background, "max_output_tokens": 9});
        let reply = asking.post("/v1/responses", &body);
        assert_eq!(reply.status, 200, "{}", reply.text());
        let text = reply.text();
        let id = text.split("\"id\":\"resp_").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
        let path = format!("/v1/responses/resp_{id}");
        let route = "/v1/responses/{id}";
        let response = until("the end of a response", || {
            let reply = asking.call("GET", route, &path, &[], b"");
            (reply.status == 200 && !reply.text().contains("\"in_progress\"") && !reply.text().contains("\"queued\""))
                .then_some(reply)
        });
        assert!(response.text().contains(SAID), "{}", response.text());
        let input = asking.call("GET", "/v1/responses/{id}/input_items", &format!("{path}/input_items"), &[], b"");
        assert!(input.text().contains(ASKED), "{}", input.text());
        asking.call("GET", route, &format!("{path}?stream=true"), &[], b"");
        asking.call("POST", "/v1/responses/{id}/cancel", &format!("{path}/cancel"), &[], b"");
        let next = json!({"model": "echo", "input": ASKED, "previous_response_id": format!("resp_{id}"), "max_output_tokens": 9});
        assert_eq!(asking.post("/v1/responses", &next).status, 200);
        if stream {
            assert_eq!(asking.call("DELETE", route, &path, &[], b"").status, 200);
        }
    }
    let failed = json!({"model": "crash", "input": ASKED, "background": true, "max_output_tokens": 9});
    assert_eq!(asking.post("/v1/responses", &failed).status, 200);
}

/// Sends a file's form.
fn upload(asking: &mut Asking<'_>, purpose: &str, text: &str) -> Reply {
    let form = format!(
        "--edge\r\ncontent-disposition: form-data; name=\"purpose\"\r\n\r\n{purpose}\r\n--edge\r\n\
         content-disposition: form-data; name=\"file\"; filename=\"{ASKED}.jsonl\"\r\n\
         content-type: application/jsonl\r\n\r\n{text}\r\n--edge--\r\n"
    );
    let kind = [("content-type", "multipart/form-data; boundary=edge")];
    asking.call("POST", "/v1/files", "/v1/files", &kind, form.as_bytes())
}

/// Files, and batches whose lines go well, name a model that nobody has, and cannot be read.
fn files(asking: &mut Asking<'_>) {
    let line = |id: &str, model: &str| {
        let body = json!({"model": model, "messages": [{"role": "user", "content": ASKED}], "max_tokens": 9});
        json!({"custom_id": id, "method": "POST", "url": "/v1/chat/completions", "body": body}).to_string()
    };
    let good = [line(ASKED, "echo"), line("unknown", "none-such")].join("\n");
    let broken = format!("{good}\n{{\"custom_id\": \"{ASKED}\"\n{ASKED}\n");
    for (text, ends) in [(&good, "completed"), (&broken, "failed")] {
        let sent = upload(asking, "batch", text);
        assert_eq!(sent.status, 200, "{}", sent.text());
        let file = sent.json()["id"].as_str().unwrap().to_owned();
        let body = json!({"input_file_id": file, "endpoint": "/v1/chat/completions", "completion_window": "24h", "metadata": {"note": ASKED}});
        let begun = asking.post("/v1/batches", &body);
        assert_eq!(begun.status, 200, "{}", begun.text());
        let path = format!("/v1/batches/{}", begun.json()["id"].as_str().unwrap());
        let batch = until("the end of a batch", || {
            let batch = asking.call("GET", "/v1/batches/{id}", &path, &[], b"").json();
            ["completed", "failed"].contains(&batch["status"].as_str().unwrap()).then_some(batch)
        });
        assert_eq!(batch["status"], ends, "{batch}");
        for made in [&batch["output_file_id"], &batch["error_file_id"]].into_iter().filter_map(Value::as_str) {
            let path = format!("/v1/files/{made}/content");
            assert_eq!(asking.call("GET", "/v1/files/{id}/content", &path, &[], b"").status, 200);
        }
        asking.call("POST", "/v1/batches/{id}/cancel", &format!("{path}/cancel"), &[], b"");
        asking.call("GET", "/v1/files/{id}", &format!("/v1/files/{file}"), &[], b"");
    }
    upload(asking, ASKED, &good);
    let form = [("content-type", "multipart/form-data; boundary=edge")];
    asking.call("POST", "/v1/files", "/v1/files", &form, ASKED.as_bytes());
    asking.call("GET", "/v1/files", "/v1/files?purpose=batch", &[], b"");
    asking.call("GET", "/v1/batches", "/v1/batches?limit=1", &[], b"");
    let plain = upload(asking, "user_data", ASKED).json()["id"].as_str().unwrap().to_owned();
    asking.call("DELETE", "/v1/files/{id}", &format!("/v1/files/{plain}"), &[], b"");
}

/// Everything else under `/v1`.
fn others(asking: &mut Asking<'_>) {
    asking.call("GET", "/v1/models", "/v1/models", &[("x-note", ASKED)], b"");
    asking.call("GET", "/v1/models/{*id}", "/v1/models/echo", &[], b"");
    asking.call("POST", "/v1/messages/{*rest}", "/v1/messages/count_tokens", &[], ASKED.as_bytes());
    asking.call("POST", "/v1/{*rest}", "/v1/no-such-thing", &[], ASKED.as_bytes());
    asking.call("GET", "/v1/responses/{id}", "/v1/responses/resp_none", &[], ASKED.as_bytes());
}

#[test]
fn no_prompt_answer_or_key_is_left_behind() {
    let node = Watched::start(&echo::start(SAID), 1.0, &[]);
    let key = node.endpoint.key.clone();
    // A key is looked for by its secret: its beginning names it, and may stand in logs.
    let secret = key[key.len() - 24..].to_owned();
    let search = Search::of(&[ASKED, SAID, GUESS, &secret]);
    let mut asking = Asking { endpoint: &node.endpoint, search: &search, asked: BTreeSet::new(), errors: 0 };
    others(&mut asking);
    // First what must go well: an engine that fails too often is left alone.
    kept(&mut asking);
    files(&mut asking);
    engines(&mut asking);
    refusals(&mut asking);
    assert!(asking.errors > 100, "{} errors were looked at", asking.errors);
    let missed: Vec<String> = routes().difference(&asking.asked).cloned().collect();
    assert_eq!(missed, Vec::<String>::new(), "routes without a canary: add one above");
    // A reader that leaves in the middle of a stream, and one in the middle of its request.
    let body = prompts("echo")[0].1.to_string();
    let mut begun = node.endpoint.head("POST", "/v1/chat/completions", &[("content-type", "application/json")]);
    begun.extend(format!("content-length: {}\r\n\r\n{}", body.len() + 5, body).bytes());
    drop(std::io::Write::write_all(&mut std::net::TcpStream::connect(&node.endpoint.address).unwrap(), &begun));

    for (role, token) in TOKENS {
        search.through(&format!("/metrics for the {role}"), &node.metrics(token).body);
    }
    for path in ["/api/v1/status", "/api/v1/factories", "/api/v1/usage", "/api/v1/keys", "/api/v1/policies"] {
        search.through(path, &socket_call(&node.socket(), "GET", path).body);
    }
    until("spans at the collector", || (node.collector.spans().len() > 100).then_some(()));
    // While it runs: what is not yet in the database's own file is in the one beside it.
    let keys = [node.folder.path().join("front/key")];
    let files = search.through_folder(node.folder.path(), &keys);
    assert!(files > 5, "{files} files were looked through");
    let log = node.said();
    assert!(log.contains("TRACE") && log.len() > 10_000, "the log is at its most verbose: {} bytes", log.len());
    let (folder, collector) = (node.folder, node.collector);
    node.running.end();
    search.through_folder(folder.path(), &keys);
    search.through("what the collector was sent", &collector.bytes());
}

/// A home and its factories as processes of their own: neither keeps what goes from one to the other.
#[test]
fn between_two_nodes_nothing_is_left_behind_either() {
    let demo = Demo::start_saying("trace");
    let mut keys = Vec::new();
    for (tenant, project) in [("start-up", "product"), ("bank", "customer-service")] {
        let endpoint = demo.endpoint(tenant, project);
        keys.push(endpoint.key[endpoint.key.len() - 16..].to_owned());
        let search = Search::of(&[ASKED]);
        let mut asking = Asking { endpoint: &endpoint, search: &search, asked: BTreeSet::new(), errors: 0 };
        for (route, mut body) in prompts("polder-toy") {
            for stream in [false, true] {
                body["stream"] = stream.into();
                asking.post(route, &body);
            }
            body["metadata"] = json!({"polder.countries": "JP"});
            asking.post(route, &body);
        }
        asking.post("/v1/embeddings", &json!({"model": "polder-toy", "input": ASKED}));
        assert!(asking.errors > 3);
    }
    // The demo tells its user the keys, in its own record.
    let secrets: Vec<&str> = std::iter::once(ASKED).chain(keys.iter().map(String::as_str)).collect();
    let except = [demo.dir.join("demo.json")];
    let files = Search::of(&secrets).through_folder(demo.around(), &except);
    assert!(files > 50, "{files} files were looked through");
}
