//! `polder receipt`: a receipt in the forms that other people's tools verify, and what is deleted of one.
//!
//! What is written was verified first. A receipt's file alone is enough for a proof; the forms in which the node itself signs
//! the statement come from the node.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Subcommand, ValueEnum};
use polder_core::canonical;
use polder_core::export::{Anchors, Beside, Export, Seals, check_tables, verify_cose, verify_tlog_proof};
use polder_core::receipt::{Half, Receipt, Sealed};
use polder_core::tables::Tables;
use reqwest::StatusCode;
use serde_json::json;

use super::verify::read_policy;
use crate::Output;
use crate::address::Target;
use crate::client::Client;
use crate::failure::{Exit, Failure, of_file};
use crate::render;

mod forget;

/// Write a receipt in a form that other people's tools verify, or delete what a node keeps of one.
///
/// Example: polder receipt export last --format tlog-proof --out refusal.tlog-proof
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    Export(ExportArguments),
    Forget(forget::Arguments),
}

/// Write one statement of a receipt, with the proof that it stands in its node's log.
///
/// Beside FILE stand FILE.leaf (the log entry), FILE.statement and FILE.vkey (the log's verifier key);
/// for a decision FILE.tables, which its statement names by digest; and for a tlog-proof from a node
/// FILE.dsse (the statement as in-toto in a DSSE envelope, signed by the node).
///
/// Example: polder receipt export last --format cose --out refusal.cose
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
struct ExportArguments {
    /// A decision's or completion's id, `last`, a policy's version, a leaf's place, a day, or the file of a receipt.
    #[arg(value_name = "ID|RECEIPT")]
    what: String,
    /// The form.
    #[arg(long, value_enum)]
    format: Format,
    /// The statement: what the home decided, what the factory did, a policy that came into force, another change, or a day.
    #[arg(long, value_enum, default_value_t = Part::Decision)]
    part: Part,
    /// The file to write; others are named after it.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Keep only the cosignatures that this C2SP tlog-policy asks for; all where it is absent.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Ask this tenant's node only.
    #[arg(long)]
    tenant: Option<String>,
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// C2SP tlog-proof: text, with the checkpoint and its cosignatures.
    TlogProof,
    /// A COSE_Sign1 with the log's receipt after RFC 9942.
    Cose,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// What the home decided.
    Decision,
    /// What the factory did.
    Execution,
    /// A policy that came into force; the id is its version.
    Activation,
    /// Facts that were taken in; the id is the leaf's place in the log.
    Import,
    /// Other texts that a home goes by; the id is the leaf's place in the log.
    View,
    /// Statements that were deleted; the id is the leaf's place in the log.
    Deletion,
    /// A legal hold that was put or lifted; the id is the leaf's place in the log.
    Hold,
    /// A key of the node that was rotated or revoked; the id is the leaf's place in the log.
    Key,
    /// A membership that began or ended; the id is the leaf's place in the log.
    Member,
    /// What was written on a day; the id is the day, counted from the Unix epoch, or `last`.
    Day,
}

impl Part {
    fn as_str(self) -> &'static str {
        match self {
            Self::Decision => "decision",
            Self::Execution => "execution",
            Self::Activation => "activation",
            Self::Import => "import",
            Self::View => "view",
            Self::Deletion => "deletion",
            Self::Hold => "hold",
            Self::Key => "key",
            Self::Member => "member",
            Self::Day => "day",
        }
    }
}

/// Exports; exit code 5 where what came does not verify.
pub async fn run(arguments: Arguments, output: Output) -> Result<ExitCode, Failure> {
    match arguments.task {
        Task::Export(arguments) => export(&arguments, output).await,
        Task::Forget(arguments) => forget::run(&arguments, output).await,
    }
}

