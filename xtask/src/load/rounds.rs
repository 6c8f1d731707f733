//! The rounds: which load goes to which target, and the rows that come of it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::runtime::Runtime;

use super::abuse;
use super::client::{Ask, Heard, percentile, request, run};
use super::mock;
use super::targets::{Running, federation, free_port, local, nginx_config, nginx_pair, wait_for};
use crate::bench::rows::{Bound, Row, median};
use crate::failure::Failure;
use crate::process;

const ROUNDS: usize = 5;

/// The programs of one run, and how to ask them.
pub struct Stage {
    /// The part's own folder.
    pub folder: PathBuf,
    mock_port: u16,
    nginx_port: u16,
    polder_port: u16,
    key: String,
    polder: Running,
    nginx: Running,
    _mock: Running,
}

/// One part of the benchmark.
type Part = fn(&Runtime, &Stage) -> Result<Vec<Row>, Failure>;

const PARTS: &[(&str, Part)] = &[
    ("idle", idle),
    ("plain", plain),
    ("latency", latency),
    ("federated", federated),
    ("paced", paced),
    ("burst", burst),
    ("open", open_streams),
    ("leavers", leavers),
    ("budget", abuse::budget),
    ("abuse", abuse::abuse),
    ("growth", growth),
];

/// Runs the parts that are named, or all.
pub fn all(runtime: &Runtime, only: &[&str]) -> Result<Vec<Row>, Failure> {
    if let Some(name) = only.iter().find(|name| PARTS.iter().all(|(known, _)| known != *name)) {
        let names: Vec<&str> = PARTS.iter().map(|(name, _)| *name).collect();
        return Err(Failure::usage(format!("the gateway's benchmark has no part `{name}`"), names.join(", ")));
    }
    let folder = std::env::temp_dir().join(format!("polder-bench-{}", std::process::id()));
    std::fs::create_dir_all(&folder).map_err(|e| Failure::new(e.to_string(), "make the folder writable"))?;
    let mut rows = Vec::new();
    for (name, part) in PARTS.iter().filter(|(name, _)| only.is_empty() || only.contains(name)) {
        eprintln!("== {name} ==");
        let stage = Stage::set(&folder.join(name))?;
        rows.extend(part(runtime, &stage)?);
    }
    drop(std::fs::remove_dir_all(&folder));
    Ok(rows)
}

/// The binary that is measured: the one that ships.
pub fn binary() -> Result<PathBuf, Failure> {
    if let Some(given) = std::env::var_os("POLDER_BENCH_BINARY") {
        return Ok(given.into());
    }
    let root = process::root()?;
    process::run(process::cargo(&root).args(["build", "--profile", "dist", "--workspace", "--bins"]))?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), Into::into);
    Ok(target.join("dist").join("polder"))
}

impl Stage {
    fn set(folder: &Path) -> Result<Self, Failure> {
        std::fs::create_dir_all(folder).map_err(|e| Failure::new(e.to_string(), "make the folder writable"))?;
        let (mock_port, nginx_port, polder_port) = (free_port()?, free_port()?, free_port()?);
        let mock = Running::mock(mock_port, false)?;
        let nginx = Running::nginx(folder, "nginx", &nginx_config(nginx_port, mock_port))?;
        wait_for(nginx_port)?;
        let (polder, key) = Running::polder(&binary()?, &folder.join("node"), polder_port, mock_port)?;
        Ok(Self { folder: folder.to_owned(), mock_port, nginx_port, polder_port, key, polder, nginx, _mock: mock })
    }

    fn ask(&self, port: u16, model: &str, stream: bool, connections: usize, each: usize) -> Ask {
        Ask { address: local(port), request: request(&self.key, model, stream), connections, each }
    }
}

/// What was heard, if all of it was good.
fn good(runtime: &Runtime, ask: &Ask) -> Result<Heard, Failure> {
    let heard = runtime.block_on(run(ask))?;
    if heard.bad > 0 {
        let example = heard.example.unwrap_or_default();
        return Err(Failure::new(format!("{} answers were not good: {example}", heard.bad), "read the node's log"));
    }
    Ok(heard)
}

/// CPU time for each unit, in microseconds, of nginx and of Polder.
fn cpu_us(
    runtime: &Runtime,
    stage: &Stage,
    model: &str,
    stream: bool,
    (connections, each): (usize, usize),
    units: usize,
) -> Result<(f64, f64), Failure> {
    let ask = |port: u16| stage.ask(port, model, stream, connections, each);
    let (nginx, polder) = (std::slice::from_ref(&stage.nginx), std::slice::from_ref(&stage.polder));
    turns(runtime, [(nginx, &ask(stage.nginx_port)), (polder, &ask(stage.polder_port))], units)
}

