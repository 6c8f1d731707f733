//! `polder run`: submits jobs, from a file or as one command, and stays with them where that is wanted.
//!
//! The file is read here, so that what is wrong in it is named by its line; everything else is the node's.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use polder_core::ids::ProjectId;
use polder_core::job::spec::{JobFile, JobSpec, Needs, OnUncertain, Program};
use polder_core::labels::Action;
use serde_json::{Value, json};

use super::budget::microeur;
use super::job_logs::{Sides, follow};
use super::jobs::text;
use super::key::At;
use crate::Output;
use crate::client::Client;
use crate::failure::{Exit, Failure, of_file};
use crate::render;

/// Run jobs where the rules allow it: those of a file, or one command.
///
/// The file is TOML, or YAML where its name ends in .yaml; docs/jobs.md describes it. A command runs as it stands, without a shell.
/// Exit code 0: taken (with --wait: all succeeded); 3: refused by policy; 4: no capacity; 2: the file is wrong; 1: anything else.
///
/// Example: polder run --wait --cores 2 -- python3 train.py
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
#[command(group(clap::ArgGroup::new("what").required(true).args(["file", "command"])))]
pub struct Arguments {
    /// The file of jobs.
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// One command with its arguments.
    #[arg(last = true, value_name = "CMD")]
    command: Vec<String>,
    /// The project whose labels the jobs carry.
    #[arg(long)]
    project: Option<String>,
    /// Stay until all jobs are over, and show what they say.
    #[arg(long)]
    wait: bool,
    /// Submit once under this key: the same key again gives the same jobs.
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// What a command is called.
    #[arg(long, default_value = "run", conflicts_with = "file")]
    name: String,
    /// Cores that a command needs.
    #[arg(long, default_value_t = 1, conflicts_with = "file")]
    cores: u32,
    /// Memory that a command needs, in mebibytes.
    #[arg(long, default_value_t = 0, conflicts_with = "file")]
    memory_mib: u64,
    /// Accelerators that a command needs.
    #[arg(long, default_value_t = 0, conflicts_with = "file")]
    accelerators: u32,
    /// Longest time that a command may run, in seconds.
    #[arg(long, default_value_t = 3_600, conflicts_with = "file")]
    wall_s: u64,
    /// Most that one attempt of a command may cost, in euro.
    #[arg(long, default_value = "0", conflicts_with = "file")]
    euro: String,
    /// How often a command runs again after a failure of its own.
    #[arg(long, default_value_t = 0, conflicts_with = "file")]
    retries: u8,
    /// How many tasks a command is; each finds its number in POLDER_TASK.
    #[arg(long, default_value_t = 1, conflicts_with = "file")]
    array: u32,
    #[command(flatten)]
    at: At,
}

/// Submits, and waits where that is asked for.
pub async fn run(arguments: Arguments, output: Output) -> Result<ExitCode, Failure> {
    let file = match &arguments.file {
        Some(path) => of_path(path)?,
        None => of_command(&arguments)?,
    };
    let file = match &arguments.project {
        Some(project) => {
            let project = ProjectId::parse(project).map_err(|e| Failure::new(e.to_string()).exit(Exit::Usage))?;
            JobFile { project: Some(project), ..file }
        }
        None => file,
    };
    file.check().map_err(|e| wrong(arguments.file.as_deref(), &e.to_string()))?;
    let client = arguments.at.home()?;
    let body = serde_json::to_value(&file).map_err(|e| Failure::new(e.to_string()))?;
    let headers: Vec<(String, String)> =
        arguments.key.iter().map(|key| ("idempotency-key".to_owned(), key.clone())).collect();
    let answer = client.post("/api/v1/jobs", &body, &headers).await?;
    let told = answer.json();
    if let Some(refused) = told.get("refused") {
        return refusal(&told, refused, output);
    }
    let status = answer.status;
    let taken = answer.ok().map_err(|failure| match status {
        reqwest::StatusCode::BAD_REQUEST => failure.exit(Exit::Usage),
        _ => failure,
    })?;
    let ids: Vec<String> = taken["jobs"].as_array().into_iter().flatten().map(|job| text(&job["id"])).collect();
    if !arguments.wait {
        match output {
            Output::Json => render::json(&taken)?,
            Output::Table => ids.iter().try_for_each(|id| render::line(id))?,
        }
        return Ok(ExitCode::SUCCESS);
    }
    wait(&client, &ids, output).await
}