async fn export(arguments: &ExportArguments, output: Output) -> Result<ExitCode, Failure> {
    let (half, seals, tables) = find(arguments).await?;
    let mut export = half.export().map_err(not_verified)?;
    if let Some(path) = &arguments.policy {
        export = export.witnessed_for(&read_policy(path)?).map_err(not_verified)?;
    }
    let files = files(arguments, &export, seals.as_ref(), tables.as_ref())?;
    for (path, bytes) in &files {
        std::fs::write(path, bytes).map_err(of_file(path))?;
    }
    let names: Vec<String> = files.iter().map(|(path, _)| path.display().to_string()).collect();
    match output {
        Output::Json => render::json(&json!({"files": names}))?,
        Output::Table => names.iter().try_for_each(|name| render::line(name))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn not_verified(failure: polder_core::receipt::Failure) -> Failure {
    let message =
        format!("the receipt does not hold, and nothing was written: check `{}`: {failure}", failure.check.as_str());
    Failure::new(message).exit(Exit::NotVerified)
}

/// The half of a receipt, from its file or from a node, which signs it too; and the tables that a decision names.
async fn find(arguments: &ExportArguments) -> Result<(Half, Option<Seals>, Option<Tables>), Failure> {
    let path = Path::new(&arguments.what);
    if path.is_file() {
        let (half, tables) = of_receipt(path, arguments)?;
        return Ok((half, None, tables));
    }
    let id = arguments.what.trim_start_matches("/api/v1/receipts/");
    let path = format!("/api/v1/sealed/{}/{id}", arguments.part.as_str());
    for client in clients(arguments)? {
        let answer = client.get(&path).await?;
        if answer.status == StatusCode::NOT_FOUND {
            continue;
        }
        let sealed: Sealed = serde_json::from_value(answer.ok()?)
            .map_err(|error| Failure::new(format!("the node's answer is not understood: {error}")))?;
        return Ok((sealed.half, Some(sealed.seals), sealed.tables));
    }
    let message =
        format!("no node has the {} of `{}`, nor is it a receipt's file", arguments.part.as_str(), arguments.what);
    Err(Failure::new(message).hint("ids stand in `polder-decision` headers; a refusal has no execution"))
}

fn clients(arguments: &ExportArguments) -> Result<Vec<Client>, Failure> {
    if let Some(client) = arguments.target.single()? {
        return Ok(vec![client]);
    }
    let record = arguments.target.demo()?;
    match &arguments.tenant {
        Some(tenant) => Ok(vec![record.client(record.tenant(Some(tenant))?.home.as_str())?]),
        None => record.tenants.iter().map(|one| record.client(one.home.as_str())).collect(),
    }
}

fn of_receipt(path: &Path, arguments: &ExportArguments) -> Result<(Half, Option<Tables>), Failure> {
    if arguments.format == Format::Cose {
        let message = "a COSE receipt is signed by the node whose statement it is, and a file holds no such signature";
        return Err(Failure::new(message).hint("name the decision's id, and the node with --node").exit(Exit::Usage));
    }
    let bytes = std::fs::read(path).map_err(of_file(path))?;
    let receipt = polder_core::receipt::verify(&bytes, None).map_err(not_verified)?.receipt;
    let Receipt { decision, tables, execution, .. } = receipt;
    match arguments.part {
        Part::Decision => Ok((decision, Some(tables))),
        Part::Execution => {
            let none = || Failure::new("nothing ran, so the receipt has no execution");
            execution.map(|half| (half, None)).ok_or_else(none)
        }
        part => Err(Failure::new(format!("a receipt holds no {}", part.as_str())).exit(Exit::Usage)),
    }
}

/// The files and their bytes, once they verify.
fn files(
    arguments: &ExportArguments,
    export: &Export,
    seals: Option<&Seals>,
    tables: Option<&Tables>,
) -> Result<Vec<(PathBuf, Vec<u8>)>, Failure> {
    let anchors = Anchors { keys: vec![export.log.clone()], ..Anchors::default() };
    let leaf = export.entry().0;
    let beside = |ending: &str| {
        let mut name = arguments.out.clone().into_os_string();
        name.push(ending);
        PathBuf::from(name)
    };
    let mut files = vec![
        (beside(".leaf"), leaf.to_vec()),
        (beside(".statement"), export.statement.clone()),
        (beside(".vkey"), format!("{}\n", export.log).into_bytes()),
    ];
    if let Some(tables) = tables {
        let bytes = canonical::to_bytes(tables).map_err(|e| Failure::new(e.to_string()))?;
        check_tables(&export.statement, &bytes).map_err(not_verified)?;
        files.push((beside(".tables"), bytes));
    }
    let main = match (arguments.format, seals) {
        (Format::TlogProof, seals) => {
            let proof = export.tlog_proof().map_err(not_verified)?;
            let dsse = seals.map(|seals| export.dsse(seals)).transpose().map_err(not_verified)?;
            let shown = Beside { statement: Some(&export.statement), leaf: Some(&leaf), dsse: dsse.as_deref() };
            verify_tlog_proof(proof.as_bytes(), shown, &anchors).map_err(not_verified)?;
            files.extend(dsse.map(|dsse| (beside(".dsse"), dsse)));
            proof.into_bytes()
        }
        (Format::Cose, Some(seals)) => {
            let cose = export.cose(seals).map_err(not_verified)?;
            verify_cose(&cose, &anchors).map_err(not_verified)?;
            cose
        }
        (Format::Cose, None) => return Err(Failure::new("the node sent no signatures")),
    };
    files.insert(0, (arguments.out.clone(), main));
    Ok(files)
}