/// CPU time for each unit, in microseconds, of two sets of programs: the medians over rounds that take turns.
fn turns(runtime: &Runtime, sets: [(&[Running], &Ask); 2], units: usize) -> Result<(f64, f64), Failure> {
    let mut spent = [Vec::new(), Vec::new()];
    for round in 0..=ROUNDS {
        for ((programs, ask), out) in sets.iter().zip(&mut spent) {
            let cpu_ns = || programs.iter().map(Running::cpu_ns).sum::<u64>();
            let before = cpu_ns();
            let heard = good(runtime, ask)?;
            // What runs behind the answers, such as the log, is paid for by them too.
            std::thread::sleep(Duration::from_millis(100));
            // The first round warms up.
            if round > 0 {
                out.push(cpu_ns().saturating_sub(before) as f64 / 1000.0 / (heard.good as f64 * units as f64));
            }
        }
    }
    let [one, other] = spent;
    Ok((median(one), median(other)))
}

/// An upper bound.
pub fn at_most(of: &'static str, than: f64) -> Option<Bound> {
    Some(Bound { op: "le", of, than })
}

fn compared(name: &str, (nginx, polder): (f64, f64), must: f64, goal: f64) -> Row {
    let row = Row::new(name, polder, "us");
    Row { baseline: Some(nginx), must: at_most("ratio", must), goal: at_most("ratio", goal), ..row }
}

fn idle(_: &Runtime, stage: &Stage) -> Result<Vec<Row>, Failure> {
    std::thread::sleep(Duration::from_secs(2));
    let row = Row::new("memory, idle", stage.polder.memory_kb() as f64 / 1000.0, "MB");
    Ok(vec![Row { must: at_most("value", 40.0), goal: at_most("value", 20.0), ..row }])
}

fn plain(runtime: &Runtime, stage: &Stage) -> Result<Vec<Row>, Failure> {
    let both = cpu_us(runtime, stage, mock::PLAIN, false, (32, 400), 1)?;
    Ok(vec![compared("CPU per plain request", both, 2.0, 1.25)])
}

fn latency(runtime: &Runtime, stage: &Stage) -> Result<Vec<Row>, Failure> {
    let (mut direct, mut nginx, mut polder) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        for (port, out) in
            [(stage.mock_port, &mut direct), (stage.nginx_port, &mut nginx), (stage.polder_port, &mut polder)]
        {
            let mut heard = good(runtime, &stage.ask(port, mock::PLAIN, false, 1, 1500))?;
            out.push(percentile(&mut heard.whole_ns, 50) / 1000.0);
        }
    }
    let direct = median(direct);
    let added = (median(nginx) - direct, median(polder) - direct);
    Ok(vec![
        Row::new("latency of the mock itself, one connection", direct, "us"),
        compared("added median latency, one connection", added, 1.5, 1.2),
    ])
}

/// A request from home to factory over a channel in which both show a key, against two nginx over such a channel.
fn federated(runtime: &Runtime, stage: &Stage) -> Result<Vec<Row>, Failure> {
    let folder = &stage.folder;
    let (front, middle) = (free_port()?, free_port()?);
    let [one, other] = nginx_pair(folder, front, middle, stage.mock_port)?;
    let nginx = [Running::nginx(folder, "back", &other)?, Running::nginx(folder, "front", &one)?];
    wait_for(middle)?;
    wait_for(front)?;
    let (home, factory, port, key) = federation(&binary()?, folder, stage.mock_port)?;
    let nodes = [home, factory];
    let ask =
        |port: u16| Ask { address: local(port), request: request(&key, MODEL, false), connections: 32, each: 300 };
    let both = turns(runtime, [(&nginx, &ask(front)), (&nodes, &ask(port))], 1)?;
    Ok(vec![compared("CPU per plain request, home and factory over mTLS", both, 2.5, 1.5)])
}

/// The demo's model, which the mock offers too.
const MODEL: &str = "polder-toy";

