//! The project's own tasks: `cargo xtask TASK`.
//!
//! One entry per task in [`TASKS`]; each task is a module of its own. Not shipped with Polder, and
//! nothing in Polder depends on it. Argument parsing is by hand, so that the tasks build in seconds.

mod bench;
mod demo_model;
mod failure;
mod federation;
#[cfg(feature = "load")]
mod load;
mod mutants;
mod process;
mod readme;
mod release;
mod soak;
mod test_run;
mod tidy;
#[cfg(feature = "train")]
mod train;

use std::process::ExitCode;

use failure::Failure;

/// One task: its name, one line for the list, its own help, and what it does.
struct Task {
    name: &'static str,
    summary: &'static str,
    help: &'static str,
    run: fn(&[String]) -> Result<(), Failure>,
}

const TASKS: &[Task] = &[
    Task { name: "tidy", summary: "read the code and check the house rules", help: tidy::HELP, run: tidy::task },
    Task {
        name: "test",
        summary: "format, lint, install the test environment, run every test",
        help: test_run::HELP,
        run: test_run::task,
    },
    Task { name: "bench", summary: "list or run the benchmarks", help: bench::HELP, run: bench::task },
    Task { name: "soak", summary: "list or run the long tests", help: soak::HELP, run: soak::task },
    Task {
        name: "mutants",
        summary: "put bugs into the protocol of jobs and let the simulator find them",
        help: mutants::HELP,
        run: mutants::task,
    },
    Task {
        name: "release",
        summary: "build the binary as it ships and print its digest",
        help: release::HELP,
        run: release::task,
    },
    Task {
        name: "train-demo-model",
        summary: "train the toy model of the demo again",
        help: demo_model::HELP,
        run: demo_model::task,
    },
];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match dispatch(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}

fn dispatch(args: &[String]) -> Result<(), Failure> {
    let Some((name, rest)) = args.split_first() else {
        print!("{}", overview());
        return Ok(());
    };
    if is_help(name) {
        print!("{}", overview());
        return Ok(());
    }
    let Some(task) = TASKS.iter().find(|task| task.name == name) else {
        return Err(Failure::usage(format!("there is no task `{name}`"), "run `cargo xtask` for the list"));
    };
    if rest.iter().any(|arg| is_help(arg)) {
        print!("{}", task.help);
        return Ok(());
    }
    (task.run)(rest)
}

fn is_help(arg: &str) -> bool {
    matches!(arg, "-h" | "--help" | "help")
}

fn overview() -> String {
    let mut text = String::from("Usage: cargo xtask TASK [OPTIONS]\n\nTasks:\n");
    for task in TASKS {
        text.push_str(&format!("  {:<18} {}\n", task.name, task.summary));
    }
    text.push_str("\n`cargo xtask TASK --help` tells more about one task.\n");
    text
}

#[cfg(test)]
mod tests;
