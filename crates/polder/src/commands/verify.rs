//! `polder verify`: checks a receipt in any of its forms, with nothing but files.

use std::path::PathBuf;
use std::process::ExitCode;

use polder_core::export::witnessed;
use polder_core::keys::NodeCard;
use polder_core::receipt::{self, Check};
use polder_core::statement::v1::Statement;
use polder_core::tlog_policy::Policy;
use polder_node::config::Member;
use serde_json::json;

use crate::Output;
use crate::failure::{Exit, Failure, of_file};
use crate::render;

mod exported;
mod revoked;

/// Check a receipt, offline: signatures, inclusion in both logs, and that both halves belong together.
///
/// Takes a receipt's JSON, and what `polder receipt export` writes: a C2SP tlog-proof with the files beside it, or COSE.
/// A receipt proves who claimed what, and that nobody changed it afterwards; it does not prove that a claim was true.
/// Without --members, --policy or --vkey the nodes are those that the receipt itself names.
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
    /// A C2SP tlog-policy: the logs that are accepted, and how many of which witnesses must have cosigned.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// The key history of a log's node, as `polder node-key export` or its `/log/keys` gives it; may be repeated. What rests on a revoked
    /// key then counts only where a witness of --policy or --members had cosigned it before.
    #[arg(long, value_name = "FILE")]
    keys: Vec<PathBuf>,
    /// The verifier key of an exported receipt's log; FILE.vkey where absent.
    #[arg(long, value_name = "NAME+HASH+KEY")]
    vkey: Vec<String>,
}

impl Arguments {
    fn policy(&self) -> Result<Option<Policy>, Failure> {
        self.policy.as_deref().map(read_policy).transpose()
    }
}

/// A tlog-policy from its file.
pub fn read_policy(path: &std::path::Path) -> Result<Policy, Failure> {
    let text = std::fs::read(path).map_err(of_file(path))?;
    Policy::parse(&text).map_err(|error| Failure::new(format!("`{}`: {error}", path.display())))
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
    let checked = check(&bytes, members.as_deref(), arguments)?;
    match (&checked, output) {
        (Ok(report), Output::Json) => {
            let passed: Vec<&str> = report.passed.iter().map(|check| check.as_str()).collect();
            render::json(&json!({"verified": true, "passed": passed, "says": report.says}))?;
        }
        (Err(failure), Output::Json) => {
            render::json(&json!({"verified": false, "check": failure.check.as_str(), "message": failure.message}))?;
        }
        (Ok(report), Output::Table) => {
            render::line("verified")?;
            for check in &report.passed {
                render::line(&format!("  {:<11} {}", check.as_str(), meaning(*check)))?;
            }
            if members.is_none() && !arguments.anchored() {
                render::line("  members     not checked: the nodes are those that the receipt names (--members FILE)")?;
            }
            render::line(&format!("It says: {}.", report.says))?;
            render::line("It proves who said so and that nobody changed it since, not that it is true.")?;
        }
        (Err(failure), Output::Table) => {
            render::line(&format!("NOT verified: check `{}` failed: {}", failure.check.as_str(), failure.message))?;
        }
    }
    Ok(if checked.is_ok() { ExitCode::SUCCESS } else { Exit::NotVerified.into() })
}

/// What passed, and what the receipt says.
struct Passed {
    passed: Vec<Check>,
    says: String,
}

impl Arguments {
    fn anchored(&self) -> bool {
        self.policy.is_some() || !self.vkey.is_empty()
    }
}

fn check(
    bytes: &[u8],
    members: Option<&[NodeCard]>,
    arguments: &Arguments,
) -> Result<Result<Passed, receipt::Failure>, Failure> {
    let form = exported::Form::of(bytes);
    if form != exported::Form::Receipt {
        let held = exported::verify(bytes, form, arguments)?;
        let lives = revoked::Lives::read(arguments)?;
        let held = held.and_then(|held| lives.check_exported(bytes, form, held));
        return Ok(held.map(|held| Passed { says: exported::says(&held), passed: held.passed }));
    }
    if !arguments.vkey.is_empty() {
        let failure = Failure::new("a receipt's JSON names its nodes' keys itself, so --vkey says nothing about it");
        return Err(failure.hint("use --members or --policy").exit(Exit::Usage));
    }
    let policy = arguments.policy()?;
    let lives = revoked::Lives::read(arguments)?;
    Ok(receipt::verify(bytes, members).and_then(|mut report| {
        if let Some(policy) = &policy {
            for half in std::iter::once(&report.receipt.decision).chain(&report.receipt.execution) {
                witnessed(&half.checkpoint, &half.export()?.log, policy)?;
            }
            report.passed.push(Check::Witnesses);
        }
        lives.check_receipt(&mut report)?;
        Ok(Passed { says: says(&report), passed: report.passed })
    }))
}

fn meaning(check: Check) -> &'static str {
    match check {
        Check::Format => "the file is a receipt in its one form",
        Check::Keys => "the keys are the nodes' own, or were given",
        Check::Members => "each identity is that of the member of its name",
        Check::Checkpoint => "each checkpoint is signed by its log",
        Check::Inclusion => "each statement stands in its log",
        Check::Tables => "the tables are those that the decision names",
        Check::Pairing => "the statements belong together",
        Check::Statement => "the log entry commits to this statement",
        Check::Signature => "the node signed the statement itself",
        Check::Witnesses => "as many witnesses signed as the policy wants",
        Check::Revocation => "the log's key was not revoked, or witnesses signed before",
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
