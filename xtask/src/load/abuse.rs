//! What a node does with many at once: a thousand who share too small a budget, and a crowd that means no good.
//!
//! Both need a node with a configuration of its own, so they start one beside the stage's.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;

use super::client::{Ask, Heard, percentile, request, run};
use super::crowd::{Target, gather};
use super::mock;
use super::rounds::{Stage, at_most, binary};
use super::targets::{Running, free_port, local};
use crate::bench::rows::Row;
use crate::failure::Failure;
use crate::process;

/// How many ask at once, of a budget that is enough for less than a quarter of them.
const ASKING: usize = 1_000;
const BUDGET_MICROEUR: u64 = 20_000;
/// How long a crowd may take to get in.
const IN_WITHIN: Duration = Duration::from_secs(60);
const GIB_MB: f64 = 1073.0;

/// A node in front of a mock of its own.
struct Own {
    folder: PathBuf,
    port: u16,
    mock_port: u16,
    key: String,
    polder: Running,
    _mock: Running,
}

impl Own {
    /// Starts one, with changes in its configuration: what stands there, and what is to stand there.
    fn start(stage: &Stage, changes: &[(&str, &str)]) -> Result<Self, Failure> {
        let folder = stage.folder.join("own");
        let (port, mock_port) = (free_port()?, free_port()?);
        let mock = Running::mock(mock_port, true)?;
        let (first, key) = Running::polder(&binary()?, &folder, port, mock_port)?;
        drop(first);
        let path = folder.join("node.toml");
        let failed = |e: std::io::Error| Failure::new(format!("the node's configuration: {e}"), "run it again");
        let mut text = std::fs::read_to_string(&path).map_err(failed)?;
        for (from, to) in changes {
            if !text.contains(from) {
                return Err(Failure::new(format!("the node's configuration has no `{from}`"), "correct the benchmark"));
            }
            text = text.replace(from, to);
        }
        std::fs::write(&path, text).map_err(failed)?;
        let polder = Running::node(&binary()?, &path)?;
        Ok(Self { folder, port, mock_port, key, polder, _mock: mock })
    }

    fn ask(&self, key: &str, connections: usize, each: usize) -> Ask {
        Ask { address: local(self.port), request: request(key, mock::PLAIN, false), connections, each }
    }
}

fn polder(folder: &Path, arguments: &[&str]) -> Result<serde_json::Value, Failure> {
    let mut command = Command::new(binary()?);
    command.args(arguments).args(["-o", "json", "--socket"]).arg(folder.join("state/api.sock"));
    let told = process::capture(&mut command)?;
    serde_json::from_str(&told).map_err(|e| Failure::new(format!("the node is not understood: {e}"), "run it again"))
}

/// A thousand requests at once with a budget for a few: what the engine was made to generate, against the budget.
pub fn budget(runtime: &Runtime, stage: &Stage) -> Result<Vec<Row>, Failure> {
    let own = Own::start(
        stage,
        &[
            ("price_microeur_per_mtok = 0", "price_microeur_per_mtok = 1000000"),
            ("places = 64", "places = 1024\nqueue = 4096"),
        ],
    )?;
    let made = polder(&own.folder, &["key", "create", "--project", "default", "--euro", "0.02", "--window", "total"])?;
    let key = made["key"].as_str().unwrap_or_default();
    let heard: Heard = runtime.block_on(run(&own.ask(key, ASKING, 1)))?;
    if heard.good == 0 {
        return Err(Failure::new(
            format!("no request was answered: {}", heard.example.unwrap_or_default()),
            "run it again",
        ));
    }
    // A token costs a micro-euro here, and the engine says how many answers it really gave.
    let used = mock::stats(own.mock_port, "requests")? * mock::TOKENS;
    let over = used.saturating_sub(BUDGET_MICROEUR);
    let row = Row::new(format!("budget overrun with {ASKING} requests at once"), over as f64, "microeur");
    Ok(vec![
        Row { must: at_most("value", 0.0), goal: at_most("value", 0.0), ..row },
        Row { baseline: Some(BUDGET_MICROEUR as f64), ..Row::new("of that budget, used", used as f64, "microeur") },
    ])
}

/// A good client beside ten thousand who are silent, a thousand who dribble and a thousand who do not read.
pub fn abuse(runtime: &Runtime, stage: &Stage) -> Result<Vec<Row>, Failure> {
    let own = Own::start(stage, &[("places = 64", "places = 4096")])?;
    // The first requests fill caches; they are nobody's.
    p99_ms(runtime, &own)?;
    let alone = p99_ms(runtime, &own)?;
    let crowd = [1, 2].map(|process| Running::crowd(own.port, process, &own.key));
    let [first, second] = crowd;
    let _crowd = [first?, second?];
    let (mut beside, mut most) = (Vec::new(), 0.0f64);
    for _ in 0..5 {
        beside.push(p99_ms(runtime, &own)?);
        most = most.max(own.polder.memory_kb() as f64 / 1000.0 + sockets_mb());
    }
    let beside = crate::bench::rows::median(beside);
    let row = Row::new("p99 of a good client in a crowd of 12,000", beside, "ms");
    let memory = Row::new("memory with all socket buffers, in the crowd", most, "MB");
    Ok(vec![
        Row { baseline: Some(alone), must: at_most("ratio", 2.0), ..row },
        Row { must: at_most("value", GIB_MB), ..memory },
    ])
}

/// The slowest but a hundredth of a good client's answers, in milliseconds.
fn p99_ms(runtime: &Runtime, own: &Own) -> Result<f64, Failure> {
    let mut heard = runtime.block_on(run(&own.ask(&own.key, 4, 500)))?;
    if heard.bad > 0 {
        let example = heard.example.unwrap_or_default();
        return Err(Failure::new(format!("{} good requests were not answered: {example}", heard.bad), "run it again"));
    }
    Ok(percentile(&mut heard.whole_ns, 99) / 1e6)
}

/// What all TCP sockets of this machine hold, in MB: the crowd's and the mock's too.
fn sockets_mb() -> f64 {
    let text = std::fs::read_to_string("/proc/net/sockstat").unwrap_or_default();
    let tcp = text.lines().find_map(|line| line.strip_prefix("TCP: ")).unwrap_or_default();
    let pages: f64 =
        tcp.split(' ').skip_while(|word| *word != "mem").nth(1).and_then(|n| n.parse().ok()).unwrap_or(f64::NAN);
    pages * 4096.0 / 1e6
}

/// One process's half of the crowd, for as long as it is let live. Says when it is all there.
pub fn crowd(runtime: &Runtime, port: &str, process: &str, key: &str) -> Result<(), Failure> {
    let number = |_| Failure::usage("`crowd` takes a port, the process's number and a key", "name numbers");
    let (port, process): (u16, u8) = (port.parse().map_err(number)?, process.parse().map_err(number)?);
    let endless = format!(
        r#"{{"model":"{}","messages":[{{"role":"user","content":"on and on"}}],"stream":true}}"#,
        mock::ENDLESS
    );
    let open = gather(runtime.handle(), Target { address: local(port), process, key: key.to_owned(), endless });
    let begun = Instant::now();
    while !open.complete() && begun.elapsed() < IN_WITHIN {
        std::thread::sleep(Duration::from_millis(20));
    }
    println!("{}: {:?}", if open.complete() { "complete" } else { "incomplete" }, open.all());
    loop {
        std::thread::sleep(Duration::from_secs(60));
    }
}