fn paced(runtime: &Runtime, stage: &Stage) -> Result<Vec<Row>, Failure> {
    let both = cpu_us(runtime, stage, mock::PACED, true, (64, 1), mock::CHUNKS)?;
    let mut rows = vec![compared("paced streaming, CPU per chunk", both, 1.3, 1.0)];
    let mut direct = good(runtime, &stage.ask(stage.mock_port, mock::PACED, true, 64, 2))?;
    let mut through = good(runtime, &stage.ask(stage.polder_port, mock::PACED, true, 64, 2))?;
    let ms = |values: &mut Vec<u64>| percentile(values, 99) / 1e6;
    let first = ms(&mut through.first_ns) - ms(&mut direct.first_ns);
    let gap = ms(&mut through.gap_ns) - ms(&mut direct.gap_ns);
    for (name, value) in [("first token, p99, above direct", first), ("gap between tokens, p99, above direct", gap)] {
        let row = Row::new(name, value, "ms");
        rows.push(Row { must: at_most("value", 2.0), goal: at_most("value", 1.0), ..row });
    }
    Ok(rows)
}

fn burst(runtime: &Runtime, stage: &Stage) -> Result<Vec<Row>, Failure> {
    let both = cpu_us(runtime, stage, mock::PLAIN, true, (16, 100), 1)?;
    Ok(vec![compared("burst streaming, CPU per stream", both, 1.8, 1.2)])
}

fn open_streams(runtime: &Runtime, stage: &Stage) -> Result<Vec<Row>, Failure> {
    const STREAMS: usize = 500;
    // What a first load leaves behind is not an open stream's.
    good(runtime, &stage.ask(stage.polder_port, mock::PLAIN, true, 64, 4))?;
    let before = stage.polder.memory_kb();
    let held = runtime.block_on(hold(stage, &vec![request(&stage.key, mock::SLOW, true); STREAMS]))?;
    std::thread::sleep(Duration::from_secs(4));
    let each = stage.polder.memory_kb().saturating_sub(before) as f64 / STREAMS as f64;
    drop(held);
    let row = Row::new("memory of an open stream", each, "kB");
    Ok(vec![Row { must: at_most("value", 30.0), goal: at_most("value", 10.0), ..row }])
}

/// Sends requests, each on a connection of its own, and holds them without reading.
async fn hold(stage: &Stage, requests: &[Vec<u8>]) -> Result<Vec<tokio::net::TcpStream>, Failure> {
    let failed = |e: std::io::Error| Failure::new(format!("a connection failed: {e}"), "raise the descriptor limit");
    let mut held = Vec::new();
    for request in requests {
        let mut stream = tokio::net::TcpStream::connect(local(stage.polder_port)).await.map_err(failed)?;
        stream.write_all(request).await.map_err(failed)?;
        held.push(stream);
    }
    Ok(held)
}

/// Clients that leave: in the middle of a stream, while they wait for a whole answer, and before the first token.
fn leavers(runtime: &Runtime, stage: &Stage) -> Result<Vec<Row>, Failure> {
    let kinds = [(mock::SLOW, true), (mock::HANG, false), (mock::HANG, true)];
    let requests: Vec<Vec<u8>> =
        kinds.iter().flat_map(|(model, stream)| vec![request(&stage.key, model, *stream); 100]).collect();
    let held = runtime.block_on(hold(stage, &requests))?;
    std::thread::sleep(Duration::from_secs(3));
    let open = mock::stats(stage.mock_port, "open")?;
    let begun = mock::stats(stage.mock_port, "cancelled")?;
    drop(held);
    std::thread::sleep(Duration::from_secs(1));
    let left = mock::stats(stage.mock_port, "cancelled")?.saturating_sub(begun);
    let row = Row::new("upstream cancelled within 1 s of 300 leavers", left as f64 * 100.0 / open.max(1) as f64, "%");
    let all = Some(Bound { op: "ge", of: "value", than: 100.0 });
    Ok(vec![Row { must: all, goal: all, ..row }, Row::new("requests open before they left", open as f64, "requests")])
}

/// Memory after the caches are full, and after a million requests more.
fn growth(runtime: &Runtime, stage: &Stage) -> Result<Vec<Row>, Failure> {
    good(runtime, &stage.ask(stage.polder_port, mock::PLAIN, false, 32, 5_000))?;
    let before = stage.polder.memory_kb();
    good(runtime, &stage.ask(stage.polder_port, mock::PLAIN, false, 32, 31_250))?;
    let after = stage.polder.memory_kb();
    let row = Row::new("memory after 1 M requests more", after as f64 / 1000.0, "MB");
    // Pages come and go with the load; what grows with every request shows in a million of them.
    Ok(vec![Row { baseline: Some(before as f64 / 1000.0), must: at_most("ratio", 1.1), ..row }])
}
