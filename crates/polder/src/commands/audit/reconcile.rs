//! `polder audit reconcile`: pairs what homes placed with what factories ran, and lists what has one side only.

use std::process::ExitCode;

use polder_core::monitor::{Cut, Finding, Pairs, Side, Unmatched};
use polder_core::statement::v1::Statement;
use serde_json::json;

use super::{Logs, Source, now_ms};
use crate::Output;
use crate::failure::{Exit, Failure};
use crate::render;

/// How much earlier than its last leaf a run may have decided what it lost, in milliseconds.
const CUT_SLACK_MS: u64 = 1_000;

/// Pair what homes placed with what factories ran.
///
/// Statements are paired by the decision's random id, which is in neither public log. What has one side only is listed with its
/// age and why that may be. Exits with 5 where something ran that its home has no decision for, and no crash explains it, or where
/// both sides speak of different things. Whether statements are what was logged is `polder audit monitor`'s question.
///
/// Example: polder audit reconcile home.json paris.json
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Arguments {
    #[command(flatten)]
    logs: Logs,
    /// How long something may be under way before its other side is missed, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    in_flight: u64,
}

/// Pairs; exit code 5 where something should have another side and has none.
pub async fn run(arguments: Arguments, output: Output) -> Result<ExitCode, Failure> {
    let (mut pairs, mut mismatched) = (Pairs::default(), Vec::new());
    for source in arguments.logs.sources()? {
        if !source.shows_statements() {
            let message = format!("`{}` shows no statements, and those are what is paired", source.name);
            return Err(
                Failure::new(message).hint("give --token for URLs, or name sockets or files of `polder audit export`")
            );
        }
        let read = read(&source, &mut pairs, &mut mismatched).await;
        read.map_err(|says| Failure::new(format!("`{}`: {says}", source.name)))?;
    }
    let flight_ms = arguments.in_flight.saturating_mul(1_000);
    let unmatched = pairs.unmatched(now_ms(), flight_ms);
    let well = mismatched.is_empty() && !unmatched.iter().any(|one| one.why.is_wrong());
    match output {
        Output::Json => render::json(&json!({
            "ok": well, "paired": pairs.paired(), "mismatched": mismatched, "unmatched": unmatched,
        }))?,
        Output::Table => print(&pairs, &mismatched, &unmatched)?,
    }
    Ok(if well { ExitCode::SUCCESS } else { Exit::NotVerified.into() })
}

async fn read(source: &Source, pairs: &mut Pairs, mismatched: &mut Vec<Finding>) -> Result<(), String> {
    let numbers = source.numbers().await?;
    let cut = |run: &super::reach::CutRun| Cut {
        node: numbers.node.clone(),
        from_ms: run.recorded_ms.saturating_sub(CUT_SLACK_MS),
        until_ms: run.next_ms,
    };
    pairs.show(&numbers.node, numbers.cut.iter().map(cut));
    let (log, mut from) = (format!("polder/{}", numbers.node), 0);
    loop {
        let page = source.statements(from).await?;
        for row in &page.statements {
            // A newer node may say what is not known here; it has no other side.
            if let Ok(statement) = serde_json::from_str::<Statement>(&row.statement) {
                mismatched.extend(pairs.take(&log, row.index, &statement));
            }
        }
        if page.next <= from {
            return Ok(());
        }
        from = page.next;
    }
}

fn print(pairs: &Pairs, mismatched: &[Finding], unmatched: &[Unmatched]) -> Result<(), Failure> {
    render::line(&format!("{} pairs", pairs.paired()))?;
    for finding in mismatched {
        let index = finding.index.unwrap_or_default();
        render::line(&format!("mismatch: {}, leaf {index}: {}", finding.log, finding.claimed))?;
    }
    if unmatched.is_empty() {
        return render::line("nothing has one side only");
    }
    let row = |one: &Unmatched| {
        let side = match one.side {
            Side::Home => "placed",
            Side::Factory => "ran",
        };
        vec![
            one.decision.to_string(),
            side.to_owned(),
            one.log.clone(),
            one.index.to_string(),
            one.other.to_string(),
            format!("{} s", one.age_ms / 1_000),
            one.why.words().to_owned(),
        ]
    };
    let heading = ["DECISION", "SIDE", "LOG", "LEAF", "MISSING AT", "AGE", "WHY"];
    render::table(&heading, &unmatched.iter().map(row).collect::<Vec<_>>())
}
