//! `polder explain`: why a job stands where it stands, and what each factory says to it now.

use std::process::ExitCode;

use serde_json::{Value, json};

use super::jobs::{find, table, text};
use super::key::At;
use super::why::print_verdicts;
use crate::Output;
use crate::failure::{Exit, Failure};
use crate::render;

/// Explain why a job waits, or where it went: which factories may run it, which may not, and why.
///
/// Exit code 3: no factory may run it now; 4: those that may have no room.
///
/// Example: polder explain last
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Arguments {
    /// A job's id, the beginning of one, or `last`.
    #[arg(value_name = "ID")]
    id: String,
    #[command(flatten)]
    at: At,
}

/// Asks the node and prints what it says.
pub async fn run(arguments: Arguments, output: Output) -> Result<ExitCode, Failure> {
    let client = arguments.at.home()?;
    let id = find(&client, &arguments.id).await?;
    let told = client.get(&format!("/api/v1/jobs/{id}/explain")).await?.ok()?;
    match output {
        Output::Json => render::json(&told)?,
        Output::Table => {
            table(std::slice::from_ref(&told))?;
            render::line("")?;
            print_verdicts(&json!({
                "factory": told["factory"], "outcome": told["outcome_now"], "nearest": told["nearest"],
                "verdicts": told["verdicts"],
            }))?;
        }
    }
    Ok(code(&told))
}

fn code(told: &Value) -> ExitCode {
    if told["state"] != "waiting" {
        return ExitCode::SUCCESS;
    }
    match text(&told["why"]).as_str() {
        "refused" | "unfit" => Exit::Refused.into(),
        "no-room" | "price" => Exit::NoCapacity.into(),
        _ => ExitCode::SUCCESS,
    }
}
