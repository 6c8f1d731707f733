//! What the gateway costs, against nginx: see `load/`, which needs an async runtime and is built only for this.

use super::rows::Row;
use crate::failure::Failure;

/// Measures with the load that is built in.
#[cfg(feature = "load")]
pub fn measure(parts: &[&str]) -> Result<Vec<Row>, Failure> {
    crate::load::measure(parts)
}

/// Builds this program again with the load in it, and has that one measure and print.
#[cfg(not(feature = "load"))]
pub fn measure(parts: &[&str]) -> Result<Vec<Row>, Failure> {
    use crate::process;
    let root = process::root()?;
    let mut command = process::cargo(&root);
    command.args(["run", "--release", "--quiet", "--package", "xtask", "--features", "load", "--", "bench", "gateway"]);
    process::run(command.args(parts).args(if std::env::args().any(|arg| arg == "json") {
        &["-o", "json"][..]
    } else {
        &[]
    }))?;
    Ok(Vec::new())
}
