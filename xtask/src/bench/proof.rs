//! What a proof costs: every claim that Polder brings, one after the other, three times.
//!
//! The command itself says how long each took. Whether they are proven is the tests' affair.

use std::collections::BTreeMap;

use serde_json::Value;

use super::rows::{Bound, Row};
use crate::failure::Failure;
use crate::process;

const RUNS: usize = 3;
const MS_MAX: f64 = 1_000.0;

/// Proves all claims and takes the quickest run of each: what it needs when nothing disturbs it.
pub fn measure() -> Result<Vec<Row>, Failure> {
    let root = process::root()?;
    let mut quickest: BTreeMap<String, f64> = BTreeMap::new();
    for _ in 0..RUNS {
        let mut command = process::cargo(&root);
        command.args(["run", "--release", "--quiet", "--", "policy", "prove", "--all", "-o", "json"]);
        let text = process::capture(&mut command)?;
        let odd = || Failure::new("the command printed something else than claims", "run `polder policy prove --all`");
        let read: Value = serde_json::from_str(&text).map_err(|_| odd())?;
        for claim in read["claims"].as_array().ok_or_else(odd)? {
            let (name, ms) = (claim["name"].as_str().ok_or_else(odd)?, claim["ms"].as_f64().ok_or_else(odd)?);
            let best = quickest.entry(name.to_owned()).or_insert(ms);
            *best = best.min(ms);
        }
    }
    let within = Some(Bound { op: "le", of: "value", than: MS_MAX });
    let row = |(name, ms): (&String, &f64)| Row { goal: within, ..Row::new(format!("claim {name}"), *ms, "ms") };
    let mut rows: Vec<Row> = quickest.iter().map(row).collect();
    let slow = quickest.values().filter(|ms| **ms > MS_MAX).count();
    rows.push(Row::new("claims", quickest.len() as f64, "claims"));
    rows.push(Row {
        goal: Some(Bound { op: "le", of: "value", than: 0.0 }),
        ..Row::new("claims above 1 s", slow as f64, "claims")
    });
    Ok(rows)
}
