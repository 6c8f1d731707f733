//! The end of a node: what is under way goes on, what takes too long is cut with a word, and a node that takes over loses nothing.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use super::engine::Engine;
use super::{CHAT, Front, KEY, chat, read_until, set_up, start, to_the_end};
use crate::support::http::{Endpoint, socket_post};
use crate::support::{Folder, process};

#[test]
fn what_is_under_way_goes_on_and_is_cut_with_a_word() {
    let front = Front::start("drain_s = 3");
    let ask = |word: &str, stream: bool| {
        let mut client = front.connect();
        client.write_all(&front.kept(word, stream)).unwrap();
        client
    };
    let (mut short, mut steady, mut waiting) = (ask("short", true), ask("steady", true), ask("begin", false));
    read_until(&mut short, "word");
    read_until(&mut steady, "word");
    front.engine.until("the questions", |engine| engine.asked(), 3);
    // Connected and about to ask when the node is told to stop: asked and answered all the same.
    let mut late = front.connect();
    process::signal(front.running.pid(), Signal::TERM);
    std::thread::sleep(Duration::from_millis(300));
    late.write_all(&front.kept("quick", false)).unwrap();
    let (text, took) = to_the_end(&mut late);
    assert!(text.starts_with("HTTP/1.1 200 ") && text.contains("connection: close"), "{text}");
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert!(TcpStream::connect(&front.endpoint.address).is_err(), "nobody new comes in");

    let (text, _) = to_the_end(&mut short);
    assert!(text.contains("data: [DONE]") && text.ends_with("0\r\n\r\n"), "{text}");
    let (text, took) = to_the_end(&mut steady);
    assert!(took < Duration::from_secs(6), "{took:?}");
    let last = text.rsplit("data: ").next().unwrap();
    assert!(last.contains("\"code\":\"node_stopping\"") && text.ends_with("\n\n\r\n0\r\n\r\n"), "{last}");
    let (text, _) = to_the_end(&mut waiting);
    assert!(text.starts_with("HTTP/1.1 503 ") && text.contains("\"code\":\"node_stopping\""), "{text}");
    front.running.end_of_itself();
}

/// A client that keeps its connection, and asks again over another where the node has closed it without a word.
struct Steady {
    address: String,
    stream: Option<TcpStream>,
    asked: usize,
    closed: usize,
}

impl Steady {
    fn ask(&mut self) -> Result<(), String> {
        let body = chat("quick", false).to_string();
        let request = format!(
            "POST {CHAT} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        loop {
            let mut stream = match self.stream.take() {
                Some(stream) => stream,
                None => TcpStream::connect(&self.address).map_err(|e| format!("connecting: {e}"))?,
            };
            stream.set_read_timeout(Some(Duration::from_secs(20))).map_err(|e| e.to_string())?;
            stream.write_all(request.as_bytes()).map_err(|e| format!("sending: {e}"))?;
            let mut answer = Vec::new();
            let mut piece = [0; 4096];
            while !String::from_utf8_lossy(&answer).contains("completion_tokens") {
                match stream.read(&mut piece).map_err(|e| format!("reading: {e}"))? {
                    0 => break,
                    count => answer.extend(&piece[..count]),
                }
            }
            if answer.is_empty() {
                self.closed += 1;
                continue;
            }
            let text = String::from_utf8_lossy(&answer).into_owned();
            if !text.starts_with("HTTP/1.1 200 ") || !text.contains("completion_tokens") {
                return Err(text);
            }
            self.stream = (!text.contains("connection: close")).then_some(stream);
            self.asked += 1;
            return Ok(());
        }
    }
}

#[test]
fn a_node_that_takes_over_loses_no_request() {
    let (engine, folder) = (Engine::start(), Folder::new());
    let address = super::free_address();
    let configs = ["one", "two"].map(|name| {
        let config = set_up(&folder, name, &engine, "share_port = true");
        let text = std::fs::read_to_string(&config).unwrap();
        let line = text.lines().find(|line| line.starts_with("listen = ")).unwrap();
        std::fs::write(&config, text.replace(line, &format!("listen = \"{address}\""))).unwrap();
        config
    });
    let mut running = Some(start(&folder, &configs[0]));
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..4)
        .map(|number| {
            let (stop, address) = (Arc::clone(&stop), address.clone());
            std::thread::spawn(move || {
                let mut client = Steady { address, stream: None, asked: 0, closed: 0 };
                while !stop.load(Ordering::SeqCst) {
                    client.ask()?;
                    // Two of them come anew each time.
                    client.stream = client.stream.filter(|_| number % 2 == 0);
                    std::thread::sleep(Duration::from_millis(5));
                }
                Ok::<_, String>((client.asked, client.closed))
            })
        })
        .collect();
    for round in 1..=4 {
        let next = start(&folder, &configs[round % 2]);
        std::thread::sleep(Duration::from_millis(300));
        let begun = Instant::now();
        running.replace(next).unwrap().end();
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    }
    stop.store(true, Ordering::SeqCst);
    for client in clients {
        let (asked, _) = client.join().unwrap().unwrap();
        assert!(asked > 50, "{asked}");
    }
    assert_eq!(Endpoint { address, key: KEY.to_owned() }.post(CHAT, &chat("quick", false)).status, 200);
    running.unwrap().end();
}

#[test]
fn a_port_is_shared_only_where_both_say_so() {
    let front = Front::start("");
    let config = set_up(&front.folder, "other", &front.engine, "share_port = true");
    let text = std::fs::read_to_string(&config).unwrap();
    let line = text.lines().find(|line| line.starts_with("listen = ")).unwrap();
    std::fs::write(&config, text.replace(line, &format!("listen = \"{}\"", front.endpoint.address))).unwrap();
    let ended = crate::support::run(crate::support::polder(front.folder.path()).args(["up", "--config"]).arg(&config));
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(ended.stderr.contains("is already taken"), "{ended:?}");
    front.running.end();
}

#[test]
fn what_was_answered_last_is_in_the_log_after_the_end() {
    let (engine, folder) = (Engine::start(), Folder::new());
    let config = set_up(&folder, "front", &engine, "");
    let socket = folder.path().join("front/state/api.sock");
    for _ in 0..5 {
        let running = start(&folder, &config);
        let endpoint = Endpoint::new(running.printed["endpoint"].as_str().unwrap(), KEY);
        let made = socket_post(&socket, "/api/v1/tokens", &json!({"role": "auditor"})).json();
        let token = endpoint.with_key(made["token"].as_str().unwrap());
        let ids: Vec<String> = (0..10)
            .map(|_| endpoint.post(CHAT, &chat("quick", false)).header("polder-decision").unwrap().to_owned())
            .collect();
        // Told to stop while the last answers' leaves are on their way.
        running.end();
        let running = start(&folder, &config);
        for id in &ids {
            let receipt = endpoint.get(&format!("/api/v1/receipts/{id}"));
            assert_eq!(receipt.status, 200, "{id}: {}", receipt.text());
        }
        assert_eq!(token.get("/api/v1/usage").status, 200, "a token holds after a restart");
        running.end();
    }
}
