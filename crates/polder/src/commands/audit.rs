//! `polder audit`: what auditors and tenants run: follow logs, pair what homes placed with what factories ran, take a copy along; whose keys
//! signed when.
//!
//! What is a finding is decided by `polder_core::monitor`; here are fetching, keeping and printing.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Subcommand;
use polder_core::keys::history::KeyHistory;
use polder_core::keys::{NodeCard, Role, Signed};
use polder_core::note::VerifierKey;
use polder_core::tlog_policy::Policy;

use super::verify::read_members;
use crate::Output;
use crate::address::{DemoRecord, Target};
use crate::client::Client;
use crate::failure::{Failure, of_file};

mod export;
mod keys;
mod monitor;
mod pass;
mod reach;
mod reconcile;
mod state;

pub(super) use export::gather;
pub(super) use reach::Source;

/// Follow logs, check everything that they say, and pair what homes placed with what factories ran.
///
/// Example: polder audit monitor --once
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    Monitor(monitor::Arguments),
    Reconcile(reconcile::Arguments),
    Export(export::Arguments),
    Keys(keys::Arguments),
}

/// Which logs are read, and how patiently.
#[derive(Debug, clap::Args)]
pub(super) struct Logs {
    /// A node's URL, its socket, a folder with its tiles, or a file of `polder audit export`; the demo's nodes where absent.
    #[arg(value_name = "LOG")]
    logs: Vec<String>,
    /// The demo's folder; the latest demo where absent.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// The token for URLs, of an owner or auditor: with it statements are read, without it only what is public.
    #[arg(long, value_name = "TOKEN", env = "POLDER_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// How long one answer may take, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600))]
    timeout: u64,
}

/// Whose signatures count.
#[derive(Debug, clap::Args)]
struct Keys {
    /// The file of the federation's members, with the keys of their logs.
    #[arg(long, value_name = "FILE")]
    members: Option<PathBuf>,
    /// The verifier key of a log.
    #[arg(long, value_name = "NAME+HASH+KEY")]
    vkey: Vec<String>,
    /// A C2SP tlog-policy: keys of logs, and how many of which witnesses must have cosigned.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
}

/// Runs the task.
pub async fn run(arguments: Arguments, output: Output) -> Result<ExitCode, Failure> {
    match arguments.task {
        Task::Monitor(arguments) => monitor::run(arguments, output).await,
        Task::Reconcile(arguments) => reconcile::run(arguments, output).await,
        Task::Export(arguments) => export::run(arguments, output).await,
        Task::Keys(arguments) => keys::run(&arguments, output).await,
    }
}

/// Now, in Unix milliseconds.
pub(super) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

impl Logs {
    fn patience(&self) -> Duration {
        Duration::from_secs(self.timeout)
    }

    /// The sources that were named, or the demo's nodes.
    pub(super) fn sources(&self) -> Result<Vec<Source>, Failure> {
        if !self.logs.is_empty() {
            return self.logs.iter().map(|log| Source::open(log, self.token.as_deref(), self.patience())).collect();
        }
        let record = DemoRecord::find(self.dir.as_deref())?;
        record.ensure_runs()?;
        let source = |node: &crate::address::NodeRecord| {
            Ok(Source::node(node.node.to_string(), Client::over_socket(&node.socket)?, true, self.patience()))
        };
        record.nodes.iter().map(source).collect()
    }

    /// The members file of the demo, where its nodes are the ones that are read.
    fn members(&self) -> Option<PathBuf> {
        let record =
            Target { dir: self.dir.clone(), ..Target::default() }.demo().ok().filter(|_| self.logs.is_empty())?;
        Some(record.dir.join("members.json"))
    }
}

/// The keys of logs, and the policy over witnesses.
struct Anchors {
    keys: Vec<VerifierKey>,
    /// The members, whose identities vouch for their changes of keys.
    cards: Vec<NodeCard>,
    policy: Option<Policy>,
}

impl Keys {
    fn read(&self, of_demo: Option<&Path>) -> Result<Anchors, Failure> {
        let (mut keys, mut cards) = (Vec::new(), Vec::new());
        if let Some(path) = self.members.as_deref().or(of_demo) {
            cards = read_members(path)?;
            cards.retain(|card: &NodeCard| card.check().is_ok());
            let key = |card: &NodeCard| Some(VerifierKey::of_log(&card.node, card.key(Role::Log).ok()?));
            keys.extend(cards.iter().filter_map(key));
        }
        for text in &self.vkey {
            let wrong = |e: polder_core::note::NoteError| Failure::new(format!("`{text}` is no verifier key: {e}"));
            keys.push(VerifierKey::parse(text).map_err(wrong)?);
        }
        let policy = match self.policy.as_deref() {
            Some(path) => {
                let text = std::fs::read(path).map_err(of_file(path))?;
                Some(Policy::parse(&text).map_err(|e| Failure::new(format!("`{}`: {e}", path.display())))?)
            }
            None => None,
        };
        keys.extend(policy.iter().flat_map(|policy| &policy.logs).map(|log| log.key.clone()));
        Ok(Anchors { keys, cards, policy })
    }
}

impl Anchors {
    /// The keys of a log. A log that changes its key may have several.
    fn of(&self, origin: &str) -> Vec<&VerifierKey> {
        self.keys.iter().filter(|key| key.name() == origin).collect()
    }

    /// Takes in the history of a node's keys, where the identity of the member of that name has signed it: a key that came counts, and
    /// one that was revoked does not, whoever named it.
    fn learn(&mut self, history: &Signed<KeyHistory>) {
        let node = &history.value.node;
        let own = |card: &&NodeCard| card.node == *node && history.check(node, &card.identity).is_ok();
        if !self.cards.iter().any(|card| own(&card)) {
            return;
        }
        let origin = polder_core::note::origin(node);
        let revoked = |key: &VerifierKey| {
            let life = history.value.life(Role::Log, key.public_bytes());
            key.name() == origin && life.is_some_and(|life| life.revoked.is_some())
        };
        self.keys.retain(|key| !revoked(key));
        for life in history.value.trusted(Role::Log) {
            let Ok(key) = ed25519_dalek::VerifyingKey::from_bytes(&life.key) else { continue };
            let key = VerifierKey::of_log(node, key);
            if !self.keys.contains(&key) {
                self.keys.push(key);
            }
        }
    }
}
