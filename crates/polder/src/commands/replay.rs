//! `polder replay`: derives a receipt's decision again, byte for byte, from what its statement names.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use polder_core::receipt;
use polder_core::replay::{Replayed, SOURCES_V1, Sources, SourcesFile, replay};
use polder_core::statement::v1::Statement;
use serde_json::json;

use super::why::find;
use crate::Output;
use crate::address::Target;
use crate::failure::{Exit, Failure, of_file};
use crate::render;

/// Derive a receipt's decision again, with the policies, facts and scores of its time.
///
/// Policies, terms, passports and whose facts count are asked of the node that decided, or read from --sources; each is held
/// against the digest in the receipt. What was measured then, such as who had no room, is taken as the receipt gives it, and
/// named. Exit code 5 where anything comes out differently.
///
/// Example: polder replay receipt.json
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Arguments {
    /// The receipt's file.
    receipt: PathBuf,
    /// Read what the decision names from this file, and ask no node.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["keep", "tenant"])]
    sources: Option<PathBuf>,
    /// Write what the node gave to this file, for --sources.
    #[arg(long, value_name = "FILE")]
    keep: Option<PathBuf>,
    /// Ask this tenant's node only.
    #[arg(long)]
    tenant: Option<String>,
    #[command(flatten)]
    target: Target,
}

/// Derives the decision again.
pub async fn run(arguments: Arguments, output: Output) -> Result<ExitCode, Failure> {
    let bytes = std::fs::read(&arguments.receipt).map_err(of_file(&arguments.receipt))?;
    let report = match receipt::verify(&bytes, None) {
        Ok(report) => report,
        Err(failure) => {
            let message = format!("the receipt does not hold: check `{}`: {}", failure.check.as_str(), failure.message);
            return Err(Failure::new(message).exit(Exit::NotVerified));
        }
    };
    let Statement::Decision(statement) = &report.receipt.decision.statement else {
        return Err(Failure::new("the receipt is not a decision's").exit(Exit::NotVerified));
    };
    let sources = sources(&arguments, statement.id.as_str()).await?;
    let begun = Instant::now();
    let replayed = replay(statement, &report.receipt.tables, &sources);
    let took_us = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
    let replayed = replayed.map_err(|e| Failure::new(e.to_string()).exit(Exit::NotVerified))?;
    let said = report.receipt.decision.statement.to_bytes().map_err(|e| Failure::new(e.to_string()))?;
    let same = replayed.differs.is_empty() && replayed.bytes == said;
    match output {
        Output::Json => render::json(&json!({
            "decision": statement.id, "same": same, "differs": replayed.differs, "given": replayed.given,
            "took_us": took_us,
        }))?,
        Output::Table => print(&replayed, same, statement.id.as_str(), said.len())?,
    }
    Ok(if same { ExitCode::SUCCESS } else { Exit::NotVerified.into() })
}

async fn sources(arguments: &Arguments, id: &str) -> Result<Sources, Failure> {
    let file: SourcesFile = match &arguments.sources {
        Some(path) => {
            let text = std::fs::read(path).map_err(of_file(path))?;
            let wrong = |e: serde_json::Error| Failure::new(format!("`{}`: {e}", path.display()));
            serde_json::from_slice(&text)
                .map_err(|e| wrong(e).hint("`polder replay RECEIPT --keep FILE` writes such a file"))?
        }
        None => {
            let path = format!("/api/v1/decisions/{id}/sources");
            let value = find(&arguments.target, arguments.tenant.as_deref(), &path, id).await?;
            serde_json::from_value(value)
                .map_err(|e| Failure::new(format!("the node's answer is not understood: {e}")))?
        }
    };
    if file.sources != SOURCES_V1 {
        return Err(Failure::new(format!("`{}` is not a version that is known here", file.sources)));
    }
    if let Some(path) = &arguments.keep {
        let text = serde_json::to_vec(&file).map_err(|e| Failure::new(e.to_string()))?;
        std::fs::write(path, text).map_err(of_file(path))?;
    }
    Sources::try_from(file).map_err(|e| Failure::new(e.to_string()))
}

fn print(replayed: &Replayed, same: bool, id: &str, bytes: usize) -> Result<(), Failure> {
    if same {
        render::line(&format!("the same: {id}, {bytes} bytes"))?;
    } else {
        render::line(&format!("NOT the same: {id}"))?;
        replayed.differs.iter().try_for_each(|one| render::line(&format!("  {one}")))?;
    }
    if !replayed.given.is_empty() {
        render::line("taken as the receipt gives it:")?;
        replayed.given.iter().try_for_each(|one| render::line(&format!("  {one}")))?;
    }
    Ok(())
}
