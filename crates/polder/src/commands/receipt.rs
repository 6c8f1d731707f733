//! `polder receipt export`: a receipt in the forms that other people's tools verify.
//!
//! What is written was verified first. A receipt's file alone is enough for a proof; the forms in which the node itself signs
//! the statement come from the node.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Subcommand, ValueEnum};
use polder_core::export::{Anchors, Beside, Export, Seals, verify_cose, verify_tlog_proof};
use polder_core::receipt::{Half, Receipt, Sealed};
use reqwest::StatusCode;
use serde_json::json;

use crate::Output;
use crate::address::Target;
use crate::client::Client;
use crate::failure::{Exit, Failure, of_file};
use crate::render;

/// Write a receipt in a form that other people's tools verify.
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
}

/// Write one statement of a receipt, with the proof that it stands in its node's log.
///
/// Beside FILE stand FILE.leaf (the log entry), FILE.statement, FILE.vkey (the log's verifier key) and, for a tlog-proof from
/// a node, FILE.dsse (the statement as in-toto in a DSSE envelope, signed by the node).
///
/// Example: polder receipt export last --format cose --out refusal.cose
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
struct ExportArguments {
    /// A decision's or completion's id, `last`, a policy's version, a leaf's place, or the file of a receipt.
    #[arg(value_name = "ID|RECEIPT")]
    what: String,
    /// The form.
    #[arg(long, value_enum)]
    format: Format,
    /// The statement: what the home decided, what the factory did, a policy that came into force, or another change.
    #[arg(long, value_enum, default_value_t = Part::Decision)]
    part: Part,
    /// The file to write; others are named after it.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
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
}

impl Part {
    fn as_str(self) -> &'static str {
        match self {
            Self::Decision => "decision",
            Self::Execution => "execution",
            Self::Activation => "activation",
            Self::Import => "import",
            Self::View => "view",
        }
    }
}

/// Exports; exit code 5 where what came does not verify.
pub async fn run(arguments: Arguments, output: Output) -> Result<ExitCode, Failure> {
    let Task::Export(arguments) = arguments.task;
    let (half, seals) = find(&arguments).await?;
    let export = half.export().map_err(not_verified)?;
    let files = files(&arguments, &export, seals.as_ref())?;
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

/// The half of a receipt, from its file or from a node, which signs it too.
async fn find(arguments: &ExportArguments) -> Result<(Half, Option<Seals>), Failure> {
    let path = Path::new(&arguments.what);
    if path.is_file() {
        return Ok((of_receipt(path, arguments)?, None));
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
        return Ok((sealed.half, Some(sealed.seals)));
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

fn of_receipt(path: &Path, arguments: &ExportArguments) -> Result<Half, Failure> {
    if arguments.format == Format::Cose {
        let message = "a COSE receipt is signed by the node whose statement it is, and a file holds no such signature";
        return Err(Failure::new(message).hint("name the decision's id, and the node with --node").exit(Exit::Usage));
    }
    let bytes = std::fs::read(path).map_err(of_file(path))?;
    let Receipt { decision, execution, .. } = polder_core::receipt::verify(&bytes, None).map_err(not_verified)?.receipt;
    match arguments.part {
        Part::Decision => Ok(decision),
        Part::Execution => execution.ok_or_else(|| Failure::new("nothing ran, so the receipt has no execution")),
        part => Err(Failure::new(format!("a receipt holds no {}", part.as_str())).exit(Exit::Usage)),
    }
}

/// The files and their bytes, once they verify.
fn files(
    arguments: &ExportArguments,
    export: &Export,
    seals: Option<&Seals>,
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
