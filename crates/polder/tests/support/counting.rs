//! An engine of a test's own behind OpenAI's API: it counts what it is asked and does what the prompt says.
//!
//! It stands in for an engine where a test must know exactly how often one was asked, and must make it wait or fail.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

/// The model that it serves.
pub const MODEL: &str = "counting";

/// What it has been asked.
#[derive(Default)]
pub struct Counted {
    /// Conversations that it began.
    pub asked: AtomicU64,
    /// Tokens that it generated.
    pub tokens: AtomicU64,
    /// Answers whose reader went away.
    pub left: AtomicU64,
    /// Conversations that are still to fail.
    pub failing: AtomicU64,
}

impl Counted {
    /// How many conversations it began.
    pub fn asked(&self) -> u64 {
        self.asked.load(Ordering::SeqCst)
    }

    /// How many tokens it generated.
    pub fn tokens(&self) -> u64 {
        self.tokens.load(Ordering::SeqCst)
    }
}

/// A running engine.
pub struct CountingEngine {
    /// Its base URL.
    pub url: String,
    /// What it has been asked.
    pub counted: Arc<Counted>,
}

impl CountingEngine {
    /// Starts it. It ends with the test's process.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let counted = Arc::new(Counted::default());
        let shared = Arc::clone(&counted);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let counted = Arc::clone(&shared);
                let serving = std::thread::Builder::new().stack_size(256 << 10);
                drop(serving.spawn(move || serve(stream, &counted)).unwrap());
            }
        });
        Self { url, counted }
    }
}

/// Reads one request and answers it; one that breaks off is no matter.
fn serve(mut stream: TcpStream, counted: &Counted) {
    stream.set_nodelay(true).unwrap();
    let Some((head, body)) = read(&mut stream) else { return };
    if head.starts_with("GET") {
        let list = json!({"object": "list", "data": [{"id": MODEL, "object": "model"}]});
        return whole(&mut stream, "200 OK", &list);
    }
    let request: Value = serde_json::from_slice(&body).unwrap_or_default();
    if head.contains("/embeddings") {
        let count = request["input"].as_array().map_or(1, Vec::len);
        counted.tokens.fetch_add(4 * count as u64, Ordering::SeqCst);
        let data: Vec<Value> = (0..count).map(|index| json!({"index": index, "embedding": [1.0, 0.0]})).collect();
        return whole(&mut stream, "200 OK", &json!({"data": data, "usage": {"prompt_tokens": 4 * count}}));
    }
    counted.asked.fetch_add(1, Ordering::SeqCst);
    if counted.failing.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok() {
        return whole(&mut stream, "500 Internal Server Error", &json!({"error": {"message": "it fails"}}));
    }
    let words = request["messages"][0]["content"].as_str().unwrap_or_default().to_owned();
    let most = request["max_tokens"].as_u64().unwrap_or(1_000_000);
    if words.starts_with("wait") {
        let ms: u64 = words.split(' ').nth(1).and_then(|ms| ms.parse().ok()).unwrap_or(200);
        if closed_within(&stream, Duration::from_millis(ms)) {
            counted.left.fetch_add(1, Ordering::SeqCst);
            return;
        }
    }
    if request["stream"] == true {
        if streamed(&mut stream, &words, most, counted).is_err() {
            counted.left.fetch_add(1, Ordering::SeqCst);
        }
        return;
    }
    counted.tokens.fetch_add(most, Ordering::SeqCst);
    let message = json!({"role": "assistant", "content": "word ".repeat(most as usize)});
    let choice = json!({"index": 0, "message": message, "finish_reason": "length"});
    let usage = json!({"prompt_tokens": 3, "completion_tokens": most});
    whole(&mut stream, "200 OK", &json!({"choices": [choice], "usage": usage}));
}

fn streamed(stream: &mut TcpStream, words: &str, most: u64, counted: &Counted) -> std::io::Result<()> {
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")?;
    for token in 0..most {
        counted.tokens.fetch_add(1, Ordering::SeqCst);
        let delta = json!({"choices": [{"index": 0, "delta": {"content": "abc"}}]});
        write!(stream, "data: {delta}\n\n")?;
        if words == "hold" && token == 0 {
            // Until the reader goes away.
            if closed_within(stream, Duration::from_secs(60)) {
                return Err(std::io::Error::other("its reader has left"));
            }
        }
        if words == "drip" {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    let last = json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "length"}]});
    let usage = json!({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": most}});
    write!(stream, "data: {last}\n\ndata: {usage}\n\ndata: [DONE]\n\n")
}

/// Whether the other end closes within a time.
fn closed_within(stream: &TcpStream, limit: Duration) -> bool {
    stream.set_read_timeout(Some(limit)).unwrap();
    let mut byte = [0];
    match (&*stream).read(&mut byte) {
        Ok(0) => true,
        Ok(_) => false,
        Err(error) => !matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut),
    }
}

fn read(stream: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
        if let Some(end) = end {
            let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let length: usize = length.and_then(|length| length.trim().parse().ok()).unwrap_or(0);
            if bytes.len() >= end + 4 + length {
                let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
                return Some((head, bytes[end + 4..].to_vec()));
            }
        }
        match stream.read(&mut chunk) {
            Ok(count @ 1..) => bytes.extend(&chunk[..count]),
            _ => return None,
        }
    }
}

fn whole(stream: &mut TcpStream, status: &str, body: &Value) {
    let body = body.to_string();
    let head = format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: ");
    // A reader that went away is not this engine's matter.
    drop(write!(stream, "{head}{}\r\n\r\n{body}", body.len()));
}
