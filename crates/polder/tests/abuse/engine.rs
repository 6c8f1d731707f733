//! An engine that speaks just enough of OpenAI's API, and does what the question says.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::runtime::Runtime;

/// A running engine.
pub struct Engine {
    pub address: SocketAddr,
    counts: Arc<Counts>,
    _runtime: Runtime,
}

#[derive(Default)]
struct Counts {
    /// Questions that came.
    asked: AtomicUsize,
    /// Questions whose asker went away before the answer's end.
    left: AtomicUsize,
}

const EVENTS: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";

impl Engine {
    /// Starts it on a port of its own.
    pub fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let counts = Arc::new(Counts::default());
        let counted = Arc::clone(&counts);
        let address = runtime.block_on(async {
            let socket = TcpSocket::new_v4().unwrap();
            // It stands for an engine on another machine: what waits in its own buffers is not the node's.
            socket.set_send_buffer_size(16 << 10).unwrap();
            socket.set_nodelay(true).unwrap();
            socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
            let listener = socket.listen(4096).unwrap();
            let address = listener.local_addr().unwrap();
            tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(connection(stream, Arc::clone(&counted)));
                }
            });
            address
        });
        Self { address, counts, _runtime: runtime }
    }

    /// How many questions came.
    pub fn asked(&self) -> usize {
        self.counts.asked.load(Ordering::SeqCst)
    }

    /// How many of their askers went away.
    pub fn left(&self) -> usize {
        self.counts.left.load(Ordering::SeqCst)
    }

    /// Waits until so many questions came, or so many askers left; how long that took.
    pub fn until(&self, what: &str, count: impl Fn(&Self) -> usize, least: usize) -> Duration {
        let begun = Instant::now();
        while count(self) < least {
            assert!(begun.elapsed() < Duration::from_secs(20), "{what}: {} of {least}", count(self));
            std::thread::sleep(Duration::from_millis(5));
        }
        begun.elapsed()
    }
}

async fn connection(mut stream: TcpStream, counts: Arc<Counts>) {
    let mut bytes = Vec::new();
    loop {
        let Some((head, body)) = request(&mut stream, &mut bytes).await else { return };
        if head.starts_with("GET") {
            let list = r#"{"object":"list","data":[{"id":"mock","object":"model"}]}"#;
            let Ok(()) = json(&mut stream, list).await else { return };
            continue;
        }
        counts.asked.fetch_add(1, Ordering::SeqCst);
        if answer(&mut stream, &body).await.is_err() {
            counts.left.fetch_add(1, Ordering::SeqCst);
            return;
        }
    }
}

async fn json(stream: &mut TcpStream, body: &str) -> std::io::Result<()> {
    let head = format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all((head + body).as_bytes()).await
}

/// One request of a client that is trusted to speak well: its head and its body.
async fn request(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Option<(String, String)> {
    loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
            let whole = end + 4 + length;
            if bytes.len() >= whole {
                let body = String::from_utf8_lossy(&bytes[end + 4..whole]).into_owned();
                let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
                bytes.drain(..whole);
                return Some((head, body));
            }
        }
        let mut piece = [0; 4096];
        match stream.read(&mut piece).await {
            Ok(count @ 1..) => bytes.extend(&piece[..count]),
            _ => return None,
        }
    }
}

/// An event with a piece of an answer, as a chunk.
fn token(text: &str) -> String {
    let event = format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n");
    format!("{:x}\r\n{event}\r\n", event.len())
}

/// The end of an answer, as chunks.
fn ending() -> String {
    let events = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n\
                  data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":5}}\n\ndata: [DONE]\n\n";
    format!("{:x}\r\n{events}\r\n0\r\n\r\n", events.len())
}

/// Does what the question says; an error is an asker that went away.
async fn answer(stream: &mut TcpStream, body: &str) -> std::io::Result<()> {
    let says = |word: &str| body.contains(&format!("\"{word}\""));
    if says("forever") {
        stream.write_all(EVENTS.as_bytes()).await?;
        let piece = token(&"x".repeat(1 << 10));
        loop {
            stream.write_all(piece.as_bytes()).await?;
        }
    }
    if says("steady") || says("short") {
        stream.write_all(EVENTS.as_bytes()).await?;
        let count = if says("short") { 20 } else { 10_000 };
        for _ in 0..count {
            stream.write_all(token("word ").as_bytes()).await?;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        return stream.write_all(ending().as_bytes()).await;
    }
    if says("begin") {
        stream.write_all(EVENTS.as_bytes()).await?;
    }
    if says("begin") || says("nothing") {
        let mut byte = [0];
        return match stream.read(&mut byte).await {
            Ok(1..) => Ok(()),
            _ => Err(std::io::ErrorKind::ConnectionAborted.into()),
        };
    }
    if body.contains("\"stream\":true") {
        return stream.write_all((EVENTS.to_owned() + &token("word") + &ending()).as_bytes()).await;
    }
    let whole = r#"{"choices":[{"index":0,"message":{"role":"assistant","content":"word"},"finish_reason":"stop"}],
                   "usage":{"prompt_tokens":3,"completion_tokens":1}}"#;
    json(stream, whole).await
}
