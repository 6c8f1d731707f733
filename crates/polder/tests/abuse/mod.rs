//! A node in front of the tests' own engine, and what every test of this kind does with a connection.

mod drain;
pub mod engine;
mod flood;
mod framing;
mod leave;
mod time;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::support::http::Endpoint;
use super::support::node::Running;
use super::support::{Folder, polder, run};
use engine::Engine;

pub const CHAT: &str = "/v1/chat/completions";
pub const KEY: &str = "polder-test-key-of-the-abuse-tests";

/// A question whose only word tells the engine what to do.
pub fn chat(word: &str, stream: bool) -> Value {
    json!({"model": "mock", "messages": [{"role": "user", "content": word}], "stream": stream})
}

/// A node and its engine.
pub struct Front {
    pub running: Running,
    pub endpoint: Endpoint,
    pub engine: Engine,
    pub folder: Folder,
}

impl Front {
    /// Starts one with these lines in `[serve]`.
    pub fn start(serve: &str) -> Self {
        let (engine, folder) = (Engine::start(), Folder::new());
        let config = set_up(&folder, "front", &engine, serve);
        let running = start(&folder, &config);
        let endpoint = Endpoint::new(running.printed["endpoint"].as_str().unwrap(), KEY);
        Self { running, endpoint, engine, folder }
    }

    /// A connection.
    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.endpoint.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    /// A request for the engine with its head and body.
    pub fn request(&self, word: &str, stream: bool) -> Vec<u8> {
        let body = chat(word, stream).to_string();
        let mut bytes = self.endpoint.head("POST", CHAT, &[]);
        bytes.extend(format!("content-length: {}\r\n\r\n{body}", body.len()).bytes());
        bytes
    }

    /// The same without `connection: close`.
    pub fn kept(&self, word: &str, stream: bool) -> Vec<u8> {
        String::from_utf8(self.request(word, stream)).unwrap().replace("connection: close\r\n", "").into_bytes()
    }

    /// That the node is well: a good request is answered.
    pub fn is_well(&self) {
        let reply = self.endpoint.post(CHAT, &chat("quick", false));
        assert_eq!(reply.status, 200, "{}", reply.text());
    }
}

/// Makes a node's files, by a first start, and gives it a `[serve]` table and many places.
pub fn set_up(folder: &Folder, name: &str, engine: &Engine, serve: &str) -> PathBuf {
    let dir = folder.path().join(name);
    std::fs::create_dir_all(&dir).unwrap();
    let mut key = std::fs::File::options().create_new(true).write(true).mode(0o600).open(dir.join("key")).unwrap();
    key.write_all(KEY.as_bytes()).unwrap();
    let url = format!("http://{}/v1", engine.address);
    let listen = free_address();
    Running::start(folder.path(), &["up", "--upstream", &url, "--listen", &listen, "--state", name]).end();
    let config = dir.join("node.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    assert!(text.contains("places = 64\n"), "{text}");
    let text = text.replace("places = 64\n", "places = 4096\n");
    std::fs::write(&config, format!("{text}\n[serve]\n{serve}\n")).unwrap();
    config
}

pub fn start(folder: &Folder, config: &std::path::Path) -> Running {
    Running::start(folder.path(), &["up", "--config", config.to_str().unwrap()])
}

/// A loopback address that was free a moment ago.
pub fn free_address() -> String {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

/// Everything that comes until the other side closes, and how long that took.
pub fn to_the_end(stream: &mut TcpStream) -> (String, Duration) {
    let (begun, mut bytes) = (Instant::now(), Vec::new());
    let mut piece = [0; 4096];
    loop {
        match stream.read(&mut piece) {
            Ok(0) => break,
            Ok(count) => bytes.extend(&piece[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => break,
            Err(error) => panic!("{error} after {:?}", String::from_utf8_lossy(&bytes)),
        }
    }
    (String::from_utf8_lossy(&bytes).into_owned(), begun.elapsed())
}

/// Reads until a text has come; what came.
pub fn read_until(stream: &mut TcpStream, text: &str) -> String {
    let mut bytes = Vec::new();
    let mut piece = [0; 4096];
    while !String::from_utf8_lossy(&bytes).contains(text) {
        let count = stream.read(&mut piece).unwrap();
        assert!(count > 0, "ended before `{text}`: {:?}", String::from_utf8_lossy(&bytes));
        bytes.extend(&piece[..count]);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn limits_that_limit_nothing_are_refused() {
    let (engine, folder) = (Engine::start(), Folder::new());
    for (line, says) in [
        ("header_s = 0", "`header_s` is 0: choose 1 to 86400 seconds"),
        ("workers = 0", "`workers` must be at least 1"),
        ("header_bytes_max = 10000000", "`header_bytes_max` is 10000000: choose"),
        ("colour = 1", "unknown field `colour`"),
    ] {
        let name = line.split(' ').next().unwrap();
        let config = set_up(&folder, name, &engine, line);
        let ended = run(polder(folder.path()).args(["up", "--config"]).arg(&config));
        assert_eq!(ended.code, 1, "{ended:?}");
        assert!(ended.stderr.contains(says), "{ended:?}");
    }
}

#[test]
fn the_doctor_knows_shared_ports() {
    let (engine, folder) = (Engine::start(), Folder::new());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for (name, line, well) in [("shared", "share_port = true", true), ("alone", "share_port = false", false)] {
        let config = set_up(&folder, name, &engine, line);
        let text = std::fs::read_to_string(&config).unwrap();
        let address =
            text.lines().find_map(|line| line.strip_prefix("listen = ")).unwrap().trim_matches('"').to_owned();
        // Another node of this user listens there, and shares.
        let _guard = runtime.enter();
        let _other = polder_node::serve::bind(address.parse().unwrap(), "listen", true).unwrap();
        let told = run(polder(folder.path()).args(["doctor", "-o", "json", "--config"]).arg(&config)).json();
        let finding = told["findings"].as_array().unwrap().iter().find(|one| one["what"] == "listen").cloned();
        assert_eq!(finding.unwrap()["ok"], well, "{told}");
    }
}
