//! The solver: cvc5 as a child process with bounded memory, time and talk.
//!
//! Nothing that it does or fails to do can make a proof: only the word `unsat` does. What is asked is absent: symcc writes
//! the questions.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use cedar_policy_symcc::SmtLibScript as _;
use cedar_policy_symcc::err::SolverError;
use cedar_policy_symcc::solver::{Decision, DecisionWithModel, Solver};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader, BufWriter};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::ProofError;

/// Most memory that the solver may take, in bytes of address space.
const MEMORY_BYTES_MAX: u64 = 4 << 30;
/// Most that is read of one solver's answers, in bytes.
const ANSWER_BYTES_MAX: u64 = 16 << 20;

/// Where cvc5 is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cvc5(PathBuf);

impl Cvc5 {
    /// The program of a setting, or else `cvc5` in one of the folders of `path` (the variable `PATH`).
    pub fn find(setting: Option<&Path>, path: Option<&std::ffi::OsStr>) -> Result<Self, ProofError> {
        match setting {
            Some(program) if program.is_file() => Ok(Self(program.to_owned())),
            Some(program) => Err(ProofError::Solver(format!("`{}` is no file", program.display()))),
            None => {
                let folders = path.into_iter().flat_map(std::env::split_paths);
                let found = folders.map(|folder| folder.join("cvc5")).find(|program| program.is_file());
                found.map(Self).ok_or_else(|| ProofError::Solver("`cvc5` is not on the PATH".to_owned()))
            }
        }
    }

    /// Starts the solver with further options.
    pub(super) fn start(&self, options: &[&str]) -> Result<Running, SolverError> {
        let mut command = Command::new(&self.0);
        command
            .args(["--lang", "smt"])
            .args(options)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        // Whoever gives up waiting drops the solver, and with it the process ends.
        let mut child = command.kill_on_drop(true).spawn()?;
        limit_memory(&child);
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(SolverError::Solver("it has no input or output".to_owned()));
        };
        Ok(Running {
            _child: child,
            input: BufWriter::new(input),
            output: BufReader::new(output),
            left: ANSWER_BYTES_MAX,
        })
    }
}

/// Where the system knows no such limit, the time limit has to do.
#[cfg(target_os = "linux")]
fn limit_memory(child: &Child) {
    use rustix::process::{Pid, Resource, Rlimit, prlimit};
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    let limit = Rlimit { current: Some(MEMORY_BYTES_MAX), maximum: Some(MEMORY_BYTES_MAX) };
    if let Some(pid) = pid {
        let _ = prlimit(Some(pid), Resource::As, limit);
    }
}

#[cfg(not(target_os = "linux"))]
fn limit_memory(_child: &Child) {}

/// A solver that waits for questions. Dropping it ends the process.
pub(super) struct Running {
    _child: Child,
    input: BufWriter<ChildStdin>,
    output: BufReader<ChildStdout>,
    left: u64,
}

impl Running {
    async fn line(&mut self) -> Result<String, SolverError> {
        let mut line = String::new();
        let read = (&mut self.output).take(self.left).read_line(&mut line).await?;
        self.left = self.left.saturating_sub(read as u64);
        if line.ends_with('\n') {
            return Ok(line);
        }
        Err(SolverError::Solver(if self.left == 0 { "it said too much" } else { "it ended" }.to_owned()))
    }

    fn unexpected(line: &str) -> SolverError {
        SolverError::UnrecognizedSolverOutput(line.trim().chars().take(200).collect())
    }
}

impl Solver for Running {
    fn smtlib_input(&mut self) -> &mut (dyn AsyncWrite + Unpin + Send) {
        &mut self.input
    }

    async fn enable_models(&mut self) -> Result<(), SolverError> {
        Ok(self.input.set_option("produce-models", "true").await?)
    }

    async fn check_sat(&mut self) -> Result<Decision, SolverError> {
        self.input.check_sat().await?;
        self.input.flush().await?;
        let line = self.line().await?;
        match line.trim() {
            "sat" => Ok(Decision::Sat),
            "unsat" => Ok(Decision::Unsat),
            "unknown" => Ok(Decision::Unknown),
            other => Err(Self::unexpected(other)),
        }
    }

    async fn check_sat_with_model(&mut self) -> Result<DecisionWithModel, SolverError> {
        match self.check_sat().await? {
            Decision::Unsat => return Ok(DecisionWithModel::Unsat),
            Decision::Unknown => return Ok(DecisionWithModel::Unknown),
            Decision::Sat => {}
        }
        self.input.get_model().await?;
        self.input.flush().await?;
        // A model is a list over several lines, whose last one is its closing bracket alone.
        let mut model = self.line().await?;
        if model.trim() != "(" {
            return Err(Self::unexpected(&model));
        }
        loop {
            let line = self.line().await?;
            model += &line;
            if line.trim() == ")" {
                return Ok(DecisionWithModel::Sat { model });
            }
        }
    }
}
