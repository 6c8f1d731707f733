//! Jobs on a running node: from submission to start on the local executor, and submissions that are durable, per second.
//!
//! A node of the release build is started with a factory of its own, and spoken to over its socket as a program would. What a write that is
//! synced costs here is measured beside it, on the same disk. A cluster's scheduler for comparison is absent.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};

use super::rows::{Row, median};
use crate::failure::Failure;
use crate::process;

const OPEN: &str = "permit (principal, action, resource);\n";
const STARTS: usize = 100;
const CLIENTS: usize = 32;
const SUBMIT_FOR: Duration = Duration::from_secs(4);
const SYNCS: usize = 50;
/// Tasks of one submission whose admissions are counted by the task.
const ARRAY: usize = 200;

/// Measures a node of the release build.
pub fn measure() -> Result<Vec<Row>, Failure> {
    let root = process::root()?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), Into::into);
    let polder = target.join("release").join("polder");
    let folder = std::env::temp_dir().join(format!("polder-bench-jobs-{}", std::process::id()));
    let measured = with_node(&polder, &folder);
    // Whatever happened, the folder is only this run's.
    drop(std::fs::remove_dir_all(&folder));
    measured
}

fn odd(error: impl std::fmt::Display) -> Failure {
    Failure::new(
        format!("the node for jobs: {error}"),
        "run `cargo build --release` first, then `polder up --config` by hand",
    )
}

fn with_node(polder: &Path, folder: &Path) -> Result<Vec<Row>, Failure> {
    std::fs::create_dir_all(folder).map_err(odd)?;
    for file in ["baseline.cedar", "policy.cedar", "terms.cedar"] {
        std::fs::write(folder.join(file), OPEN).map_err(odd)?;
    }
    for file in ["passport.json", "trust.json"] {
        std::fs::write(folder.join(file), "[]\n").map_err(odd)?;
    }
    let text = "node = \"here\"\nstate = \"state\"\nlisten = \"127.0.0.1:0\"\n\n[home]\ntenant = \"lab\"\nbaseline = \"baseline.cedar\"\n\
                policy = \"policy.cedar\"\ntrust = \"trust.json\"\nweights = { price = 1, load = 1, latency = 1 }\n\n[[home.projects]]\n\
                id = \"runs\"\nclass = \"public\"\npurposes = [\"research\"]\n\n[factory]\nterms = \"terms.cedar\"\n\
                passport = \"passport.json\"\nprice_microeur_per_mtok = 0\nplaces = 1\n\n[factory.jobs]\ncores = 8\n";
    std::fs::write(folder.join("node.toml"), text).map_err(odd)?;
    let mut command = Command::new(polder);
    command.args(["up", "--config"]).arg(folder.join("node.toml")).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut node = command.spawn().map_err(odd)?;
    let measured = ready(&mut node).and_then(|()| rows(folder));
    drop(process::run(Command::new("kill").arg(node.id().to_string())));
    drop(node.wait());
    measured
}

fn ready(node: &mut Child) -> Result<(), Failure> {
    let mut line = String::new();
    let mut output = BufReader::new(node.stdout.take().ok_or_else(|| odd("no output"))?);
    match output.read_line(&mut line).map_err(odd)? {
        0 => Err(odd("it ended before it was ready")),
        _ => Ok(()),
    }
}

fn rows(folder: &Path) -> Result<Vec<Row>, Failure> {
    let sync = median(syncs(folder)?);
    let socket = folder.join("state/api.sock");
    let mut line = Line::open(&socket)?;
    let (mut answered, mut started) = (Vec::new(), Vec::new());
    for _ in 0..STARTS {
        let (answer_ms, start_ms) = one(&mut line, folder)?;
        answered.push(answer_ms);
        started.push(start_ms);
    }
    let single = submissions(&socket, 1)?;
    let many = submissions(&socket, ARRAY)?;
    let goal = 5.0 + 2.0 * sync;
    Ok(vec![
        Row::new("jobs live: a synced write of 4 KiB here, median", sync, "ms"),
        Row::new("jobs live: submission to its durable answer, median of 100", median(answered), "ms"),
        Row::new("jobs live: submission to the command's start, median of 100", median(started), "ms")
            .goal_at_most(goal),
        Row::new("jobs live: submissions of one job, durable, 32 clients", single, "jobs/s"),
        Row::new("jobs live: tasks of arrays of 200, durable, 32 clients", many, "jobs/s"),
    ])
}

