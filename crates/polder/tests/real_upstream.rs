//! One node in front of an engine that already runs: another node's OpenAI endpoint, which any engine could stand in for.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rustix::process::Signal;
use serde_json::{Value, json};
use support::demo::Demo;
use support::http::{Endpoint, socket_call};
use support::node::Running;
use support::{polder, process, run, until};

const CHAT: &str = "/v1/chat/completions";

fn chat() -> Value {
    json!({"model": "polder-toy", "messages": [{"role": "user", "content": "What is Polder?"}], "max_tokens": 16, "temperature": 0})
}

/// A loopback address that was free a moment ago.
fn free_address() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

/// A node in front of the start-up's endpoint.
fn in_front(demo: &Demo, listen: &str) -> (Running, Endpoint) {
    let engine = demo.endpoint("start-up", "product");
    let key_file = demo.around().join("engine.key");
    std::fs::write(&key_file, format!("{}\n", engine.key)).unwrap();
    let url = format!("http://{}/v1", engine.address);
    let key_file = key_file.to_str().unwrap();
    let arguments = ["up", "--upstream", &url, "--listen", listen, "--upstream-key-file", key_file, "--state", "front"];
    let running = Running::start(demo.around(), &arguments);
    let printed = |name: &str| running.printed[name].as_str().unwrap().to_owned();
    let endpoint = Endpoint::new(&printed("endpoint"), &printed("key"));
    (running, endpoint)
}

