//! `polder backup` and `polder restore`: a node's whole state in one file, and back.
//!
//! Scheduling backups and carrying them elsewhere is absent: any scheduler runs a command.

use std::path::PathBuf;
use std::process::ExitCode;

use polder_node::backup::{self, Manifest};
use polder_node::config::Config;
use serde_json::json;

use crate::Output;
use crate::failure::Failure;
use crate::render;

/// Write a node's whole state into one file: database, log and kept content.
///
/// The node may go on running. With --keys-passphrase-file its keys are in the file too, sealed by
/// that passphrase; without it keep the folder `keys/` elsewhere. Configuration and policy files are
/// yours, and are not in it.
///
/// Example: polder backup paris.backup --config paris/polder.toml --keys-passphrase-file phrase
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct BackupArguments {
    /// The file, which must not be there yet.
    file: PathBuf,
    /// The node's configuration file.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The file that holds the passphrase for the keys, on its first line; readable by its owner only.
    #[arg(long, value_name = "FILE")]
    keys_passphrase_file: Option<PathBuf>,
}

/// Read a node's state back from a backup, into a state folder that holds none.
///
/// When the node starts it asks its witnesses how far its log had come, and does not sign anything
/// behind that: leaves that are newer than the backup are lost, and a second history beside them
/// would be a fork.
///
/// Example: polder restore paris.backup --config paris/polder.toml --keys-passphrase-file phrase
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct RestoreArguments {
    /// The backup.
    file: PathBuf,
    /// The node's configuration file.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The file that holds the passphrase that sealed the keys.
    #[arg(long, value_name = "FILE")]
    keys_passphrase_file: Option<PathBuf>,
    /// A witness that is gone for good and need not be asked. Can be given more than once.
    #[arg(long, value_name = "NODE")]
    without_witness: Vec<String>,
}

fn failed(error: impl ToString) -> Failure {
    Failure::new(error.to_string())
}

/// Writes a backup.
pub async fn backup(arguments: BackupArguments, output: Output) -> Result<ExitCode, Failure> {
    let config = Config::load(&arguments.config).map_err(failed)?;
    let passphrase = arguments.keys_passphrase_file.as_deref().map(backup::passphrase).transpose().map_err(failed)?;
    let written = backup::write(&config, &arguments.file, passphrase.as_deref()).await.map_err(failed)?;
    said(&written, output, "holds the state of")?;
    if written.keys.is_none() {
        eprintln!("the keys are not in it: keep `{}` elsewhere", config.state.join("keys").display());
    }
    Ok(ExitCode::SUCCESS)
}

/// Reads a backup back.
pub fn restore(arguments: RestoreArguments, output: Output) -> Result<ExitCode, Failure> {
    let config = Config::load(&arguments.config).map_err(failed)?;
    let passphrase = arguments.keys_passphrase_file.as_deref().map(backup::passphrase).transpose().map_err(failed)?;
    let without = arguments.without_witness;
    let restored = backup::restore(&config, &arguments.file, passphrase.as_deref(), without).map_err(failed)?;
    said(&restored, output, "is restored as the state of")?;
    if output == Output::Table {
        eprintln!("next:  polder up --config {}", arguments.config.display());
    }
    Ok(ExitCode::SUCCESS)
}

fn said(manifest: &Manifest, output: Output, what: &str) -> Result<(), Failure> {
    let bytes: u64 = manifest.files.iter().map(|entry| entry.bytes).fold(0, u64::saturating_add);
    match output {
        Output::Json => render::json(&json!({
            "node": manifest.node, "at_ms": manifest.at_ms, "leaves": manifest.leaves, "files": manifest.files.len(),
            "bytes": bytes, "keys": manifest.keys.is_some(),
        })),
        Output::Table => render::line(&format!(
            "the backup of {} UTC {what} `{}`: {} leaves, {} files, {bytes} bytes",
            render::instant(&manifest.at_ms.into()),
            manifest.node,
            manifest.leaves,
            manifest.files.len(),
        )),
    }
}
