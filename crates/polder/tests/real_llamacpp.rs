//! A node in front of a real other engine: llama.cpp's own server, with the demo's model as GGUF.
//!
//! The server comes with the Python package `xllamacpp`, which `cargo xtask test` installs; without it the tests are skipped
//! and counted. `clients/python/llamacpp.py` writes the GGUF and starts it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::demo::Demo;
use support::http::{Endpoint, Reply};
use support::node::Running;
use support::{Folder, skip, until};

const CHAT: &str = "/v1/chat/completions";
/// A client's leaving must reach the engine within this.
const CANCEL_MAX: Duration = Duration::from_secs(1);

/// llama.cpp's server; it ends when its input does.
struct LlamaCpp {
    child: Child,
    input: Option<ChildStdin>,
    endpoint: Endpoint,
}

impl LlamaCpp {
    /// Starts it, or says why not.
    fn start(test: &str, folder: &Folder, context_tokens: u32) -> Option<Self> {
        let Some(python) = std::env::var_os("POLDER_TEST_PYTHON").map(PathBuf::from) else {
            let reason = std::env::var("POLDER_TEST_SKIP_REASON");
            skip(test, &reason.unwrap_or_else(|_| "run it with `cargo xtask test`".to_owned()));
            return None;
        };
        let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let address = free_address();
        let (_, port) = address.split_once(':').unwrap();
        let errors = std::fs::File::create(folder.path().join("llamacpp-log")).unwrap();
        let mut command = Command::new(python);
        command.arg(repository.join("clients/python/llamacpp.py")).arg(repository.join("demo/model"));
        command.arg(folder.path().join("toy.gguf")).args([port, &context_tokens.to_string()]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(errors).spawn().unwrap();
        let input = child.stdin.take();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let ready = lines.by_ref().map_while(Result::ok).any(|line| line.starts_with("ready"));
        let log = || std::fs::read_to_string(folder.path().join("llamacpp-log")).unwrap_or_default();
        assert!(ready, "llama.cpp did not start: {}", log());
        // It writes its log to standard output; a full pipe would stop it.
        std::thread::spawn(move || lines.for_each(drop));
        Some(Self { child, input, endpoint: Endpoint { address, key: String::new() } })
    }

    /// How many of its slots work.
    fn busy(&self) -> usize {
        let slots = self.endpoint.get("/slots").json();
        slots.as_array().unwrap().iter().filter(|slot| slot["is_processing"] == true).count()
    }

    /// A node in front of it.
    fn in_front(&self, folder: &Folder) -> (Running, Endpoint) {
        let url = format!("http://{}/v1", self.endpoint.address);
        let listen = free_address();
        let running =
            Running::start(folder.path(), &["up", "--upstream", &url, "--listen", &listen, "--state", "front"]);
        let printed = |name: &str| running.printed[name].as_str().unwrap().to_owned();
        let endpoint = Endpoint::new(&printed("endpoint"), &printed("key"));
        (running, endpoint)
    }
}

impl Drop for LlamaCpp {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = support::process::wait(&mut self.child, Duration::from_secs(10));
    }
}

fn free_address() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

fn chat(question: &str) -> Value {
    json!({"model": "polder-toy", "messages": [{"role": "user", "content": question}], "max_tokens": 24, "temperature": 0})
}

fn answered(reply: Reply) -> Value {
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json()
}

fn chunks(reply: &Reply) -> Vec<Value> {
    assert_eq!(reply.status, 200, "{}", reply.text());
    let events = reply.events();
    assert_eq!(events.last().unwrap(), "[DONE]");
    events[..events.len() - 1].iter().map(|text| serde_json::from_str(text).unwrap()).collect()
}

#[test]
fn a_real_engine_answers_through_a_node() {
    let folder = Folder::new();
    let Some(engine) = LlamaCpp::start("llamacpp_answers", &folder, 512) else { return };
    let (running, front) = engine.in_front(&folder);
    let models = front.get("/v1/models").json();
    assert_eq!(models["data"][0]["id"], "polder-toy", "{models}");

    let question = "What is the capital of France?";
    let direct = answered(engine.endpoint.post(CHAT, &chat(question)));
    let reply = front.post(CHAT, &chat(question));
    assert!(reply.header("polder-receipt").is_some());
    let plain = answered(reply);
    assert_eq!(plain["choices"][0]["message"]["content"], direct["choices"][0]["message"]["content"]);
    assert_eq!(plain["choices"][0]["finish_reason"], "stop");
    for count in ["prompt_tokens", "completion_tokens", "total_tokens"] {
        assert_eq!(plain["usage"][count], direct["usage"][count], "{count}");
    }
    streamed(&front, &plain);
    likelihoods(&front, &plain);
    choices(&front);
    form(&front);
    embeddings(&engine, &front);
    refusals(&front);
    running.end();
}

