//! The demo from outside: how soon its twelve nodes are ready, how long its story takes, and what memory they share.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::Value;

use super::rows::{Row, median};
use crate::failure::Failure;
use crate::process;

const RUNS: usize = 5;

/// Measures the demo of the release build.
pub fn measure() -> Result<Vec<Row>, Failure> {
    let root = process::root()?;
    process::run(process::cargo(&root).args(["build", "--release", "--package", "polder"]))?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), Into::into);
    let polder = target.join("release").join("polder");
    let folder = std::env::temp_dir().join(format!("polder-bench-{}", std::process::id()));
    let measured = runs(&polder, &folder);
    // Whatever happened, the folder is only this run's.
    drop(std::fs::remove_dir_all(&folder));
    measured
}

fn runs(polder: &Path, folder: &Path) -> Result<Vec<Row>, Failure> {
    let (mut ready, mut story) = (Vec::new(), Vec::new());
    for run in 0..RUNS {
        let begun = Instant::now();
        let dir = folder.join(run.to_string());
        let told = process::capture(Command::new(polder).args(["demo", "--once", "-o", "json", "--dir"]).arg(dir))?;
        story.push(begun.elapsed().as_secs_f64() * 1000.0);
        let told: Value = serde_json::from_str(&told).map_err(|e| unreadable(&e))?;
        ready.push(told["ready_ms"].as_f64().unwrap_or(f64::NAN));
    }
    let memory = memory_mb(polder, &folder.join("memory"))?;
    Ok(vec![
        Row::new("demo: twelve nodes ready, median of 5", median(ready), "ms").goal_at_most(3000.0),
        Row::new("demo: the whole story, median of 5", median(story), "ms"),
        Row::new("demo: memory of twelve nodes after answers", memory, "MB").goal_at_most(1000.0),
    ])
}

fn unreadable(error: &dyn std::fmt::Display) -> Failure {
    Failure::new(format!("the demo's JSON is not understood: {error}"), "run `polder demo --once -o json` by hand")
}

/// Starts the demo, lets every tenant ask once, and adds up what its nodes hold (`VmRSS`, shared pages counted every time).
fn memory_mb(polder: &Path, dir: &Path) -> Result<f64, Failure> {
    let started = Command::new(polder).args(["demo", "--dir"]).arg(dir).stdout(Stdio::piped()).spawn();
    let mut demo = started.map_err(|e| Failure::new(format!("the demo did not start: {e}"), "run it by hand"))?;
    let mut output = BufReader::new(demo.stdout.take().ok_or_else(|| unreadable(&"no output"))?);
    let mut line = String::new();
    while !line.starts_with("Ctrl-C") {
        line.clear();
        if output.read_line(&mut line).map_err(|e| unreadable(&e))? == 0 {
            return Err(unreadable(&"it ended before it was ready"));
        }
    }
    let measured = ask_and_add_up(polder, dir);
    drop(process::run(Command::new("kill").arg(demo.id().to_string())));
    drop(output.read_to_string(&mut line));
    drop(demo.wait());
    measured
}

fn ask_and_add_up(polder: &Path, dir: &Path) -> Result<f64, Failure> {
    for tenant in ["bank", "defence", "image-lab", "start-up"] {
        process::capture(Command::new(polder).args(["ask", "What is Polder?", "--tenant", tenant, "--dir"]).arg(dir))?;
    }
    let record = std::fs::read_to_string(dir.join("demo.json")).map_err(|e| unreadable(&e))?;
    let record: Value = serde_json::from_str(&record).map_err(|e| unreadable(&e))?;
    let pids = record["nodes"].as_array().into_iter().flatten().filter_map(|node| node["pid"].as_u64());
    let resident = pids.map(|pid| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default().to_owned();
        line.trim().trim_end_matches(" kB").trim().parse::<f64>().unwrap_or(f64::NAN)
    });
    Ok(resident.sum::<f64>() / 1000.0)
}
