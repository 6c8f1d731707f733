//! The Responses API of running nodes: written, kept, followed, continued, cancelled, and what a crash leaves of it.
//!
//! Two tests have the node speak to a stand-in for an engine: one that is slow on demand, calls tools without numbering them and
//! makes several choices, none of which the demo's model does.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::io::{BufRead as _, BufReader, Read as _, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use support::demo::Demo;
use support::http::{Endpoint, Reply};
use support::node::Running;
use support::{Folder, until};

const RESPONSES: &str = "/v1/responses";
const CANARY: &str = "canary-4711 lives at Quay Street";

/// The events of a stream, each with its name in both places.
fn events(reply: &Reply) -> Vec<Value> {
    assert_eq!(reply.status, 200, "{}", reply.text());
    let text = reply.text();
    let mut lines = text.lines().filter(|line| !line.is_empty());
    let mut events = Vec::new();
    while let Some(name) = lines.next() {
        let event: Value = serde_json::from_str(lines.next().unwrap().strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!(name.strip_prefix("event: "), event["type"].as_str());
        events.push(event);
    }
    events
}

fn text_of(response: &Value) -> String {
    response["output"][0]["content"][0]["text"].as_str().unwrap_or_default().to_owned()
}

fn numbers(events: &[Value]) -> Vec<u64> {
    events.iter().map(|event| event["sequence_number"].as_u64().unwrap()).collect()
}

/// Reads a response until it has come to its end.
fn ended(endpoint: &Endpoint, id: &str) -> Value {
    until("the end of a response", || {
        let response = endpoint.get(&format!("{RESPONSES}/{id}")).json();
        (!matches!(response["status"].as_str(), Some("queued" | "in_progress"))).then_some(response)
    })
}

#[test]
fn responses_are_written_kept_continued_and_deleted() {
    let demo = Demo::start();
    let endpoint = demo.endpoint("start-up", "product");
    let ask = |more: Value| {
        let mut body =
            json!({"model": "polder-toy", "input": "What is Polder?", "max_output_tokens": 24, "temperature": 0});
        more.as_object().unwrap().iter().for_each(|(name, value)| body[name] = value.clone());
        endpoint.post(RESPONSES, &body)
    };
    let reply = ask(json!({"metadata": {"ticket": "7", "polder.purpose": "industry"}}));
    assert_eq!(reply.status, 200, "{}", reply.text());
    let first = reply.json();
    let id = first["id"].as_str().unwrap().to_owned();
    assert_eq!(id.strip_prefix("resp_"), reply.header("polder-decision").unwrap().strip_prefix("decision-"));
    assert_eq!(first["metadata"], json!({"ticket": "7"}), "labels are taken out");
    let chat = json!({"model": "polder-toy", "messages": [{"role": "user", "content": "What is Polder?"}], "max_tokens": 24, "temperature": 0});
    let chat = endpoint.post("/v1/chat/completions", &chat).json();
    assert_eq!(chat["choices"][0]["message"]["content"], text_of(&first).as_str());
    assert_eq!(chat["usage"]["total_tokens"], first["usage"]["total_tokens"]);
    let again = endpoint.get(&format!("{RESPONSES}/{id}"));
    assert_eq!((again.json(), again.header("polder-decision")), (first.clone(), reply.header("polder-decision")));
    let items = endpoint.get(&format!("{RESPONSES}/{id}/input_items")).json();
    assert_eq!(items["data"][0]["content"][0]["text"], "What is Polder?");
    let receipt = demo.polder(&["why", &id, "--tenant", "start-up", "-o", "json"]);
    assert_eq!(receipt.code, 0, "{receipt:?}");

    // A stream says the same, piece by piece.
    let said = events(&ask(json!({"stream": true})));
    assert_eq!(numbers(&said), (0..said.len() as u64).collect::<Vec<_>>());
    let deltas: String = said
        .iter()
        .filter(|event| event["type"] == "response.output_text.delta")
        .filter_map(|event| event["delta"].as_str())
        .collect();
    let last = said.last().unwrap();
    assert_eq!((deltas, text_of(&last["response"])), (text_of(&first), text_of(&first)));
    assert!(["response.completed", "response.incomplete"].contains(&last["type"].as_str().unwrap()));
    let streamed_id = last["response"]["id"].as_str().unwrap();
    assert_eq!(endpoint.get(&format!("{RESPONSES}/{streamed_id}")).json(), last["response"]);

    // A response that follows one has read what came before.
    let next = ask(json!({"previous_response_id": id})).json();
    let (before, after) = (&first["usage"]["input_tokens"], &next["usage"]["input_tokens"]);
    assert!(after.as_u64() > before.as_u64().map(|tokens| tokens + 10), "{before} {after}");
    // What it was made from is listed whole: the first question, its answer, and the own one.
    let path = format!("{RESPONSES}/{}/input_items", next["id"].as_str().unwrap());
    let items = endpoint.get(&format!("{path}?order=asc")).json();
    let roles: Vec<&str> = items["data"].as_array().unwrap().iter().filter_map(|item| item["role"].as_str()).collect();
    assert_eq!(roles, ["user", "assistant", "user"], "{items}");
    assert_eq!(items["data"][1]["id"], first["output"][0]["id"]);
    let third = ask(json!({"previous_response_id": next["id"]})).json();
    assert!(third["usage"]["input_tokens"].as_u64() > after.as_u64(), "{third}");

    // Nobody else sees it, nothing is kept unasked, and what is deleted is gone.
    let stranger = demo.endpoint("bank", "website");
    assert_eq!(stranger.get(&format!("{RESPONSES}/{id}")).status, 404);
    assert_eq!(stranger.call("DELETE", &format!("{RESPONSES}/{id}"), &[], b"").status, 404);
    let unkept = ask(json!({"store": false})).json();
    assert_eq!(endpoint.get(&format!("{RESPONSES}/{}", unkept["id"].as_str().unwrap())).status, 404);
    let deleted = endpoint.call("DELETE", &format!("{RESPONSES}/{id}"), &[], b"");
    assert_eq!((deleted.status, &deleted.json()["deleted"]), (200, &json!(true)));
    assert_eq!(endpoint.get(&format!("{RESPONSES}/{id}")).status, 404);
    let orphan = ask(json!({"previous_response_id": id}));
    assert_eq!(orphan.error(), ("previous_response_not_found".to_owned(), Some("previous_response_id".to_owned())));

    background(&demo, &endpoint);
}

fn background(demo: &Demo, endpoint: &Endpoint) {
    let body = json!({"model": "polder-toy", "input": "What is Polder?", "max_output_tokens": 24, "temperature": 0, "background": true});
    let queued = endpoint.post(RESPONSES, &body);
    assert_eq!((queued.status, &queued.json()["status"]), (200, &json!("queued")), "{}", queued.text());
    let done = ended(endpoint, queued.json()["id"].as_str().unwrap());
    assert!(["completed", "incomplete"].contains(&done["status"].as_str().unwrap()), "{done}");
    assert!(!text_of(&done).is_empty());
    let cancelled = endpoint.post(&format!("{RESPONSES}/{}/cancel", done["id"].as_str().unwrap()), &json!({}));
    assert_eq!((cancelled.status, cancelled.json()), (200, done), "what has ended stays as it is");

    let mut body = body;
    body["stream"] = true.into();
    let said = events(&endpoint.post(RESPONSES, &body));
    let names: Vec<&str> = said.iter().filter_map(|event| event["type"].as_str()).take(3).collect();
    assert_eq!(names, ["response.created", "response.queued", "response.in_progress"]);
    let id = said[0]["response"]["id"].as_str().unwrap();
    let rest = until("the response at rest", || {
        let rest = events(&endpoint.get(&format!("{RESPONSES}/{id}?stream=true&starting_after=2")));
        (rest.len() + 3 == said.len()).then_some(rest)
    });
    assert_eq!(rest, said[3..]);

    // A refusal is heard where the answer would have been.
    let bank = demo.endpoint("bank", "customer-service");
    let mut refused = json!({"model": "polder-toy", "input": "Hello", "metadata": {"polder.countries": "JP"}});
    let now = bank.post(RESPONSES, &refused);
    assert_eq!((now.status, now.error().0.as_str()), (403, "policy_unsatisfiable"), "{}", now.text());
    refused["background"] = true.into();
    let queued = bank.post(RESPONSES, &refused);
    assert_eq!(queued.status, 200, "{}", queued.text());
    let failed = ended(&bank, queued.json()["id"].as_str().unwrap());
    assert_eq!(
        (&failed["status"], &failed["error"]["code"]),
        (&json!("failed"), &json!("policy_unsatisfiable")),
        "{failed}"
    );
    assert!(failed["error"]["refusals"].as_array().is_some_and(|refusals| !refusals.is_empty()), "{failed}");
}

/// A stand-in for an engine on a loopback address.
fn engine() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || serve(stream));
        }
    });
    format!("http://{address}/v1")
}

