//! The simulator of jobs, built and run: `cargo xtask soak federation`.
//!
//! What it does stands in `crates/polder-twin/examples/federation.rs`. Reading its output is left to whoever asked.

use std::path::PathBuf;
use std::process::Command;

use crate::failure::Failure;
use crate::process;

/// Builds the simulator with the same features as the tests and says where it lies.
pub fn build() -> Result<PathBuf, Failure> {
    let root = process::root()?;
    let mut cargo = process::cargo(&root);
    process::run(cargo.args(["build", "--release", "--workspace", "--example", "federation"]))?;
    Ok(built(&target()?))
}

/// The folder of build results.
pub fn target() -> Result<PathBuf, Failure> {
    let root = process::root()?;
    Ok(std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), Into::into))
}

/// Where the simulator lies in a folder of build results.
pub fn built(target: &std::path::Path) -> PathBuf {
    target.join("release").join("examples").join("federation")
}

/// Runs schedules, as many and from where the arguments say.
pub fn soak(args: &[String]) -> Result<(), Failure> {
    process::run(Command::new(build()?).args(args))
}
