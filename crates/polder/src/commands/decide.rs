//! `polder decide`: what would be decided about a request, without running anything.

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::{Value, json};

use super::why::print_verdicts;
use crate::Output;
use crate::address::Target;
use crate::failure::{Exit, Failure, of_file};
use crate::render;

/// Show what would be decided about a request, without running anything.
///
/// The file is JSON: `project`, `model`, and, where they are to be narrowed, `class`, `purposes`, `countries`, `language`; `action` is
/// `infer` where absent. Exit code 3: it would be refused; 4: no capacity.
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
    let client = arguments.target.home(arguments.tenant.as_deref())?;
    let decision = client.post("/api/v1/decide", &question, &[]).await?.ok()?;
    match output {
        Output::Json => render::json(&decision)?,
        Output::Table => print_verdicts(&json!({
            "factory": decision["factory"], "outcome": decision["outcome"], "nearest": decision["nearest"],
            "statement": {"verdicts": decision["verdicts"]},
        }))?,
    }
    Ok(match decision["outcome"].as_str() {
        Some("placed") => ExitCode::SUCCESS,
        Some("no-capacity") => Exit::NoCapacity.into(),
        _ => Exit::Refused.into(),
    })
}
