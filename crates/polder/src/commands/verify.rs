//! `polder verify`: checks a receipt file with nothing but the file, and the members' keys where they are given.

use std::path::PathBuf;
use std::process::ExitCode;

use polder_core::keys::NodeCard;
use polder_core::receipt::{self, Check};
use polder_core::statement::v1::Statement;
use polder_node::config::Member;
use serde_json::json;

use crate::Output;
use crate::failure::{Exit, Failure, of_file};
use crate::render;

/// Check a receipt, offline: signatures, inclusion in both logs, and that both halves belong together.
///
/// A receipt proves who claimed what, and that nobody changed it afterwards; it does not prove that a claim was true.
/// Without --members the nodes are those that the receipt itself names.
///
/// Example: polder verify receipt.json --offline --members members.json
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Arguments {
    /// The receipt's file.
    receipt: PathBuf,
    /// Use no network. Verifying never does; the flag says so in scripts.
    #[arg(long)]
    offline: bool,
    /// The file of the federation's members, whose identities the receipt must show.
    #[arg(long, value_name = "FILE")]
    members: Option<PathBuf>,
}

/// The cards in a members file.
pub fn read_members(path: &std::path::Path) -> Result<Vec<NodeCard>, Failure> {
    let members: Vec<Member> = polder_node::config::read_json(path).map_err(|e| Failure::new(e.to_string()))?;
    Ok(members.into_iter().map(|member| member.card).collect())
}

/// Verifies the receipt; exit code 5 where it does not hold.
pub fn run(arguments: &Arguments, output: Output) -> Result<ExitCode, Failure> {
    let bytes = std::fs::read(&arguments.receipt)
        .map_err(of_file(&arguments.receipt))
        .map_err(|failure| failure.hint("name a receipt's file, such as one that `polder ask` wrote"))?;
    let members = arguments.members.as_deref().map(read_members).transpose()?;
    let checked = receipt::verify(&bytes, members.as_deref());
    match (&checked, output) {
        (Ok(report), Output::Json) => {
            let passed: Vec<&str> = report.passed.iter().map(|check| check.as_str()).collect();
            render::json(&json!({"verified": true, "passed": passed, "says": says(report)}))?;
        }
        (Err(failure), Output::Json) => {
            render::json(&json!({"verified": false, "check": failure.check.as_str(), "message": failure.message}))?;
        }
        (Ok(report), Output::Table) => {
            render::line("verified")?;
            for check in &report.passed {
                render::line(&format!("  {:<11} {}", check.as_str(), meaning(*check)))?;
            }
            if members.is_none() {
                render::line("  members     not checked: the nodes are those that the receipt names (--members FILE)")?;
            }
            render::line(&format!("It says: {}.", says(report)))?;
            render::line("It proves who said so and that nobody changed it since, not that it is true.")?;
        }
        (Err(failure), Output::Table) => {
            render::line(&format!("NOT verified: check `{}` failed: {}", failure.check.as_str(), failure.message))?;
        }
    }
    Ok(if checked.is_ok() { ExitCode::SUCCESS } else { Exit::NotVerified.into() })
}

fn meaning(check: Check) -> &'static str {
    match check {
        Check::Format => "the file is a receipt in its one form",
        Check::Keys => "each node's identity signed its keys",
        Check::Members => "each identity is that of the member of its name",
        Check::Checkpoint => "each checkpoint is signed by its log",
        Check::Inclusion => "each statement stands in its log",
        Check::Tables => "the tables are those that the decision names",
        Check::Pairing => "the statements belong together",
    }
}

fn says(report: &receipt::Report) -> String {
    let Statement::Decision(decision) = &report.receipt.decision.statement else { return String::new() };
    let request = &decision.request;
    let head = format!(
        "`{}` decided for tenant `{}`, {}, class `{}`",
        decision.home,
        request.tenant,
        request.model.as_ref().map_or_else(|| "no model".to_owned(), |model| format!("model `{model}`")),
        polder_core::labels::Closed::as_str(&request.labels.class)
    );
    match report.receipt.execution.as_ref().map(|half| &half.statement) {
        Some(Statement::Execution(execution)) => format!(
            "{head}, and `{}` ran it on back end `{}`: {} tokens read, {} generated",
            execution.factory, execution.backend, execution.prompt_tokens, execution.completion_tokens
        ),
        _ => format!("{head}, and refused: no factory may run it"),
    }
}