fn wrong(path: Option<&Path>, message: &str) -> Failure {
    let failure = match path {
        Some(path) => Failure::new(format!("`{}`: {message}", path.display())).hint("docs/jobs.md describes job files"),
        None => Failure::new(message),
    };
    failure.exit(Exit::Usage)
}

fn of_path(path: &Path) -> Result<JobFile, Failure> {
    let file = std::fs::read_to_string(path).map_err(of_file(path))?;
    polder_node::jobs::read_file(&path.display().to_string(), &file).map_err(|message| wrong(Some(path), &message))
}

fn of_command(arguments: &Arguments) -> Result<JobFile, Failure> {
    let spec = JobSpec {
        name: arguments.name.clone(),
        priority: 50,
        resources: Needs {
            cores: arguments.cores,
            memory_mib: arguments.memory_mib,
            accelerators: arguments.accelerators,
            ..Needs::default()
        },
        run: Program::Command(arguments.command.clone()),
        inputs: Vec::new(),
        outputs: Vec::new(),
        wall_s: arguments.wall_s,
        checkpoint: None,
        retries: arguments.retries,
        on_uncertain: OnUncertain::Rerun,
        array: arguments.array,
        after: Default::default(),
        cost_microeur_max: microeur(&arguments.euro)?,
    };
    Ok(JobFile {
        project: None,
        award: None,
        action: Action::RunJob,
        class: None,
        purposes: None,
        countries: None,
        language: None,
        jobs: vec![spec],
    })
}

/// A refusal with its reasons; the decision stands in the node's log.
fn refusal(told: &Value, refused: &Value, output: Output) -> Result<ExitCode, Failure> {
    match output {
        Output::Json => render::json(told)?,
        Output::Table => {
            eprintln!("refused: {}", text(&told["detail"]));
            let cell = |entry: &Value, name: &str| entry[name].as_str().unwrap_or_default().to_owned();
            let row = |entry: &Value| ["factory", "layer", "rule", "reason"].map(|name| cell(entry, name)).to_vec();
            let rows: Vec<Vec<String>> = refused["refusals"].as_array().into_iter().flatten().map(row).collect();
            render::table(&["FACTORY", "LAYER", "RULE", "REASON"], &rows)?;
            for nearest in refused["nearest"].as_array().into_iter().flatten().take(3) {
                eprintln!("nearest: {}", text(&nearest["sentence"]));
            }
            eprintln!("next:  polder why {}", text(&refused["decision"]));
        }
    }
    let full = refused["outcome"] == "no-capacity";
    Ok(if full { Exit::NoCapacity } else { Exit::Refused }.into())
}

/// Stays until every job is over. What a single one says is shown as it comes; of several, where each stands.
async fn wait(client: &Client, ids: &[String], output: Output) -> Result<ExitCode, Failure> {
    if let ([id], Output::Table) = (ids, output) {
        eprintln!("{id}");
        let shown = follow(client, id, Sides::Both, true).await?;
        return Ok(code(&[shown]));
    }
    let (mut shown, mut said) = (BTreeMap::new(), String::new());
    loop {
        for id in ids {
            let open = shown.get(id).is_none_or(|job| !is_over(job));
            if open {
                shown.insert(id.clone(), client.get(&format!("/api/v1/jobs/{id}")).await?.ok()?);
            }
        }
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        shown.values().for_each(|job| *counts.entry(text(&job["state"])).or_default() += 1);
        let now = counts.iter().map(|(state, count)| format!("{count} {state}")).collect::<Vec<_>>().join(", ");
        if now != said {
            eprintln!("{now}");
            said = now;
        }
        if shown.values().all(is_over) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let jobs: Vec<Value> = ids.iter().filter_map(|id| shown.remove(id)).collect();
    let ended = code(&jobs);
    match output {
        Output::Json => render::json(&json!({"jobs": jobs}))?,
        Output::Table => super::jobs::table(&jobs)?,
    }
    Ok(ended)
}

/// Whether nothing more happens to a job without a person.
pub fn is_over(job: &Value) -> bool {
    !matches!(job["state"].as_str(), Some("waiting" | "offered" | "running" | "stopping"))
}

fn code(jobs: &[Value]) -> ExitCode {
    let succeeded = jobs.iter().all(|job| job["state"] == "succeeded");
    if succeeded { ExitCode::SUCCESS } else { Exit::Failed.into() }
}
