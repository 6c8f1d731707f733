//! Real clients, unmodified, against running nodes; what they see is what `docs/compatibility.md` says.
//!
//! `UPDATE=1` writes the page anew from a run. Where a client's environment is missing nothing is compared, and the skip is
//! counted.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::io::Write as _;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::clients::{checks, program};
use support::demo::Demo;

use support::http::Endpoint;
use support::matrix::{Check, Matrix, Seen, folder};
use support::node::Running;
use support::painter::Painter;
use support::{Folder, until};

const BEGIN: &str = "<!-- what the clients saw; written by UPDATE=1, see clients/README.md -->\n";
const END: &str = "<!-- end of what the clients saw -->\n";

/// A loopback address that was free a moment ago.
fn free_address() -> String {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

/// A node in front of an engine, told what the engine's models do.
fn in_front(folder: &Path, engine: &Painter) -> (Running, Endpoint) {
    let listen = free_address();
    let arguments = ["up", "--upstream", &engine.url, "--listen", &listen, "--state", "front"];
    Running::start(folder, &arguments).end();
    let file = folder.join("front/node.toml");
    let mut text = std::fs::read_to_string(&file).unwrap();
    text.push_str("\n[factory.upstream.models.painter]\noffers = [\"image\"]\n");
    text.push_str("\n[factory.upstream.models.ranker]\noffers = [\"rerank\"]\n");
    // Where models are listed, only those are offered.
    text.push_str("\n[factory.upstream.models.talker]\n");
    std::fs::write(&file, text).unwrap();
    // What the owner wrote of the models stays when the node starts again.
    let running = Running::start(folder, &arguments);
    let printed = |name: &str| running.printed[name].as_str().unwrap().to_owned();
    let endpoint = Endpoint::new(&printed("endpoint"), &printed("key"));
    until("the engine's models", || {
        let listed = endpoint.get("/v1/models").json();
        listed["data"].as_array().is_some_and(|data| data.len() == 3).then_some(())
    });
    (running, endpoint)
}

#[test]
fn the_compatibility_page_says_what_the_clients_see() {
    let matrix = Matrix::read();
    let mut programs: Vec<PathBuf> = Vec::new();
    for client in &matrix.clients {
        let Some(program) = program(&client.script, "the_compatibility_page_says_what_the_clients_see") else { return };
        programs.push(program);
    }
    let clients = || matrix.clients.iter().zip(&programs);
    let mut seen = Seen::default();
    let demo = Demo::start();
    let placed = demo.endpoint("start-up", "product");
    for (client, program) in clients() {
        let modes: Vec<&str> = client.modes.iter().map(String::as_str).collect();
        seen.add(&client.id, checks(program, &client.script, &modes, &placed));
    }
    let around = Folder::new();
    let engine = Painter::start();
    let (running, pictures) = in_front(around.path(), &engine);
    for (client, program) in clients().filter(|(client, _)| client.pictures) {
        seen.add(&client.id, checks(program, &client.script, &["pictures"], &pictures));
    }
    running.end();
    for name in ["paris", "munich"] {
        assert_eq!(demo.polder(&["kill", name]).code, 0);
    }
    let refused = demo.endpoint("bank", "customer-service");
    for (client, program) in clients() {
        seen.add(&client.id, checks(program, &client.script, &["refusal"], &refused));
    }
    let problems = matrix.problems(&seen);
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    is_on_the_page(&matrix.page(&seen));
}

/// Compares the page's generated part, or writes it.
fn is_on_the_page(part: &str) {
    let path = folder().join("../docs/compatibility.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(BEGIN).expect("the page marks where the generated part begins");
    let (_, after) = rest.split_once(END).expect("the page marks where the generated part ends");
    let made = format!("{before}{BEGIN}\n{part}\n{END}{after}");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, made).unwrap();
    } else {
        assert!(page == made, "docs/compatibility.md says something else; run this test with UPDATE=1:\n{part}");
    }
}

#[test]
fn a_matrix_cannot_say_more_than_was_seen() {
    let matrix: Matrix = toml::from_str(
        "[[clients]]\nid = \"a\"\nname = \"A\"\npackage = \"openai\"\nscript = \"python/check.py\"\nmodes = []\n\
         [[clients]]\nid = \"b\"\nname = \"B\"\npackage = \"openai\"\nscript = \"node/check.mjs\"\nmodes = []\n\
         [[rows]]\narea = \"X\"\nfeature = \"one\"\nchecks = [\"x\", \"y\"]\n\
         [[rows]]\narea = \"X\"\nfeature = \"two\"\nchecks = [\"z\"]\nworks = false\n",
    )
    .unwrap();
    let check = |name: &str, ok| Check { check: name.to_owned(), ok, detail: "seen".to_owned() };
    let problems = |checks: Vec<Check>| {
        let mut seen = Seen::default();
        seen.add("a", checks);
        (matrix.problems(&seen), matrix.page(&seen))
    };
    let (none, page) = problems(vec![check("x", true), check("y", true), check("z", false)]);
    assert_eq!(none, Vec::<String>::new());
    assert!(page.contains("### X\n\n| feature | A |\n|---|---|\n| one | yes |\n| two | no |\n"), "{page}");
    for (checks, problem) in [
        (vec![check("x", true), check("y", false), check("z", false)], "A: `y`: seen"),
        (vec![check("x", true), check("x", false), check("y", true)], "A: `x`: seen"),
        (vec![check("x", true)], "`y` was told by no client"),
        (vec![check("x", true), check("y", true), check("w", true)], "`w` stands in no row"),
        (vec![check("x", true), check("y", true), check("z", true)], "two: it works now"),
        (vec![], "one: no client's checks"),
    ] {
        let (found, _) = problems(checks);
        assert!(found.iter().any(|one| one.contains(problem)), "{problem}: {found:?}");
    }
}

