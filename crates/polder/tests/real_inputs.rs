//! Bad input and what it gets, against running nodes; and what must never be found in their files.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::demo::Demo;
use support::http::{Endpoint, Reply, socket_call};

const CHAT: &str = "/v1/chat/completions";
const BODY_BYTES_MAX: usize = 8 << 20;

fn chat() -> Value {
    json!({"model": "polder-toy", "messages": [{"role": "user", "content": "What is Polder?"}], "max_tokens": 4})
}

fn with(name: &str, value: Value) -> Value {
    let mut body = chat();
    body[name] = value;
    body
}

fn refused(reply: &Reply, status: u16, code: &str, parameter: Option<&str>) {
    assert_eq!(reply.status, status, "{}", reply.text());
    assert_eq!(reply.error(), (code.to_owned(), parameter.map(str::to_owned)), "{}", reply.text());
    assert_eq!(reply.header("content-type"), Some("application/json"));
    assert_eq!(reply.header("x-should-retry"), Some("false"), "{:?}", reply.headers);
}

#[test]
fn keys_models_and_routes() {
    let demo = Demo::start();
    let website = demo.endpoint("bank", "website");
    for key in ["", "not-a-key", &demo.endpoint("defence", "maintenance").key] {
        let stranger = website.with_key(key);
        refused(&stranger.post(CHAT, &chat()), 401, "invalid_api_key", None);
        refused(&stranger.get("/v1/models"), 401, "invalid_api_key", None);
    }
    refused(&website.post(CHAT, &with("model", json!("no-such-model"))), 404, "model_not_found", Some("model"));
    refused(&website.post(CHAT, &with("model", json!("../../etc/passwd"))), 404, "model_not_found", Some("model"));
    refused(&website.get("/v1/models/no-such-model"), 404, "model_not_found", Some("model"));
    refused(&website.get("/v1/models/%FF"), 400, "invalid_value", Some("model"));
    for path in ["/v1/assistants", "/v1/", "/v1", "/chat/completions", "/"] {
        refused(&website.post(path, &chat()), 404, "unknown_url", None);
    }
    refused(&website.call("DELETE", CHAT, &[], b""), 405, "method_not_allowed", None);
    let slashed = website.get("/v1/models/lumen/captions");
    assert_eq!((slashed.status, slashed.json()["id"].as_str()), (200, Some("lumen/captions")), "{}", slashed.text());
}

