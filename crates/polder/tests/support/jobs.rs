//! Nodes that run jobs: their files written out, so that a test sees what an operator writes.

use std::net::TcpListener;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::node::Running;
use super::{Ended, polder, run};

const OPEN: &str = "permit (principal, action, resource);\n";

/// A node in a folder of its own under a test's.
pub struct JobNode {
    /// Its folder.
    pub folder: PathBuf,
    /// The test's own folder, which no node owns.
    around: PathBuf,
    listen: u16,
    peer: u16,
}

/// A port that is free now.
fn port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

impl JobNode {
    /// Its policies, which permit everything, and its ports.
    pub fn new(around: &Path, name: &str) -> Self {
        let folder = around.join(name);
        std::fs::create_dir_all(&folder).unwrap();
        for file in ["baseline.cedar", "policy.cedar", "terms.cedar"] {
            std::fs::write(folder.join(file), OPEN).unwrap();
        }
        for file in ["passport.json", "trust.json"] {
            std::fs::write(folder.join(file), "[]\n").unwrap();
        }
        Self { folder, around: around.to_owned(), listen: port(), peer: port() }
    }

    /// Writes its configuration: what is common to all, and these tables.
    pub fn configure(&self, name: &str, home: Option<&str>, factory: Option<&str>) {
        let (listen, peer) = (self.listen, self.peer);
        let members = if self.around.join("members.json").exists() { "members = \"../members.json\"\n" } else { "" };
        let mut text = format!(
            "node = \"{name}\"\nstate = \"state\"\nlisten = \"127.0.0.1:{listen}\"\npeer_listen = \"127.0.0.1:{peer}\"\n{members}"
        );
        if let Some(jobs) = home {
            text += &format!(
                "\n[home]\ntenant = \"lab\"\nbaseline = \"baseline.cedar\"\npolicy = \"policy.cedar\"\ntrust = \"trust.json\"\n\
                 weights = {{ price = 1, load = 1, latency = 1 }}\n\n[home.jobs]\n{jobs}\n\n\
                 [[home.projects]]\nid = \"runs\"\nclass = \"public\"\npurposes = [\"research\"]\n"
            );
        }
        if let Some(jobs) = factory {
            text += &format!(
                "\n[factory]\nterms = \"terms.cedar\"\npassport = \"passport.json\"\nprice_microeur_per_mtok = 0\nplaces = 1\n\n\
                 [factory.jobs]\n{jobs}\n"
            );
        }
        std::fs::write(self.config(), text).unwrap();
    }

    /// Its configuration.
    pub fn config(&self) -> PathBuf {
        self.folder.join("node.toml")
    }

    /// Where peers reach it.
    pub fn peer_port(&self) -> u16 {
        self.peer
    }

    /// Its own socket.
    pub fn socket(&self) -> PathBuf {
        self.folder.join("state/api.sock")
    }

    /// Starts it and waits until it is ready.
    pub fn start(&self) -> Running {
        Running::start(&self.folder, &["up", "--config", self.config().to_str().unwrap()])
    }

    /// Runs a command that speaks to it.
    pub fn polder(&self, arguments: &[&str]) -> Ended {
        let (before, after) = match arguments.iter().position(|word| *word == "--") {
            Some(place) => arguments.split_at(place),
            None => (arguments, [].as_slice()),
        };
        run(polder(&self.around).args(before).arg("--socket").arg(self.socket()).args(after))
    }

    /// Submits one command, which must be taken; its job's id.
    pub fn submit(&self, options: &[&str], command: &[&str]) -> String {
        let words: Vec<&str> =
            ["run"].into_iter().chain(options.iter().copied()).chain(["--"]).chain(command.iter().copied()).collect();
        let ended = self.polder(&words);
        assert_eq!(ended.code, 0, "{ended:?}");
        ended.stdout.lines().next().unwrap().to_owned()
    }

    /// A job as the node shows it.
    pub fn job(&self, id: &str) -> Value {
        let ended = self.polder(&["jobs", id, "-o", "json"]);
        assert_eq!(ended.code, 0, "{ended:?}");
        ended.json()
    }

    /// Waits until a job stands so.
    pub fn until(&self, id: &str, state: &str) -> Value {
        super::until(&format!("`{id}` {state}"), || {
            let ended = self.polder(&["jobs", id, "-o", "json"]);
            if ended.code != 0 {
                return None;
            }
            let job = ended.json();
            (job["state"] == state).then_some(job)
        })
    }

    /// What a job said on its standard output.
    pub fn said(&self, id: &str) -> String {
        self.polder(&["logs", id, "--part", "out"]).stdout
    }
}

/// Writes the members of these nodes, so that each knows the others' keys; a name, its node, and whether it is a factory.
pub fn introduce(around: &Path, nodes: &[(&str, &JobNode, bool)]) {
    introduce_at(
        around,
        &nodes.iter().map(|(name, node, factory)| (*name, *node, *factory, node.peer)).collect::<Vec<_>>(),
    );
}

/// The same, with the port at which each is reached: a proxy's, for instance.
pub fn introduce_at(around: &Path, nodes: &[(&str, &JobNode, bool, u16)]) {
    let member = |(name, node, factory, port): &(&str, &JobNode, bool, u16)| {
        let id = polder_core::ids::NodeId::parse(name).unwrap();
        let keys = polder_node::keys::NodeKeys::open_or_create(&node.folder.join("state/keys"), &id).unwrap();
        serde_json::json!({"card": keys.card, "address": format!("127.0.0.1:{port}"), "factory": factory})
    };
    let members: Vec<Value> = nodes.iter().map(member).collect();
    std::fs::write(around.join("members.json"), serde_json::to_string(&members).unwrap()).unwrap();
}
