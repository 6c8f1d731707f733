//! `polder audit export`: a node's log with its statements and what they name as one file, to be checked where the node is not.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::ExitCode;

use polder_core::canonical::Digest;
use polder_core::monitor::{Missing, Objects, named};
use polder_core::statement::v1::Statement;
use serde_json::json;

use super::pass::entries;
use super::reach::{EXPORT_V1, Exported, Hidden, Object, Row, Source};
use crate::Output;
use crate::address::Target;
use crate::failure::{Failure, of_file};
use crate::render;

/// Write a node's whole log, its statements and what they name to a file, for an auditor who has no access to the node.
///
/// The file holds tenants' names, policies and facts; no prompt, no answer and no key.
///
/// Example: polder audit export --socket state/api.sock --out bank-home.json
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Arguments {
    /// The node of the demo that is meant.
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// The file to write.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    target: Target,
}

/// Writes the file.
pub async fn run(arguments: Arguments, output: Output) -> Result<ExitCode, Failure> {
    let client = match (arguments.target.single()?, &arguments.name) {
        (Some(client), _) => client,
        (None, Some(name)) => arguments.target.demo()?.client(name)?,
        (None, None) => {
            let failure = Failure::new("no node is named");
            return Err(failure.hint("give --socket or --node, or the name of a node of the demo"));
        }
    };
    let source = Source::node("the node".to_owned(), client, true, std::time::Duration::from_secs(60));
    let file = gather(&source).await.map_err(|says| Failure::new(format!("the node's log cannot be read: {says}")))?;
    let bytes = serde_json::to_vec(&file).map_err(|e| Failure::new(e.to_string()))?;
    polder_node::keys::write_private(&arguments.out, &bytes).map_err(of_file(&arguments.out))?;
    let (path, statements, objects) = (arguments.out.display().to_string(), file.statements.len(), file.objects.len());
    match output {
        Output::Json => render::json(&json!({"file": path, "statements": statements, "objects": objects}))?,
        Output::Table => render::line(&format!("{path}: {statements} statements, {objects} objects that they name"))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Everything that a node's log shows, and what its decisions name.
pub(in crate::commands) async fn gather(source: &Source) -> Result<Exported, String> {
    let checkpoint = source.checkpoint().await?;
    let size = checkpoint.lines().nth(1).and_then(|size| size.parse::<u64>().ok()).unwrap_or_default();
    let (mut statements, mut hidden): (Vec<Row>, Vec<Hidden>) = (Vec::new(), Vec::new());
    let mut from = 0;
    while from < size {
        let page = source.statements(from).await?;
        if page.next <= from {
            return Err(format!("it shows no statement from leaf {from} on"));
        }
        let (rows, until) = (page.statements.into_iter().filter(|row| row.index < size), page.next.min(size));
        let before = statements.len();
        statements.extend(rows);
        let shown: BTreeSet<u64> = statements.iter().skip(before).map(|row| row.index).collect();
        let entries = entries(source, from, until).await??;
        let not_shown = (from..until).zip(entries).filter(|(index, _)| !shown.contains(index));
        hidden.extend(not_shown.map(|(index, entry)| Hidden { index, entry }));
        from = page.next;
    }
    let mut objects = Objects::new();
    for row in &statements {
        if let Ok(Statement::Decision(decision)) = serde_json::from_str(&row.statement) {
            fetch(source, &decision, &mut objects).await?;
        }
    }
    let text =
        |(digest, bytes): (Digest, Vec<u8>)| Object { digest, text: String::from_utf8_lossy(&bytes).into_owned() };
    Ok(Exported {
        audit: EXPORT_V1.to_owned(),
        checkpoint,
        statements,
        hidden,
        objects: objects.into_iter().map(text).collect(),
        numbers: source.numbers().await?,
        seen: source.seen().await?,
        keys: source.keys().await,
    })
}

/// Fetches what a decision names and is not there yet. What the node has not is left out: whoever checks finds it.
async fn fetch(
    source: &Source,
    decision: &polder_core::statement::v1::DecisionStatement,
    objects: &mut BTreeMap<Digest, Vec<u8>>,
) -> Result<(), String> {
    while let Err(Missing::Wanted(wanted)) = named(decision, objects) {
        let digests: BTreeSet<Digest> = wanted.iter().map(|one| one.digest).collect();
        let before = objects.len();
        let given = source.objects(&digests.into_iter().collect::<Vec<_>>()).await?;
        objects.extend(given.into_iter().map(|one| (one.digest, one.text.into_bytes())));
        if objects.len() == before {
            break;
        }
    }
    Ok(())
}
