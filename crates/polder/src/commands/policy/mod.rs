//! `polder policy`: work on policy files before a node sees them, and put them in force.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;
use polder_core::policy::{Layer, LayerKind, PolicyError, PolicySchema, TEXT_BYTES_MAX};
use serde_json::{Value, json};

mod diff;
mod lifecycle;
mod prove;
mod template;
mod test;

use super::doctor::rules;
use crate::Output;
use crate::failure::{Exit, Failure, of_file};
use crate::render;

/// Largest file that is read, in bytes: as large as a policy may be.
const POLICY_BYTES_MAX: u64 = TEXT_BYTES_MAX as u64;

/// Check, test and compare policies, prove claims about them, and put them in force.
///
/// Example: polder policy check policy.cedar
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Check policies or terms: syntax, schema, and that every refusal will have a name.
    ///
    /// Example: polder policy check policy.cedar terms.cedar
    #[command(verbatim_doc_comment)]
    Check {
        /// The files.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    Template(template::Arguments),
    Test(test::Arguments),
    Prove(prove::Arguments),
    Diff(diff::Arguments),
    Activate(lifecycle::Activate),
    History(lifecycle::History),
    Rollback(lifecycle::Rollback),
    /// Print the Cedar schema: every entity, attribute and closed list that a policy may name.
    ///
    /// Example: polder policy schema
    #[command(verbatim_doc_comment)]
    Schema,
}

/// Runs the task; exit code 1 where a file does not hold.
pub async fn run(arguments: &Arguments, output: Output) -> Result<ExitCode, Failure> {
    let schema = PolicySchema::shipped().map_err(Failure::new)?;
    match &arguments.task {
        Task::Schema => {
            match output {
                Output::Json => render::json(&json!({"schema": schema.text()}))?,
                Output::Table => render::line(schema.text().trim_end())?,
            }
            Ok(ExitCode::SUCCESS)
        }
        Task::Check { files } => check(files, &schema, output),
        Task::Template(arguments) => template::run(arguments, output),
        Task::Test(arguments) => test::run(arguments, schema, output),
        Task::Prove(arguments) => prove::run(arguments, schema, output).await,
        Task::Diff(arguments) => diff::run(arguments, output).await,
        Task::Activate(arguments) => lifecycle::activate(arguments, output).await,
        Task::History(arguments) => lifecycle::history(arguments, output).await,
        Task::Rollback(arguments) => lifecycle::rollback(arguments, output).await,
    }
}

fn check(files: &[PathBuf], schema: &PolicySchema, output: Output) -> Result<ExitCode, Failure> {
    let (mut reports, mut well) = (Vec::new(), true);
    for file in files {
        let text = read(file)?;
        let name = file.display().to_string();
        let parsed = Layer::parse(LayerKind::Owner, &name, &text, schema);
        let parsed = parsed.and_then(|layer| layer.hazard().map_or(Ok(layer), Err));
        well &= parsed.is_ok();
        match (&parsed, output) {
            (Ok(layer), Output::Table) => render::line(&format!("{name}: holds, {}", rules(layer.rules().count())))?,
            (Err(error), Output::Table) => render::line(&shown(error, &text))?,
            _ => {}
        }
        reports.push(report(&name, &parsed));
    }
    if output == Output::Json {
        render::json(&json!({"ok": well, "files": reports}))?;
    }
    Ok(if well { ExitCode::SUCCESS } else { Exit::Failed.into() })
}

pub(in crate::commands) fn read(file: &Path) -> Result<String, Failure> {
    let size = std::fs::metadata(file).map_err(of_file(file))?.len();
    if size > POLICY_BYTES_MAX {
        let message = format!("`{}` has {size} bytes; at most {POLICY_BYTES_MAX} are read", file.display());
        return Err(Failure::new(message).hint("a policy is a few lines; split what is really several policies"));
    }
    std::fs::read_to_string(file).map_err(of_file(file))
}

fn report(name: &str, parsed: &Result<Layer, PolicyError>) -> Value {
    match parsed {
        Ok(layer) => {
            let rules: Vec<Value> = layer
                .rules()
                .map(|rule| json!({"rule": rule.id, "reason": rule.reason, "line": rule.line, "reads": rule.reads}))
                .collect();
            json!({"file": name, "ok": true, "digest": layer.digest(), "rules": rules})
        }
        Err(error) => json!({
            "file": name, "ok": false, "line": error.line, "column": error.column,
            "message": error.message, "hint": error.hint,
        }),
    }
}

/// An error with its line and a caret under the column.
fn shown(error: &PolicyError, text: &str) -> String {
    let line = text.lines().nth(error.line.saturating_sub(1) as usize).unwrap_or_default();
    let number = error.line.to_string();
    // Tabs stay tabs, so that the caret stands under what it means.
    let before = line.chars().take(error.column.saturating_sub(1) as usize);
    let indent: String = before.map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
    let gutter = " ".repeat(number.len());
    let hint = error.hint.as_ref().map_or_else(String::new, |hint| format!("\nnext: {hint}"));
    format!("{error}\n{gutter} |\n{number} | {line}\n{gutter} | {indent}^{hint}")
}
