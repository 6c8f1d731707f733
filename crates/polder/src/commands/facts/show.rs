//! `polder facts show`: each fact of a factory, the class at which it counts, or why it does not.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;

use polder_core::facts::standings;
use polder_core::ids::NodeId;
use polder_node::api::fact_row;
use serde_json::{Value, json};

use super::{read_facts, read_trust};
use crate::Output;
use crate::address::Target;
use crate::failure::{Exit, Failure};
use crate::render;

/// Show a factory's facts: at which class each counts, or why it does not.
///
/// Without a file, as a tenant's node sees a factory now. With one, as an owner with this trust would.
///
/// Example: polder facts show passport.json --trust trust.json
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Arguments {
    /// A passport, or a list of signed facts; the node is asked where absent.
    file: Option<PathBuf>,
    /// The factory; needed where the node is asked, or where the file speaks of several.
    #[arg(long, value_name = "NAME", required_unless_present = "file")]
    factory: Option<String>,
    /// The issuers that are trusted, as in a home's `trust`; nobody where absent.
    #[arg(long, value_name = "FILE", requires = "file")]
    trust: Option<PathBuf>,
    /// The factory's authority key in hexadecimal; a passport that was exported has it.
    #[arg(long, value_name = "KEY", requires = "file")]
    authority: Option<String>,
    /// As of this instant, in Unix milliseconds; now where absent.
    #[arg(long, value_name = "MS", requires = "file")]
    at_ms: Option<u64>,
    /// As this tenant's node sees it.
    #[arg(long)]
    tenant: Option<String>,
    #[command(flatten)]
    target: Target,
}

/// Prints the facts.
pub async fn run(arguments: Arguments, output: Output) -> Result<ExitCode, Failure> {
    let shown = match &arguments.file {
        Some(_) => from_file(&arguments)?,
        None => {
            let client = arguments.target.home(arguments.tenant.as_deref())?;
            let factory = arguments.factory.as_deref().unwrap_or_default();
            client.get(&format!("/api/v1/factories/{factory}/facts")).await?.ok()?
        }
    };
    match output {
        Output::Json => render::json(&shown)?,
        Output::Table => print(&shown)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn from_file(arguments: &Arguments) -> Result<Value, Failure> {
    let usage = |message: String| Failure::new(message).exit(Exit::Usage);
    let path = arguments.file.as_deref().unwrap_or_else(|| std::path::Path::new(""));
    let (facts, travelling) = read_facts(path)?;
    let subjects: BTreeSet<&NodeId> = facts.iter().map(|signed| &signed.fact.subject).collect();
    let named = arguments.factory.as_deref().map(NodeId::parse).transpose().map_err(|e| usage(e.to_string()))?;
    let factory = match (named, subjects.first(), subjects.len()) {
        (Some(named), ..) => named,
        (None, Some(one), 1) => (*one).clone(),
        (None, _, 0) => return Err(usage(format!("`{}` holds no fact", path.display()))),
        _ => {
            let names: Vec<&str> = subjects.iter().map(|one| one.as_str()).collect();
            let message = format!("`{}` speaks of several factories: {}", path.display(), names.join(", "));
            return Err(usage(message).hint("name one with `--factory`"));
        }
    };
    let mut authority = travelling.map_or([0; 32], |passport| passport.authority);
    if let Some(key) = &arguments.authority {
        hex::decode_to_slice(key, &mut authority)
            .map_err(|_| usage(format!("`--authority {key}`: a key is 64 hexadecimal digits")))?;
    }
    let trust = arguments.trust.as_deref().map(read_trust).transpose()?.unwrap_or_default();
    let now_ms = arguments.at_ms.unwrap_or_else(polder_node::clock::now_ms);
    let rows: Vec<Value> =
        standings(&factory, &facts, &authority, &trust, now_ms).iter().map(|one| fact_row(one, None)).collect();
    let root = polder_core::facts::passport_root(&facts).map_err(|e| Failure::new(e.to_string()))?;
    Ok(json!({"factory": factory, "root": root, "at_ms": now_ms, "facts": rows}))
}

fn print(shown: &Value) -> Result<(), Failure> {
    let text = |fact: &Value, field: &str| fact[field].as_str().unwrap_or_default().to_owned();
    let row = |fact: &Value| {
        let counts = fact["counts"].as_str().map_or_else(|| format!("no: {}", text(fact, "ignored")), str::to_owned);
        let (from, until) = (render::date(&fact["from_ms"]), render::date(&fact["until_ms"]));
        let (slot, says, issuer) = (text(fact, "slot"), text(fact, "says"), text(fact, "issuer"));
        vec![slot, says, issuer, text(fact, "said"), from, until, counts]
    };
    let rows: Vec<Vec<String>> = shown["facts"].as_array().into_iter().flatten().map(row).collect();
    render::table(&["FACT", "SAYS", "BY", "CLASS", "FROM", "UNTIL", "COUNTS AS"], &rows)?;
    render::line(&format!("root over all of them: {}", text(shown, "root")))
}
