//! `polder policy activate`, `history` and `rollback`: which policy is in force at a home, and how it came there.

use std::path::PathBuf;
use std::process::ExitCode;

use polder_core::policy::PolicyError;
use serde_json::{Value, json};

use super::{read, shown};
use crate::Output;
use crate::address::Target;
use crate::client::Answer;
use crate::failure::{Exit, Failure};
use crate::render;

/// How much of a digest is shown, in hexadecimal digits: enough to name a version by.
const DIGITS: usize = 12;

/// Which home is meant.
#[derive(Debug, clap::Args)]
pub struct At {
    /// This tenant's home in the demo; the first one where absent.
    #[arg(long)]
    pub tenant: Option<String>,
    #[command(flatten)]
    pub target: Target,
}

/// Put a policy in force at a home.
///
/// The home checks it, proves its guardrails about it unless it can only forbid more, writes it to
/// its log, and then decides by it, from one request to the next. Where anything fails, the policy
/// of before stays in force. Exit code 5: a guardrail does not hold, or could not be proved.
///
/// Example: polder policy activate policy.cedar --tenant bank
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Activate {
    /// The policy's file.
    file: PathBuf,
    #[command(flatten)]
    at: At,
}

/// Show which policy is in force at a home, and every one before it.
///
/// Example: polder policy history --tenant bank
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct History {
    #[command(flatten)]
    at: At,
}

/// Put a former policy in force again: the one before, or the one that is named.
///
/// The guardrails are proved about it like about any other. Exit code 5: one does not hold, or
/// could not be proved.
///
/// Example: polder policy rollback 3 --tenant bank
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Rollback {
    /// A version's number, or the beginning of its digest; the one before where absent.
    version: Option<String>,
    #[command(flatten)]
    at: At,
}

impl At {
    /// The home.
    pub fn home(&self) -> Result<crate::client::Client, Failure> {
        self.target.home(self.tenant.as_deref())
    }
}

/// Activates, and says what is in force now.
pub async fn activate(arguments: &Activate, output: Output) -> Result<ExitCode, Failure> {
    let text = read(&arguments.file)?;
    let name = arguments.file.file_name().unwrap_or_default().to_string_lossy();
    let body = json!({"file": name, "text": text});
    let answer = arguments.at.home()?.post("/api/v1/policies/activate", &body, &[]).await?;
    in_force(answer, Some(&text), output)
}

/// Rolls back, and says what is in force now.
pub async fn rollback(arguments: &Rollback, output: Output) -> Result<ExitCode, Failure> {
    let body = arguments.version.as_ref().map_or_else(|| json!({}), |to| json!({"to": to}));
    let answer = arguments.at.home()?.post("/api/v1/policies/rollback", &body, &[]).await?;
    in_force(answer, None, output)
}

fn in_force(answer: Answer, text: Option<&str>, output: Output) -> Result<ExitCode, Failure> {
    let said = answer.json();
    if !answer.status.is_success() {
        if let Some(fault) = said.get("policy").and_then(fault) {
            return Err(Failure::new(text.map_or_else(|| fault.to_string(), |text| shown(&fault, text))));
        }
        if said.get("proofs").is_some() {
            return kept_out(&said, output);
        }
    }
    let said = answer.ok()?;
    if output == Output::Json {
        render::json(&said)?;
        return Ok(ExitCode::SUCCESS);
    }
    let version = &said["version"];
    let (number, file, digest) = (&version["number"], word(version, "file"), digits(version));
    if said["changed"] == false {
        render::line(&format!("version {number} was in force already: {file}, {digest}"))?;
        return Ok(ExitCode::SUCCESS);
    }
    render::line(&format!("version {number} is in force: {file}, {digest}, leaf {} of the log", version["leaf"]))?;
    render::line(&format!("guardrails: {}", proved(version)))?;
    Ok(ExitCode::SUCCESS)
}

/// A guardrail that does not hold: the verdicts, and the request that shows it.
fn kept_out(said: &Value, output: Output) -> Result<ExitCode, Failure> {
    let proofs = said["proofs"].as_array().cloned().unwrap_or_default();
    if output == Output::Json {
        render::json(said)?;
    } else if !proofs.is_empty() {
        let row = |proof: &Value| vec![word(proof, "name"), word(proof, "verdict"), format!("{} ms", proof["ms"])];
        render::table(&["GUARDRAIL", "VERDICT", "TIME"], &proofs.iter().map(row).collect::<Vec<_>>())?;
        for note in proofs.iter().filter_map(|proof| proof["note"].as_str()) {
            render::line(note)?;
        }
        if let Some(example) = proofs.last().and_then(|proof| proof.get("example")).filter(|one| !one.is_null()) {
            render::line("a request that it would let through, for `polder decide --request FILE`:")?;
            render::json(example)?;
        }
    }
    let hint = "the policy of before stays in force; change the policy, or the guardrail in the node's `[home]`";
    Err(Failure::new(word(said, "detail")).hint(hint).exit(Exit::NotVerified))
}

fn fault(said: &Value) -> Option<PolicyError> {
    let number = |key: &str| u32::try_from(said[key].as_u64()?).ok();
    Some(PolicyError {
        file: said["file"].as_str()?.to_owned(),
        line: number("line")?,
        column: number("column")?,
        message: said["message"].as_str()?.to_owned(),
        hint: said["hint"].as_str().map(str::to_owned),
    })
}

/// Prints the versions, newest first; the first is in force.
pub async fn history(arguments: &History, output: Output) -> Result<ExitCode, Failure> {
    let said = arguments.at.home()?.get("/api/v1/policies").await?.ok()?;
    if output == Output::Json {
        render::json(&said)?;
        return Ok(ExitCode::SUCCESS);
    }
    let active = &said["active"]["number"];
    let row = |version: &Value| {
        vec![
            version["number"].to_string(),
            if version["number"] == *active { "yes" } else { "" }.to_owned(),
            render::instant(&version["at_ms"]),
            word(version, "how"),
            word(version, "file"),
            digits(version),
            version["leaf"].to_string(),
            proved(version),
        ]
    };
    let rows: Vec<Vec<String>> = said["history"].as_array().into_iter().flatten().map(row).collect();
    render::table(&["VERSION", "IN FORCE", "SINCE (UTC)", "BY", "FILE", "DIGEST", "LEAF", "GUARDRAILS"], &rows)?;
    for problem in said["problems"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        render::line(problem)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn word(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_default().to_owned()
}

/// The beginning of a version's digest.
pub fn digits(version: &Value) -> String {
    version["digest"].as_str().unwrap_or_default().chars().take(DIGITS).collect()
}

/// What was proved for a version, in a few words.
fn proved(version: &Value) -> String {
    let proofs = version["proofs"].as_array().map_or(0, Vec::len);
    match (proofs, version["narrower"].as_bool()) {
        (0, Some(true)) => "only narrower, none asked".to_owned(),
        (0, _) => "none".to_owned(),
        (count, _) => format!("{count} proven"),
    }
}
