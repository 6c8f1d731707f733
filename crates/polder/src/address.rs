//! Which node a command speaks to: one named by its URL, or those of the demo that is running.
//!
//! The demo writes what it started into `demo.json` in its folder and points at that folder; `--dir` names another.

use std::path::{Path, PathBuf};

use polder_core::ids::{ModelId, NodeId, ProjectId, TenantId};
use serde::{Deserialize, Serialize};

use crate::client::Client;
use crate::failure::{Exit, Failure, of_file};

/// What the demo started: `demo.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DemoRecord {
    /// Where everything of this demo is.
    pub dir: PathBuf,
    /// The process that started it and ends with it.
    pub pid: u32,
    /// The nodes, factories first.
    pub nodes: Vec<NodeRecord>,
    /// The tenants.
    pub tenants: Vec<TenantRecord>,
}

/// A process of the demo.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NodeRecord {
    /// The node.
    pub node: NodeId,
    /// Where it says it stands; empty for a home.
    pub place: String,
    /// Whether it is a factory.
    pub factory: bool,
    /// Its process.
    pub pid: u32,
    /// Its own socket.
    pub socket: PathBuf,
}

/// A tenant of the demo.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TenantRecord {
    /// The tenant.
    pub tenant: TenantId,
    /// Its home.
    pub home: NodeId,
    /// `OPENAI_BASE_URL`
    pub endpoint: String,
    /// `OPENAI_API_KEY`, of the first project.
    pub key: String,
    /// What the demo asks for it.
    pub question: String,
    /// Its projects.
    pub projects: Vec<ProjectRecord>,
}

/// A project of a tenant of the demo.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ProjectRecord {
    /// The project.
    pub project: ProjectId,
    /// Its key.
    pub key: String,
    /// The model that it uses.
    pub model: ModelId,
}

/// The folder that holds demos and the pointer to the latest: `$XDG_STATE_HOME/polder`, or `~/.local/state/polder`.
pub fn demo_base() -> Result<PathBuf, Failure> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = set("XDG_STATE_HOME").or_else(|| Some(set("HOME")?.join(".local/state")));
    let base =
        base.ok_or_else(|| Failure::new("neither XDG_STATE_HOME nor HOME is set").hint("name a folder with `--dir`"))?;
    Ok(base.join("polder"))
}

impl DemoRecord {
    /// The record of the demo in a folder, or of the latest one.
    pub fn find(dir: Option<&Path>) -> Result<Self, Failure> {
        let dir = match dir {
            Some(dir) => dir.to_owned(),
            None => demo_base()?.join("latest"),
        };
        let path = dir.join("demo.json");
        let text = std::fs::read_to_string(&path).map_err(|error| {
            Failure::new(format!("no demo is known: `{}`: {error}", path.display()))
                .hint("start one with `polder demo`, or name its folder with `--dir`")
        })?;
        serde_json::from_str(&text).map_err(|e| Failure::new(format!("`{}`: {e}", path.display())))
    }

    /// Writes the record, and points at its folder where that is wanted.
    pub fn write(&self, latest: bool) -> Result<(), Failure> {
        let path = self.dir.join("demo.json");
        let text = serde_json::to_string_pretty(self).map_err(|e| Failure::new(e.to_string()))?;
        // It holds keys: for its owner only.
        polder_node::keys::write_private(&path, text.as_bytes()).map_err(of_file(&path))?;
        if latest {
            let base = demo_base()?;
            std::fs::create_dir_all(&base).map_err(of_file(&base))?;
            let pointer = base.join("latest");
            drop(std::fs::remove_file(&pointer));
            std::os::unix::fs::symlink(&self.dir, &pointer).map_err(of_file(&pointer))?;
        }
        Ok(())
    }

    /// A tenant by its name, or the first.
    pub fn tenant(&self, name: Option<&str>) -> Result<&TenantRecord, Failure> {
        let names = || self.tenants.iter().map(|one| one.tenant.as_str()).collect::<Vec<_>>().join(", ");
        let found = match name {
            Some(name) => self.tenants.iter().find(|one| one.tenant.as_str() == name),
            None => self.tenants.first(),
        };
        found.ok_or_else(|| {
            Failure::new(format!("no tenant `{}`", name.unwrap_or("at all")))
                .hint(format!("tenants: {}", names()))
                .exit(Exit::Usage)
        })
    }

    /// A node by its name.
    pub fn node(&self, name: &str) -> Result<&NodeRecord, Failure> {
        let names = || self.nodes.iter().map(|one| one.node.as_str()).collect::<Vec<_>>().join(", ");
        let found = self.nodes.iter().find(|one| one.node.as_str() == name);
        found.ok_or_else(|| {
            Failure::new(format!("no node `{name}` in this demo")).hint(format!("nodes: {}", names())).exit(Exit::Usage)
        })
    }

    /// Fails where the demo has ended, and says what is left of it.
    pub fn ensure_runs(&self) -> Result<(), Failure> {
        if !self.runs() {
            return Err(Failure::new(format!("this demo has ended: `{}`", self.dir.display()))
                .hint("start one with `polder demo`; receipts of the old one can still be verified"));
        }
        Ok(())
    }

    /// Whether the demo's own process is still there, and still a demo: process ids come round again.
    fn runs(&self) -> bool {
        let command = std::fs::read(format!("/proc/{}/cmdline", self.pid)).unwrap_or_default();
        command.split(|byte| *byte == 0).any(|word| word == b"demo")
    }

    /// A client on a node's own socket.
    pub fn client(&self, name: &str) -> Result<Client, Failure> {
        self.ensure_runs()?;
        Client::over_socket(&self.node(name)?.socket)
    }
}

/// Options that say which node is meant.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Target {
    /// The demo's folder; the latest demo where absent.
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// A node's URL, such as http://127.0.0.1:8080, or the name of a node of the demo.
    #[arg(long, value_name = "URL|NAME", env = "POLDER_NODE")]
    pub node: Option<String>,
    /// The token or key for `--node`.
    #[arg(long, value_name = "TOKEN", env = "POLDER_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// A node's own socket, instead of the demo.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["dir", "node"])]
    pub socket: Option<PathBuf>,
}

impl Target {
    /// The one node that `--node` or `--socket` names.
    pub fn single(&self) -> Result<Option<Client>, Failure> {
        match (&self.node, &self.socket) {
            (Some(name), _) if !name.contains("://") => self.demo()?.client(name).map(Some),
            (Some(url), _) => Client::to(url, self.token.as_deref()).map(Some),
            (None, Some(socket)) => Client::over_socket(socket).map(Some),
            (None, None) => Ok(None),
        }
    }

    /// The node that `--node` or `--socket` names, or else a tenant's home in the demo; the first tenant's where none is named.
    pub fn home(&self, tenant: Option<&str>) -> Result<Client, Failure> {
        if let Some(client) = self.single()? {
            return Ok(client);
        }
        let record = self.demo()?;
        record.client(record.tenant(tenant)?.home.as_str())
    }

    /// The demo's record.
    pub fn demo(&self) -> Result<DemoRecord, Failure> {
        DemoRecord::find(self.dir.as_deref())
    }
}
