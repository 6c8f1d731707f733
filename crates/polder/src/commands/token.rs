//! `polder token`: the operators' tokens at a node: make, list, revoke.
//!
//! A token is printed when it is made and never again: the node keeps its digest only.

use std::process::ExitCode;

use clap::Subcommand;
use serde_json::{Value, json};

use super::key::{At, expiry, revoked, segment, state, word};
use crate::Output;
use crate::failure::Failure;
use crate::render;

/// Make, list and revoke the tokens of those who run, own, review or audit a node.
///
/// Example: polder token create --role auditor --name "court of auditors" --days 90
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Arguments {
    #[command(subcommand)]
    task: Task,
}

/// What the bearer of a token may do.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Role {
    /// Speaks for the tenant: policies, keys, budgets, tokens, decisions.
    Owner,
    /// Runs the node: its state, and reading its files again.
    Operator,
    /// Approves or stops what must not run unseen.
    Reviewer,
    /// Reads decisions, receipts, policies, budgets and usage.
    Auditor,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Make a token. It is printed once; the node keeps only its digest.
    ///
    /// Example: polder token create --role operator --name "night shift"
    #[command(verbatim_doc_comment)]
    Create {
        /// What its bearer may do.
        #[arg(long)]
        role: Role,
        /// What you call it.
        #[arg(long, default_value = "")]
        name: String,
        /// It expires after so many days; never where absent.
        #[arg(long, value_name = "DAYS")]
        days: Option<u64>,
        #[command(flatten)]
        at: At,
    },
    /// List the tokens, revoked ones too.
    ///
    /// Example: polder token list --tenant bank
    #[command(verbatim_doc_comment)]
    List {
        #[command(flatten)]
        at: At,
    },
    /// Revoke a token: it opens nothing from the next call on.
    ///
    /// Example: polder token revoke 5f0c2a7be19d3384
    #[command(verbatim_doc_comment)]
    Revoke {
        /// The token's id, which stands in the token after `op-polder-`.
        id: String,
        #[command(flatten)]
        at: At,
    },
}

/// Runs the task.
pub async fn run(arguments: Arguments, output: Output) -> Result<ExitCode, Failure> {
    match arguments.task {
        Task::Create { role, name, days, at } => {
            let body = json!({"role": role.as_str(), "name": name, "expires_ms": expiry(days)});
            let made = at.home()?.post("/api/v1/tokens", &body, &[]).await?.ok()?;
            match output {
                Output::Json => render::json(&made)?,
                Output::Table => {
                    render::line(&word(&made, "token"))?;
                    eprintln!("this is the only time that the token is shown; its id is {}", word(&made, "id"));
                }
            }
        }
        Task::List { at } => list(&at.home()?.get("/api/v1/tokens").await?.ok()?, output)?,
        Task::Revoke { id, at } => {
            let told = at.home()?.delete(&format!("/api/v1/tokens/{}", segment(&id, "token")?)).await?.ok()?;
            revoked(&told, &id, output)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

impl Role {
    fn as_str(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Operator => "operator",
            Self::Reviewer => "reviewer",
            Self::Auditor => "auditor",
        }
    }
}

fn list(told: &Value, output: Output) -> Result<(), Failure> {
    if output == Output::Json {
        return render::json(told);
    }
    let instant = |value: &Value| if value.is_null() { String::new() } else { render::instant(value) };
    let row = |token: &Value| {
        vec![word(token, "id"), word(token, "name"), word(token, "role"), state(token), instant(&token["expires_ms"])]
    };
    let rows: Vec<Vec<String>> = told["tokens"].as_array().into_iter().flatten().map(row).collect();
    render::table(&["ID", "NAME", "ROLE", "STATE", "EXPIRES (UTC)"], &rows)
}
