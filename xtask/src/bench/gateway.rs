//! What the gateway costs, against nginx: see `load/`, which needs an async runtime and is built only for this.

use super::Asked;
use super::rows::Row;
use crate::failure::Failure;

/// Measures with the load that is built in.
#[cfg(feature = "load")]
pub fn measure(asked: &Asked<'_>) -> Result<Vec<Row>, Failure> {
    crate::load::measure(asked.parts)
}

/// Builds this program again with the load in it, and has that one measure and print.
#[cfg(not(feature = "load"))]
pub fn measure(asked: &Asked<'_>) -> Result<Vec<Row>, Failure> {
    use crate::process;
    let root = process::root()?;
    let mut command = process::cargo(&root);
    command.args(["run", "--release", "--quiet", "--package", "xtask", "--features", "load", "--", "bench", "gateway"]);
    process::run(command.args(asked.parts).args(["-o", if asked.json { "json" } else { "table" }]))?;
    Ok(Vec::new())
}