#[test]
fn an_engine_gains_a_home_receipts_and_reasons() {
    let demo = Demo::start();
    let (running, front) = in_front(&demo, &free_address());
    let direct = demo.endpoint("start-up", "product").post(CHAT, &chat()).json();
    let reply = front.post(CHAT, &chat());
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(reply.json()["choices"][0]["message"], direct["choices"][0]["message"]);
    assert_eq!(reply.json()["usage"], direct["usage"]);
    assert_eq!(reply.header("polder-factory"), Some("local"));

    let mut body = chat();
    body["stream"] = true.into();
    body["stream_options"] = json!({"include_usage": true});
    let events = front.post(CHAT, &body).events();
    assert_eq!(events.last().unwrap(), "[DONE]");
    let chunks: Vec<Value> =
        events[..events.len() - 1].iter().map(|text| serde_json::from_str(text).unwrap()).collect();
    let text: String = chunks.iter().filter_map(|one| one["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(Value::from(text), direct["choices"][0]["message"]["content"]);
    assert_eq!(chunks.last().unwrap()["usage"], direct["usage"]);

    let embed = json!({"model": "polder-toy", "input": ["one", "two"]});
    let vectors = front.post("/v1/embeddings", &embed);
    assert_eq!(vectors.status, 200, "{}", vectors.text());
    assert_eq!(vectors.json()["data"].as_array().unwrap().len(), 2);

    // What the engine refuses is refused in its words, and not as this node's failure.
    let mut body = chat();
    body["tools"] = json!([{"type": "function", "function": {"name": "a b"}}]);
    let refused = front.post(CHAT, &body);
    let place = Some("tools[0].function.name");
    assert_eq!((refused.status, refused.error().1.as_deref()), (400, place), "{}", refused.text());
    what_changes_an_answer_passes_through(&demo, &front);
    assert_eq!(front.with_key("guess").post(CHAT, &chat()).status, 401);

    ask_by_environment(&demo, &front);
    running.end();
}

/// Choices, likelihoods, forms and calls are the engine's own, plain and streamed.
fn what_changes_an_answer_passes_through(demo: &Demo, front: &Endpoint) {
    let engine = demo.endpoint("start-up", "product");
    let schema = json!({"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"], "additionalProperties": false});
    let tool = json!({"type": "function", "function": {"name": "look", "parameters": schema}});
    let format = json!({"type": "json_schema", "json_schema": {"name": "a", "strict": true, "schema": schema}});
    for (name, value, other) in [
        ("n", json!(3), json!({"temperature": 1.5, "seed": 5})),
        ("logprobs", json!(true), json!({"top_logprobs": 2})),
        ("response_format", format, json!({})),
        ("tools", json!([tool]), json!({"tool_choice": "required"})),
    ] {
        let mut body = chat();
        body["max_tokens"] = 100.into();
        body[name] = value;
        body.as_object_mut().unwrap().extend(other.as_object().unwrap().clone());
        let without_ids = |reply: &support::http::Reply| {
            assert_eq!(reply.status, 200, "{}", reply.text());
            let mut choices = reply.json()["choices"].clone();
            for call in choices[0]["message"]["tool_calls"].as_array_mut().into_iter().flatten() {
                assert!(call["id"].take().as_str().unwrap().starts_with("call_"));
            }
            (choices, reply.json()["usage"].clone())
        };
        let (choices, usage) = without_ids(&front.post(CHAT, &body));
        assert_eq!(
            (&choices, &usage),
            (&without_ids(&engine.post(CHAT, &body)).0, &without_ids(&engine.post(CHAT, &body)).1),
            "{name}"
        );
        match name {
            "n" => assert_eq!(choices.as_array().unwrap().len(), 3),
            "logprobs" => assert_eq!(choices[0]["logprobs"]["content"][0]["top_logprobs"].as_array().unwrap().len(), 2),
            "response_format" => {
                let text = choices[0]["message"]["content"].as_str().unwrap();
                assert!(serde_json::from_str::<Value>(text).unwrap()["ok"].is_boolean(), "{text}");
            }
            _ => {
                let call = &choices[0]["message"]["tool_calls"][0];
                assert_eq!(
                    (&choices[0]["finish_reason"], &call["function"]["name"]),
                    (&json!("tool_calls"), &json!("look"))
                );
                assert_eq!(choices[0]["message"]["content"], Value::Null);
                let arguments = call["function"]["arguments"].as_str().unwrap();
                assert!(serde_json::from_str::<Value>(arguments).unwrap()["ok"].is_boolean(), "{arguments}");
            }
        }
        body["stream"] = true.into();
        let roles = front.post(CHAT, &body).events().iter().filter(|text| text.contains("\"role\"")).count();
        assert_eq!(roles, choices.as_array().unwrap().len(), "{name}: one role for each choice");
    }
}

/// `ask` against whatever endpoint the SDKs' two variables name.
fn ask_by_environment(demo: &Demo, front: &Endpoint) {
    let url = format!("http://{}/v1", front.address);
    let asked = |key: &str, extra: &[&str]| {
        let mut command = polder(demo.around());
        command.args(["ask", "What is Polder?", "-o", "json"]).args(extra);
        run(command.env("OPENAI_BASE_URL", &url).env("OPENAI_API_KEY", key))
    };
    let told = asked(&front.key, &[]);
    assert_eq!(told.code, 0, "{told:?}");
    assert_eq!((told.json()["status"].as_str(), told.json()["verified"].as_bool()), (Some("placed"), Some(true)));
    let receipt = demo.around().join(told.json()["receipt"].as_str().unwrap());
    let statement: Value = serde_json::from_slice(&std::fs::read(&receipt).unwrap()).unwrap();
    assert_eq!(statement["execution"]["statement"]["backend"], "upstream", "what ran it is not this node's to say");
    assert_eq!(run(polder(demo.around()).arg("verify").arg(&receipt).arg("--offline")).code, 0);
    let wrong = asked("not-a-key", &[]);
    assert_eq!(wrong.code, 2, "{wrong:?}");
    assert!(wrong.stderr.contains("API key"), "{wrong:?}");
    let unknown = asked(&front.key, &["--model", "no-such-model"]);
    assert_eq!(unknown.code, 1);
    assert!(unknown.stderr.contains("`no-such-model` does not exist"), "{unknown:?}");
    let widening = asked(&front.key, &["--purpose", "world-domination"]);
    assert_eq!(widening.code, 1);
    assert!(widening.stderr.contains("world-domination"), "{widening:?}");
}

#[test]
fn a_restart_keeps_the_key_and_a_dead_engine_is_said_to_be_dead() {
    let demo = Demo::start();
    let listen = free_address();
    let (running, first) = in_front(&demo, &listen);
    assert_eq!(first.post(CHAT, &chat()).status, 200);
    running.end();
    let (running, second) = in_front(&demo, &listen);
    assert_eq!(second.key, first.key);
    assert_eq!(second.post(CHAT, &chat()).status, 200);

    process::signal(demo.node_pid("start-up-home"), Signal::KILL);
    let refused = until("a refusal", || Some(second.post(CHAT, &chat())).filter(|reply| reply.status != 200));
    assert_eq!((refused.status, refused.error().0.as_str()), (403, "policy_unsatisfiable"), "{}", refused.text());
    let error = refused.json()["error"].clone();
    assert_eq!(error["refusals"][0]["rule"], "engine-failed", "{error}");
    let socket = demo.around().join("front/state/api.sock");
    let problem = until("the problem in `status`", || {
        let status = socket_call(&socket, "GET", "/api/v1/status").json();
        Some(status["factory"]["model_problems"].clone()).filter(|problems| problems[0]["error"].is_string())
    });
    assert!(problem[0]["model"].as_str().unwrap().starts_with("http://127.0.0.1:"), "{problem}");
    // Also after the engine was looked for: the model is not said to be unknown.
    assert_eq!(second.post(CHAT, &chat()).status, 403);
    let log = running.log.clone();
    running.end();

    let engine_key = demo.endpoint("start-up", "product").key;
    nothing_holds(&log, &[&engine_key, &second.key, "What is Polder?"]);
    for entry in std::fs::read_dir(demo.around().join("front")).unwrap().flatten() {
        if entry.file_type().unwrap().is_file() && entry.file_name() != "key" {
            nothing_holds(&entry.path(), &[&engine_key, &second.key]);
        }
    }
    for entry in std::fs::read_dir(demo.around().join("front/state")).unwrap().flatten() {
        if entry.file_type().unwrap().is_file() {
            nothing_holds(&entry.path(), &[&engine_key, &second.key, "What is Polder?"]);
        }
    }
    let mode = std::fs::metadata(demo.around().join("front/key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

fn nothing_holds(path: &Path, secrets: &[&str]) {
    let bytes = std::fs::read(path).unwrap();
    for secret in secrets {
        let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
        assert!(!found, "`{}` holds `{secret}`", path.display());
    }
}

#[test]
fn what_cannot_be_stood_in_front_of_is_said_at_once() {
    let folder = support::Folder::new();
    let up = |url: &str, extra: &[&str]| {
        let listen = free_address();
        let mut command = polder(folder.path());
        run(command.args(["up", "--state", "front", "--listen", &listen, "--upstream", url]).args(extra))
    };
    for url in ["ftp://127.0.0.1/v1", "127.0.0.1:8000", "not a url"] {
        let ended = up(url, &[]);
        assert_eq!(ended.code, 1, "{ended:?}");
        assert!(ended.stderr.contains(&format!("`{url}`")), "{ended:?}");
    }
    let ended = up("http://127.0.0.1:9/v1", &["--upstream-key-file", "no-such-file"]);
    assert_eq!(ended.code, 1);
    assert!(ended.stderr.contains("`no-such-file`"), "{ended:?}");
    // An engine that is not up yet is no reason to end: it may come.
    let listen = free_address();
    let arguments = ["up", "--state", "front", "--listen", &listen, "--upstream", "http://127.0.0.1:9/v1"];
    let running = Running::start(folder.path(), &arguments);
    let printed = |name: &str| running.printed[name].as_str().unwrap().to_owned();
    let endpoint = Endpoint::new(&printed("endpoint"), &printed("key"));
    assert_eq!(endpoint.get("/v1/models").json()["data"], json!([]));
    assert_eq!(endpoint.post(CHAT, &chat()).status, 404);
    running.end();
}
