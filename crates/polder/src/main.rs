//! The command: text in, text out. One file per subcommand under `commands/`; parse, call, render.
//!
//! stdout is data, stderr is talk; exit codes are a format (`docs/formats.md`). Deciding and serving are absent: they live in
//! `polder-core` and `polder-node`.

mod address;
mod client;
mod commands;
mod demo;
mod failure;
mod frameworks;
mod logs;
mod render;
mod story;

use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

use failure::Failure;
use polder_node::executor::local::{SUPERVISE, supervise};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The AI endpoint that can say no.
///
/// Every request runs only where its owner's rules and the factory's own terms allow it, or is refused with the
/// reason; either way a receipt lets a stranger check.
#[derive(Debug, Parser)]
#[command(name = "polder", version, max_term_width = 100, arg_required_else_help = true)]
struct Arguments {
    /// How to print: a table for people, or one JSON document.
    #[arg(short, long, global = true, value_enum, default_value_t = Output::Table)]
    output: Output,
    #[command(subcommand)]
    command: Command,
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// The subcommands; each one's help stands with its options.
#[derive(Debug, Subcommand)]
enum Command {
    Demo(commands::demo::Arguments),
    Up(commands::up::Arguments),
    Ask(commands::ask::Arguments),
    Why(commands::why::Arguments),
    Replay(commands::replay::Arguments),
    Decide(commands::decide::Arguments),
    Run(commands::run::Arguments),
    Jobs(commands::jobs::Arguments),
    Logs(commands::job_logs::Arguments),
    Cancel(commands::jobs::Cancel),
    Rerun(commands::jobs::Rerun),
    Explain(commands::explain::Arguments),
    Usage(commands::usage::Arguments),
    Policy(commands::policy::Arguments),
    Receipt(commands::receipt::Arguments),
    Verify(commands::verify::Arguments),
    Factories(commands::factories::Arguments),
    Status(commands::status::Arguments),
    Log(commands::log::Arguments),
    Hold(commands::hold::Arguments),
    NodeKey(commands::node_key::Arguments),
    Audit(commands::audit::Arguments),
    Kill(commands::kill::Arguments),
    Key(commands::key::Arguments),
    Token(commands::token::Arguments),
    Budget(commands::budget::Arguments),
    Doctor(commands::doctor::Arguments),
    Facts(commands::facts::Arguments),
    Framework(commands::framework::Arguments),
    Drill(commands::drill::Arguments),
    Twin(commands::twin::Arguments),
    Completions(commands::completions::Arguments),
}

fn main() -> ExitCode {
    // A supervisor of a job is this program too, and needs nothing of the rest: it is to be there at once.
    if std::env::args_os().nth(1).is_some_and(|word| word == SUPERVISE) {
        return match supervise() {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        };
    }
    // The one TLS provider of the whole program; installed before anything can ask for it.
    drop(rustls::crypto::ring::default_provider().install_default());
    let arguments = Arguments::parse();
    match run(arguments) {
        Ok(code) => code,
        Err(failure) => {
            failure.print();
            failure.exit_code()
        }
    }
}

/// Builds the runtime and runs the command. Two workers: a node shares its machine with others.
fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let output = arguments.output;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|e| Failure::new(format!("cannot start the runtime: {e}")))?;
    let ended = runtime.block_on(async {
        match arguments.command {
            Command::Demo(arguments) => commands::demo::run(arguments, output).await,
            Command::Up(arguments) => commands::up::run(arguments, output).await,
            Command::Ask(arguments) => commands::ask::run(arguments, output).await,
            Command::Why(arguments) => commands::why::run(arguments, output).await,
            Command::Replay(arguments) => commands::replay::run(arguments, output).await,
            Command::Decide(arguments) => commands::decide::run(arguments, output).await,
            Command::Run(arguments) => commands::run::run(arguments, output).await,
            Command::Jobs(arguments) => commands::jobs::run(arguments, output).await,
            Command::Logs(arguments) => commands::job_logs::run(arguments).await,
            Command::Cancel(arguments) => commands::jobs::cancel(arguments, output).await,
            Command::Rerun(arguments) => commands::jobs::rerun(arguments, output).await,
            Command::Explain(arguments) => commands::explain::run(arguments, output).await,
            Command::Usage(arguments) => commands::usage::run(arguments, output).await,
            Command::Policy(arguments) => commands::policy::run(&arguments, output).await,
            Command::Receipt(arguments) => commands::receipt::run(arguments, output).await,
            Command::Verify(arguments) => commands::verify::run(&arguments, output),
            Command::Factories(arguments) => commands::factories::run(arguments, output).await,
            Command::Status(arguments) => commands::status::run(arguments, output).await,
            Command::Log(arguments) => commands::log::run(arguments, output).await,
            Command::Hold(arguments) => commands::hold::run(arguments, output).await,
            Command::NodeKey(arguments) => commands::node_key::run(arguments, output).await,
            Command::Audit(arguments) => commands::audit::run(arguments, output).await,
            Command::Kill(arguments) => commands::kill::run(&arguments, output),
            Command::Key(arguments) => commands::key::run(arguments, output).await,
            Command::Token(arguments) => commands::token::run(arguments, output).await,
            Command::Budget(arguments) => commands::budget::run(arguments, output).await,
            Command::Doctor(arguments) => commands::doctor::run(arguments, output).await,
            Command::Facts(arguments) => commands::facts::run(arguments, output).await,
            Command::Framework(arguments) => commands::framework::run(&arguments, output),
            Command::Drill(arguments) => commands::drill::run(arguments, output).await,
            Command::Twin(arguments) => commands::twin::run(arguments, output).await,
            Command::Completions(arguments) => commands::completions::run(&arguments),
        }
    });
    // Also after a failure: a thread that still waits for standard input would otherwise hold the process.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    ended
}
