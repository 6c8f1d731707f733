//! `cargo xtask test`: everything a change must pass, in order, with a summary at the end.
//!
//! Each step is one entry in [`STEPS`]. All steps run even when one fails, so that one run tells everything;
//! the exit code tells whether any failed. What could not run is skipped with its reason and counted.
//! Long tests are absent, see `cargo xtask soak`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use crate::failure::Failure;
use crate::process;

mod environment;

/// The task's help.
pub const HELP: &str = "\
Usage: cargo xtask test [--only STEP]... [--skip-install]

Runs, in order:
  fmt      cargo fmt --check
  clippy   cargo clippy on everything, warnings are errors
  deny     cargo deny check; cargo-deny is installed beside the build results where it is missing
  install  the test environment: the clients that clients/ pins, in .test-env/, the solver cvc5,
           and a server that speaks S3
  build    the binaries and the tests, in the release profile
  test     all tests, with nextest where it is installed
  doc      the examples in the documentation

  --only STEP      run this step only; may be given several times
  --skip-install   install nothing; tests that need what is missing are skipped and counted

Tests learn of the environment by POLDER_TEST_PYTHON (an interpreter with the clients) and
POLDER_TEST_NODE_DIR (a folder whose node_modules holds them), and of the solver by POLDER_CVC5
(its program), and of the server by POLDER_TEST_S3; where one is missing, POLDER_TEST_SKIP_REASON says why. A test that cannot run appends a line `NAME: REASON`
to the file that POLDER_TEST_SKIPS names, and passes; the summary counts these lines.

Example:
  cargo xtask test --only test --skip-install
";

/// How many schedules of faults the machines of jobs are put through.
const SCHEDULES: &str = "20000";

/// How a step ended.
enum Outcome {
    Passed,
    Skipped(String),
}

/// What the steps share.
struct Run {
    root: PathBuf,
    install: bool,
    missing: String,
    skips: PathBuf,
}

type Step = (&'static str, fn(&mut Run) -> Result<Outcome, Failure>);

const STEPS: &[Step] = &[
    ("fmt", fmt),
    ("clippy", clippy),
    ("deny", deny),
    ("install", install),
    ("build", build),
    ("test", test),
    ("doc", doc),
];

/// Runs the steps and prints the summary.
pub fn task(args: &[String]) -> Result<(), Failure> {
    let (only, skip_install) = options(args)?;
    let root = process::root()?;
    let skips = root.join(environment::FOLDER).join("skipped.txt");
    forget(&skips)?;
    let missing = "the step `install` has not run".to_owned();
    let mut run = Run { root, install: !skip_install, missing, skips };
    let mut summary = String::new();
    let mut failed = Vec::new();
    for (name, step) in STEPS.iter().filter(|(name, _)| only.is_empty() || only.iter().any(|one| one == name)) {
        eprintln!("\n== {name} ==");
        let start = Instant::now();
        let needs_build = matches!(*name, "test" | "doc") && failed.contains(&"build");
        let ended = if needs_build { Ok(Outcome::Skipped("`build` failed".to_owned())) } else { step(&mut run) };
        let seconds = start.elapsed().as_secs();
        let line = match &ended {
            Ok(Outcome::Passed) => format!("  {name:<8} passed   {seconds:>5} s"),
            Ok(Outcome::Skipped(reason)) => format!("  {name:<8} skipped  {reason}"),
            Err(failure) => {
                eprintln!("{failure}");
                failed.push(*name);
                format!("  {name:<8} FAILED   {seconds:>5} s")
            }
        };
        let _ = writeln!(summary, "{line}");
    }
    conclude(&summary, &read_skips(&run.skips), &failed)
}

/// Prints the summary; an error when a step failed.
fn conclude(summary: &str, skips: &[String], failed: &[&str]) -> Result<(), Failure> {
    println!("\nSteps:\n{summary}");
    println!("Tests skipped for want of their environment: {}", skips.len());
    for skip in skips {
        println!("  {skip}");
    }
    if failed.is_empty() {
        return Ok(());
    }
    let next = format!("correct it, then run `cargo xtask test --only {}`", failed.join(" --only "));
    Err(Failure::new(format!("failed: {}", failed.join(", ")), next))
}

fn options(args: &[String]) -> Result<(Vec<String>, bool), Failure> {
    let mut only = Vec::new();
    let mut skip_install = false;
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        match arg.as_str() {
            "--skip-install" => skip_install = true,
            "--only" => {
                let step = rest.next().filter(|step| STEPS.iter().any(|(name, _)| name == step));
                let names: Vec<&str> = STEPS.iter().map(|(name, _)| *name).collect();
                let wrong = || Failure::usage("`--only` names no step", format!("use one of {}", names.join(", ")));
                only.push(step.ok_or_else(wrong)?.clone());
            }
            other => {
                let next = "run `cargo xtask test --help`";
                return Err(Failure::usage(format!("test takes no `{other}`"), next));
            }
        }
    }
    Ok((only, skip_install))
}