/// Serves one connection until the node closes it.
fn serve(stream: TcpStream) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut stream = stream;
    loop {
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            if line == "\r\n" {
                break;
            }
            head.push(line.to_lowercase());
        }
        let length =
            head.iter().find_map(|line| line.strip_prefix("content-length: ")?.trim().parse().ok()).unwrap_or(0);
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let whole = |body: Value| {
            let body = body.to_string();
            format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len())
        };
        if head[0].starts_with("get /v1/models") {
            stream.write_all(whole(json!({"data": [{"id": "stand-in"}]})).as_bytes()).unwrap();
            continue;
        }
        let request: Value = serde_json::from_slice(&body).unwrap();
        let raw = head[0].starts_with("post /v1/completions");
        if raw {
            assert!(request.get("messages").is_none() && request.get("prompt").is_some(), "{request}");
            let begun = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
            drop(stream.write_all(begun.as_bytes()).and_then(|()| raw_stream_of(&request, &mut stream)));
            return;
        }
        if request["stream"] != true {
            stream.write_all(whole(plain(&request)).as_bytes()).unwrap();
            continue;
        }
        let begun = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
        // A node that has gone away ends it.
        drop(stream.write_all(begun.as_bytes()).and_then(|()| stream_of(&request, &mut stream)));
        return;
    }
}

