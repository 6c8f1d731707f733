//! `polder twin`: plans: a study run with the deciding code in virtual time, and what telemetry teaches about power.

use std::process::ExitCode;

use crate::Output;
use crate::failure::Failure;

mod calibrate;
mod grow;
mod init;
pub mod progress;
mod run;

pub use run::read_study;

/// Plan with the code that decides: run a study in virtual time, or learn from telemetry what a site draws.
///
/// A study is a text: factories with their halls, power and cooling, growth, demand and events. Where something runs in it is
/// decided by the same code, policies and facts as in production.
///
/// Example: polder twin run studies/demo.toml --report report.html
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Arguments {
    #[command(subcommand)]
    task: Task,
}

/// What to do; each one's help stands with its options.
#[derive(Debug, clap::Subcommand)]
enum Task {
    Init(init::Arguments),
    Run(run::Arguments),
    Grow(grow::Arguments),
    Calibrate(calibrate::Arguments),
}

/// Does what was asked.
pub async fn run(arguments: Arguments, output: Output) -> Result<ExitCode, Failure> {
    match arguments.task {
        Task::Init(arguments) => init::run(&arguments, output),
        Task::Run(arguments) => run::run(arguments, output).await,
        Task::Grow(arguments) => grow::run(arguments, output).await,
        Task::Calibrate(arguments) => calibrate::run(&arguments, output),
    }
}
