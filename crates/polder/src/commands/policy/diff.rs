//! `polder policy diff`: what a change of policy would mean for the decisions of late.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::{Value, json};

use super::lifecycle::{At, digits};
use super::read;
use crate::Output;
use crate::failure::Failure;
use crate::render;

/// Show which of a home's latest decisions another policy would change.
///
/// The home decides them anew under both policies, on the facts, terms and load of this moment.
/// Nothing runs and nothing changes. One file alone is held against the policy in force.
///
/// Example: polder policy diff old.cedar new.cedar --last 200 --tenant bank
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Arguments {
    /// The old policy's file; alone, the new one's.
    old: PathBuf,
    /// The new policy's file.
    new: Option<PathBuf>,
    /// How many of the latest decisions to make anew.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    last: u32,
    #[command(flatten)]
    at: At,
}

/// Prints the difference.
pub async fn run(arguments: &Arguments, output: Output) -> Result<ExitCode, Failure> {
    let source = |file: &Path| {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        Ok::<_, Failure>(json!({"file": name, "text": read(file)?}))
    };
    let mut body = json!({"last": arguments.last});
    match &arguments.new {
        Some(new) => (body["old"], body["new"]) = (source(&arguments.old)?, source(new)?),
        None => body["new"] = source(&arguments.old)?,
    }
    let said = arguments.at.home()?.post("/api/v1/policies/diff", &body, &[]).await?.ok()?;
    match output {
        Output::Json => render::json(&said)?,
        Output::Table => print(&said)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn print(said: &Value) -> Result<(), Failure> {
    for side in ["old", "new"] {
        let policy = &said[side];
        render::line(&format!("{side}  {}  {}", policy["file"].as_str().unwrap_or_default(), digits(policy)))?;
    }
    for kind in ["added", "removed", "changed"] {
        let rules: Vec<String> = said["rules"][kind]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .map(|r| format!("`{r}`"))
            .collect();
        if !rules.is_empty() {
            render::line(&format!("{kind}: {}", rules.join(", ")))?;
        }
    }
    if said["narrower"] == true {
        render::line("the new policy can only forbid more")?;
    }
    let changed = said["changed"].as_array().cloned().unwrap_or_default();
    let (decisions, unchanged) = (&said["decisions"], &said["unchanged"]);
    render::line(&format!("{decisions} decisions made anew: {unchanged} stay as they are, {} change", changed.len()))?;
    if !changed.is_empty() {
        let rows: Vec<Vec<String>> = changed.iter().map(row).collect();
        render::table(&["DECISION", "PROJECT", "WAS", "WOULD BE", "BECAUSE"], &rows)?;
    }
    Ok(())
}

fn row(changed: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let said = |value: &Value| match value["factory"].as_str() {
        Some(factory) => format!("{} in {factory}", text(&value["outcome"])),
        None => text(&value["outcome"]),
    };
    let because = |one: &Value| {
        let says = if one["policy"] == "new" { "refuses" } else { "no longer refuses" };
        format!("`{}` {says} {}", text(&one["rule"]), text(&one["factory"]))
    };
    let reasons: Vec<String> = changed["because"].as_array().into_iter().flatten().map(because).collect();
    vec![
        text(&changed["decision"]),
        text(&changed["request"]["project"]),
        said(&changed["was"]),
        said(&changed["would"]),
        reasons.join("; "),
    ]
}
