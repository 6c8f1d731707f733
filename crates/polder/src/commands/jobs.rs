//! `polder jobs`, `polder cancel`, `polder rerun`: which jobs there are, where each stands, and ending one.

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::Value;

use super::budget::euro;
use super::key::At;
use crate::Output;
use crate::client::Client;
use crate::failure::{Exit, Failure, of_file};
use crate::render;

/// Show jobs, newest first, or one with everything that is known of it.
///
/// Example: polder jobs last --receipt receipt.json
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Arguments {
    /// A job's id, the beginning of one, or `last`; all where absent.
    #[arg(value_name = "ID")]
    id: Option<String>,
    /// Most jobs that are shown.
    #[arg(long, default_value_t = 50)]
    limit: usize,
    /// Write the receipt of its last run here; `polder verify` checks it.
    #[arg(long, value_name = "FILE", requires = "id")]
    receipt: Option<PathBuf>,
    #[command(flatten)]
    at: At,
}

/// Take a job back. One that runs is asked to end, then made to; exit code 0 says that it ends, not that it has.
///
/// Example: polder cancel last
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Cancel {
    /// A job's id, the beginning of one, or `last`.
    #[arg(value_name = "ID")]
    id: String,
    #[command(flatten)]
    at: At,
}

/// Let a job run again that is held because nobody knows how far its last run came.
///
/// Example: polder rerun job-0f3a
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Rerun {
    /// A job's id, the beginning of one, or `last`.
    #[arg(value_name = "ID")]
    id: String,
    #[command(flatten)]
    at: At,
}

/// Jobs of one page that are looked through for the beginning of an id.
const PAGE: usize = 1_000;

/// A value's text.
pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// The whole id of what was typed: an id, the one that begins so, or the last job's.
pub async fn find(client: &Client, typed: &str) -> Result<String, Failure> {
    if typed.len() == 36 && typed.starts_with("job-") {
        return Ok(typed.to_owned());
    }
    let listed = client.get(&format!("/api/v1/jobs?limit={PAGE}")).await?.ok()?;
    let mut ids = listed["jobs"].as_array().into_iter().flatten().map(|job| text(&job["id"]));
    if typed == "last" {
        return ids.next().ok_or_else(|| Failure::new("there is no job yet").hint("submit one with `polder run`"));
    }
    let begins: Vec<String> = ids.filter(|id| typed.len() >= 5 && id.starts_with(typed)).collect();
    match begins.as_slice() {
        [only] => Ok(only.clone()),
        [] => {
            Err(Failure::new(format!("no job `{typed}` is known")).hint("`polder jobs` shows them").exit(Exit::Usage))
        }
        many => Err(Failure::new(format!("{} jobs begin with `{typed}`", many.len()))
            .hint("type more of the id")
            .exit(Exit::Usage)),
    }
}

/// Lists jobs or shows one.
pub async fn run(arguments: Arguments, output: Output) -> Result<ExitCode, Failure> {
    let client = arguments.at.home()?;
    let Some(typed) = &arguments.id else {
        let listed = client.get(&format!("/api/v1/jobs?limit={}", arguments.limit)).await?.ok()?;
        match output {
            Output::Json => render::json(&listed)?,
            Output::Table => table(listed["jobs"].as_array().map(Vec::as_slice).unwrap_or_default())?,
        }
        return Ok(ExitCode::SUCCESS);
    };
    let id = find(&client, typed).await?;
    let job = client.get(&format!("/api/v1/jobs/{id}")).await?.ok()?;
    if let Some(path) = &arguments.receipt {
        let decision = text(&job["decision"]);
        if decision.is_empty() {
            return Err(Failure::new(format!("`{id}` has not run yet: there is no receipt")));
        }
        let answer = client.get(&format!("/api/v1/receipts/{decision}")).await?;
        let bytes = answer.body.clone();
        answer.ok()?;
        std::fs::write(path, bytes).map_err(of_file(path))?;
    }
    match output {
        Output::Json => render::json(&job)?,
        Output::Table => one(&job)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Takes a job back.
pub async fn cancel(arguments: Cancel, output: Output) -> Result<ExitCode, Failure> {
    let client = arguments.at.home()?;
    act(&client, &arguments.id, "cancel", output).await
}

/// Lets a held job run again.
pub async fn rerun(arguments: Rerun, output: Output) -> Result<ExitCode, Failure> {
    let client = arguments.at.home()?;
    act(&client, &arguments.id, "rerun", output).await
}

async fn act(client: &Client, typed: &str, what: &str, output: Output) -> Result<ExitCode, Failure> {
    let id = find(client, typed).await?;
    let job = client.post(&format!("/api/v1/jobs/{id}/{what}"), &serde_json::json!({}), &[]).await?.ok()?;
    match output {
        Output::Json => render::json(&job)?,
        Output::Table => render::line(&format!("{id} {}", text(&job["state"])))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Jobs in a table.
pub fn table(jobs: &[Value]) -> Result<(), Failure> {
    let row = |job: &Value| {
        let index = if job["tasks"].as_u64() > Some(1) { format!("[{}]", job["index"]) } else { String::new() };
        let why = text(&job["why_sentence"]);
        vec![
            text(&job["id"]),
            format!("{}{index}", text(&job["name"])),
            text(&job["state"]),
            text(&job["factory"]),
            seconds(&job["ran_ms"]),
            euro(job["cost_microeur"].as_u64().unwrap_or(0)),
            if why.is_empty() { outcome(&job["outcome"]) } else { why },
        ]
    };
    let rows: Vec<Vec<String>> = jobs.iter().map(row).collect();
    render::table(&["JOB", "NAME", "STATE", "FACTORY", "SECONDS", "EURO", "WHY"], &rows)
}

fn seconds(ms: &Value) -> String {
    let ms = ms.as_u64().unwrap_or(0);
    format!("{}.{:01}", ms / 1_000, ms % 1_000 / 100)
}

/// How a run ended, in a word or two.
fn outcome(value: &Value) -> String {
    match value {
        Value::Object(object) => object.iter().map(|(word, code)| format!("{word} ({code})")).collect(),
        other => text(other),
    }
}

fn one(job: &Value) -> Result<(), Failure> {
    table(std::slice::from_ref(job))?;
    let command = job.pointer("/order/spec/run/command").and_then(Value::as_array);
    if let Some(command) = command {
        let words: Vec<String> = command.iter().map(text).collect();
        render::line(&format!("command: {}", words.join(" ")))?;
    }
    for receipt in job["receipts"].as_array().into_iter().flatten() {
        let (factory, epoch) = (text(&receipt["factory"]), &receipt["epoch"]);
        let verdict = receipt["verdict"].as_str().map_or_else(|| receipt["verdict"].to_string(), str::to_owned);
        let (ran, cost) = (seconds(&receipt["ran_ms"]), euro(receipt["cost_microeur"].as_u64().unwrap_or(0)));
        let said = outcome(&receipt["outcome"]);
        render::line(&format!("run {epoch} at {factory}: {said} after {ran} s, {cost} euro, {verdict}"))?;
    }
    match text(&job["decision"]).as_str() {
        "" => Ok(()),
        decision => render::line(&format!("placed by {decision} (`polder why` tells more)")),
    }
}
