//! `cargo xtask train-demo-model`: the toy model of the demo, trained again from `demo/corpus/`.
//!
//! Training needs the inference stack, which the other tasks do without; so this task starts itself
//! again with the feature `train`. It never runs in tests.

use crate::failure::Failure;

/// The task's help.
pub const HELP: &str = "\
Usage: cargo xtask train-demo-model [OPTIONS]

Trains the demo's toy model on the text in `demo/corpus/` and writes it where the
demo reads it. Takes a while on a laptop; builds the inference stack first.
The options are those of the trainer.

Example:
  cargo xtask train-demo-model
";

/// Trains here when the trainer is compiled in.
#[cfg(feature = "train")]
pub fn task(args: &[String]) -> Result<(), Failure> {
    crate::train::run(args).map_err(|error| Failure::new(error.to_string(), "read the message above, then train again"))
}

/// Starts itself again with the trainer compiled in.
#[cfg(not(feature = "train"))]
pub fn task(args: &[String]) -> Result<(), Failure> {
    use crate::process;
    let mut command = process::cargo(&process::root()?);
    command.args(["run", "--release", "--package", "xtask", "--features", "train", "--", "train-demo-model"]);
    process::run(command.args(args))
}
