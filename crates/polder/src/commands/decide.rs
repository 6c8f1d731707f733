//! `polder decide`: what would be decided about a request, without running anything.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use polder_core::placement;
use polder_core::policy::PolicySchema;
use polder_core::world::{WorldError, WorldRequest};
use serde_json::{Value, json};

use super::why::print_verdicts;
use crate::Output;
use crate::address::Target;
use crate::failure::{Exit, Failure, of_file};
use crate::render;

/// Show what would be decided about a request, without running anything.
///
/// The file is JSON: `project`, `model`, and, where they are to be narrowed, `class`, `purposes`, `countries`, `language`; `action` is
/// `infer` where absent. With a `world` of factories and policies (docs/formats.md) it is decided here, and no node is asked; then
/// it names its `tenant` and all its labels. Exit code 3: it would be refused; 4: no capacity.
///
/// Example: polder decide --tenant bank --request request.json
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Arguments {
    /// The request's file.
    #[arg(long, value_name = "FILE")]
    request: PathBuf,
    /// Ask this tenant's node; the first one where absent.
    #[arg(long)]
    tenant: Option<String>,
    #[command(flatten)]
    target: Target,
}

/// Asks the node and prints what it says.
pub async fn run(arguments: Arguments, output: Output) -> Result<ExitCode, Failure> {
    let text = std::fs::read_to_string(&arguments.request).map_err(of_file(&arguments.request))?;
    let question: Value = serde_json::from_str(&text)
        .map_err(|e| Failure::new(format!("`{}`: {e}", arguments.request.display())).exit(Exit::Usage))?;
    let decision = if question.get("world").is_some() {
        decide_here(&arguments.request, &text)?
    } else {
        let client = arguments.target.home(arguments.tenant.as_deref())?;
        client.post("/api/v1/decide", &question, &[]).await?.ok()?
    };
    match output {
        Output::Json => render::json(&decision)?,
        Output::Table => print_verdicts(&json!({
            "factory": decision["factory"], "outcome": decision["outcome"], "nearest": decision["nearest"],
            "verdicts": decision["verdicts"],
        }))?,
    }
    Ok(match decision["outcome"].as_str() {
        Some("placed") => ExitCode::SUCCESS,
        Some("no-capacity") => Exit::NoCapacity.into(),
        _ => Exit::Refused.into(),
    })
}

/// Decides a request in the world that it carries; policies that it names by path stand beside it.
fn decide_here(file: &Path, text: &str) -> Result<Value, Failure> {
    let wrong = |message: String| Failure::new(format!("`{}`: {message}", file.display()));
    let asked: WorldRequest = serde_json::from_str(text).map_err(|e| {
        wrong(e.to_string()).hint("docs/formats.md says how a request with a world is written").exit(Exit::Usage)
    })?;
    let schema = Arc::new(PolicySchema::shipped().map_err(Failure::new)?);
    let folder = file.parent().unwrap_or(Path::new(""));
    let read = |name: &str| super::policy::read(&folder.join(name)).map_err(|failure| failure.message().to_owned());
    let snapshot = asked.snapshot(&schema, &read).map_err(|error| match error {
        WorldError::Policy(error) => Failure::new(error.to_string()).hint("run `polder policy check` on it"),
        WorldError::Read { message, .. } => Failure::new(message),
        other => wrong(other.to_string()).exit(Exit::Usage),
    })?;
    let request = asked.request();
    let decision = placement::decide(&snapshot, &request, &BTreeMap::new());
    Ok(polder_node::refusal::answer(&request, &decision))
}
