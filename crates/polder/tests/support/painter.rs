//! A small engine that orders texts and makes pictures, for a node to stand in front of.
//!
//! No program that can be installed for a test makes pictures without gigabytes of weights, so this one draws: a picture of one
//! colour, computed from the prompt, as a real PNG file. It notes what it was asked, so that a test can see what reached it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

/// The engine; it ends with the test's process.
pub struct Painter {
    /// Its base URL.
    pub url: String,
    heard: Arc<Mutex<Vec<(String, Value)>>>,
}

impl Painter {
    /// Starts it on a free port.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let heard = Arc::new(Mutex::new(Vec::new()));
        let ears = Arc::clone(&heard);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let ears = Arc::clone(&ears);
                std::thread::spawn(move || answer(stream, &ears));
            }
        });
        Self { url, heard }
    }

    /// What it was asked at a path, as heads and bodies.
    pub fn heard(&self, path: &str) -> Vec<(String, Value)> {
        let heard = self.heard.lock().unwrap();
        heard.iter().filter(|(head, _)| head.contains(&format!(" /v1{path} "))).cloned().collect()
    }
}

/// One request of one connection, which then closes.
fn answer(stream: TcpStream, heard: &Mutex<Vec<(String, Value)>>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line == "\r\n" {
            break;
        }
        head.push_str(&line);
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let asked: Value = serde_json::from_slice(&body).unwrap_or_default();
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    heard.lock().unwrap().push((head, asked.clone()));
    if asked["prompt"].as_str().is_some_and(|prompt| prompt.contains("slowly")) {
        // It draws until whoever asked has left, which a connection's end says.
        let left = matches!(reader.read(&mut [0]), Ok(0) | Err(_));
        heard.lock().unwrap().push((format!("END /v1/left {left}"), Value::Null));
        return;
    }
    let answer = match path.as_str() {
        "/v1/models" => json!({"object": "list", "data": [{"id": "painter"}, {"id": "ranker"}, {"id": "talker"}]}),
        "/v1/images/generations" => images(&asked),
        "/v1/rerank" => ranking(&asked),
        _ => Value::Null,
    };
    let status = if answer.is_null() { "404 Not Found" } else { "200 OK" };
    let answer = answer.to_string();
    let head = format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", answer.len());
    // Whoever asked may be gone.
    let _ = (&stream).write_all((head + &answer).as_bytes());
}

/// As many pictures as were asked for; a prompt that speaks of an address gets one, as some engines do whatever they are asked.
fn images(asked: &Value) -> Value {
    let prompt = asked["prompt"].as_str().unwrap();
    if prompt.contains("address") {
        return json!({"data": [{"url": "http://127.0.0.1:9/picture.png"}]});
    }
    let sum: u32 = prompt.bytes().map(u32::from).sum();
    let one = |n: u64| json!({"b64_json": base64(&png([sum as u8, (sum >> 8) as u8, n as u8]))});
    let data: Vec<Value> = (0..asked["n"].as_u64().unwrap()).map(one).collect();
    json!({"created": 1, "data": data, "usage": {"input_tokens": 5, "output_tokens": 7, "total_tokens": 12}})
}

/// A text is the better the more words it shares with the query.
fn ranking(asked: &Value) -> Value {
    let words = |text: &Value| text.as_str().unwrap().split(' ').map(str::to_lowercase).collect::<Vec<_>>();
    let query = words(&asked["query"]);
    let score = |text: &Value| words(text).iter().filter(|word| query.contains(word)).count();
    let documents = asked["documents"].as_array().unwrap();
    let one = |(index, text)| json!({"index": index, "relevance_score": score(text)});
    json!({"results": documents.iter().enumerate().map(one).collect::<Vec<Value>>(), "usage": {"total_tokens": 9}})
}

/// A PNG file of one pixel (ISO/IEC 15948), its data in one stored block of zlib (RFC 1950, RFC 1951).
fn png(colour: [u8; 3]) -> Vec<u8> {
    let pixel = [0, colour[0], colour[1], colour[2]];
    let (mut a, mut b) = (1u32, 0u32);
    for byte in pixel {
        a = (a + u32::from(byte)) % 65_521;
        b = (b + a) % 65_521;
    }
    let mut data = vec![0x78, 0x01, 0x01, 4, 0, 251, 255];
    data.extend(pixel);
    data.extend(((b << 16) | a).to_be_bytes());
    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    chunk(&mut file, b"IHDR", &[0, 0, 0, 1, 0, 0, 0, 1, 8, 2, 0, 0, 0]);
    chunk(&mut file, b"IDAT", &data);
    chunk(&mut file, b"IEND", &[]);
    file
}

fn chunk(file: &mut Vec<u8>, kind: &[u8; 4], data: &[u8]) {
    file.extend(u32::try_from(data.len()).unwrap().to_be_bytes());
    let body = [kind.as_slice(), data].concat();
    let mut crc = u32::MAX;
    for byte in &body {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
        }
    }
    file.extend(body);
    file.extend((!crc).to_be_bytes());
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let bits = three.iter().fold(0u32, |bits, byte| (bits << 8) | u32::from(*byte)) << (8 * (3 - three.len()));
        for place in 0..4 {
            let letter = LETTERS[(bits >> (18 - 6 * place)) as usize & 63] as char;
            text.push(if place > three.len() { '=' } else { letter });
        }
    }
    text
}
