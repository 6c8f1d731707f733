//! `polder node-key`: a node's own keys: their lives, a new key for the log, and what is not to be trusted any more.
//!
//! Keys of applications are absent: `polder key` has those.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::key::word;
use crate::Output;
use crate::address::Target;
use crate::client::Client;
use crate::failure::{Exit, Failure, of_file};
use crate::render;

/// Show a node's own keys, give its log a new one, and revoke one that is not to be trusted.
///
/// Example: polder node-key rotate --use log --overlap-h 24 --socket state/api.sock
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Arguments {
    #[command(subcommand)]
    task: Task,
}

/// The key that is changed. Those of transport, witness and authority are pinned by the members' file, and change with it.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Use {
    /// Signs the log's checkpoints.
    Log,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// List the keys: since when each is used, until when, and whether it was revoked.
    ///
    /// Example: polder node-key list --socket state/api.sock
    #[command(verbatim_doc_comment)]
    List {
        #[command(flatten)]
        target: Target,
    },
    /// Give the log a new key. Both sign for a while, so that nobody who knows only one of them misses anything.
    ///
    /// Example: polder node-key rotate --use log --overlap-h 24 --socket state/api.sock
    #[command(verbatim_doc_comment)]
    Rotate {
        /// Which key.
        #[arg(long = "use", value_enum)]
        role: Use,
        /// How long both sign, in hours.
        #[arg(long, value_name = "HOURS", default_value_t = 24, conflicts_with = "overlap_s")]
        overlap_h: u64,
        /// The same in seconds.
        #[arg(long, value_name = "SECONDS")]
        overlap_s: Option<u64>,
        /// The new key is the token's of this label; a file where absent.
        #[arg(long)]
        label: Option<String>,
        #[command(flatten)]
        target: Target,
    },
    /// Take the log's key out of use at once, and say since when it is not to be trusted.
    ///
    /// What it signed since then counts for nobody, unless a witness had cosigned it before. A key before it that
    /// still signed at that time is revoked too.
    ///
    /// Example: polder node-key revoke --use log --since-ms 1795392000000 --socket state/api.sock
    #[command(verbatim_doc_comment)]
    Revoke {
        /// Which key.
        #[arg(long = "use", value_enum)]
        role: Use,
        /// Since when it is not to be trusted, in Unix milliseconds; now where absent.
        #[arg(long, value_name = "MS")]
        since_ms: Option<u64>,
        /// The new key is the token's of this label; a file where absent.
        #[arg(long)]
        label: Option<String>,
        #[command(flatten)]
        target: Target,
    },
    /// Print the history of a node's keys, signed by its identity, for `polder verify --keys`.
    ///
    /// Example: polder node-key export --socket state/api.sock --out bank-home.keys.json
    #[command(verbatim_doc_comment)]
    Export {
        /// The file to write; standard output where absent.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        #[command(flatten)]
        target: Target,
    },
}

/// Runs the task.
pub async fn run(arguments: Arguments, output: Output) -> Result<ExitCode, Failure> {
    match arguments.task {
        Task::List { target } => list(&node(&target)?.get("/api/v1/node-keys").await?.ok()?, output)?,
        Task::Rotate { role: Use::Log, overlap_h, overlap_s, label, target } => {
            let overlap_s = overlap_s.unwrap_or(overlap_h.saturating_mul(3_600));
            let body = json!({"use": "log", "overlap_s": overlap_s, "label": label});
            let made = node(&target)?.post("/api/v1/node-keys/rotate", &body, &[]).await?.ok()?;
            said(&made, &format!("both keys sign for {overlap_s} s"), output)?;
        }
        Task::Revoke { role: Use::Log, since_ms, label, target } => {
            let since_ms = since_ms.unwrap_or_else(polder_node::clock::now_ms);
            let body = json!({"use": "log", "since_ms": since_ms, "label": label});
            let made = node(&target)?.post("/api/v1/node-keys/revoke", &body, &[]).await?.ok()?;
            let since = render::instant(&since_ms.into());
            said(&made, &format!("the old key is not to be trusted since {since} UTC"), output)?;
        }
        Task::Export { out, target } => {
            let history = node(&target)?.get("/log/keys").await?.ok()?;
            match out {
                Some(path) => std::fs::write(&path, format!("{history:#}\n")).map_err(of_file(&path))?,
                None => render::json(&history)?,
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn node(target: &Target) -> Result<Client, Failure> {
    let failure = || Failure::new("a node's own keys are changed at one node").exit(Exit::Usage);
    target.single()?.ok_or_else(|| {
        failure().hint("name it with --node or --socket; a node of the demo by its name, such as `--node bank-home`")
    })
}

fn said(made: &Value, sentence: &str, output: Output) -> Result<(), Failure> {
    match output {
        Output::Json => render::json(made),
        Output::Table => render::line(&format!(
            "the log's key is now {}; {sentence}; leaf {} says so",
            word(made, "key"),
            made["leaf"]
        )),
    }
}

fn list(told: &Value, output: Output) -> Result<(), Failure> {
    if output == Output::Json {
        return render::json(told);
    }
    let rows: Vec<_> = told["keys"].as_array().into_iter().flatten().map(row).collect();
    render::table(&["USE", "KEY", "FROM (UTC)", "STATE"], &rows)
}

/// A key's life as a row: use, key, since when, and how it stands.
pub fn row(life: &Value) -> Vec<String> {
    let state = match (&life["revoked"], &life["until_ms"]) {
        (Value::Null, Value::Null) => "in use".to_owned(),
        (Value::Null, until) => format!("until {}", render::instant(until)),
        (revoked, _) => format!(
            "revoked {}, not to be trusted since {}",
            render::instant(&revoked["at_ms"]),
            render::instant(&revoked["since_ms"])
        ),
    };
    vec![word(life, "use"), word(life, "key"), render::instant(&life["from_ms"]), state]
}
