//! `polder log`: a look at a node's whole log, and at what was found wrong with any log.
//!
//! Reading tiles and proofs is absent: those are files under `/log/`, for anybody's tools.

use std::process::ExitCode;

use clap::Subcommand;
use serde_json::{Value, json};

use crate::Output;
use crate::address::Target;
use crate::client::Client;
use crate::failure::{Exit, Failure};
use crate::render;

mod changes;

pub use changes::says;

/// Look at a node's log, and at what was found wrong with any log.
///
/// Example: polder log check
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Look at every leaf and every tile of a node's log: whether each is what was signed.
    ///
    /// It reads the whole log, which takes a second or two for 100,000 leaves. Exits with 5 where something is wrong.
    ///
    /// Example: polder log check --socket state/api.sock
    #[command(verbatim_doc_comment)]
    Check {
        #[command(flatten)]
        target: Target,
    },
    /// Have a node state now what it wrote since the last day's statement, and that nothing else was.
    ///
    /// Every node does so when a UTC day is over; this is for the part of a day before a node is taken away for good.
    /// `polder receipt export last --part day` exports the statement.
    ///
    /// Example: polder log day --socket state/api.sock
    #[command(verbatim_doc_comment)]
    Day {
        #[command(flatten)]
        target: Target,
    },
    /// Show what a node goes by and since when: policies, facts, terms and texts that it took in, each with its leaf.
    ///
    /// `polder receipt export LEAF --part import --format tlog-proof --out FILE` writes one with its proof.
    ///
    /// Example: polder log changes --kind import
    #[command(verbatim_doc_comment)]
    Changes(changes::Arguments),
    /// Show what was found wrong with any log: forks with their evidence, and what a witness saw.
    ///
    /// Exits with 5 where there is an alarm.
    ///
    /// Example: polder log alarms -o json
    #[command(verbatim_doc_comment)]
    Alarms {
        #[command(flatten)]
        target: Target,
    },
}

/// Looks, and exits with 5 where something is wrong.
pub async fn run(arguments: Arguments, output: Output) -> Result<ExitCode, Failure> {
    match arguments.task {
        Task::Check { target } => check(&target, output).await,
        Task::Day { target } => day(&target, output).await,
        Task::Changes(arguments) => changes::run(&arguments, output).await,
        Task::Alarms { target } => alarms(&target, output).await,
    }
}

/// The node that was named, or those of the demo, each with its name.
pub fn nodes(target: &Target) -> Result<Vec<(String, Client)>, Failure> {
    if let Some(client) = target.single()? {
        return Ok(vec![(String::new(), client)]);
    }
    let record = target.demo()?;
    let names = record.nodes.iter().map(|node| node.node.as_str());
    names.map(|name| Ok((name.to_owned(), record.client(name)?))).collect()
}

fn verdict(well: bool) -> ExitCode {
    if well { ExitCode::SUCCESS } else { Exit::NotVerified.into() }
}

async fn check(target: &Target, output: Output) -> Result<ExitCode, Failure> {
    let (mut found, mut well) = (Vec::new(), true);
    for (name, client) in nodes(target)? {
        let checked = client.post("/api/v1/log/check", &json!({}), &[]).await?.ok()?;
        well &= checked["wrong"].as_array().is_some_and(Vec::is_empty);
        found.push(json!({"node": name, "checked": checked}));
    }
    match output {
        Output::Json => render::json(&json!({"ok": well, "logs": found}))?,
        Output::Table => {
            let row = |one: &Value| {
                let checked = &one["checked"];
                let wrong: Vec<&str> =
                    checked["wrong"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
                let says = if wrong.is_empty() { "as it was signed".to_owned() } else { wrong.join("; ") };
                let node = one["node"].as_str().unwrap_or_default().to_owned();
                vec![node, checked["leaves"].to_string(), checked["tiles"].to_string(), says]
            };
            render::table(&["NODE", "LEAVES", "TILES", "SAYS"], &found.iter().map(row).collect::<Vec<_>>())?;
        }
    }
    Ok(verdict(well))
}

async fn day(target: &Target, output: Output) -> Result<ExitCode, Failure> {
    let mut stated = Vec::new();
    for (name, client) in nodes(target)? {
        let index = client.post("/api/v1/log/day", &json!({}), &[]).await?.ok()?["index"].clone();
        stated.push(json!({"node": name, "index": index}));
    }
    match output {
        Output::Json => render::json(&json!({"stated": stated}))?,
        Output::Table => {
            let row = |one: &Value| vec![one["node"].as_str().unwrap_or_default().to_owned(), one["index"].to_string()];
            render::table(&["NODE", "LEAF"], &stated.iter().map(row).collect::<Vec<_>>())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn alarms(target: &Target, output: Output) -> Result<ExitCode, Failure> {
    let mut found = Vec::new();
    for (name, client) in nodes(target)? {
        let told = client.get("/api/v1/alarms").await?.ok()?;
        let alarms = told["alarms"].as_array().cloned().unwrap_or_default();
        found.extend(alarms.into_iter().map(|alarm| json!({"node": name, "alarm": alarm})));
    }
    match output {
        Output::Json => render::json(&json!({"alarms": found}))?,
        Output::Table if found.is_empty() => {
            render::line("no alarm: every log that was seen goes on from what it showed before")?
        }
        Output::Table => {
            let row = |one: &Value| {
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                let alarm = &one["alarm"];
                let proved = if alarm["proved"] == true { "proved" } else { "seen" };
                vec![
                    text(&one["node"]),
                    text(&alarm["log"]),
                    text(&alarm["kind"]),
                    proved.into(),
                    text(&alarm["heard_from"]),
                ]
            };
            render::table(&["NODE", "LOG", "WHAT", "HOW SURE", "FROM"], &found.iter().map(row).collect::<Vec<_>>())?;
        }
    }
    Ok(verdict(found.is_empty()))
}
