//! A node in front of an engine, with a collector, operators' tokens, and a log of everything that it says.

use std::path::PathBuf;

use sha2::Digest as _;

use super::Folder;
use super::collector::Collector;
use super::http::{Endpoint, Reply};
use super::node::Running;

/// The bearers' tokens, by role.
pub const TOKENS: [(&str, &str); 3] =
    [("owner", "token-of-owner"), ("operator", "token-of-operator"), ("auditor", "token-of-auditor")];

/// The header that the collector asks for.
pub const COLLECTOR_KEY: &str = "key-of-the-collector";

/// A running node.
pub struct Watched {
    /// The node.
    pub running: Running,
    /// Where applications speak.
    pub endpoint: Endpoint,
    /// The collector that it sends to.
    pub collector: Collector,
    /// Its folder, and its state's in it.
    pub folder: Folder,
}

impl Watched {
    /// Starts it in front of an engine, keeping spans of this share of requests that come without a trace.
    pub fn start(engine: &str, sample_ratio: f64, arguments: &[&str]) -> Self {
        let folder = Folder::new();
        let collector = Collector::start();
        let listen = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let first =
            Running::start(folder.path(), &["up", "--upstream", engine, "--listen", &listen, "--state", "front"]);
        let log = first.log.clone();
        first.end();
        // What the first run said is not the watched one's.
        std::fs::remove_file(log).unwrap();
        let config = folder.path().join("front/node.toml");
        std::fs::write(folder.path().join("front/headers"), format!("# for the collector\nx-key: {COLLECTOR_KEY}\n"))
            .unwrap();
        let mut node: toml::Table = toml::from_str(&std::fs::read_to_string(&config).unwrap()).unwrap();
        let tokens = TOKENS.map(|(role, token)| {
            format!("{{role = \"{role}\", sha256 = \"{}\"}}", hex::encode(sha2::Sha256::digest(token.as_bytes())))
        });
        let more = format!(
            "tokens = [{}]\n[telemetry]\nendpoint = \"{}\"\nsample_ratio = {sample_ratio:.1}\nheaders_file = \"headers\"\nmetrics_every_s = 1\n",
            tokens.join(", "),
            collector.url,
        );
        node.extend(toml::from_str::<toml::Table>(&more).unwrap());
        std::fs::write(&config, toml::to_string(&node).unwrap()).unwrap();
        let up = [&["up", "--config", config.to_str().unwrap()], arguments].concat();
        let running = Running::start_saying(folder.path(), &up, "trace");
        let key = std::fs::read_to_string(folder.path().join("front/key")).unwrap();
        let endpoint = Endpoint { address: listen, key: key.trim().to_owned() };
        Self { running, endpoint, collector, folder }
    }

    /// The node's own socket.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("front/state/api.sock")
    }

    /// `/metrics` as somebody sees it.
    pub fn metrics(&self, token: &str) -> Reply {
        self.endpoint.with_key(token).get("/metrics")
    }

    /// What the node said until now.
    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.running.log).unwrap()
    }
}