#[test]
fn pictures_and_rankings_come_from_engines_that_offer_them() {
    let around = Folder::new();
    let engine = Painter::start();
    let (running, front) = in_front(around.path(), &engine);
    let picture = |prompt: &str, more: Value| {
        let mut body = json!({"model": "painter", "prompt": prompt, "metadata": {"polder.class": "internal"}});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        front.post("/v1/images/generations", &body)
    };
    let made = picture("A polder at dawn", json!({"n": 2, "size": "64x64", "seed": 7}));
    assert_eq!(made.status, 200, "{}", made.text());
    assert_eq!(made.json()["data"].as_array().unwrap().len(), 2);
    assert_eq!(made.json()["usage"], json!({"input_tokens": 5, "output_tokens": 7, "total_tokens": 12}));
    assert_eq!(made.header("polder-factory"), Some("local"));
    let (_, asked) = engine.heard("/images/generations").pop().unwrap();
    let expected = json!({
        "model": "painter", "prompt": "A polder at dawn", "n": 2, "size": "64x64", "seed": 7, "response_format": "b64_json",
    });
    assert_eq!(asked, expected, "bytes are asked for, and no label reaches an engine");

    let address = picture("Give me an address", json!({}));
    assert_eq!((address.status, address.error().0.as_str()), (403, "policy_unsatisfiable"), "{}", address.text());
    assert!(!address.text().contains("127.0.0.1:9"), "{}", address.text());
    for (more, parameter) in [
        (json!({"response_format": "url"}), "response_format"),
        (json!({"n": 1000}), "n"),
        (json!({"stream": true}), "stream"),
        (json!({"base_url": "http://127.0.0.1:9"}), "base_url"),
        (json!({"model": "talker"}), "model"),
    ] {
        let refused = picture("A polder", more);
        assert_eq!((refused.status, refused.error().1.as_deref()), (400, Some(parameter)), "{}", refused.text());
    }
    assert_eq!(picture("A polder", json!({"model": "nobody"})).status, 404);
    rankings(&front, &engine);
    // A model that only ranks makes no vectors, whoever asks.
    let embed = front.post("/v1/embeddings", &json!({"model": "ranker", "input": "x"}));
    assert_eq!((embed.status, embed.json()["error"]["refusals"][0]["rule"].as_str()), (403, Some("model-not-served")));
    running.end();
}

#[test]
fn who_leaves_before_the_answer_ends_the_engines_work() {
    let around = Folder::new();
    let engine = Painter::start();
    let (running, front) = in_front(around.path(), &engine);
    let body = json!({"model": "painter", "prompt": "Draw slowly"}).to_string();
    let mut stream = TcpStream::connect(&front.address).unwrap();
    let head = front.head("POST", "/v1/images/generations", &[]);
    stream.write_all(&head).unwrap();
    stream.write_all(format!("content-length: {}\r\n\r\n{body}", body.len()).as_bytes()).unwrap();
    until("the engine's work", || engine.heard("/images/generations").pop());
    assert!(engine.heard("/left").is_empty());
    drop(stream);
    let since = Instant::now();
    until("the work's end", || engine.heard("/left").pop());
    assert!(since.elapsed() < Duration::from_secs(1), "{:?}", since.elapsed());
    running.end();
}

fn rankings(front: &Endpoint, engine: &Painter) {
    let documents = json!(["the sea", {"text": "rules for the water", "id": 7}, "rules for everyone"]);
    let body = json!({"model": "ranker", "query": "rules for everyone", "documents": documents, "top_n": 2});
    let ranked = front.post("/v1/rerank", &body);
    assert_eq!(ranked.status, 200, "{}", ranked.text());
    let ranked = ranked.json();
    let order: Vec<u64> =
        ranked["results"].as_array().unwrap().iter().map(|one| one["index"].as_u64().unwrap()).collect();
    assert_eq!(order, [2, 1]);
    assert_eq!(ranked["results"][1]["document"], documents[1], "a text comes back as it was given");
    assert_eq!(ranked["usage"]["prompt_tokens"], 9);
    let (_, asked) = engine.heard("/rerank").pop().unwrap();
    assert_eq!(asked["documents"], json!(["the sea", "rules for the water", "rules for everyone"]));
    // The answer's id leads to its receipt, as every answer's does.
    let id = ranked["id"].as_str().unwrap();
    let receipt = front.get(&format!("/api/v1/receipts/{id}"));
    assert_eq!(receipt.status, 200, "{}", receipt.text());
    for (name, value) in [
        ("documents", json!([])),
        ("documents", json!([""])),
        ("top_n", json!(0)),
        ("query", json!("")),
        ("rank_fields", json!([])),
    ] {
        let mut wrong = body.clone();
        wrong[name] = value;
        let refused = front.post("/v1/rerank", &wrong);
        assert!(
            refused.status == 400 && refused.error().1.is_some_and(|param| param.starts_with(name)),
            "{}",
            refused.text()
        );
    }
}
