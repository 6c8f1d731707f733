//! An engine that answers at once: OpenAI's shapes with fixed texts, so that what is measured is the way to it.
//!
//! What it does is chosen by the model's name: [`PLAIN`] answers in full or, asked for a stream, in one burst; [`PACED`] sends a
//! chunk every [`PACE_MS`]; [`HANG`] says nothing until its client leaves. It counts who left early. Generating text is absent.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::failure::Failure;

/// Answers at once.
pub const PLAIN: &str = "mock";
/// Streams a chunk every [`PACE_MS`].
pub const PACED: &str = "mock-paced";
/// Streams a chunk every second: for what an open stream costs.
pub const SLOW: &str = "mock-slow";
/// Never answers.
pub const HANG: &str = "mock-hang";
/// Streams without end, as fast as it is read.
pub const ENDLESS: &str = "mock-endless";
/// Tokens that it says it generated for a whole answer.
pub const TOKENS: u64 = 84;
/// Milliseconds between the chunks of a paced stream.
pub const PACE_MS: u64 = 10;
/// Chunks of a stream that carry text.
pub const CHUNKS: usize = 100;
/// Chunks in one write of a burst.
const BURST: usize = 10;
const REQUEST_BYTES_MAX: usize = 1 << 20;

/// What the mock has seen.
#[derive(Default)]
struct Counts {
    requests: AtomicU64,
    open: AtomicU64,
    cancelled: AtomicU64,
}

/// Serves until the process ends.
pub async fn serve(port: u16, narrow: bool) -> Result<(), Failure> {
    let failed = |e: std::io::Error| Failure::new(format!("the mock cannot listen: {e}"), "choose another port");
    let listener = listen(port, narrow).map_err(failed)?;
    let counts = Arc::new(Counts::default());
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let counts = Arc::clone(&counts);
        tokio::spawn(async move {
            // A client that has gone is no failure of the mock.
            drop(connection(stream, &counts).await);
        });
    }
}

/// A narrow mock keeps little that is not read: where memory is counted, what waits in its own buffers is not the node's.
fn listen(port: u16, narrow: bool) -> std::io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    if narrow {
        socket.set_send_buffer_size(16 << 10)?;
    }
    socket.bind(SocketAddr::from(([127, 0, 0, 1], port)))?;
    socket.listen(4096)
}

async fn connection(mut stream: TcpStream, counts: &Counts) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = Vec::with_capacity(4096);
    loop {
        let Some(length) = request(&mut stream, &mut buffer).await? else { return Ok(()) };
        answer(&mut stream, &buffer, counts).await?;
        buffer.drain(..length);
    }
}