fn calls() -> Value {
    json!([{"id": "call_a", "type": "function", "function": {"name": "look", "arguments": "{\"at\":1}"}}])
}

fn plain(request: &Value) -> Value {
    let choices = (0..request["n"].as_u64().unwrap_or(1)).map(|index| match request.get("tools") {
        Some(_) => json!({"index": index, "message": {"role": "assistant", "content": null, "tool_calls": calls()}, "finish_reason": "tool_calls"}),
        None => json!({"index": index, "message": {"role": "assistant", "content": format!("choice {index}")}, "finish_reason": "stop"}),
    });
    let usage = json!({"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5});
    json!({"choices": choices.collect::<Vec<_>>(), "usage": usage})
}

fn stream_of(request: &Value, stream: &mut TcpStream) -> std::io::Result<()> {
    let mut say = |index: u64, delta: Value, reason: Value| {
        let chunk = json!({"choices": [{"index": index, "delta": delta, "finish_reason": reason}]});
        write!(stream, "data: {chunk}\n\n").and_then(|()| stream.flush())
    };
    let slow = request["messages"].to_string().contains("slowly");
    for index in 0..request["n"].as_u64().unwrap_or(1) {
        match request.get("tools") {
            // As an engine does that forgets the number.
            Some(_) => {
                say(
                    index,
                    json!({"tool_calls": [{"id": "call_a", "type": "function", "function": {"name": "look", "arguments": ""}}]}),
                    Value::Null,
                )?;
                say(index, json!({"tool_calls": [{"function": {"arguments": "{\"at\":"}}]}), Value::Null)?;
                say(index, json!({"tool_calls": [{"function": {"arguments": "1}"}}]}), Value::Null)?;
                say(index, json!({}), json!("tool_calls"))?;
            }
            None => {
                for piece in 0..if slow { 2_000 } else { 3 } {
                    say(index, json!({"role": "assistant", "content": format!("{piece} ")}), Value::Null)?;
                    if slow {
                        std::thread::sleep(Duration::from_millis(30));
                    }
                }
                say(index, json!({}), json!("stop"))?;
            }
        }
    }
    let usage = json!({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}});
    write!(stream, "data: {usage}\n\ndata: [DONE]\n\n")
}

/// One choice for each prompt, which says the prompt again.
fn raw_stream_of(request: &Value, stream: &mut TcpStream) -> std::io::Result<()> {
    let prompts = request["prompt"].as_array().cloned().unwrap_or_else(|| vec![request["prompt"].clone()]);
    for (index, prompt) in prompts.iter().enumerate() {
        let text = prompt.as_str().unwrap_or("tokens");
        let chunk = json!({"choices": [{"index": index, "text": format!("{text}!"), "logprobs": null, "finish_reason": "length"}]});
        write!(stream, "data: {chunk}\n\n")?;
    }
    let usage = json!({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}});
    write!(stream, "data: {usage}\n\ndata: [DONE]\n\n")
}

