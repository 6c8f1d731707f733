//! Starting other programs: cargo, git, pip, npm.
//!
//! Output goes straight to the terminal, so that cargo's and nextest's own summaries are seen as they are;
//! only short questions are captured. Shells are absent.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::failure::Failure;

/// The repository's root: the folder above `xtask/`.
pub fn root() -> Result<PathBuf, Failure> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let here = manifest.parent().filter(|root| root.join("Cargo.toml").is_file());
    let from_cwd = || std::env::current_dir().ok().filter(|dir| dir.join("xtask/Cargo.toml").is_file());
    here.map(Path::to_owned).or_else(from_cwd).ok_or_else(|| {
        Failure::new("the repository's root was not found", "run the task from the root of the repository")
    })
}

/// Cargo itself, the one that runs this task where there is one.
pub fn cargo(root: &Path) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root);
    // What the outer cargo says of this very task. Some build scripts look at it, and would build everything above them again
    // whenever cargo is called in the other way.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") || text == "CARGO_BIN_NAME" {
            command.env_remove(&name);
        }
    }
    command
}

/// The command as a person would type it.
pub fn show(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let name = program.file_name().unwrap_or(program.as_os_str()).to_string_lossy().into_owned();
    let args = command.get_args().map(|arg| arg.to_string_lossy().into_owned());
    std::iter::once(name).chain(args).collect::<Vec<_>>().join(" ")
}

/// Runs a command with its output on the terminal.
pub fn run(command: &mut Command) -> Result<(), Failure> {
    let shown = show(command);
    eprintln!("$ {shown}");
    let status = command.status().map_err(|error| {
        Failure::new(format!("`{shown}` did not start: {error}"), "install the program or put it on the PATH")
    })?;
    if status.success() {
        return Ok(());
    }
    Err(Failure::new(format!("`{shown}` failed ({status})"), "read its output above, then run it again"))
}

/// Runs a command and returns its standard output.
pub fn capture(command: &mut Command) -> Result<String, Failure> {
    let shown = show(command);
    let output = command.stdin(Stdio::null()).output().map_err(|error| {
        Failure::new(format!("`{shown}` did not start: {error}"), "install the program or put it on the PATH")
    })?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let telling = |line: &&str| !line.trim().is_empty() && !line.contains("complete log");
        let last = said.lines().rev().find(telling).unwrap_or("it said nothing");
        return Err(Failure::new(format!("`{shown}` failed: {}", last.trim()), "run it by hand to see more"));
    }
    String::from_utf8(output.stdout)
        .map_err(|_| Failure::new(format!("`{shown}` printed bytes that are not UTF-8"), "run it by hand to see more"))
}

/// Whether a program starts at all and answers with success.
pub fn works(command: &mut Command) -> bool {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|s| s.success())
}