#[test]
fn bodies_that_are_not_what_they_should_be() {
    let demo = Demo::start();
    let website = demo.endpoint("bank", "website");
    let send = |body: &[u8]| website.call("POST", CHAT, &[("content-type", "application/json")], body);
    for body in [
        &b""[..],
        b"{",
        b"[]",
        b"nonsense",
        b"{\"model\": \"polder-toy\"} trailing",
        b"\xff\xfe{}",
        b"{\"a\": \"\xc3\"}",
    ] {
        refused(&send(body), 400, "invalid_json", None);
    }
    for (bad, place) in [
        (r#""model": "a""#, "model"),
        (r#""messages": [{"role": "user", "role": "user"}]"#, "messages[0].role"),
        (r#""user": "\ud800""#, "user"),
        (r#""temperature": 1e999"#, "temperature"),
    ] {
        let body = format!("{{\"model\": \"polder-toy\", {bad}}}");
        refused(&send(body.as_bytes()), 400, "invalid_json", Some(place));
    }
    let nested = |depth: usize| format!("{}\"x\"{}", "[".repeat(depth), "]".repeat(depth));
    let deep = |depth: usize| format!("{{\"model\": \"polder-toy\", \"messages\": {}}}", nested(depth));
    refused(&send(deep(64).as_bytes()), 400, "invalid_json", Some("messages"));
    refused(&send(deep(500_000).as_bytes()), 400, "invalid_json", Some("messages"));
    refused(&send(deep(63).as_bytes()), 400, "invalid_type", Some("messages[0]"));

    let wrong = [
        ("model", json!(3), "model"),
        ("messages", json!("hello"), "messages"),
        ("messages", json!([]), "messages"),
        ("messages", json!(["hello"]), "messages[0]"),
        ("messages", json!([{"role": "judge", "content": "x"}]), "messages[0].role"),
        ("messages", json!([{"role": "user", "content": 3}]), "messages[0].content"),
        ("temperature", json!("warm"), "temperature"),
        ("temperature", json!(2.5), "temperature"),
        ("temperature", json!(-1), "temperature"),
        ("top_p", json!([]), "top_p"),
        ("top_p", json!(1.5), "top_p"),
        ("max_tokens", json!(0), "max_tokens"),
        ("max_tokens", json!(-4), "max_tokens"),
        ("max_tokens", json!(1.5), "max_tokens"),
        ("max_tokens", json!("many"), "max_tokens"),
        ("max_completion_tokens", json!({}), "max_completion_tokens"),
        ("seed", json!("lucky"), "seed"),
        ("stop", json!(7), "stop"),
        ("stop", json!(["a", 7]), "stop"),
        ("stop", json!(["a", "b", "c", "d", "e"]), "stop"),
        ("stream", json!("yes"), "stream"),
        ("stream_options", json!(true), "stream_options"),
        ("stream_options", json!({"include_usage": "yes"}), "stream_options.include_usage"),
        ("metadata", json!([]), "metadata"),
        ("n", json!("two"), "n"),
        ("n", json!(17), "n"),
        ("n", json!(1000), "n"),
        ("tools", json!([{"type": "function", "function": {"name": "a b"}}]), "tools[0].function.name"),
        ("tool_choice", json!("required"), "tool_choice"),
        ("response_format", json!({"type": "yaml"}), "response_format.type"),
        ("logit_bias", json!({"5": 101}), "logit_bias"),
        ("top_logprobs", json!(3), "top_logprobs"),
        ("frequency_penalty", json!(3), "frequency_penalty"),
        ("colour", json!("orange"), "colour"),
        ("api_base", json!("http://203.0.113.1/v1"), "api_base"),
        ("base_url", json!("http://203.0.113.1/v1"), "base_url"),
        ("api_key", json!("stolen"), "api_key"),
    ];
    for (name, value, parameter) in wrong {
        let reply = website.post(CHAT, &with(name, value.clone()));
        assert_eq!(reply.status, 400, "{name} {value}: {}", reply.text());
        assert_eq!(reply.error().1.as_deref(), Some(parameter), "{name} {value}: {}", reply.text());
    }
    for name in ["colour", "api_base", "audio", "functions", "top_k"] {
        let reply = website.post(CHAT, &with(name, json!({"x": [1]})));
        assert_eq!(reply.error().0, "unsupported_parameter", "{name}");
    }
    for (name, value, code) in [
        ("tools", json!({"x": [1]}), "invalid_type"),
        ("response_format", json!({"x": [1]}), "missing_required_parameter"),
        ("logit_bias", json!({"x": [1]}), "invalid_value"),
        ("n", json!(1000), "invalid_value"),
    ] {
        assert_eq!(website.post(CHAT, &with(name, value)).error().0, code, "{name}");
    }
    let schema = json!({"name": "a", "schema": {"type": "object", "properties": {"a": {"not": {}}}}});
    let reply = website.post(CHAT, &with("response_format", json!({"type": "json_schema", "json_schema": schema})));
    let place = "response_format.json_schema.schema.properties.a.not";
    refused(&reply, 400, "unsupported_parameter", Some(place));
    for name in ["model", "messages"] {
        refused(&website.post(CHAT, &with(name, Value::Null)), 400, "missing_required_parameter", Some(name));
    }
    let long = "receipt ".repeat(20_000);
    let reply = website.post(CHAT, &with("messages", json!([{"role": "user", "content": long}])));
    refused(&reply, 400, "context_length_exceeded", Some("messages"));
    // What changes no answer is taken.
    for (name, value) in
        [("user", json!("u")), ("store", json!(false)), ("metadata", json!({"ticket": "7"})), ("n", json!(1))]
    {
        assert_eq!(website.post(CHAT, &with(name, value)).status, 200, "{name}");
    }
}

#[test]
fn labels_only_narrow() {
    let demo = Demo::start();
    let website = demo.endpoint("bank", "website");
    let body = chat().to_string();
    let header = |name: &str, value: &str| website.call("POST", CHAT, &[(name, value)], body.as_bytes());
    let metadata = |name: &str, value: &str| website.post(CHAT, &with("metadata", json!({name: value})));
    for (label, value) in [
        ("class", "secret"),
        ("purpose", "profit"),
        ("purpose", "defence"),
        ("countries", "XX"),
        ("language", "klingon"),
    ] {
        for (reply, parameter) in [
            (header(&format!("polder-{label}"), value), format!("polder-{label}")),
            (metadata(&format!("polder.{label}"), value), format!("polder.{label}")),
        ] {
            assert_eq!(reply.status, 400, "{label} {value}: {}", reply.text());
            let (code, named) = reply.error();
            assert_eq!(code, "invalid_label");
            let named = named.unwrap();
            assert!(named == parameter || named == format!("polder.{label}"), "{named} for {parameter}");
        }
    }
    refused(&header("polder-colour", "orange"), 400, "unknown_label", Some("polder-colour"));
    refused(&metadata("polder.colour", "orange"), 400, "unknown_label", Some("polder.colour"));
    // A project's class is its floor.
    let service = demo.endpoint("bank", "customer-service");
    let lower = service.call("POST", CHAT, &[("polder-class", "public")], body.as_bytes());
    refused(&lower, 400, "invalid_label", Some("polder.class"));
    // Raised, the website's question runs only where customer data may.
    let raised = header("polder-class", "customer");
    assert_eq!(raised.status, 200, "{}", raised.text());
    assert!(["paris", "munich"].contains(&raised.header("polder-factory").unwrap()));
}

#[test]
fn bodies_over_the_limit_are_answered_before_they_are_read() {
    let demo = Demo::start();
    let website = demo.endpoint("bank", "website");
    let begun = Instant::now();
    for length in ["99999999999", "9223372036854775807", &(BODY_BYTES_MAX + 1).to_string()] {
        let mut head = website.head("POST", CHAT, &[("content-type", "application/json")]);
        head.extend(format!("content-length: {length}\r\n\r\n").bytes());
        let reply = website.raw(&head);
        refused(&reply, 413, "body_too_large", None);
    }
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());

    let mut stream = TcpStream::connect(&website.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut head = website.head("POST", CHAT, &[("content-type", "application/json")]);
    head.extend(b"transfer-encoding: chunked\r\n\r\n");
    stream.write_all(&head).unwrap();
    let chunk = [&b"10000\r\n"[..], &[b' '; 0x10000], b"\r\n"].concat();
    for _ in 0..=(BODY_BYTES_MAX >> 16) {
        // Refused at the limit; what is sent after it may not be taken any more.
        if stream.write_all(&chunk).is_err() {
            break;
        }
    }
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413");
    // The node is well.
    assert_eq!(website.post(CHAT, &chat()).status, 200);
}

#[test]
fn requests_that_are_no_http_end_quietly() {
    let demo = Demo::start();
    let website = demo.endpoint("bank", "website");
    let body = chat().to_string();
    for garbage in [&b"GARBAGE\r\n\r\n"[..], b"\x16\x03\x01\x02\x00\x01\x00\x01", b"GET /v1/models HTTP/9.9\r\n\r\n"] {
        let reply = website.raw(garbage);
        assert!([0, 400].contains(&reply.status), "{garbage:?}: {} {}", reply.status, reply.text());
    }
    // Two ways to say how long it is: then the chunks count, and they alone, in either order (RFC 9112, 6.3).
    for lengths in [
        [("content-length", "5"), ("transfer-encoding", "chunked")],
        [("transfer-encoding", "chunked"), ("content-length", "5")],
    ] {
        let mut both = website.head("POST", CHAT, &lengths);
        both.extend(format!("\r\n{:x}\r\n{body}\r\n0\r\n\r\n", body.len()).bytes());
        assert!([0, 200, 400].contains(&website.raw(&both).status));
    }
    let mut twice = website.head("POST", CHAT, &[("content-length", "5")]);
    twice.extend(format!("content-length: {}\r\n\r\n{body}", body.len()).bytes());
    assert!([0, 400].contains(&website.raw(&twice).status));
    let mut many = website.head("GET", "/v1/models", &[]);
    many.extend((0..2000).flat_map(|index| format!("x-{index}: y\r\n").into_bytes()));
    many.extend(b"\r\n");
    assert!([0, 400, 431].contains(&website.raw(&many).status));
    assert_eq!(website.post(CHAT, &chat()).status, 200);
}

#[test]
fn answers_carry_their_proof_and_streams_their_usage() {
    let demo = Demo::start();
    let website = demo.endpoint("bank", "website");
    let reply = website.post(CHAT, &with("stream", json!(true)));
    assert_eq!(reply.status, 200);
    assert!(reply.header("content-type").unwrap().starts_with("text/event-stream"));
    for name in ["polder-decision", "polder-factory", "polder-receipt"] {
        assert!(reply.header(name).is_some_and(|value| !value.is_empty()), "{name}");
    }
    let events = reply.events();
    assert_eq!(events.last().unwrap(), "[DONE]");
    let chunk = |text: &String| -> Value { serde_json::from_str(text).unwrap() };
    let chunks: Vec<Value> = events[..events.len() - 1].iter().map(chunk).collect();
    assert!(chunks.iter().all(|one| one.get("usage").is_none() && one["object"] == "chat.completion.chunk"));
    let mut body = with("stream", json!(true));
    body["stream_options"] = json!({"include_usage": true});
    let events = website.post(CHAT, &body).events();
    let chunks: Vec<Value> = events[..events.len() - 1].iter().map(chunk).collect();
    let (last, before) = chunks.split_last().unwrap();
    assert!(before.iter().all(|one| one["usage"].is_null() && one.get("usage").is_some()));
    assert_eq!(last["choices"], json!([]));
    assert!(last["usage"]["completion_tokens"].as_u64().unwrap() > 0, "{last}");
    // By the answer's own id too, the receipt is there.
    let id = last["id"].as_str().unwrap();
    let receipt = website.get(&format!("/api/v1/receipts/{id}"));
    assert_eq!(receipt.status, 200, "{}", receipt.text());
    assert!(receipt.json()["execution"]["statement"].is_object());
}

#[test]
fn embeddings_as_floats_as_base64_and_of_tokens() {
    let demo = Demo::start();
    let website = demo.endpoint("bank", "website");
    let embed = |more: Value| {
        let mut body = json!({"model": "polder-toy", "input": "A request runs only where both sides allow it."});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        website.post("/v1/embeddings", &body)
    };
    let floats = embed(json!({}));
    assert_eq!(floats.status, 200, "{}", floats.text());
    let vector: Vec<f32> = serde_json::from_value(floats.json()["data"][0]["embedding"].clone()).unwrap();
    let length: f32 = vector.iter().map(|x| x * x).sum();
    assert!((length - 1.0).abs() < 1e-3, "{length}");
    let coded = embed(json!({"encoding_format": "base64"})).json();
    let text = coded["data"][0]["embedding"].as_str().unwrap().to_owned();
    assert_eq!(text.len(), (vector.len() * 4).div_ceil(3) * 4, "little-endian 32-bit floats in base64");
    let tokens = embed(json!({"input": [[5, 6, 7], [8, 9]]})).json();
    assert_eq!(tokens["data"].as_array().unwrap().len(), 2);
    assert_eq!(tokens["usage"]["prompt_tokens"].as_u64().unwrap() % 5, 0, "{}", tokens["usage"]);
    let short = embed(json!({"dimensions": 8})).json();
    assert_eq!(short["data"][0]["embedding"].as_array().unwrap().len(), 8);
    for (more, parameter) in [
        (json!({"input": []}), "input"),
        (json!({"input": {"a": 1}}), "input"),
        (json!({"input": [1, "a"]}), "input"),
        (json!({"input": [4_000_000_000_u64]}), "input"),
        (json!({"input": [-1]}), "input"),
        (json!({"input": null}), "input"),
        (json!({"encoding_format": "hex"}), "encoding_format"),
        (json!({"dimensions": 0}), "dimensions"),
        (json!({"dimensions": 1_000_000}), "dimensions"),
        (json!({"colour": 1}), "colour"),
    ] {
        let reply = embed(more.clone());
        assert_eq!(reply.status, 400, "{more}: {}", reply.text());
        assert_eq!(reply.error().1.as_deref(), Some(parameter), "{more}: {}", reply.text());
    }
}

#[test]
fn the_operators_surface_knows_who_asks() {
    let demo = Demo::start();
    let website = demo.endpoint("bank", "website");
    assert_eq!(website.post(CHAT, &chat()).status, 200);
    let defence = demo.endpoint("defence", "maintenance").key;
    for path in ["status", "factories", "decisions/last", "receipts/last"] {
        let path = format!("/api/v1/{path}");
        for stranger in [website.with_key(""), website.with_key("guess"), website.with_key(&defence)] {
            problem(&stranger.get(&path), 401);
        }
    }
    assert_eq!(website.get("/api/v1/decisions/last").status, 200);
    problem(&website.get("/api/v1/status"), 403);
    problem(&website.get("/api/v1/factories"), 403);
    problem(&website.post("/api/v1/reload", &json!({})), 403);
    problem(&website.get("/api/v1/decisions/decision-00000000000000000000000000000000"), 404);
    problem(&website.get("/api/v1/decisions/%FF"), 400);
    problem(&website.get("/api/v1/receipts/..%2F..%2Fnode.toml"), 404);
    problem(&website.get("/api/v1/no-such-thing"), 404);
    problem(&website.call("DELETE", "/api/v1/status", &[], b""), 405);
    let socket = demo.node_folder("bank-home").join("state/api.sock");
    assert_eq!(socket_call(&socket, "GET", "/api/v1/status").status, 200);
    assert_eq!(socket_call(&socket, "POST", "/api/v1/reload").status, 200);
    // A factory has no applications: its surface offers no `/v1`.
    let factory = std::fs::read_to_string(demo.node_folder("paris").join("node.toml")).unwrap();
    let listen = factory.lines().find_map(|line| line.strip_prefix("listen = ")).unwrap().trim_matches('"').to_owned();
    let paris = Endpoint { address: listen, key: website.key.clone() };
    refused(&paris.post(CHAT, &chat()), 404, "unknown_url", None);
    problem(&paris.get("/api/v1/status"), 401);
}

/// An error as RFC 9457 has it.
fn problem(reply: &Reply, status: u16) {
    assert_eq!(reply.status, status, "{}", reply.text());
    assert_eq!(reply.header("content-type"), Some("application/problem+json"), "{}", reply.text());
    assert_eq!(reply.json()["status"], status);
}

#[test]
fn no_prompt_and_no_key_is_ever_written_down() {
    const PROMPT: &str = "canary-7f3a9c-in-a-prompt";
    const LABEL: &str = "canary-7f3a9c-as-a-label";
    let demo = Demo::start();
    let website = demo.endpoint("bank", "website");
    let canary = json!([{"role": "user", "content": PROMPT, "name": PROMPT}]);
    for stream in [false, true] {
        let mut body = with("messages", canary.clone());
        body["stream"] = stream.into();
        body["user"] = PROMPT.into();
        assert_eq!(website.post(CHAT, &body).status, 200);
        assert_eq!(demo.endpoint("bank", "customer-service").post(CHAT, &body).status, 200);
    }
    let embed = json!({"model": "polder-toy", "input": PROMPT});
    assert_eq!(website.post("/v1/embeddings", &embed).status, 200);
    // Requests that go wrong at each place, with the canary in them.
    for (name, value) in [
        ("temperature", json!(PROMPT)),
        ("tools", json!([PROMPT])),
        ("stop", json!([PROMPT, 3])),
        ("model", json!(PROMPT)),
    ] {
        let mut body = with("messages", canary.clone());
        body[name] = value;
        assert!(website.post(CHAT, &body).status >= 400);
    }
    assert_eq!(website.post(CHAT, &with("metadata", json!({"polder.class": LABEL}))).status, 400);
    let headers = [("polder-purpose", LABEL), ("polder-colour", LABEL)];
    assert_eq!(website.call("POST", CHAT, &headers, chat().to_string().as_bytes()).status, 400);
    website.call("POST", CHAT, &[], format!("{{\"broken\": \"{PROMPT}\"").as_bytes());
    for name in ["paris", "munich"] {
        assert_eq!(demo.polder(&["kill", name]).code, 0);
    }
    let told = demo.polder(&["ask", PROMPT, "--tenant", "bank", "-o", "json"]);
    assert_eq!(told.code, 3, "{told:?}");
    assert_eq!(demo.polder(&["ask", PROMPT, "--tenant", "start-up"]).code, 0);

    let files = files_under(&demo.dir);
    assert!(files.len() > 100, "{}", files.len());
    assert!(files.iter().any(|path| path.ends_with("node.db-wal") || path.ends_with("node.db")));
    for path in files {
        // The nodes go on meanwhile: what was written beside its place may have been moved there.
        let bytes = match std::fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            read => read.unwrap(),
        };
        let holds = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
        for canary in [PROMPT, LABEL] {
            assert!(!holds(canary), "`{}` holds `{canary}`", path.display());
        }
        let may_hold_keys = path.file_name().is_some_and(|name| name == "demo.json");
        assert!(may_hold_keys || !holds(&website.key), "`{}` holds an application's key", path.display());
    }
}

/// Regular files that may hold what was said; the model's own files are left out.
fn files_under(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() && entry.file_name() != "model" {
            found.extend(files_under(&entry.path()));
        } else if kind.is_file() {
            found.push(entry.path());
        }
    }
    found
}

#[test]
fn secrets_are_for_their_owner_only() {
    let demo = Demo::start();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&demo.dir.join("demo.json")), 0o600);
    for node in demo.record["nodes"].as_array().unwrap() {
        let folder = demo.node_folder(node["node"].as_str().unwrap());
        let state = folder.join("state");
        assert_eq!(mode(&state.join("api.sock")), 0o600);
        let keys: Vec<PathBuf> = files_under(&state.join("keys"));
        // Only a home keeps anything for applications.
        let content = usize::from(state.join("keys/content.key").is_file());
        assert_eq!(content, usize::from(state.join("content").is_dir()));
        assert_eq!(
            keys.len(),
            5 + content,
            "identity, transport, log, witness and authority, and a home's content key"
        );
        for key in keys {
            assert_eq!(mode(&key), 0o600, "{}", key.display());
        }
        assert_eq!(mode(&state) & 0o077, 0, "the state folder");
    }
}
