//! `polder demo`: a whole small federation on this machine, to use until Ctrl-C, or to tell its story once.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use serde::Serialize;
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

use crate::Output;
use crate::address::{DemoRecord, TenantRecord, demo_base};
use crate::client::Client;
use crate::commands::{ask, factories, kill, verify};
use crate::demo::{Processes, lay_out};
use crate::failure::{Exit, Failure, of_file};
use crate::render;
use crate::story::{Question, ReceiptPlace, Story, tell};

/// Start a whole small federation on this machine, or tell its story once.
///
/// Four tenants' homes and eight factories, each a process of its own with its own keys, policies, state and log. They share one
/// CPU and a toy model: these are not datacentres. Use a larger model with --model.
///
/// Example: polder demo --once
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Arguments {
    /// Tell the story and exit: each tenant asks, then factories are killed and the question is asked again.
    #[arg(long)]
    once: bool,
    /// Put everything here; a fresh folder where absent.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// A larger model: a folder in the Hugging Face layout or a GGUF file.
    #[arg(long, value_name = "DIR|FILE")]
    model: Option<PathBuf>,
}

const PLAINLY: &str = "Twelve processes on this machine, sharing one CPU and a toy model: not datacentres. Sites, owners and chips are fiction.";
const LARGER: &str = "A larger model: polder demo --model DIR|FILE (a Hugging Face folder or a GGUF file).";

/// What `demo --once` prints as JSON.
#[derive(Debug, Serialize)]
struct Told {
    plainly: &'static str,
    dir: PathBuf,
    ready_ms: u64,
    factories: Vec<Value>,
    tenants: Vec<Value>,
    killed: Vec<String>,
    answers: Vec<Story>,
}

/// Runs the demo.
pub async fn run(arguments: Arguments, output: Output) -> Result<ExitCode, Failure> {
    if output == Output::Table {
        render::line(PLAINLY)?;
    }
    let (dir, latest) = match &arguments.dir {
        Some(dir) => (std::path::absolute(dir).map_err(of_file(dir))?, false),
        None => (fresh_folder()?, true),
    };
    if dir.join("demo.json").exists() {
        return Err(
            Failure::new(format!("`{}` holds a demo already", dir.display())).hint("name an empty folder with `--dir`")
        );
    }
    std::fs::create_dir_all(&dir).map_err(of_file(&dir))?;
    let begun = Instant::now();
    let plan = lay_out(&dir, arguments.model.as_deref())?;
    let (mut processes, record) = Processes::start(&plan)?;
    let ended = {
        let work = async {
            processes.ready(&record).await?;
            record.write(latest)?;
            let ready_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
            let listed = list(&record).await?;
            if arguments.once {
                once(&record, listed, ready_ms, output).await
            } else {
                stay(&record, &listed, ready_ms, latest, output).await
            }
        };
        tokio::select! {
            ended = work => ended,
            () = interrupted() => Ok(ExitCode::SUCCESS),
        }
    };
    processes.stop();
    ended
}

/// A new folder under the demos' folder, the first number that is free.
fn fresh_folder() -> Result<PathBuf, Failure> {
    let base = demo_base()?;
    std::fs::create_dir_all(&base).map_err(of_file(&base))?;
    // Short names: the path of a node's own socket must fit into 107 bytes.
    for number in 1..100_000 {
        let dir = base.join(format!("demo-{number}"));
        match std::fs::create_dir(&dir) {
            Ok(()) => return Ok(dir),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(of_file(&dir)(error)),
        }
    }
    Err(Failure::new(format!("`{}` is full of old demos", base.display()))
        .hint("remove those that are no longer needed"))
}

async fn interrupted() {
    let Ok(mut terminate) = signal(SignalKind::terminate()) else { return };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}

async fn list(record: &DemoRecord) -> Result<Value, Failure> {
    let tenant = record.tenant(None)?;
    let mut listed = record.client(tenant.home.as_str())?.get("/api/v1/factories").await?.ok()?;
    for factory in listed["factories"].as_array_mut().into_iter().flatten() {
        let place =
            record.nodes.iter().find(|node| factory["factory"] == node.node.as_str()).map(|node| node.place.clone());
        factory["place"] = place.into();
    }
    Ok(listed)
}

fn tenant_json(tenant: &TenantRecord) -> Value {
    json!({"tenant": tenant.tenant, "endpoint": tenant.endpoint, "key": tenant.key, "projects": tenant.projects})
}

