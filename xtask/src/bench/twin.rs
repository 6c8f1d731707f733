//! What planning costs: a year of 24 factories of 10,000 accelerators each, jobs a second beside SimPy's plain event loop, and calibration.
//!
//! CPU seconds and memory are the kernel's own account of the child process. The baseline is a small queue in SimPy, in the same
//! run: arrivals, a resource, exponential times, no policies, no power. Without SimPy its rows are absent, and the reason is said.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use super::Asked;
use super::rows::{Bound, Row};
use crate::failure::Failure;
use crate::process;

/// The baseline: an M/M/c queue as SimPy's documentation writes one.
const SIMPY: &str = "import random, resource, simpy, sys
count = int(sys.argv[1])
random.seed(7)
env = simpy.Environment()
machine = simpy.Resource(env, capacity=100)
def job():
    with machine.request() as place:
        yield place
        yield env.timeout(random.expovariate(1 / 80))
def arrivals():
    for _ in range(count):
        yield env.timeout(random.expovariate(1))
        env.process(job())
env.process(arrivals())
env.run()
used = resource.getrusage(resource.RUSAGE_SELF)
print(used.ru_utime + used.ru_stime)
";
const SIMPY_JOBS: f64 = 300_000.0;

/// Measures with the release build; `--data FOLDER` adds the rows of calibration.
pub fn measure(asked: &Asked<'_>) -> Result<Vec<Row>, Failure> {
    let root = process::root()?;
    process::run(process::cargo(&root).args(["build", "--release", "--workspace", "--bins"]))?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let polder = target.join("release").join("polder");
    let year = year(&polder, &root)?;
    let mut rows = vec![
        Row { must: at_most(300.0), goal: at_most(60.0), ..Row::new("24 factories, one year: CPU", year.cpu_s, "s") },
        Row {
            must: at_most(1_024.0),
            goal: at_most(512.0),
            ..Row::new("24 factories, one year: memory", year.peak_mb, "MB")
        },
        Row { must: at_least(40e6, "value"), ..Row::new("24 factories, one year: jobs", year.jobs, "jobs") },
    ];
    let speed = Row::new("jobs a CPU second", year.jobs / year.cpu_s, "jobs/s");
    rows.push(match simpy(&root) {
        Ok(baseline) => {
            Row { baseline: Some(baseline), must: at_least(3.0, "ratio"), goal: at_least(8.0, "ratio"), ..speed }
        }
        Err(reason) => {
            eprintln!("no baseline: {reason}");
            speed
        }
    });
    rows.push(growth(&polder, &root)?);
    if let ["--data", folder] = asked.parts {
        rows.extend(calibration(&polder, Path::new(folder))?);
    }
    Ok(rows)
}

/// Plans of a search.
const PLANS: u32 = 1_000;

/// A search over a thousand plans of one year, on two threads: how long one waits for it.
fn growth(polder: &Path, root: &Path) -> Result<Row, Failure> {
    let odd = |message: String| Failure::new(message, "run `polder twin grow studies/tenfold/grow.toml` by hand");
    let folder = root.join("studies/tenfold");
    let text = std::fs::read_to_string(folder.join("grow.toml")).map_err(|e| odd(e.to_string()))?;
    let federation = folder.join("federation.toml").display().to_string();
    let text = text.replace("days = 730", "days = 365").replace("\"federation.toml\"", &format!("{federation:?}"));
    let study = std::env::temp_dir().join(format!("polder-bench-grow-{}.toml", std::process::id()));
    std::fs::write(&study, text).map_err(|e| odd(e.to_string()))?;
    let begun = std::time::Instant::now();
    let mut command = Command::new(polder);
    command.args(["twin", "grow", "-o", "json", "--threads", "2", "--plans", &PLANS.to_string()]).arg(&study);
    // That no plan reaches tenfold in one year is no failure here: exit code 4.
    let output = command.output().map_err(|e| odd(e.to_string()))?;
    let minutes = begun.elapsed().as_secs_f64() / 60.0;
    drop(std::fs::remove_file(&study));
    let found: Value = serde_json::from_slice(&output.stdout)
        .map_err(|e| odd(format!("the search is not understood: {e}: {}", String::from_utf8_lossy(&output.stderr))))?;
    if found["tried"].as_u64() != Some(u64::from(PLANS)) {
        return Err(odd(format!("{} plans were tried", found["tried"])));
    }
    Ok(Row { must: at_most(60.0), goal: at_most(10.0), ..Row::new("1,000 one-year plans, 24 sites", minutes, "min") })
}

fn at_most(than: f64) -> Option<Bound> {
    Some(Bound { op: "le", of: "value", than })
}

