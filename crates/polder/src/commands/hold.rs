//! `polder hold`: legal holds. What is held is not deleted, by its age or by hand, until the hold is lifted.

use std::process::ExitCode;

use clap::Subcommand;
use serde_json::{Value, json};

use super::key::{At, word};
use crate::Output;
use crate::failure::{Exit, Failure};
use crate::render;

/// Put legal holds on receipts, projects or a tenant, list them, and lift them.
///
/// Example: polder hold put --project customer-service --reason "case 2026-117"
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Put a hold. It is a leaf of the log, with its reason: name a case, not a person.
    ///
    /// Example: polder hold put --receipt last --reason "case 2026-117"
    #[command(verbatim_doc_comment)]
    Put {
        /// On a decision, and what it came to at this node: its id, or `last`.
        #[arg(long, value_name = "ID", conflicts_with_all = ["project", "all_of"])]
        receipt: Option<String>,
        /// On every decision of a project.
        #[arg(long, value_name = "NAME", conflicts_with = "all_of")]
        project: Option<String>,
        /// On everything of a tenant.
        #[arg(long, value_name = "TENANT")]
        all_of: Option<String>,
        /// Why.
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        at: At,
    },
    /// List the holds, lifted ones too.
    ///
    /// Example: polder hold list
    #[command(verbatim_doc_comment)]
    List {
        #[command(flatten)]
        at: At,
    },
    /// Lift a hold. What it held goes when its time comes.
    ///
    /// Example: polder hold lift hold-5f0c2a7be19d3384 --reason "case closed"
    #[command(verbatim_doc_comment)]
    Lift {
        /// The hold's id.
        id: String,
        /// Why.
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        at: At,
    },
}

/// Runs the task.
pub async fn run(arguments: Arguments, output: Output) -> Result<ExitCode, Failure> {
    match arguments.task {
        Task::Put { receipt, project, all_of, reason, at } => {
            let on = match (receipt, project, all_of) {
                (Some(id), None, None) => json!({"receipt": id}),
                (None, Some(project), None) => json!({"project": project}),
                (None, None, Some(tenant)) => json!({"tenant": tenant}),
                _ => {
                    let failure = Failure::new("a hold is put on something");
                    return Err(failure.hint("name --receipt, --project or --all-of").exit(Exit::Usage));
                }
            };
            let put = at.home()?.post("/api/v1/holds", &json!({"on": on, "reason": reason}), &[]).await?.ok()?;
            said(&put, &format!("{} holds; leaf {} says so", word(&put, "id"), put["put_leaf"]), output)
        }
        Task::List { at } => list(&at.home()?.get("/api/v1/holds").await?.ok()?, output),
        Task::Lift { id, reason, at } => {
            let body = json!({"hold": id, "reason": reason});
            let lifted = at.home()?.post("/api/v1/holds/lift", &body, &[]).await?.ok()?;
            said(&lifted, &format!("{id} is lifted; leaf {} says so", lifted["lifted_leaf"]), output)
        }
    }
}

fn said(told: &Value, sentence: &str, output: Output) -> Result<ExitCode, Failure> {
    match output {
        Output::Json => render::json(told)?,
        Output::Table => render::line(sentence)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn list(told: &Value, output: Output) -> Result<ExitCode, Failure> {
    if output == Output::Json {
        render::json(told)?;
        return Ok(ExitCode::SUCCESS);
    }
    let row = |hold: &Value| {
        let scope = hold["scope"].as_object().and_then(|scope| scope.iter().next());
        let on = scope.map_or_else(String::new, |(kind, value)| {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            format!("{kind} {value}")
        });
        let lifted = &hold["lifted_ms"];
        let state = if lifted.is_null() { "holds".to_owned() } else { format!("lifted {}", render::instant(lifted)) };
        vec![word(hold, "id"), on, render::instant(&hold["put_ms"]), state, word(hold, "by"), word(hold, "reason")]
    };
    let rows: Vec<Vec<String>> = told["holds"].as_array().into_iter().flatten().map(row).collect();
    render::table(&["ID", "ON", "SINCE (UTC)", "STATE", "BY", "REASON"], &rows)?;
    Ok(ExitCode::SUCCESS)
}