async fn stay(
    record: &DemoRecord,
    listed: &Value,
    ready_ms: u64,
    latest: bool,
    output: Output,
) -> Result<ExitCode, Failure> {
    match output {
        Output::Json => render::json(&json!({
            "plainly": PLAINLY, "dir": record.dir, "ready_ms": ready_ms, "factories": listed["factories"],
            "tenants": record.tenants.iter().map(tenant_json).collect::<Vec<_>>(),
        }))?,
        Output::Table => {
            render::line(LARGER)?;
            render::line("")?;
            factories::print(listed)?;
            render::line("")?;
            let row = |one: &TenantRecord| vec![one.tenant.to_string(), one.endpoint.clone(), one.key.clone()];
            render::table(
                &["TENANT", "OPENAI_BASE_URL", "OPENAI_API_KEY"],
                &record.tenants.iter().map(row).collect::<Vec<_>>(),
            )?;
            render::line("")?;
            render::line(&format!("Ready in {ready_ms} ms. Everything is under {}.", record.dir.display()))?;
            let dir = if latest { String::new() } else { format!(" --dir {}", record.dir.display()) };
            render::line("In another terminal:")?;
            for command in ["ask \"What is Polder?\" --tenant bank", "why last", "kill paris"] {
                render::line(&format!("  polder {command}{dir}"))?;
            }
            render::line("Ctrl-C ends it.")?;
        }
    }
    std::future::pending().await
}

async fn once(record: &DemoRecord, listed: Value, ready_ms: u64, output: Output) -> Result<ExitCode, Failure> {
    let narrate = |lines: &[String]| -> Result<(), Failure> {
        if output == Output::Table { lines.iter().try_for_each(|line| render::line(line)) } else { Ok(()) }
    };
    narrate(&[format!(
        "Ready: {} factories, {} tenants.",
        listed["factories"].as_array().map_or(0, Vec::len),
        record.tenants.len()
    )])?;
    let mut answers = Vec::new();
    for tenant in &record.tenants {
        let story = ask_as(record, tenant).await?;
        narrate(&story_lines(&story))?;
        answers.push(story);
    }
    let bank = record.tenant(None)?;
    let killed = kill_admissible(record, answers.first(), bank)?;
    narrate(&[String::new(), format!("Killed: {}. The {} asks again.", killed.join(" and "), bank.tenant)])?;
    let story = ask_as(record, bank).await?;
    narrate(&story_lines(&story))?;
    answers.push(story);
    let held = answers.iter().all(|story| story.verified);
    if output == Output::Json {
        let tenants = record.tenants.iter().map(tenant_json).collect();
        let factories = listed["factories"].as_array().cloned().unwrap_or_default();
        let dir = record.dir.clone();
        render::json(&Told { plainly: PLAINLY, dir, ready_ms, factories, tenants, killed, answers })?;
    }
    Ok(if held { ExitCode::SUCCESS } else { Exit::NotVerified.into() })
}

async fn ask_as(record: &DemoRecord, tenant: &TenantRecord) -> Result<Story, Failure> {
    let project = tenant.projects.first().ok_or_else(|| Failure::new("a tenant has no project"))?;
    let members = verify::read_members(&record.dir.join("members.json"))?;
    let question = Question {
        tenant: tenant.tenant.to_string(),
        model: project.model.to_string(),
        text: tenant.question.clone(),
        labels: Vec::new(),
        max_tokens: 48,
    };
    let client = Client::to(&tenant.endpoint, Some(&project.key))?;
    let place = ReceiptPlace::Folder(ask::receipts_folder(&record.dir));
    tell(&client, question, &place, Some(&members)).await
}

fn story_lines(story: &Story) -> Vec<String> {
    let mut lines = vec![String::new(), format!("{} asks: {}", render::bold(&story.tenant), story.question)];
    if let Some(text) = &story.text {
        lines.push(format!("  \u{201c}{text}\u{201d}"));
    }
    lines.extend(story.lines().into_iter().map(|line| format!("  {line}")));
    lines
}

/// Kills every factory that no rule kept from the tenant: the chosen one, and those that only lost on the score.
fn kill_admissible(record: &DemoRecord, story: Option<&Story>, tenant: &TenantRecord) -> Result<Vec<String>, Failure> {
    let story = story.filter(|story| story.tenant == tenant.tenant.as_str());
    let story = story.ok_or_else(|| Failure::new("the first tenant did not ask"))?;
    let mut killed = Vec::new();
    for node in record.nodes.iter().filter(|node| node.factory) {
        if !story.refusals.iter().any(|refusal| refusal.factory == node.node.as_str()) {
            kill::kill(&node.node, node.pid, Path::new(&record.dir))?;
            killed.push(node.node.to_string());
        }
    }
    Ok(killed)
}
