//! The clients of `clients/` as children of a test: real packages, unmodified, with the variables that an application sets.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::http::Endpoint;
use super::matrix::{Check, folder};
use super::{run, skip};

/// The program that runs a client's script; where it is missing the test is skipped and counted.
pub fn program(script: &Path, test: &str) -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let found = match script.starts_with("python") {
        true => set("POLDER_TEST_PYTHON"),
        false => set("POLDER_TEST_NODE_DIR").map(|_| PathBuf::from("node")),
    };
    if found.is_none() {
        let told = std::env::var("POLDER_TEST_SKIP_REASON");
        skip(test, &told.unwrap_or_else(|_| "run it with `cargo xtask test`".to_owned()));
    }
    found
}

/// The variables by which an application finds an endpoint.
pub fn set_endpoint(command: &mut Command, endpoint: &Endpoint) {
    let base = format!("http://{}", endpoint.address);
    command.env("OPENAI_BASE_URL", format!("{base}/v1")).env("OPENAI_API_KEY", &endpoint.key);
    command.env("ANTHROPIC_BASE_URL", base).env("ANTHROPIC_API_KEY", &endpoint.key);
}

/// Runs a client's checks, which must come to an end; whether each holds is for the caller to judge.
pub fn checks(program: &Path, script: &Path, modes: &[&str], endpoint: &Endpoint) -> Vec<Check> {
    let mut command = Command::new(program);
    command.arg(folder().join(script)).args(modes);
    set_endpoint(&mut command, endpoint);
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    let ended = run(&mut command);
    let mut lines: Vec<Value> = Vec::new();
    for line in ended.stdout.lines() {
        lines.push(serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")));
    }
    let last = lines.pop();
    assert!(last.is_some_and(|last| last["done"] == true), "{command:?} broke off: {ended:?}");
    lines.into_iter().map(|line| serde_json::from_value(line).unwrap()).collect()
}