/// A node in front of an engine.
fn in_front(folder: &Path, engine: &str) -> (Running, Endpoint) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = listener.local_addr().unwrap().to_string();
    drop(listener);
    let running = Running::start(folder, &["up", "--upstream", engine, "--listen", &listen, "--state", "front"]);
    let printed = |name: &str| running.printed[name].as_str().unwrap().to_owned();
    let endpoint = Endpoint::new(&printed("endpoint"), &printed("key"));
    (running, endpoint)
}

#[test]
fn choices_and_tool_calls_reach_the_client_as_the_sdks_need_them() {
    let folder = Folder::new();
    let (running, endpoint) = in_front(folder.path(), &engine());
    let tools = json!([{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]);
    let chat = |more: Value| {
        let mut body = json!({"model": "stand-in", "messages": [{"role": "user", "content": "hello"}]});
        more.as_object().unwrap().iter().for_each(|(name, value)| body[name] = value.clone());
        endpoint.post("/v1/chat/completions", &body)
    };
    let chunks = |reply: &Reply| -> Vec<Value> {
        let events = reply.events();
        assert_eq!(events.last().map(String::as_str), Some("[DONE]"), "{}", reply.text());
        events[..events.len() - 1].iter().map(|event| serde_json::from_str(event).unwrap()).collect()
    };
    // Several choices: each begins with its role, and all are counted.
    let two = chunks(&chat(json!({"n": 2, "stream": true, "stream_options": {"include_usage": true}})));
    for index in [0, 1] {
        let of_it: Vec<&Value> =
            two.iter().filter_map(|chunk| chunk["choices"].get(0)).filter(|choice| choice["index"] == index).collect();
        assert_eq!(of_it[0]["delta"]["role"], "assistant", "{of_it:?}");
        assert_eq!(of_it.iter().filter(|choice| choice["delta"]["role"] == "assistant").count(), 1);
        assert_eq!(of_it.last().unwrap()["finish_reason"], "stop");
    }
    let (last, before) = two.split_last().unwrap();
    assert!(before.iter().all(|chunk| chunk["usage"].is_null() && chunk.get("usage").is_some()));
    assert_eq!((&last["choices"], &last["usage"]["total_tokens"]), (&json!([]), &json!(5)));
    let whole = chat(json!({"n": 2})).json();
    assert_eq!(whole["choices"].as_array().unwrap().len(), 2, "{whole}");
    assert_eq!(chat(json!({"n": 1000})).error().1.as_deref(), Some("n"));

    // Calls: numbered in a stream, without a number in a whole answer.
    let called = chunks(&chat(json!({"tools": tools, "stream": true})));
    let pieces: Vec<&Value> =
        called.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["tool_calls"].get(0)).collect();
    assert_eq!((pieces.len(), pieces.iter().all(|piece| piece["index"] == 0)), (3, true), "{pieces:?}");
    let whole = chat(json!({"tools": tools})).json();
    let call = &whole["choices"][0]["message"]["tool_calls"][0];
    assert_eq!((call["function"]["name"].as_str(), call.get("index")), (Some("look"), None), "{whole}");

    // The same as a response, and what the tool said as the next.
    let flat = json!([{"type": "function", "name": "look", "parameters": {"type": "object"}}]);
    let mut body = json!({"model": "stand-in", "input": "look", "tools": flat, "stream": true});
    let said = events(&endpoint.post(RESPONSES, &body));
    let done = said.iter().find(|event| event["type"] == "response.function_call_arguments.done").unwrap();
    assert_eq!(done["arguments"], "{\"at\":1}");
    let response = &said.last().unwrap()["response"];
    assert_eq!(
        (&response["output"][0]["type"], &response["output"][0]["call_id"]),
        (&json!("function_call"), &json!("call_a"))
    );
    body = json!({
        "model": "stand-in", "previous_response_id": response["id"],
        "input": [{"type": "function_call_output", "call_id": "call_a", "output": "found"}],
    });
    let next = endpoint.post(RESPONSES, &body);
    assert_eq!(next.status, 200, "{}", next.text());
    running.end();
}

