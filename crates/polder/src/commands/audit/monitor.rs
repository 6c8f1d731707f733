//! `polder audit monitor`: follows logs and says what cannot be so.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use polder_core::monitor::Finding;
use serde_json::{Value, json};

use super::pass::Pass;
use super::state::State;
use super::{Anchors, Keys, Logs, now_ms};
use crate::Output;
use crate::failure::{Exit, Failure};
use crate::render;

/// Follow logs: whether each has one history, and whether everything in it can be so.
///
/// Of any log: signatures, cosignatures (--policy), growth, one history for all who look. Where statements are shown (a token,
/// a socket, an exported file), also: numbers without gaps, days, instants, each decision decided again by its policies and facts,
/// and that what homes placed and what factories ran are the same. Exits with 5 where anything was found; docs/audit.md says
/// what each word means.
///
/// Example: polder audit monitor https://home.example.org https://factory.example.org --members members.json --state seen.json
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Arguments {
    #[command(flatten)]
    logs: Logs,
    #[command(flatten)]
    keys: Keys,
    /// Remember what was seen in this file; without it every start reads the logs from their first leaf.
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// Look once and end.
    #[arg(long)]
    once: bool,
    /// How long to wait between two looks, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    every: u64,
    /// How long something may be under way before its other side is missed, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    in_flight: u64,
}

/// Looks once, or until it is stopped; exit code 5 where anything was found.
pub async fn run(arguments: Arguments, output: Output) -> Result<ExitCode, Failure> {
    let sources = arguments.logs.sources()?;
    let mut anchors = arguments.keys.read(arguments.logs.members().as_deref())?;
    let mut state = State::read(arguments.state.as_deref())?;
    let mut wrong = false;
    loop {
        let found = look(&arguments, &mut anchors, &sources, &mut state, output).await?;
        wrong |= found;
        if arguments.once {
            break;
        }
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(arguments.every)) => {}
            stopped = tokio::signal::ctrl_c() => {
                drop(stopped);
                break;
            }
        }
    }
    Ok(if wrong { Exit::NotVerified.into() } else { ExitCode::SUCCESS })
}

/// One look, kept and printed; whether anything is found, now or before.
async fn look(
    arguments: &Arguments,
    anchors: &mut Anchors,
    sources: &[super::Source],
    state: &mut State,
    output: Output,
) -> Result<bool, Failure> {
    let mut pass = Pass::new(anchors, state);
    pass.run(sources).await;
    let Pass { mut findings, looked, .. } = pass;
    let now = now_ms();
    let flight_ms = arguments.in_flight.saturating_mul(1_000);
    findings.extend(state.pairs.findings(now, flight_ms));
    state.pairs.forget(now);
    let before = state.findings.clone();
    let new = state.keep(findings);
    state.write(arguments.state.as_deref())?;
    let wrong = !before.is_empty() || !new.is_empty();
    match output {
        Output::Json => {
            let rows = |findings: &[Finding], new: bool| -> Vec<Value> {
                let row = |finding: &Finding| {
                    let mut value = serde_json::to_value(finding).unwrap_or_default();
                    value["new"] = new.into();
                    value
                };
                findings.iter().map(row).collect()
            };
            let findings = [rows(&before, false), rows(&new, true)].concat();
            let unmatched = state.pairs.unmatched(now, flight_ms);
            render::json(&json!({
                "ok": !wrong, "logs": looked, "paired": state.pairs.paired(), "unmatched": unmatched.len(), "findings": findings,
            }))?;
        }
        Output::Table => {
            let row = |one: &super::pass::Looked| {
                vec![one.log.clone(), one.leaves.to_string(), one.statements.to_string(), one.decisions.to_string()]
            };
            render::table(
                &["LOG", "LEAVES", "READ NOW", "DECIDED AGAIN"],
                &looked.iter().map(row).collect::<Vec<_>>(),
            )?;
            if !before.is_empty() {
                render::line(&format!("found before: {}", before.len()))?;
            }
            before.iter().chain(&new).try_for_each(print)?;
            if !wrong {
                render::line("nothing was found")?;
            }
        }
    }
    Ok(wrong)
}

fn print(finding: &Finding) -> Result<(), Failure> {
    let at = finding.index.map_or_else(String::new, |index| format!(", leaf {index}"));
    render::line(&format!("{}: {}{at}: {}", finding.kind.as_str(), finding.log, finding.claimed))?;
    render::line(&format!("  follows: {}", finding.follows))?;
    render::line(&format!("  next:    {}", finding.next))
}