fn streamed(front: &Endpoint, plain: &Value) {
    let mut body = chat("What is the capital of France?");
    body["stream"] = true.into();
    body["stream_options"] = json!({"include_usage": true});
    let chunks = chunks(&front.post(CHAT, &body));
    let text: String = chunks.iter().filter_map(|one| one["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(plain["choices"][0]["message"]["content"], text.as_str());
    let roles = chunks.iter().filter(|one| one["choices"][0]["delta"]["role"].is_string()).count();
    assert_eq!(roles, 1);
    let last = chunks.last().unwrap();
    assert_eq!((&last["choices"], &last["usage"]), (&json!([]), &plain["usage"]));
    assert!(chunks[..chunks.len() - 1].iter().all(|one| one["usage"].is_null()));
    // Nothing of the engine's own fields comes along.
    assert!(chunks.iter().all(|one| one.get("timings").is_none()), "{chunks:?}");
}

fn likelihoods(front: &Endpoint, plain: &Value) {
    let mut body = chat("What is the capital of France?");
    body["logprobs"] = true.into();
    body["top_logprobs"] = 2.into();
    let told = answered(front.post(CHAT, &body))["choices"][0]["logprobs"]["content"].clone();
    let told = told.as_array().unwrap();
    let text: String = told.iter().map(|one| one["token"].as_str().unwrap()).collect();
    assert_eq!(plain["choices"][0]["message"]["content"], text.as_str());
    assert!(told.iter().all(|one| one["top_logprobs"].as_array().unwrap().len() == 2));
}

/// It counts each choice's tokens in a chunk of its own; the sum is what was written.
fn choices(front: &Endpoint) {
    let mut body = chat("What is the capital of France?");
    body["n"] = 3.into();
    body["max_tokens"] = 5.into();
    let answer = answered(front.post(CHAT, &body));
    let choices = answer["choices"].as_array().unwrap();
    assert_eq!(choices.len(), 3, "{answer}");
    for (i, choice) in choices.iter().enumerate() {
        let told = (&choice["index"], &choice["finish_reason"], &choice["message"]["role"]);
        assert_eq!(told, (&json!(i), &json!("length"), &json!("assistant")));
        assert_eq!(choice["message"]["content"], "The capital of France is");
    }
    assert_eq!(answer["usage"]["completion_tokens"], 15, "{answer}");
    body["stream"] = true.into();
    let chunks = chunks(&front.post(CHAT, &body));
    let roles = chunks.iter().filter(|one| one["choices"][0]["delta"]["role"].is_string()).count();
    assert_eq!(roles, 3, "one role for each choice");
}

fn form(front: &Endpoint) {
    let schema = json!({
        "type": "object",
        "properties": {"city": {"enum": ["Paris", "Rome"]}, "people": {"type": "integer", "minimum": 1, "maximum": 99}},
        "required": ["city", "people"],
        "additionalProperties": false,
    });
    let mut body = chat("What is the capital of France?");
    body["max_tokens"] = 200.into();
    body["response_format"] =
        json!({"type": "json_schema", "json_schema": {"name": "a", "strict": true, "schema": schema}});
    let answer = answered(front.post(CHAT, &body));
    let text = answer["choices"][0]["message"]["content"].as_str().unwrap().to_owned();
    let value: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert!(["Paris", "Rome"].contains(&value["city"].as_str().unwrap()), "{value}");
    assert!((1..=99).contains(&value["people"].as_i64().unwrap()), "{value}");
}

fn embeddings(engine: &LlamaCpp, front: &Endpoint) {
    let body = json!({"model": "polder-toy", "input": ["one", "What is Polder?"]});
    let direct = answered(engine.endpoint.post("/v1/embeddings", &body));
    let through = answered(front.post("/v1/embeddings", &body));
    for i in 0..2 {
        assert_eq!(through["data"][i]["embedding"], direct["data"][i]["embedding"]);
    }
    assert_eq!(through["usage"]["prompt_tokens"], direct["usage"]["prompt_tokens"]);
    // The engine takes no notice of `dimensions`; the node does.
    let cut = answered(front.post("/v1/embeddings", &json!({"model": "polder-toy", "input": "one", "dimensions": 16})));
    let cut: Vec<f64> = serde_json::from_value(cut["data"][0]["embedding"].clone()).unwrap();
    assert_eq!(cut.len(), 16);
    assert!((cut.iter().map(|x| x * x).sum::<f64>() - 1.0).abs() < 1e-4, "{cut:?}");
}

fn refusals(front: &Endpoint) {
    let long = front.post(CHAT, &chat(&"word ".repeat(600)));
    let (code, param) = long.error();
    assert_eq!((long.status, code.as_str(), param.as_deref()), (400, "context_length_exceeded", Some("messages")));
    assert!(long.text().contains("512"), "{}", long.text());
    let mut body = chat("Hello");
    body["grammar"] = "root ::= (".into();
    let wrong = front.post(CHAT, &body);
    assert_eq!(wrong.status, 400, "{}", wrong.text());
    assert_eq!(front.post(CHAT, &chat("Hello")).status, 200);
}

/// Begins a request that would run for long, waits until the engine works on it, and leaves.
fn leave(engine: &LlamaCpp, front: &Endpoint, stream: bool) -> Duration {
    let mut body = chat("Tell me all about Polder, and then all again.");
    // No end of its own: at 10,000 tokens a second, more than this model makes anywhere, it would go on for three seconds.
    body["max_tokens"] = 30_000.into();
    body["ignore_eos"] = true.into();
    body["stream"] = stream.into();
    let body = body.to_string();
    let mut request = front.head("POST", CHAT, &[("content-type", "application/json")]);
    request.extend(format!("content-length: {}\r\n\r\n{body}", body.len()).bytes());
    let mut socket = TcpStream::connect(&front.address).unwrap();
    socket.write_all(&request).unwrap();
    if stream {
        assert!(socket.read(&mut [0; 512]).unwrap() > 0);
    }
    until("work at the engine", || (engine.busy() > 0).then_some(()));
    drop(socket);
    let left = Instant::now();
    until("idle slots", || (engine.busy() == 0).then_some(()));
    left.elapsed()
}

#[test]
fn a_clients_leaving_reaches_the_engine() {
    let folder = Folder::new();
    let Some(engine) = LlamaCpp::start("llamacpp_cancel", &folder, 32_768) else { return };
    let (running, front) = engine.in_front(&folder);
    for stream in [true, false] {
        let took = leave(&engine, &front, stream);
        assert!(took < CANCEL_MAX, "stream {stream}: idle after {took:?}");
    }
    assert_eq!(front.post(CHAT, &chat("Hello")).status, 200);
    running.end();
}

/// Two engines, one set of 32-bit weights: the same tokens, and nearly the same likelihoods.
#[test]
fn the_embedded_engine_agrees_with_it() {
    let folder = Folder::new();
    let Some(other) = LlamaCpp::start("llamacpp_agrees", &folder, 512) else { return };
    let demo = Demo::start();
    let embedded = demo.endpoint("start-up", "product");
    let mut widest = 0f64;
    for question in
        ["What is the capital of France?", "Who are you?", "What is Polder?", "Hello", "Grüße, 漢字!", "1 + 1 = ?"]
    {
        let mut body = chat(question);
        body["logprobs"] = true.into();
        body["top_logprobs"] = 5.into();
        let (ours, theirs) = (answered(embedded.post(CHAT, &body)), answered(other.endpoint.post(CHAT, &body)));
        assert_eq!(ours["usage"]["prompt_tokens"], theirs["usage"]["prompt_tokens"], "{question}: the same prompt");
        let told = |answer: &Value| answer["choices"][0]["logprobs"]["content"].as_array().unwrap().clone();
        let (ours, theirs) = (told(&ours), told(&theirs));
        let same = ours.iter().zip(&theirs).take_while(|(a, b)| a["bytes"] == b["bytes"]).count();
        eprintln!("{question}: {same} of {} and {} tokens alike", ours.len(), theirs.len());
        assert!(same >= 8.min(ours.len()), "{question}: {same} of {}", ours.len());
        for (a, b) in ours.iter().zip(&theirs).take(same) {
            let difference = (a["logprob"].as_f64().unwrap() - b["logprob"].as_f64().unwrap()).abs();
            widest = widest.max(difference);
        }
    }
    eprintln!("widest difference of a likelihood's logarithm: {widest}");
    assert!(widest < 0.05, "{widest}");
    let body = json!({"model": "polder-toy", "input": "What is Polder?"});
    let vector = |endpoint: &Endpoint| -> Vec<f64> {
        serde_json::from_value(answered(endpoint.post("/v1/embeddings", &body))["data"][0]["embedding"].clone())
            .unwrap()
    };
    let (ours, theirs) = (vector(&embedded), vector(&other.endpoint));
    assert_eq!(ours.len(), theirs.len());
    let cosine: f64 = ours.iter().zip(&theirs).map(|(a, b)| a * b).sum();
    eprintln!("cosine of the two engines' vectors: {cosine}");
    assert!(cosine > 0.999, "{cosine}");
}
