//! `polder audit`: what an auditor looks at.

use std::process::ExitCode;

use clap::Subcommand;

use crate::Output;
use crate::failure::Failure;

mod keys;

/// Look at what an auditor looks at.
///
/// Example: polder audit keys --socket state/api.sock
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    Keys(keys::Arguments),
}

/// Runs the task.
pub async fn run(arguments: Arguments, output: Output) -> Result<ExitCode, Failure> {
    match arguments.task {
        Task::Keys(arguments) => keys::run(&arguments, output).await,
    }
}
