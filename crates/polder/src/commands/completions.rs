//! `polder completions`: completion scripts for the usual shells, made from the command's own definition.

use std::process::ExitCode;

use clap::CommandFactory as _;

use crate::failure::Failure;

/// Print shell completions.
///
/// Example: polder completions bash > ~/.local/share/bash-completion/completions/polder
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Arguments {
    /// The shell.
    shell: clap_complete::Shell,
}

/// Prints the script.
pub fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut crate::Arguments::command(), "polder", &mut script);
    crate::render::line(String::from_utf8_lossy(&script).trim_end())?;
    Ok(ExitCode::SUCCESS)
}
