//! What the log costs: runs the node's benchmark, and times witnesses and replays in the demo from outside.
//!
//! The measuring of leaves and proofs stands in `crates/polder-node/benches/log.rs`, beside what it measures.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::rows::{Bound, Row};
use crate::failure::Failure;
use crate::process;

/// What is asked of a row, by the beginning of its name: what must hold, and what is aimed at.
const ASKED: &[(&str, &str, f64, f64)] = &[
    ("the same, per s and core", "ge", 50_000.0, 200_000.0),
    ("append to a checkpoint with two cosignatures, p99", "le", 1_000.0, 100.0),
    ("the log's share of a request", "le", 5.0, 5.0),
    ("a decision derived again", "le", 10.0, 10.0),
];
const UNITS: &[&str] = &["leaves/s", "tiles/s", "proofs/s", "bytes", "MB", "ms", "us"];
/// How many leaves are timed until they are cosigned.
const TIMED: usize = 100;

/// Runs the benchmark and reads its lines; then the demo, twice.
pub fn measure() -> Result<Vec<Row>, Failure> {
    let root = process::root()?;
    let mut command = process::cargo(&root);
    command.args(["bench", "--quiet", "--profile", "release", "--workspace", "--bench", "log"]);
    let text = process::capture(&mut command)?;
    let mut rows = text.lines().filter(|line| line.starts_with('{')).map(row).collect::<Result<Vec<_>, _>>()?;
    process::run(process::cargo(&root).args(["build", "--release", "--workspace", "--bin", "polder"]))?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), Into::into);
    let polder = target.join("release").join("polder");
    for (every_ms, says) in [(None, "a checkpoint a second"), (Some(50), "twenty a second")] {
        let folder = std::env::temp_dir().join(format!("polder-bench-log-{}", std::process::id()));
        let measured = cosigned(&polder, &folder, every_ms);
        // Whatever happened, the folder is only this run's.
        drop(std::fs::remove_dir_all(&folder));
        let (times, replays) = measured?;
        rows.extend(spread(&format!("append to a checkpoint with two cosignatures, {{}}, {says}"), times));
        if every_ms.is_none() {
            rows.extend(spread("a decision derived again by `polder replay`, {}", replays));
        }
    }
    Ok(rows)
}

/// Median and p99 of some times in milliseconds.
fn spread(name: &str, mut times: Vec<f64>) -> Vec<Row> {
    times.sort_by(f64::total_cmp);
    let at = |part: usize| times.get(times.len() * part / 100).copied().unwrap_or(f64::NAN);
    let row = |(part, says): (usize, &str)| asked(Row::new(name.replacen("{}", says, 1), at(part), "ms"));
    [(50, "median"), (99, "p99")].map(row).into()
}

fn asked(row: Row) -> Row {
    let Some((_, op, must, goal)) = ASKED.iter().find(|(begins, ..)| row.name.starts_with(begins)) else { return row };
    let bound = |than| Some(Bound { op, of: "value", than });
    Row { must: bound(*must), goal: bound(*goal), ..row }
}

fn row(line: &str) -> Result<Row, Failure> {
    let odd = || Failure::new(format!("the benchmark printed `{line}`"), "look at crates/polder-node/benches/log.rs");
    let read: Value = serde_json::from_str(line).map_err(|_| odd())?;
    let unit = UNITS.iter().find(|unit| read["unit"] == **unit).ok_or_else(odd)?;
    let name = read["name"].as_str().ok_or_else(odd)?;
    Ok(asked(Row::new(name, read["value"].as_f64().ok_or_else(odd)?, unit)))
}

fn odd(error: &dyn std::fmt::Display) -> Failure {
    Failure::new(format!("the demo could not be timed: {error}"), "run `polder demo` by hand")
}

/// What was timed, in milliseconds.
type Times = Vec<f64>;

/// Starts the demo, asks again and again, and times each decision until two witnesses or more have cosigned it; then replays of the
/// last of them.
fn cosigned(polder: &Path, dir: &Path, every_ms: Option<u64>) -> Result<(Times, Times), Failure> {
    let started = Command::new(polder).args(["demo", "--dir"]).arg(dir).stdout(Stdio::piped()).spawn();
    let mut demo = started.map_err(|e| odd(&e))?;
    let mut output = BufReader::new(demo.stdout.take().ok_or_else(|| odd(&"no output"))?);
    let mut line = String::new();
    while !line.starts_with("Ctrl-C") {
        line.clear();
        if output.read_line(&mut line).map_err(|e| odd(&e))? == 0 {
            return Err(odd(&"it ended before it was ready"));
        }
    }
    let restarted = every_ms.map(|every_ms| hurry(polder, dir, every_ms)).transpose();
    let measured = restarted.and_then(|node| {
        let times = (0..TIMED).map(|_| time_one(polder, dir)).collect::<Result<Times, _>>();
        let times = times.and_then(|times| Ok((times, replays(polder, dir)?)));
        if let Some(mut node) = node {
            drop(process::run(Command::new("kill").arg(node.id().to_string())));
            drop(node.wait());
        }
        times
    });
    drop(process::run(Command::new("kill").arg(demo.id().to_string())));
    drop(output.read_to_string(&mut line));
    drop(demo.wait());
    measured
}

