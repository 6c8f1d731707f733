//! `polder receipt forget`: deletes statements with their salts. The leaves stay, and nothing leads from them to what they were.

use std::process::ExitCode;

use serde_json::json;

use crate::Output;
use crate::commands::key::At;
use crate::failure::{Exit, Failure};
use crate::render;

/// Delete a decision's statements and their salts at its node, so that nothing leads from the log to them.
///
/// The leaves stay, and the log is as verifiable as before; the deletion is a leaf itself. Before the time of its retention class is
/// over a statement goes only with --erasure, and under a legal hold never. Receipts that were handed out still verify.
///
/// Example: polder receipt forget decision-d491eb3bf6bdc710646069025573bf1e --erasure
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Arguments {
    /// A decision's or completion's id.
    #[arg(required_unless_present = "project", conflicts_with = "project")]
    id: Option<String>,
    /// Everything of this project that is older than --older-than and may go.
    #[arg(long, value_name = "NAME", requires = "older_than")]
    project: Option<String>,
    /// How old it is at least, in days.
    #[arg(long, value_name = "DAYS", requires = "project")]
    older_than: Option<u64>,
    /// It is an erasure under data protection law: it does not wait for the time of the class.
    #[arg(long)]
    erasure: bool,
    #[command(flatten)]
    at: At,
}

/// Deletes, and says what the log says of it.
pub async fn run(arguments: &Arguments, output: Output) -> Result<ExitCode, Failure> {
    let body = match (&arguments.id, &arguments.project) {
        (Some(id), None) => json!({"receipt": id, "erasure": arguments.erasure}),
        (None, Some(project)) => {
            json!({"project": project, "older_than_days": arguments.older_than, "erasure": arguments.erasure})
        }
        _ => return Err(Failure::new("name an id, or --project with --older-than").exit(Exit::Usage)),
    };
    let told = arguments.at.home()?.post("/api/v1/deletions", &body, &[]).await?.ok()?;
    match output {
        Output::Json => render::json(&told)?,
        Output::Table => {
            let leaves: Vec<String> =
                told["deletions"].as_array().into_iter().flatten().map(ToString::to_string).collect();
            let by = if leaves.is_empty() { String::new() } else { format!("; leaf {} says so", leaves.join(", ")) };
            render::line(&format!("{} leaves say nothing any more{by}", told["leaves"]))?;
            if told["held"] != 0 || told["young"] != 0 {
                render::line(&format!("kept: {} under a legal hold, {} too young", told["held"], told["young"]))?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