#[test]
fn raw_prompts_go_to_engines_that_take_them() {
    let folder = Folder::new();
    let (running, endpoint) = in_front(folder.path(), &engine());
    let ask = |more: Value| {
        let mut body = json!({"model": "stand-in", "prompt": "Once"});
        more.as_object().unwrap().iter().for_each(|(name, value)| body[name] = value.clone());
        endpoint.post("/v1/completions", &body)
    };
    let one = ask(json!({}));
    assert_eq!(one.status, 200, "{}", one.text());
    let body = one.json();
    assert_eq!((&body["object"], &body["choices"][0]["text"]), (&json!("text_completion"), &json!("Once!")));
    assert_eq!((&body["choices"][0]["finish_reason"], &body["usage"]["total_tokens"]), (&json!("length"), &json!(5)));
    assert!(body["id"].as_str().unwrap().starts_with("cmpl-") && one.header("polder-receipt").is_some());
    let many = ask(json!({"prompt": ["a", "b", "c"]})).json();
    let texts: Vec<&str> = many["choices"].as_array().unwrap().iter().filter_map(|one| one["text"].as_str()).collect();
    assert_eq!(texts, ["a!", "b!", "c!"]);
    assert_eq!(ask(json!({"prompt": [5, 6]})).json()["choices"][0]["text"], "tokens!");
    let streamed = ask(json!({"stream": true, "stream_options": {"include_usage": true}})).events();
    assert_eq!(streamed.len(), 4, "{streamed:?}");
    for (more, param) in [
        (json!({"prompt": null}), "prompt"),
        (json!({"prompt": []}), "prompt"),
        (json!({"prompt": ["a", 5]}), "prompt"),
        (json!({"prompt": vec!["a"; 100], "n": 2}), "prompt"),
        (json!({"logprobs": 6}), "logprobs"),
        (json!({"n": 1000}), "n"),
        (json!({"api_key": "x"}), "api_key"),
    ] {
        let refused = ask(more.clone());
        assert_eq!((refused.status, refused.error().1.as_deref()), (400, Some(param)), "{more}: {}", refused.text());
    }
    running.end();
}

#[test]
fn a_background_response_outlives_its_client_and_says_what_a_crash_did_to_it() {
    let folder = Folder::new();
    let engine = engine();
    let (running, endpoint) = in_front(folder.path(), &engine);
    let ask = |endpoint: &Endpoint, input: &str| {
        let body = json!({"model": "stand-in", "input": format!("{input} {CANARY}"), "background": true});
        let queued = endpoint.post(RESPONSES, &body);
        assert_eq!(queued.status, 200, "{}", queued.text());
        queued.json()["id"].as_str().unwrap().to_owned()
    };
    let status = |endpoint: &Endpoint, id: &str| endpoint.get(&format!("{RESPONSES}/{id}")).json()["status"].clone();
    // Nobody waits for it, and it comes to its end all the same.
    let quick = ask(&endpoint, "quickly");
    assert_eq!(ended(&endpoint, &quick)["status"], "completed");
    let stopped = ask(&endpoint, "slowly");
    until("that it runs", || (status(&endpoint, &stopped) == "in_progress").then_some(()));
    let cancelled = endpoint.post(&format!("{RESPONSES}/{stopped}/cancel"), &json!({}));
    assert_eq!((cancelled.status, &cancelled.json()["status"]), (200, &json!("cancelled")), "{}", cancelled.text());
    assert_eq!(status(&endpoint, &stopped), "cancelled");
    let gone = ask(&endpoint, "slowly");
    assert_eq!(endpoint.call("DELETE", &format!("{RESPONSES}/{gone}"), &[], b"").status, 200);
    assert_eq!(endpoint.get(&format!("{RESPONSES}/{gone}")).status, 404);

    let cut = ask(&endpoint, "slowly");
    until("that it runs", || (status(&endpoint, &cut) == "in_progress").then_some(()));
    // Dropping a running node kills it.
    drop(running);
    let (running, endpoint) = in_front(folder.path(), &engine);
    let failed = endpoint.get(&format!("{RESPONSES}/{cut}")).json();
    assert_eq!(failed["status"], "failed", "{failed}");
    assert!(failed["error"]["message"].as_str().unwrap().contains("started anew"), "{failed}");
    assert_eq!(status(&endpoint, &quick), "completed");
    assert_eq!(status(&endpoint, &stopped), "cancelled");
    let log = running.log.clone();
    running.end();
    assert!(!holds(&folder.path().join("front"), CANARY), "a prompt lies in clear");
    assert!(!std::fs::read_to_string(log).unwrap().contains(CANARY));
}

fn holds(path: &Path, needle: &str) -> bool {
    if path.is_dir() {
        return std::fs::read_dir(path).unwrap().flatten().any(|entry| holds(&entry.path(), needle));
    }
    // A socket cannot be read, and holds nothing.
    let bytes = std::fs::read(path).unwrap_or_default();
    bytes.windows(needle.len()).any(|window| window == needle.as_bytes())
}
