//! What a decision costs: runs the core's benchmark and says what is asked of each figure.
//!
//! The measuring itself stands in `crates/polder-core/benches/policy.rs`, beside what it measures.

use serde_json::Value;

use super::rows::{Bound, Row};
use crate::failure::Failure;
use crate::process;

/// What is asked of a row, by the beginning of its name.
const GOALS: &[(&str, Bound)] = &[
    ("memo hit, 50 factories", Bound { op: "ge", of: "value", than: 20_000_000.0 }),
    ("cold label tuple", Bound { op: "le", of: "ratio", than: 1.2 }),
    ("a refusal with its advice", Bound { op: "le", of: "value", than: 20.0 }),
    ("a changed policy among", Bound { op: "le", of: "value", than: 1_000.0 }),
];
const UNITS: &[&str] = &["decisions/s", "bytes", "us", "ms"];

/// Runs the benchmark and reads its lines.
pub fn measure() -> Result<Vec<Row>, Failure> {
    let root = process::root()?;
    let mut command = process::cargo(&root);
    command.args(["bench", "--quiet", "--profile", "release", "--package", "polder-core", "--bench", "policy"]);
    let text = process::capture(&mut command)?;
    let lines = text.lines().filter(|line| line.starts_with('{'));
    lines.map(row).collect()
}

fn row(line: &str) -> Result<Row, Failure> {
    let odd =
        || Failure::new(format!("the benchmark printed `{line}`"), "look at crates/polder-core/benches/policy.rs");
    let read: Value = serde_json::from_str(line).map_err(|_| odd())?;
    let name = read["name"].as_str().ok_or_else(odd)?;
    let unit = UNITS.iter().find(|unit| read["unit"] == **unit).ok_or_else(odd)?;
    let goal = GOALS.iter().find(|(begins, _)| name.starts_with(begins)).map(|(_, bound)| *bound);
    let row = Row::new(name, read["value"].as_f64().ok_or_else(odd)?, unit);
    Ok(Row { baseline: read["baseline"].as_f64(), goal, ..row })
}