fn syncs(folder: &Path) -> Result<Vec<f64>, Failure> {
    let mut file = std::fs::File::create(folder.join("synced")).map_err(odd)?;
    let mut all = Vec::new();
    for _ in 0..SYNCS {
        let begun = Instant::now();
        file.write_all(&[7; 4096]).and_then(|()| file.sync_data()).map_err(odd)?;
        all.push(begun.elapsed().as_secs_f64() * 1_000.0);
    }
    Ok(all)
}

/// One trivial job: until its answer, and until its command was started, in milliseconds.
fn one(line: &mut Line, folder: &Path) -> Result<(f64, f64), Failure> {
    let (begun, at) = (Instant::now(), SystemTime::now());
    let told = line.post("/api/v1/jobs", &job(1, 1))?;
    let answer_ms = begun.elapsed().as_secs_f64() * 1_000.0;
    let id = told["jobs"][0]["id"].as_str().ok_or_else(|| odd(&told))?;
    // The supervisor names the run's processes as soon as the first one is there.
    let digits = id.trim_start_matches("job-");
    let group: PathBuf = folder.join("state/jobs").join(format!("{digits}-000001-here/group"));
    let over = Instant::now() + Duration::from_secs(10);
    let started = loop {
        if let Ok(modified) = std::fs::metadata(&group).and_then(|held| held.modified()) {
            break modified;
        }
        if Instant::now() > over {
            return Err(odd(format!("`{id}` did not start")));
        }
        std::thread::sleep(Duration::from_micros(200));
    };
    let start_ms = started.duration_since(at).map_err(odd)?.as_secs_f64() * 1_000.0;
    // The next one finds a quiet node.
    std::thread::sleep(Duration::from_millis(30));
    Ok((answer_ms, start_ms))
}

fn job(cores: u32, array: usize) -> Value {
    json!({"jobs": [{
        "name": "bench", "resources": {"cores": cores}, "run": {"command": ["/bin/true"]}, "wall_s": 60,
        "cost_microeur_max": 0, "array": array,
    }]})
}

/// Jobs per second that were acknowledged, by many clients at once. They fit nowhere, so that nothing but their admission is measured.
fn submissions(socket: &Path, array: usize) -> Result<f64, Failure> {
    let begun = Instant::now();
    let counted: Vec<Result<usize, Failure>> = std::thread::scope(|scope| {
        let client = || {
            scope.spawn(|| {
                let (mut line, mut count) = (Line::open(socket)?, 0);
                while begun.elapsed() < SUBMIT_FOR {
                    let told = line.post("/api/v1/jobs", &job(64, array))?;
                    count += told["jobs"].as_array().ok_or_else(|| odd(&told))?.len();
                }
                Ok(count)
            })
        };
        let clients: Vec<_> = (0..CLIENTS).map(|_| client()).collect();
        clients.into_iter().map(|one| one.join().map_err(|_| odd("a client broke off"))?).collect()
    });
    let all: usize = counted.into_iter().sum::<Result<usize, Failure>>()?;
    Ok(all as f64 / begun.elapsed().as_secs_f64())
}

/// A connection to the node's own socket.
struct Line(BufReader<UnixStream>);

impl Line {
    fn open(socket: &Path) -> Result<Self, Failure> {
        Ok(Self(BufReader::new(UnixStream::connect(socket).map_err(odd)?)))
    }

    fn post(&mut self, path: &str, body: &Value) -> Result<Value, Failure> {
        let body = body.to_string();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        self.0.get_mut().write_all(format!("{head}{body}").as_bytes()).map_err(odd)?;
        let mut length = 0;
        loop {
            let mut line = String::new();
            self.0.read_line(&mut line).map_err(odd)?;
            if line.trim().is_empty() {
                break;
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().map_err(odd)?;
            }
        }
        let mut bytes = vec![0; length];
        self.0.read_exact(&mut bytes).map_err(odd)?;
        serde_json::from_slice(&bytes).map_err(odd)
    }
}
