//! HTTP by hand, over TCP or a Unix socket, so that a test can also say what no client would.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

/// Longest wait for an answer's next byte.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// An answer.
#[derive(Debug)]
pub struct Reply {
    /// Its status; 0 where the bytes are no answer.
    pub status: u16,
    /// Its headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Its body.
    pub body: Vec<u8>,
}

impl Reply {
    /// A header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {} {}", self.status, self.text()))
    }

    /// `error.code` and `error.param` of OpenAI's envelope, which must be whole.
    pub fn error(&self) -> (String, Option<String>) {
        let error = self.json()["error"].clone();
        let text = |key: &str| error[key].as_str().map(str::to_owned);
        assert!(text("message").is_some_and(|message| !message.is_empty()), "{error}");
        assert!(text("type").is_some() && error.get("param").is_some(), "{error}");
        (text("code").unwrap(), text("param"))
    }

    /// The data of each server-sent event.
    pub fn events(&self) -> Vec<String> {
        let text = self.text();
        let data = text.lines().filter_map(|line| line.strip_prefix("data: ").map(str::to_owned)).collect();
        let other: Vec<&str> = text.lines().filter(|line| !line.is_empty() && !line.starts_with("data: ")).collect();
        assert!(other.iter().all(|line| line.starts_with(':')), "{other:?}");
        data
    }
}

/// Where an application speaks, and as whom.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// `127.0.0.1:PORT`
    pub address: String,
    /// The key; none where empty.
    pub key: String,
}

impl Endpoint {
    /// An endpoint from `OPENAI_BASE_URL` and `OPENAI_API_KEY`.
    pub fn new(base_url: &str, key: &str) -> Self {
        let address = base_url.strip_prefix("http://").unwrap().strip_suffix("/v1").unwrap();
        Self { address: address.to_owned(), key: key.to_owned() }
    }

    /// The same endpoint with another key.
    pub fn with_key(&self, key: &str) -> Self {
        Self { key: key.to_owned(), ..self.clone() }
    }

    /// Sends a request with headers and a body, and reads the whole answer.
    pub fn call(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        let mut bytes = self.head(method, path, headers);
        bytes.extend(format!("content-length: {}\r\n\r\n", body.len()).bytes());
        bytes.extend(body);
        self.raw(&bytes)
    }

    /// The same from another loopback address, as another client would.
    pub fn call_from(&self, from: IpAddr, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        let mut bytes = self.head(method, path, headers);
        bytes.extend(format!("content-length: {}\r\n\r\n", body.len()).bytes());
        bytes.extend(body);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let connected = runtime.block_on(async {
            let socket = tokio::net::TcpSocket::new_v4()?;
            socket.bind(SocketAddr::new(from, 0))?;
            socket.connect(self.address.parse().unwrap()).await?.into_std()
        });
        let stream = connected.unwrap();
        stream.set_nonblocking(false).unwrap();
        stream.set_read_timeout(Some(READ_TIMEOUT)).unwrap();
        exchange(stream, &bytes)
    }

    /// A request's head without its end, so that a test can add what it likes.
    pub fn head(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Vec<u8> {
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n", self.address);
        if !self.key.is_empty() {
            head.push_str(&format!("authorization: Bearer {}\r\n", self.key));
        }
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.into_bytes()
    }

    /// Reads a path.
    pub fn get(&self, path: &str) -> Reply {
        self.call("GET", path, &[], b"")
    }

    /// Sends JSON.
    pub fn post(&self, path: &str, body: &Value) -> Reply {
        self.call("POST", path, &[("content-type", "application/json")], body.to_string().as_bytes())
    }

    /// Sends bytes as they are, and reads the whole answer.
    pub fn raw(&self, bytes: &[u8]) -> Reply {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(READ_TIMEOUT)).unwrap();
        exchange(stream, bytes)
    }
}

/// Reads a path over a node's own socket.
pub fn socket_call(socket: &Path, method: &str, path: &str) -> Reply {
    socket_send(socket, method, path, "")
}

/// Sends a body over a node's own socket, by any method.
pub fn socket_send(socket: &Path, method: &str, path: &str, body: &str) -> Reply {
    let stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(READ_TIMEOUT)).unwrap();
    let head = format!("{method} {path} HTTP/1.1\r\nhost: node\r\nconnection: close\r\n");
    let length = body.len();
    exchange(
        stream,
        format!("{head}content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}").as_bytes(),
    )
}

/// Sends JSON over a node's own socket.
pub fn socket_post(socket: &Path, path: &str, body: &Value) -> Reply {
    socket_send(socket, "POST", path, &body.to_string())
}

fn exchange(mut stream: impl Read + Write, bytes: &[u8]) -> Reply {
    // A server may answer and close before it has read everything.
    drop(stream.write_all(bytes));
    let mut answer = Vec::new();
    let mut chunk = [0; 8192];
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => break,
            Ok(count) => answer.extend(&chunk[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => break,
            Err(error) => panic!("no end of the answer: {error}; so far {:?}", String::from_utf8_lossy(&answer)),
        }
    }
    parse(&answer)
}

fn parse(answer: &[u8]) -> Reply {
    let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Reply { status: 0, headers: Vec::new(), body: answer.to_vec() };
    };
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).unwrap_or(0);
    let header = |line: &str| line.split_once(": ").map(|(name, value)| (name.to_lowercase(), value.to_owned()));
    let headers: Vec<(String, String)> = lines.filter_map(header).collect();
    let body = &answer[end + 4..];
    let chunked = headers.iter().any(|(name, value)| name == "transfer-encoding" && value == "chunked");
    Reply { status, headers, body: if chunked { unchunk(body) } else { body.to_vec() } }
}

/// The contents of a chunked body, as far as they came.
fn unchunk(mut body: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    while let Some(end) = body.windows(2).position(|two| two == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&body[..end]).unwrap(), 16).unwrap();
        let from = end + 2;
        let to = (from + size).min(body.len());
        whole.extend(&body[from..to]);
        body = body.get(to + 2..).unwrap_or_default();
    }
    whole
}