/// Reads one request; its length in bytes, or nothing at the end.
async fn request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> std::io::Result<Option<usize>> {
    loop {
        if let Some(head) = find(buffer, b"\r\n\r\n") {
            let length = head + 4 + content_length(buffer.get(..head).unwrap_or_default());
            if buffer.len() >= length {
                return Ok(Some(length));
            }
        }
        if buffer.len() > REQUEST_BYTES_MAX || stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
}

async fn answer(stream: &mut TcpStream, request: &[u8], counts: &Counts) -> std::io::Result<()> {
    if request.starts_with(b"GET /stats") {
        let [requests, open, cancelled] =
            [&counts.requests, &counts.open, &counts.cancelled].map(|count| count.load(Ordering::Relaxed));
        let body = format!(r#"{{"requests":{requests},"open":{open},"cancelled":{cancelled}}}"#);
        return whole(stream, &body).await;
    }
    if request.starts_with(b"GET ") {
        let model = |name: &&str| format!(r#"{{"id":"{name}","object":"model","created":0,"owned_by":"mock"}}"#);
        let names = [PLAIN, PACED, SLOW, HANG, ENDLESS, "polder-toy"];
        let data = names.iter().map(model).collect::<Vec<_>>().join(",");
        return whole(stream, &format!(r#"{{"object":"list","data":[{data}]}}"#)).await;
    }
    counts.requests.fetch_add(1, Ordering::Relaxed);
    counts.open.fetch_add(1, Ordering::Relaxed);
    let ended = generate(stream, request).await;
    counts.open.fetch_sub(1, Ordering::Relaxed);
    if ended.is_err() {
        counts.cancelled.fetch_add(1, Ordering::Relaxed);
    }
    ended
}

async fn generate(stream: &mut TcpStream, request: &[u8]) -> std::io::Result<()> {
    let asked = |text: &str| find(request, text.as_bytes()).is_some();
    if asked(HANG) {
        return gone(stream, Duration::from_secs(600)).await;
    }
    if asked(ENDLESS) {
        return endless(stream).await;
    }
    let streamed = asked("\"stream\":true") || asked("\"stream\": true");
    if asked(SLOW) {
        return events(stream, 1, Duration::from_secs(1)).await;
    }
    if asked(PACED) {
        return if streamed {
            events(stream, 1, Duration::from_millis(PACE_MS)).await
        } else {
            gone(stream, Duration::from_secs(2)).await?;
            whole(stream, &completion()).await
        };
    }
    if streamed { events(stream, BURST, Duration::ZERO).await } else { whole(stream, &completion()).await }
}

fn completion() -> String {
    let text =
        "Sovereignty is a property of a placement, not of a product; it is decided for every request. ".repeat(4);
    format!(
        r#"{{"id":"chatcmpl-mock","object":"chat.completion","created":1,"model":"mock","choices":[{{"index":0,"message":{{"role":"assistant","content":"{text}"}},"logprobs":null,"finish_reason":"stop"}}],"usage":{{"prompt_tokens":60,"completion_tokens":{TOKENS},"total_tokens":144}}}}"#
    )
}

async fn whole(stream: &mut TcpStream, body: &str) -> std::io::Result<()> {
    let length = body.len();
    let text = format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}");
    stream.write_all(text.as_bytes()).await
}

/// Tokens of 1 KiB until nobody reads them.
async fn endless(stream: &mut TcpStream) -> std::io::Result<()> {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await?;
    let text = "x".repeat(1 << 10);
    let piece = chunk(&format!(r#"{{"index":0,"delta":{{"content":"{text}"}},"logprobs":null,"finish_reason":null}}"#));
    loop {
        stream.write_all(piece.as_bytes()).await?;
    }
}

fn chunk(choice: &str) -> String {
    let data = format!(
        "data: {{\"id\":\"chatcmpl-mock\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"mock\",\"choices\":[{choice}]}}\n\n"
    );
    format!("{:x}\r\n{data}\r\n", data.len())
}

async fn events(stream: &mut TcpStream, together: usize, pause: Duration) -> std::io::Result<()> {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await?;
    let piece = chunk(r#"{"index":0,"delta":{"content":" sovereign"},"logprobs":null,"finish_reason":null}"#);
    let pieces = piece.repeat(together);
    let mut clock = tokio::time::interval(pause.max(Duration::from_millis(1)));
    for _ in 0..CHUNKS / together {
        if !pause.is_zero() {
            tokio::select! {
                _ = clock.tick() => {}
                left = gone(stream, Duration::from_secs(600)) => return left,
            }
        }
        stream.write_all(pieces.as_bytes()).await?;
    }
    let usage = "data: {\"id\":\"chatcmpl-mock\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"mock\",\"choices\":[],\"usage\":{\"prompt_tokens\":60,\"completion_tokens\":100,\"total_tokens\":160}}\n\n";
    let end = format!(
        "{}{:x}\r\n{usage}\r\ne\r\ndata: [DONE]\n\n\r\n0\r\n\r\n",
        chunk(r#"{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}"#),
        usage.len()
    );
    stream.write_all(end.as_bytes()).await
}

/// Waits; an error when the client leaves meanwhile.
async fn gone(stream: &mut TcpStream, wait: Duration) -> std::io::Result<()> {
    let mut byte = [0];
    match tokio::time::timeout(wait, stream.peek(&mut byte)).await {
        Err(_) => Ok(()),
        Ok(Ok(0)) => Err(std::io::ErrorKind::ConnectionAborted.into()),
        // Nobody pipelines here: what comes early is taken for a client that has gone mad.
        Ok(other) => other.and(Err(std::io::ErrorKind::InvalidData.into())),
    }
}

/// One of the counts of a mock that runs somewhere.
pub fn stats(port: u16, name: &str) -> Result<u64, Failure> {
    use std::io::{Read as _, Write as _};
    let failed = |e: std::io::Error| Failure::new(format!("the mock does not answer: {e}"), "run it again");
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).map_err(failed)?;
    stream.write_all(b"GET /stats HTTP/1.1\r\n\r\n").map_err(failed)?;
    let mut text = vec![0; 4096];
    let read = stream.read(&mut text).map_err(failed)?;
    let text = String::from_utf8_lossy(text.get(..read).unwrap_or_default()).into_owned();
    let body = text.split("\r\n\r\n").nth(1).unwrap_or_default();
    let read: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
    read[name].as_u64().ok_or_else(|| Failure::new("the mock's counts are not understood", "run it again"))
}

/// Where a text begins.
pub fn find(bytes: &[u8], text: &[u8]) -> Option<usize> {
    bytes.windows(text.len()).position(|window| window == text)
}

/// What a head says of its body's length.
pub fn content_length(head: &[u8]) -> usize {
    let text = String::from_utf8_lossy(head).to_ascii_lowercase();
    let line = text.lines().find_map(|line| line.strip_prefix("content-length:")).unwrap_or_default().trim().to_owned();
    line.parse().unwrap_or(0)
}