fn config(dir: &Path) -> std::path::PathBuf {
    dir.join("nodes").join("bank-home").join("node.toml")
}

/// Ends the bank's node and starts it again with checkpoints going out more often.
fn hurry(polder: &Path, dir: &Path, every_ms: u64) -> Result<std::process::Child, Failure> {
    let record = std::fs::read_to_string(dir.join("demo.json")).map_err(|e| odd(&e))?;
    let record: Value = serde_json::from_str(&record).map_err(|e| odd(&e))?;
    let bank = record["nodes"].as_array().into_iter().flatten().find(|node| node["node"] == "bank-home");
    let pid = bank.and_then(|bank| bank["pid"].as_u64()).ok_or_else(|| odd(&"no bank"))?;
    process::run(Command::new("kill").args(["-9", &pid.to_string()]))?;
    let text = std::fs::read_to_string(config(dir)).map_err(|e| odd(&e))?;
    std::fs::write(config(dir), format!("{text}\n[log]\nevery_ms = {every_ms}\n")).map_err(|e| odd(&e))?;
    let mut command = Command::new(polder);
    let mut node =
        command.args(["up", "--config"]).arg(config(dir)).stdout(Stdio::piped()).spawn().map_err(|e| odd(&e))?;
    let output = node.stdout.take().ok_or_else(|| odd(&"no output"))?;
    // It speaks once it is ready.
    BufReader::new(output).read_line(&mut String::new()).map_err(|e| odd(&e))?;
    Ok(node)
}

/// Asks; the receipt's file and what stands in it.
fn asked_once(polder: &Path, dir: &Path) -> Result<(String, Value), Failure> {
    let told = process::capture(
        Command::new(polder)
            .args(["ask", "What is Polder?", "--tenant", "bank", "--max-tokens", "1", "-o", "json", "--dir"])
            .arg(dir),
    )?;
    let told: Value = serde_json::from_str(&told).map_err(|e| odd(&e))?;
    let file = told["receipt"].as_str().unwrap_or_default().to_owned();
    let receipt = std::fs::read_to_string(&file).map_err(|e| odd(&e))?;
    Ok((file, serde_json::from_str(&receipt).map_err(|e| odd(&e))?))
}

/// From a decision's own instant until the published checkpoint covers it with two cosignatures.
fn time_one(polder: &Path, dir: &Path) -> Result<f64, Failure> {
    let receipt = asked_once(polder, dir)?.1;
    let decision = &receipt["decision"];
    let number = |value: &Value| value.as_u64().ok_or_else(|| odd(&"a receipt without a number"));
    let (place, at_ms) = (number(&decision["index"])?, number(&decision["statement"]["at_ms"])?);
    let text = std::fs::read_to_string(config(dir)).map_err(|e| odd(&e))?;
    let listen =
        text.lines().find_map(|line| line.strip_prefix("listen = ")).unwrap_or_default().trim_matches('"').to_owned();
    let deadline = Instant::now() + Duration::from_secs(20);
    while Instant::now() < deadline {
        let note = checkpoint(&listen).map_err(|e| odd(&e))?;
        let size: u64 = note.lines().nth(1).and_then(|line| line.parse().ok()).unwrap_or(0);
        if size > place && note.matches("/witness ").count() >= 2 {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64() * 1000.0;
            return Ok(now - at_ms as f64);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Err(odd(&"no cosigned checkpoint in 20 s"))
}

/// How long `polder replay` takes to derive a decision again, as it says itself: not its start, nor fetching what the decision names.
fn replays(polder: &Path, dir: &Path) -> Result<Times, Failure> {
    let (receipt, sources) = (asked_once(polder, dir)?.0, dir.join("sources.json"));
    let replay = |more: &[&std::ffi::OsStr]| {
        let mut command = Command::new(polder);
        command.args(["replay", "-o", "json"]).arg(&receipt).args(more);
        process::capture(&mut command)
    };
    replay(&[
        "--dir".as_ref(),
        dir.as_ref(),
        "--tenant".as_ref(),
        "bank".as_ref(),
        "--keep".as_ref(),
        sources.as_ref(),
    ])?;
    (0..TIMED)
        .map(|_| {
            let told: Value =
                serde_json::from_str(&replay(&["--sources".as_ref(), sources.as_ref()])?).map_err(|e| odd(&e))?;
            let same = told["same"].as_bool().filter(|same| *same).ok_or_else(|| odd(&"a replay came out differently"));
            let took_us = told["took_us"].as_u64().ok_or_else(|| odd(&"a replay without a time"));
            same.and(took_us).map(|took_us| took_us as f64 / 1000.0)
        })
        .collect()
}

fn checkpoint(listen: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(listen)?;
    stream.write_all(b"GET /log/checkpoint HTTP/1.1\r\nhost: log\r\nconnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text.split_once("\r\n\r\n").map_or_else(String::new, |(_, body)| body.to_owned()))
}
