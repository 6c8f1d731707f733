//! The load: connections that are kept alive, each asking again as soon as it has its answer.
//!
//! Latencies are taken at the socket, in nanoseconds. It reads just enough HTTP to find the end of an answer. Pacing requests is
//! absent: what a request costs is asked for, not what a given rate does.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::mock::{content_length, find};
use crate::failure::Failure;

/// What is asked of a target.
#[derive(Clone)]
pub struct Ask {
    /// Where.
    pub address: SocketAddr,
    /// The bytes of one request.
    pub request: Vec<u8>,
    /// How many connections ask at once.
    pub connections: usize,
    /// How many requests each of them makes.
    pub each: usize,
}

/// What came of it.
#[derive(Default)]
pub struct Heard {
    /// How long each answer took, in nanoseconds.
    pub whole_ns: Vec<u64>,
    /// How long the first event of each stream took, in nanoseconds.
    pub first_ns: Vec<u64>,
    /// The times between reads of one stream that brought events, in nanoseconds.
    pub gap_ns: Vec<u64>,
    /// Answers with status 200.
    pub good: u64,
    /// Other answers, and connections that broke.
    pub bad: u64,
    /// The first answer that was not good.
    pub example: Option<String>,
    /// How long all of it took.
    pub took: Duration,
}

/// One request's bytes.
pub fn request(key: &str, model: &str, stream: bool) -> Vec<u8> {
    let body = format!(
        r#"{{"model":"{model}","messages":[{{"role":"system","content":"You answer for a public office in two short sentences, plainly and in English, and you say when you do not know."}},{{"role":"user","content":"What does it mean that a request runs only where its owner's rules and the factory's own terms allow it?"}}],"max_tokens":256,"temperature":0.7,"stream":{stream}{}}}"#,
        if stream { r#","stream_options":{"include_usage":true}"# } else { "" }
    );
    let length = body.len();
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: bench\r\naccept: application/json\r\nuser-agent: OpenAI/Python 3.54.0\r\nx-stainless-lang: python\r\nx-stainless-retry-count: 0\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

/// Asks, and waits for everything.
pub async fn run(ask: &Ask) -> Result<Heard, Failure> {
    let begun = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..ask.connections {
        tasks.spawn(one(ask.clone()));
    }
    let mut heard = Heard::default();
    while let Some(done) = tasks.join_next().await {
        let part = done.map_err(|e| Failure::new(format!("the load broke off: {e}"), "run it again"))?;
        heard.whole_ns.extend(part.whole_ns);
        heard.first_ns.extend(part.first_ns);
        heard.gap_ns.extend(part.gap_ns);
        heard.good += part.good;
        heard.bad += part.bad;
        heard.example = heard.example.or(part.example);
    }
    heard.took = begun.elapsed();
    Ok(heard)
}

async fn one(ask: Ask) -> Heard {
    let mut heard = Heard::default();
    let mut connection = None;
    for _ in 0..ask.each {
        let before = Instant::now();
        match exchange(&mut connection, &ask, before, &mut heard).await {
            Ok(true) => {
                heard.good += 1;
                heard.whole_ns.push(nanos(before));
            }
            Ok(false) => heard.bad += 1,
            Err(error) => {
                heard.bad += 1;
                heard.example.get_or_insert(error.to_string());
                connection = None;
            }
        }
    }
    heard
}

fn nanos(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

async fn exchange(
    connection: &mut Option<TcpStream>,
    ask: &Ask,
    before: Instant,
    heard: &mut Heard,
) -> std::io::Result<bool> {
    let stream = match connection {
        Some(stream) => stream,
        None => {
            let stream = TcpStream::connect(ask.address).await?;
            stream.set_nodelay(true)?;
            connection.insert(stream)
        }
    };
    stream.write_all(&ask.request).await?;
    let mut buffer = Vec::with_capacity(16 << 10);
    let mut last: Option<Instant> = None;
    loop {
        let from = buffer.len();
        if stream.read_buf(&mut buffer).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let new = buffer.get(from..).unwrap_or_default();
        if find(new, b"data: {").is_some() {
            match last {
                None => heard.first_ns.push(nanos(before)),
                Some(last) => heard.gap_ns.push(nanos(last)),
            }
            last = Some(Instant::now());
        }
        let Some(head) = find(buffer.get(..4096.min(buffer.len())).unwrap_or_default(), b"\r\n\r\n") else { continue };
        let text = buffer.get(..head).unwrap_or_default();
        let chunked = find(text, b"chunked").is_some();
        let ended = match chunked {
            true => buffer.ends_with(b"0\r\n\r\n"),
            false => buffer.len() >= head + 4 + content_length(text),
        };
        if ended {
            let good = buffer.starts_with(b"HTTP/1.1 200");
            if !good {
                heard.example.get_or_insert_with(|| String::from_utf8_lossy(&buffer).chars().take(600).collect());
            }
            return Ok(good);
        }
    }
}

/// The value below which a share of the values lies; 0 of none.
pub fn percentile(values: &mut [u64], per_cent: usize) -> f64 {
    values.sort_unstable();
    let place = values.len() * per_cent / 100;
    values.get(place.min(values.len().saturating_sub(1))).copied().unwrap_or(0) as f64
}