fn at_least(than: f64, of: &'static str) -> Option<Bound> {
    Some(Bound { op: "ge", of, than })
}

struct Year {
    cpu_s: f64,
    peak_mb: f64,
    jobs: f64,
}

/// Runs the study and reads what it took from `/proc`, while the ended process still waits to be collected.
fn year(polder: &Path, root: &Path) -> Result<Year, Failure> {
    let odd = |message: String| Failure::new(message, "run `polder twin run studies/tenfold/year.toml` by hand");
    let study = root.join("studies/tenfold/year.toml");
    let mut command = Command::new(polder);
    command.args(["twin", "run", "-o", "json"]).arg(study).stdout(Stdio::piped());
    let mut child = command.spawn().map_err(|e| odd(format!("the study did not start: {e}")))?;
    let folder = PathBuf::from(format!("/proc/{}", child.id()));
    let (mut peak_mb, mut cpu_s) = (0.0_f64, 0.0_f64);
    let mut output = child.stdout.take().ok_or_else(|| odd("the study has no output".to_owned()))?;
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        std::io::Read::read_to_string(&mut output, &mut text).map(|_| text)
    });
    // The account of CPU time stays until the child is collected below; memory is gone when it ends.
    loop {
        peak_mb = peak_mb.max(peak(&folder).unwrap_or(0.0));
        let Some((state, seconds)) = account(&folder) else { break };
        cpu_s = seconds;
        if state == 'Z' {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let ended = child.wait().map_err(|e| odd(format!("the study was not collected: {e}")))?;
    let text = reader.join().ok().and_then(Result::ok).unwrap_or_default();
    let report: Value =
        serde_json::from_str(&text).map_err(|e| odd(format!("the report is not understood ({ended}): {e}")))?;
    let demands = report["demands"].as_array().cloned().unwrap_or_default();
    let jobs = demands.iter().filter_map(|demand| demand["asked"].as_f64()).sum();
    Ok(Year { cpu_s, peak_mb, jobs })
}

/// Highest resident memory so far, in megabytes.
fn peak(folder: &Path) -> Option<f64> {
    let status = std::fs::read_to_string(folder.join("status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<f64>().ok().map(|kb| kb / 1_024.0)
}

/// State and CPU seconds: fields 3, 14 and 15 of `proc_pid_stat(5)`, in ticks of a hundredth of a second.
fn account(folder: &Path) -> Option<(char, f64)> {
    let stat = std::fs::read_to_string(folder.join("stat")).ok()?;
    let (_, after) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = after.split_ascii_whitespace().collect();
    let ticks = |place: usize| fields.get(place).and_then(|field| field.parse::<f64>().ok());
    Some((fields.first()?.chars().next()?, (ticks(11)? + ticks(12)?) / 100.0))
}

/// SimPy's jobs a CPU second, or why there are none.
fn simpy(root: &Path) -> Result<f64, String> {
    let python =
        std::env::var_os("POLDER_TEST_PYTHON").map_or_else(|| root.join(".test-env/python/bin/python"), PathBuf::from);
    let mut command = Command::new(python);
    let text = process::capture(command.args(["-c", SIMPY]).arg(SIMPY_JOBS.to_string())).map_err(|e| e.to_string())?;
    text.trim().parse::<f64>().map(|seconds| SIMPY_JOBS / seconds).map_err(|e| e.to_string())
}

fn calibration(polder: &Path, folder: &Path) -> Result<Vec<Row>, Failure> {
    let mut rows = Vec::new();
    for (train, test) in [("0d..2d", "2d..7d"), ("0d..1d", "1d..2d"), ("1d..2d", "0d..1d")] {
        let mut command = Command::new(polder);
        command.args(["twin", "calibrate", "--train", train, "--test", test, "-o", "json", "--data"]).arg(folder);
        let text = match process::capture(&mut command) {
            Ok(text) => text,
            Err(failure) => {
                eprintln!("{train} to {test}: {failure}");
                continue;
            }
        };
        let odd =
            |e: serde_json::Error| Failure::new(format!("the calibration is not understood: {e}"), "run it by hand");
        let found: Value = serde_json::from_str(&text).map_err(odd)?;
        let value = |key: &str| found[key].as_f64().unwrap_or(f64::NAN);
        let named = |what: &str| format!("{what}, learned {train}, held out {test}");
        rows.push(Row {
            must: at_most(4.3),
            goal: at_most(2.0),
            ..Row::new(named("power error (MAPE)"), value("mape_percent"), "%")
        });
        rows.push(Row {
            must: at_least(90.0, "value"),
            ..Row::new(named("within the band"), value("band_coverage_percent"), "%")
        });
    }
    Ok(rows)
}
