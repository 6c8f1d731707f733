//! Runs every scenario in `scenarios/` over the demo's federation and compares transcripts. `UPDATE=1` rewrites them.
//!
//! What a scenario should say is not judged here: a changed transcript is for a person to read.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use polder_twin::federation::Federation;
use polder_twin::scenario;

fn top(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(folder)
}

fn demo() -> Federation {
    let mut texts = BTreeMap::new();
    for folder in ["policies", "terms"] {
        for entry in fs::read_dir(top("demo").join(folder)).unwrap() {
            let path = entry.unwrap().path();
            let name = format!("{folder}/{}", path.file_name().unwrap().to_str().unwrap());
            texts.insert(name, fs::read_to_string(path).unwrap());
        }
    }
    let description = fs::read_to_string(top("demo/federation.toml")).unwrap();
    Federation::parse("demo/federation.toml", &description, |path| texts.get(path).map(String::as_str)).unwrap()
}

#[test]
fn every_scenario_gives_its_transcript() {
    let demo = demo();
    let update = std::env::var_os("UPDATE").is_some();
    let mut paths: Vec<PathBuf> = fs::read_dir(top("scenarios"))
        .expect("the folder `scenarios` is there")
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "txt"))
        .collect();
    paths.sort();
    assert!(paths.len() >= 10, "only {} scenarios were found", paths.len());
    let mut wrong = Vec::new();
    for path in paths {
        let name = format!("scenarios/{}", path.file_name().unwrap().to_str().unwrap());
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("# "), "{name} does not begin with a remark that says what it shows");
        let actual = scenario::run(&name, &text, &demo).unwrap_or_else(|e| panic!("{e}"));
        if actual == text {
            continue;
        }
        if update {
            fs::write(&path, actual).unwrap();
            continue;
        }
        let pairs = (1..).zip(text.lines().zip(actual.lines()));
        let first = pairs.into_iter().find(|(_, (a, b))| a != b);
        let (line, (expected, got)) = first.unwrap_or((text.lines().count(), ("the end", "more, or less")));
        wrong.push(format!("{name}:{line}:\n  expected: {expected}\n  got:      {got}"));
    }
    assert!(wrong.is_empty(), "{}\n`UPDATE=1` rewrites the transcripts", wrong.join("\n"));
}
