//! An engine that repeats what it is asked, in answers and in errors: the worst that can stand behind a node.
//!
//! What it does hangs on the model's name: `echo` answers, `refuse` says 400 with the request in its message, `crash` says 500 the
//! same way, `cut` breaks a stream off after a piece, `odd` sends what nobody understands.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use serde_json::{Value, json};

/// Its models.
pub const MODELS: [&str; 5] = ["echo", "refuse", "crash", "cut", "odd"];

/// Starts it, saying `mark` in each answer; its base URL. It ends with the test's process.
pub fn start(mark: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || drop(serve(stream, mark)));
        }
    });
    url
}

fn serve(mut stream: TcpStream, mark: &str) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 65_536];
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        match stream.read(&mut chunk)? {
            0 => return Ok(()),
            count => bytes.extend(&chunk[..count]),
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
    let length =
        head.lines().find_map(|line| line.strip_prefix("content-length: ")).and_then(|one| one.trim().parse().ok());
    while bytes.len() < end + length.unwrap_or(0) {
        match stream.read(&mut chunk)? {
            0 => return Ok(()),
            count => bytes.extend(&chunk[..count]),
        }
    }
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    let asked = String::from_utf8_lossy(&bytes[end..]).into_owned();
    let body: Value = serde_json::from_str(&asked).unwrap_or_default();
    if path == "/v1/models" {
        let data: Vec<Value> = MODELS.iter().map(|id| json!({"id": id, "object": "model"})).collect();
        return whole(&mut stream, 200, &json!({"object": "list", "data": data}));
    }
    let error = json!({"error": {"message": format!("cannot do {asked}, said {mark}"), "type": "x", "param": asked, "code": asked}});
    match body["model"].as_str() {
        Some("refuse") => whole(&mut stream, 400, &error),
        Some("crash") => whole(&mut stream, 500, &error),
        Some("odd") => {
            whole(&mut stream, 200, &json!({"choices": asked, "usage": mark, "data": asked, "results": asked}))
        }
        Some("cut") if body["stream"] == true => {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")?;
            let delta = json!({"choices": [{"index": 0, "delta": {"content": mark}}]});
            write!(stream, "data: {delta}\n\ndata: {error}\n\n")
        }
        _ => answer(&mut stream, &path, &body, mark),
    }
}

fn answer(stream: &mut TcpStream, path: &str, body: &Value, mark: &str) -> std::io::Result<()> {
    let usage = json!({"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5});
    let arguments = json!({"place": mark}).to_string();
    let call =
        json!({"index": 0, "id": "call_1", "type": "function", "function": {"name": "look", "arguments": arguments}});
    let calls = body["tools"].is_array();
    match path {
        "/v1/embeddings" => {
            whole(stream, 200, &json!({"data": [{"index": 0, "embedding": [1.0, 0.0]}], "usage": usage}))
        }
        "/v1/rerank" => whole(stream, 200, &json!({"results": [{"index": 0, "relevance_score": 0.5}], "usage": usage})),
        "/v1/images/generations" => {
            whole(stream, 200, &json!({"data": [{"b64_json": "AAAA", "revised_prompt": mark}]}))
        }
        "/v1/completions" if body["stream"] != true => whole(
            stream,
            200,
            &json!({"choices": [{"index": 0, "text": mark, "finish_reason": "stop"}], "usage": usage}),
        ),
        _ if body["stream"] == true => {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")?;
            let delta = if calls { json!({"tool_calls": [call]}) } else { json!({"content": mark}) };
            let first = match path {
                "/v1/completions" => json!({"choices": [{"index": 0, "text": mark}]}),
                _ => json!({"choices": [{"index": 0, "delta": delta}]}),
            };
            let last = json!({"choices": [{"index": 0, "delta": {}, "text": "", "finish_reason": "stop"}]});
            write!(
                stream,
                "data: {first}\n\ndata: {last}\n\ndata: {}\n\ndata: [DONE]\n\n",
                json!({"choices": [], "usage": usage})
            )
        }
        _ => {
            let message = match calls {
                true => json!({"role": "assistant", "content": null, "tool_calls": [call]}),
                false => json!({"role": "assistant", "content": mark}),
            };
            whole(
                stream,
                200,
                &json!({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": usage}),
            )
        }
    }
}

fn whole(stream: &mut TcpStream, status: u16, body: &Value) -> std::io::Result<()> {
    let body = body.to_string();
    let head = "content-type: application/json\r\nconnection: close\r\ncontent-length: ";
    write!(stream, "HTTP/1.1 {status} So\r\n{head}{}\r\n\r\n{body}", body.len())
}
