//! Jobs: on a running node (`live_jobs.rs`), and in the simulator, where the twin's benchmark is run and each figure asked of.
//!
//! What the simulator is measured by stands in `crates/polder-twin/benches/jobs.rs`, beside what it measures.

use serde_json::Value;

use super::rows::{Bound, Row};
use super::{Asked, live_jobs};
use crate::failure::Failure;
use crate::process;

/// What is asked of a row, by the beginning of its name: whether it must be so, and what.
const ASKED: &[(&str, bool, Bound)] = &[
    ("jobs placed, run and settled", false, Bound { op: "ge", of: "value", than: 1_000.0 }),
    ("requests under faults", true, Bound { op: "ge", of: "value", than: 100_000.0 }),
    ("placements outside policy", true, Bound { op: "eq", of: "value", than: 0.0 }),
    ("placeable requests that were placed", false, Bound { op: "ge", of: "value", than: 99.0 }),
    ("Kueue's baseline", false, Bound { op: "le", of: "ratio", than: 1.0 }),
];
const UNITS: &[&str] = &["jobs/s", "requests", "placements", "%", "s", "us"];

/// Both parts, or the one that is named.
pub fn measure(asked: &Asked<'_>) -> Result<Vec<Row>, Failure> {
    let wanted = |part: &str| asked.parts.is_empty() || asked.parts.contains(&part);
    let mut rows = if wanted("live") { live_jobs::measure()? } else { Vec::new() };
    if wanted("twin") {
        rows.extend(simulated()?);
    }
    Ok(rows)
}

/// Runs the twin's benchmark and reads its lines.
fn simulated() -> Result<Vec<Row>, Failure> {
    let root = process::root()?;
    let mut command = process::cargo(&root);
    command.args(["bench", "--quiet", "--profile", "release", "--workspace", "--bench", "jobs"]);
    let text = process::capture(&mut command)?;
    text.lines().filter(|line| line.starts_with('{')).map(row).collect()
}

fn row(line: &str) -> Result<Row, Failure> {
    let odd = || Failure::new(format!("the benchmark printed `{line}`"), "look at crates/polder-twin/benches/jobs.rs");
    let read: Value = serde_json::from_str(line).map_err(|_| odd())?;
    let name = read["name"].as_str().ok_or_else(odd)?;
    let unit = UNITS.iter().find(|unit| read["unit"] == **unit).ok_or_else(odd)?;
    let asked = ASKED.iter().find(|(begins, ..)| name.starts_with(begins));
    let bound = |must: bool| asked.filter(|(_, is_must, _)| *is_must == must).map(|(_, _, bound)| *bound);
    let row = Row::new(name, read["value"].as_f64().ok_or_else(odd)?, unit);
    Ok(Row { baseline: read["baseline"].as_f64(), must: bound(true), goal: bound(false), ..row })
}
