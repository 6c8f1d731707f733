//! An engine behind OpenAI's API that does what a test tells it to: answer, fail, hang, break off, point elsewhere.
//!
//! One thread for each connection, real sockets, no keep-alive. It says its own name, so that a test sees who answered.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

/// What it does with a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// Answers with its name.
    Answers,
    /// Answers with a status and no more.
    Status(u16),
    /// Reads the request and says nothing.
    Hangs,
    /// Begins an answer and closes.
    Breaks,
    /// Begins an answer and says no more.
    Stalls,
    /// Points to another address.
    Redirects(String),
}

/// What it was asked.
#[derive(Debug, Clone)]
pub struct Asked {
    /// The path.
    pub path: String,
    /// `Authorization`, where there was one.
    pub key: Option<String>,
    /// `traceparent`, where there was one.
    pub trace: Option<String>,
    /// The body, where it was JSON.
    pub body: Value,
}

struct Inside {
    name: String,
    model: String,
    mode: Mutex<Mode>,
    metrics: Mutex<Option<String>>,
    asked: Mutex<Vec<Asked>>,
    chats: AtomicU32,
}

/// A running engine; it ends with the test's process.
pub struct Engine {
    /// `127.0.0.1:PORT`
    pub address: String,
    inside: Arc<Inside>,
}

impl Engine {
    /// Starts one that serves a model.
    pub fn start(name: &str, model: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let inside = Arc::new(Inside {
            name: name.to_owned(),
            model: model.to_owned(),
            mode: Mutex::new(Mode::Answers),
            metrics: Mutex::new(None),
            asked: Mutex::default(),
            chats: AtomicU32::new(0),
        });
        let served = Arc::clone(&inside);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let served = Arc::clone(&served);
                std::thread::spawn(move || drop(served.serve(stream)));
            }
        });
        Self { address, inside }
    }

    /// Its base URL.
    pub fn url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// From now on it does this with conversations.
    pub fn now(&self, mode: Mode) {
        *self.inside.mode.lock().unwrap() = mode;
    }

    /// From now on it offers this page of metrics.
    pub fn tells(&self, page: &str) {
        *self.inside.metrics.lock().unwrap() = Some(page.to_owned());
    }

    /// How many conversations reached it.
    pub fn chats(&self) -> u32 {
        self.inside.chats.load(Ordering::SeqCst)
    }

    /// Everything that it was asked.
    pub fn asked(&self) -> Vec<Asked> {
        self.inside.asked.lock().unwrap().clone()
    }
}

impl Inside {
    fn serve(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let Some((path, asked)) = read(&mut stream)? else { return Ok(()) };
        self.asked.lock().unwrap().push(asked.clone());
        match path.as_str() {
            "/v1/models" => {
                let list = json!({"object": "list", "data": [{"id": self.model, "object": "model"}]});
                answer(&mut stream, 200, "application/json", &list.to_string())
            }
            "/metrics" => {
                let page = self.metrics.lock().unwrap().clone();
                let (status, text) = page.map_or((404, String::new()), |text| (200, text));
                answer(&mut stream, status, "text/plain; version=0.0.4", &text)
            }
            "/v1/chat/completions" => self.chat(&mut stream, &asked.body),
            _ => answer(&mut stream, 404, "text/plain", "nothing here"),
        }
    }

    fn chat(&self, stream: &mut TcpStream, body: &Value) -> std::io::Result<()> {
        self.chats.fetch_add(1, Ordering::SeqCst);
        let mode = self.mode.lock().unwrap().clone();
        match mode {
            Mode::Answers if body["stream"] == true => self.stream(stream, true),
            Mode::Answers => {
                let message = json!({"role": "assistant", "content": self.name});
                let choices = json!([{"index": 0, "message": message, "finish_reason": "stop"}]);
                let usage = json!({"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5});
                let whole = json!({"id": "x", "object": "chat.completion", "choices": choices, "usage": usage});
                answer(stream, 200, "application/json", &whole.to_string())
            }
            Mode::Breaks if body["stream"] == true => self.stream(stream, false),
            Mode::Stalls => {
                self.stream(stream, false)?;
                stream.set_read_timeout(Some(Duration::from_secs(60)))?;
                stream.read(&mut [0]).map(drop)
            }
            // An answer that is cut off in its middle.
            Mode::Breaks => stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{\"id\":"),
            Mode::Status(status) => answer(stream, status, "application/json", "{}"),
            Mode::Redirects(to) => stream.write_all(
                format!("HTTP/1.1 307 There\r\nlocation: {to}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
                    .as_bytes(),
            ),
            Mode::Hangs => {
                stream.set_read_timeout(Some(Duration::from_secs(60)))?;
                stream.read(&mut [0]).map(drop)
            }
        }
    }

    fn stream(&self, stream: &mut TcpStream, whole: bool) -> std::io::Result<()> {
        let mut text = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n".to_owned();
        let mut event = |value: &Value| text.push_str(&format!("data: {value}\n\n"));
        let delta = |content: &str| json!({"choices": [{"index": 0, "delta": {"content": content}}]});
        event(&json!({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}));
        event(&delta(&self.name));
        if whole {
            event(&json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}));
            event(&json!({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}));
            text.push_str("data: [DONE]\n\n");
        }
        stream.write_all(text.as_bytes())?;
        stream.flush()?;
        if !whole {
            // Long enough that the beginning is read as one.
            std::thread::sleep(Duration::from_millis(150));
        }
        Ok(())
    }
}

fn answer(stream: &mut TcpStream, status: u16, kind: &str, body: &str) -> std::io::Result<()> {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status} So\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
    );
    stream.write_all((head + body).as_bytes())
}

fn read(stream: &mut TcpStream) -> std::io::Result<Option<(String, Asked)>> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    let head = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end;
        }
        match stream.read(&mut chunk)? {
            0 => return Ok(None),
            count => bytes.extend(&chunk[..count]),
        }
    };
    let text = String::from_utf8_lossy(&bytes[..head]).into_owned();
    let header = |name: &str| {
        let of = |line: &str| {
            line.split_once(": ").filter(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, v)| v.to_owned())
        };
        text.lines().find_map(of)
    };
    let length: usize = header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    while bytes.len() < head + 4 + length {
        match stream.read(&mut chunk)? {
            0 => return Ok(None),
            count => bytes.extend(&chunk[..count]),
        }
    }
    let path = text.split(' ').nth(1).unwrap_or_default().to_owned();
    let body = serde_json::from_slice(&bytes[head + 4..]).unwrap_or(Value::Null);
    Ok(Some((path.clone(), Asked { path, key: header("authorization"), trace: header("traceparent"), body })))
}
