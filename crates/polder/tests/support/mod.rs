//! What the real-process tests share: the demo as a guarded child, the command itself, and waits that end.
//!
//! Nothing here knows Polder's crates: the tests see what a user sees, which is files, processes and HTTP.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod authorisation;
pub mod bucket;
pub mod clients;
pub mod collector;
pub mod counting;
pub mod demo;
pub mod echo;
pub mod engine;
pub mod http;
pub mod jobs;
pub mod matrix;
pub mod node;
pub mod painter;
pub mod peer;
pub mod process;
pub mod watched;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

/// The binary under test.
pub const POLDER: &str = env!("CARGO_BIN_EXE_polder");

/// Longest wait for anything that usually takes a second or two; the machine may be busy.
pub const LONG: Duration = Duration::from_secs(60);

/// A fresh folder that goes with its owner.
pub struct Folder(PathBuf);

impl Folder {
    /// Makes it.
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("polder-real-{}-{count}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// The command with nothing of this user's own: no demo, no key, no node.
pub fn polder(home: &Path) -> Command {
    let mut command = Command::new(POLDER);
    for name in ["OPENAI_BASE_URL", "OPENAI_API_KEY", "POLDER_NODE", "POLDER_TOKEN", "POLDER_LOG"] {
        command.env_remove(name);
    }
    command.env("HOME", home).env("XDG_STATE_HOME", home.join("state")).env("NO_COLOR", "1").current_dir(home);
    command
}

/// What a command ended with.
#[derive(Debug)]
pub struct Ended {
    /// Its exit code.
    pub code: i32,
    /// Its data.
    pub stdout: String,
    /// Its talk.
    pub stderr: String,
}

impl Ended {
    /// Its data as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self { code: output.status.code().unwrap_or(-1), stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }
}

/// Runs a command to its end, which must come.
pub fn run(command: &mut Command) -> Ended {
    process::bounded(command, LONG).into()
}

/// Looks until something is there.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + LONG;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "never came: {what}");
        std::thread::sleep(Duration::from_millis(25));
    }
}

/// Notes that a test could not run, and why, where `cargo xtask test` counts it.
pub fn skip(name: &str, reason: &str) {
    use std::io::Write as _;
    eprintln!("skipped: {name}: {reason}");
    let Some(path) = std::env::var_os("POLDER_TEST_SKIPS") else { return };
    let mut file = std::fs::File::options().append(true).create(true).open(path).unwrap();
    writeln!(file, "{name}: {reason}").unwrap();
}

/// Whether the solver is there; where it is not, the test is skipped and counted.
pub fn has_solver(test: &str) -> bool {
    let named = std::env::var_os("POLDER_CVC5").map(std::path::PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let there = named.into_iter().chain(std::env::split_paths(&path).map(|folder| folder.join("cvc5")));
    let found = there.into_iter().any(|program| program.is_file());
    if !found {
        skip(test, "cvc5 is not on the PATH");
    }
    found
}
