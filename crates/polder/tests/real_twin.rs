//! `polder twin` from outside: studies laid out and run, a page that a real browser opens, and Ctrl-C that leaves a report.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use support::{Folder, LONG, polder, run};

/// The demo's study, over fewer days.
fn short(folder: &Path, days: u32) -> String {
    let ended = run(polder(folder).args(["twin", "init", "plans"]));
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let path = folder.join("plans/studies/demo.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    // What happens after the end is taken out.
    let text = text.split("[[events]]").next().unwrap().replace("days = 365", &format!("days = {days}"));
    std::fs::write(&path, text).unwrap();
    "plans/studies/demo.toml".to_owned()
}

#[test]
fn a_study_is_the_same_every_time_and_a_browser_shows_it() {
    let folder = Folder::new();
    let study = short(folder.path(), 45);
    let report = |threads: &str, page: &str| -> Value {
        let ended = run(polder(folder.path()).args([
            "twin", "run", &study, "-o", "json", "--threads", threads, "--report", page, "--csv", "months.csv",
        ]));
        assert_eq!(ended.code, 0, "{}", ended.stderr);
        serde_json::from_str(&ended.stdout).unwrap()
    };
    let one = report("1", "one.html");
    assert_eq!(one, report("3", "two.html"));
    assert!(one["demands"][0]["finished"].as_u64().unwrap() > 10_000);
    assert_eq!(std::fs::read_to_string(folder.path().join("months.csv")).unwrap().lines().count(), 1 + 2 * 8);
    // What is laid out once is not overwritten.
    let again = run(polder(folder.path()).args(["twin", "init", "plans"]));
    assert!(again.code != 0 && again.stderr.contains("File exists"), "{}", again.stderr);

    let chromium = Path::new("/usr/bin/chromium");
    if !chromium.is_file() {
        eprintln!("skipped: chromium is not installed");
        return;
    }
    let page = folder.path().join("one.html");
    let picture = folder.path().join("one.png");
    let mut command = Command::new(chromium);
    command.args(["--headless", "--no-sandbox", "--disable-gpu", "--window-size=1100,2400"]);
    command.arg(format!("--user-data-dir={}", folder.path().join("profile").display()));
    command.arg(format!("--screenshot={}", picture.display())).arg(format!("file://{}", page.display()));
    let output = command.stdin(Stdio::null()).output().unwrap();
    let png = std::fs::read(&picture).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&output.stderr)));
    assert!(png.starts_with(b"\x89PNG") && png.len() > 30_000, "{} bytes", png.len());
}

#[test]
fn control_c_leaves_a_report_of_the_time_before() {
    let folder = Folder::new();
    run(polder(folder.path()).args(["twin", "init", "plans"]));
    let mut child = polder(folder.path())
        .args(["twin", "run", "plans/studies/tenfold/year.toml", "--report", "year.html", "-o", "json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_secs(4));
    assert!(child.try_wait().unwrap().is_none(), "the study of a year runs longer than that");
    run(Command::new("kill").args(["-INT", &child.id().to_string()]));
    let interrupted = Instant::now();
    let output = child.wait_with_output().unwrap();
    assert!(interrupted.elapsed() < LONG);
    assert_eq!(output.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["whole"], false);
    let hours = report["hours"].as_u64().unwrap();
    assert!((24..365 * 24).contains(&hours), "{hours}");
    assert!(std::fs::read_to_string(folder.path().join("year.html")).unwrap().contains("interrupted"));
}

#[test]
fn a_trace_with_wrong_rows_is_read_and_they_are_told() {
    let folder = Folder::new();
    let study = short(folder.path(), 2);
    let path = folder.path().join(&study);
    let text = std::fs::read_to_string(&path).unwrap();
    let drawn = "per_hour = 5\ngrowth_percent_per_year = 40\nsizes = [[8, 6], [16, 2], [32, 1]]\nrun_min = 150\n";
    assert!(text.contains(drawn));
    std::fs::write(&path, text.replace(drawn, "trace = { format = \"swf\", file = \"jobs.swf\" }\n")).unwrap();
    let missing = run(polder(folder.path()).args(["twin", "run", &study]));
    assert_eq!(missing.code, 2);
    assert!(missing.stderr.contains("demo.toml:") && missing.stderr.contains("jobs.swf"), "{}", missing.stderr);
    let rows = "; made up\n1 0 0 600 8 -1 -1 8 900 -1 1 1 1 1 1 1 -1 -1\n2 60 0 600 8\n3 90 0 600 8 -1 -1 8 900 -1 1 1 1 1 1 1 -1 -1\n";
    std::fs::write(folder.path().join("plans/studies/jobs.swf"), rows).unwrap();
    let ended = run(polder(folder.path()).args(["twin", "run", &study, "-o", "json"]));
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(ended.stderr.contains("line 3") && ended.stderr.contains("5 fields"), "{}", ended.stderr);
    let report: Value = serde_json::from_str(&ended.stdout).unwrap();
    let bank = report["demands"].as_array().unwrap().iter().find(|one| one["demand"] == "bank-models").unwrap();
    assert_eq!((bank["asked"].as_u64(), bank["finished"].as_u64()), (Some(2), Some(2)));
}

#[test]
fn calibration_says_what_is_missing() {
    let folder = Folder::new();
    let asked = |train: &str, test: &str| {
        run(polder(folder.path()).args(["twin", "calibrate", "--data", "nowhere", "--train", train, "--test", test]))
    };
    let ended = asked("0d..2d", "2d..7d");
    assert!(ended.code == 1 && ended.stderr.contains("consumption.parquet"), "{}", ended.stderr);
    assert_eq!(asked("2d..0d", "2d..7d").code, 2);
    let overlap = asked("0d..2d", "1d..7d");
    assert!(overlap.stderr.contains("overlap"), "{}", overlap.stderr);
}
