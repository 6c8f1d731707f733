//! The way into training, whether or not this build can train.
//!
//! Training needs the inference stack, which the other tasks must not wait for. Without the
//! feature the task starts itself again with it.

/// Trains the demo model; see `train::run` for the arguments.
#[cfg(feature = "train")]
pub fn train_demo_model(args: &[String]) -> Result<(), String> {
    crate::train::run(args)
}

/// Builds xtask with the feature `train` and runs this task there.
#[cfg(not(feature = "train"))]
pub fn train_demo_model(args: &[String]) -> Result<(), String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = std::process::Command::new(cargo)
        .args([
            "run",
            "--release",
            "-p",
            "xtask",
            "--features",
            "train",
            "--",
            "train-demo-model",
        ])
        .args(args)
        .status()
        .map_err(|e| format!("cannot start cargo: {e}"))?;
    match status.success() {
        true => Ok(()),
        false => Err("training failed".into()),
    }
}