fn fmt(run: &mut Run) -> Result<Outcome, Failure> {
    process::run(process::cargo(&run.root).args(["fmt", "--all", "--check"]))?;
    Ok(Outcome::Passed)
}

fn clippy(run: &mut Run) -> Result<Outcome, Failure> {
    let args = ["clippy", "--release", "--workspace", "--all-targets"];
    process::run(process::cargo(&run.root).args(args).args(["--", "-D", "warnings"]))?;
    Ok(Outcome::Passed)
}

fn deny(run: &mut Run) -> Result<Outcome, Failure> {
    let path = match environment::path_with_cargo_deny(&run.root, run.install) {
        Ok(path) => path,
        Err(reason) => return Ok(Outcome::Skipped(reason)),
    };
    let mut command = process::cargo(&run.root);
    // Advisories need a database from the network; a check that hangs on today's network is no gate.
    process::run(command.env("PATH", path).args(["deny", "--offline", "check", "bans", "licenses", "sources"]))?;
    Ok(Outcome::Passed)
}

fn install(run: &mut Run) -> Result<Outcome, Failure> {
    run.missing =
        if run.install { environment::install(&run.root).join("; ") } else { "--skip-install was given".to_owned() };
    if run.missing.is_empty() { Ok(Outcome::Passed) } else { Ok(Outcome::Skipped(run.missing.clone())) }
}

fn build(run: &mut Run) -> Result<Outcome, Failure> {
    // Together with the tests: their dependencies' features would otherwise build half the tree twice.
    let args = ["build", "--release", "--workspace", "--bins", "--tests"];
    process::run(process::cargo(&run.root).args(args))?;
    Ok(Outcome::Passed)
}

fn test(run: &mut Run) -> Result<Outcome, Failure> {
    let nextest = process::works(process::cargo(&run.root).args(["nextest", "--version"]));
    let mut command = process::cargo(&run.root);
    if nextest {
        command.args(["nextest", "run", "--release", "--workspace", "--no-fail-fast"]);
    } else {
        command.args(["test", "--release", "--workspace", "--bins", "--lib", "--tests", "--no-fail-fast"]);
    }
    process::run(with_environment(&mut command, run))?;
    Ok(Outcome::Passed)
}

fn doc(run: &mut Run) -> Result<Outcome, Failure> {
    process::run(process::cargo(&run.root).args(["test", "--release", "--workspace", "--doc"]))?;
    Ok(Outcome::Passed)
}

fn with_environment<'a>(command: &'a mut Command, run: &Run) -> &'a mut Command {
    command.env("POLDER_TEST_SKIPS", &run.skips).env("POLDER_TEST_SKIP_REASON", &run.missing);
    if std::env::var_os("POLDER_SCHEDULES").is_none() {
        command.env("POLDER_SCHEDULES", SCHEDULES);
    }
    command.env("INSTA_UPDATE", "no").envs(environment::variables(&run.root))
}

/// Begins with no skipped tests.
fn forget(skips: &Path) -> Result<(), Failure> {
    let folder = skips.parent().map_or(Ok(()), std::fs::create_dir_all);
    folder.and_then(|()| std::fs::write(skips, "")).map_err(|error| {
        Failure::new(format!("`{}` cannot be written: {error}", skips.display()), "make the folder writable")
    })
}

fn read_skips(skips: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(skips).unwrap_or_default();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).filter(|line| !line.trim().is_empty()).collect();
    lines.sort();
    lines.dedup();
    lines
}

#[cfg(test)]
mod tests;
