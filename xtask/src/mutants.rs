//! `cargo xtask mutants`: what the simulator is worth, measured by bugs that are put into the code.
//!
//! `mutants/protocol.toml` lists bugs as edits of the source. A copy of the core and the twin gets all of them, each behind the
//! number of a switch that exists in the copy only, so that the product pays nothing and reads as it is. The simulator runs
//! with one switch after another until it sees a violation. A bug that it never sees is a hole in its checkers. Bugs that
//! touch the same lines go into copies of their own. Inventing bugs is absent: who writes a rule writes its bug.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::failure::Failure;
use crate::{federation, process};

/// The task's help.
pub const HELP: &str = "\
Usage: cargo xtask mutants [--schedules N] [--seed S] [--only TEXT] [-o table|json]

Puts each bug of `mutants/protocol.toml` into a copy of the code and runs the simulator until it sees a violation, at
most N schedules (100,000 unless told). Prints each bug with the seed that found it, and the share that was found.

Example:
  cargo xtask mutants --only slice
";

const LIST: &str = "mutants/protocol.toml";
const SOURCES: &str = "crates/polder-core/src/";

/// A bug: its name, its file below the core's sources, and what takes the place of what.
#[derive(Debug, Clone)]
struct Mutant {
    name: String,
    file: String,
    edits: Vec<(String, String)>,
}

/// What was asked for.
struct Asked {
    schedules: String,
    seed: String,
    only: Option<String>,
    json: bool,
}

/// What became of a bug: its name, the seed that found it, what was seen.
type Outcome = (String, Option<u64>, String);

/// Runs the simulator over every bug.
pub fn task(args: &[String]) -> Result<(), Failure> {
    let asked = options(args)?;
    let root = process::root()?;
    let all = read(&root)?;
    let wanted: Vec<(usize, Mutant)> = (1..)
        .zip(all)
        .filter(|(_, one)| asked.only.as_ref().is_none_or(|text| one.name.contains(text.as_str())))
        .collect();
    let mut outcomes: Vec<Outcome> = Vec::new();
    for batch in batches(&root, &wanted)? {
        let program = build(&root, &batch)?;
        let clean = simulate(&program, 0, "500", &asked.seed)?;
        if clean.0.is_some() {
            let next = "correct that first: `cargo xtask soak federation`";
            return Err(Failure::new(format!("without any bug the simulator sees: {}", clean.1), next));
        }
        for (number, mutant) in &batch {
            let (seed, what) = simulate(&program, *number, &asked.schedules, &asked.seed)?;
            if !asked.json {
                let found = seed.map_or("NOT FOUND".to_owned(), |seed| format!("seed {seed}"));
                println!("{found:<14} {}: {what}", mutant.name);
            }
            outcomes.push((mutant.name.clone(), seed, what));
        }
    }
    conclude(&asked, &outcomes)
}

fn conclude(asked: &Asked, outcomes: &[Outcome]) -> Result<(), Failure> {
    let found = outcomes.iter().filter(|(_, seed, _)| seed.is_some()).count();
    if asked.json {
        let rows: Vec<Value> =
            outcomes.iter().map(|(name, seed, what)| json!({"bug": name, "seed": seed, "what": what})).collect();
        println!("{}", json!({"bugs": outcomes.len(), "found": found, "rows": rows}));
    } else {
        println!("{found} of {} bugs were found", outcomes.len());
    }
    if found == outcomes.len() {
        return Ok(());
    }
    Err(Failure::new(format!("{} bugs were not found", outcomes.len() - found), "write the checker that sees them"))
}

fn options(args: &[String]) -> Result<Asked, Failure> {
    let mut asked = Asked { schedules: "100000".to_owned(), seed: "1".to_owned(), only: None, json: false };
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        let wrong =
            || Failure::usage(format!("`{arg}` takes a value, or is not known"), "`cargo xtask mutants --help`");
        let value = rest.next().ok_or_else(wrong)?.clone();
        match (arg.as_str(), value.as_str()) {
            ("--schedules", _) if value.parse::<u64>().is_ok() => asked.schedules = value,
            ("--seed", _) if value.parse::<u64>().is_ok() => asked.seed = value,
            ("--only", _) => asked.only = Some(value),
            ("-o", "json" | "table") => asked.json = value == "json",
            _ => return Err(wrong()),
        }
    }
    Ok(asked)
}

fn odd(what: impl std::fmt::Display) -> Failure {
    Failure::new(format!("{LIST}: {what}"), "correct the entry; it must name what the code says now")
}

/// The bugs, in the order of the file.
fn read(root: &Path) -> Result<Vec<Mutant>, Failure> {
    let text = fs::read_to_string(root.join(LIST)).map_err(odd)?;
    let table: toml::Table = text.parse().map_err(odd)?;
    let mutants = table.get("mutant").and_then(toml::Value::as_array).ok_or_else(|| odd("has no `[[mutant]]`"))?;
    let text_of = |value: &toml::Value, key: &str| {
        value
            .get(key)
            .and_then(toml::Value::as_str)
            .map(str::to_owned)
            .ok_or_else(|| odd(format!("`{key}` is missing")))
    };
    let one = |value: &toml::Value| {
        let edits = value.get("edits").and_then(toml::Value::as_array).ok_or_else(|| odd("`edits` is missing"))?;
        let edits = edits.iter().map(|edit| Ok((text_of(edit, "find")?, text_of(edit, "replace")?)));
        let edits = edits.collect::<Result<_, Failure>>()?;
        Ok(Mutant { name: text_of(value, "name")?, file: text_of(value, "file")?, edits })
    };
    mutants.iter().map(one).collect()
}

/// Where each edit of a bug stands in its file: exactly once.
fn places(root: &Path, mutant: &Mutant) -> Result<Vec<Range<usize>>, Failure> {
    let path = root.join(SOURCES).join(&mutant.file);
    let text = fs::read_to_string(&path).map_err(|e| odd(format!("`{}`: {e}", mutant.file)))?;
    let place = |(find, _): &(String, String)| {
        let mut at = text.match_indices(find.as_str()).map(|(at, _)| at);
        match (at.next(), at.next()) {
            (Some(at), None) => Ok(at..at + find.len()),
            (first, _) => {
                let times = if first.is_some() { "more than once" } else { "nowhere" };
                Err(odd(format!("`{}` finds its text {times} in `{}`", mutant.name, mutant.file)))
            }
        }
    };
    mutant.edits.iter().map(place).collect()
}

/// Bugs that can stand in one copy together.
fn batches(root: &Path, wanted: &[(usize, Mutant)]) -> Result<Vec<Vec<(usize, Mutant)>>, Failure> {
    let mut all: Vec<Vec<(usize, Mutant)>> = Vec::new();
    let mut taken: Vec<Vec<(String, Range<usize>)>> = Vec::new();
    for (number, mutant) in wanted {
        let ranges = places(root, mutant)?;
        let free = |taken: &Vec<(String, Range<usize>)>| {
            !taken.iter().any(|(file, one)| {
                *file == mutant.file && ranges.iter().any(|range| range.start < one.end && one.start < range.end)
            })
        };
        let at = taken.iter().position(free).unwrap_or_else(|| {
            taken.push(Vec::new());
            all.push(Vec::new());
            taken.len() - 1
        });
        taken[at].extend(ranges.into_iter().map(|range| (mutant.file.clone(), range)));
        all[at].push((*number, mutant.clone()));
    }
    Ok(all)
}

/// Builds a copy of core and twin with a batch of bugs in it.
fn build(root: &Path, batch: &[(usize, Mutant)]) -> Result<PathBuf, Failure> {
    let target = federation::target()?;
    let copy = target.join("mutants");
    let failed = |what: std::io::Error| Failure::new(format!("the copy cannot be made: {what}"), "free some space");
    drop(fs::remove_dir_all(&copy));
    let listed =
        process::capture(Command::new("git").current_dir(root).args(["ls-files", "-co", "--exclude-standard"]))?;
    let left_out = ["crates/polder-node/", "crates/polder/", "xtask/", "docs/", "clients/", "fuzz/"];
    for file in listed.lines().filter(|file| !left_out.iter().any(|folder| file.starts_with(folder))) {
        let to = copy.join(file);
        to.parent().map_or(Ok(()), fs::create_dir_all).map_err(failed)?;
        drop(fs::copy(root.join(file), to));
    }
    let manifest = fs::read_to_string(copy.join("Cargo.toml")).map_err(failed)?;
    let members = manifest
        .replace("members = [\"crates/*\", \"xtask\"]", "members = [\"crates/polder-core\", \"crates/polder-twin\"]")
        .replace("default-members = [\"crates/polder\"]", "");
    fs::write(copy.join("Cargo.toml"), members).map_err(failed)?;
    let core = copy.join(SOURCES);
    let lib = fs::read_to_string(core.join("lib.rs")).map_err(failed)?;
    fs::write(core.join("lib.rs"), format!("{lib}\npub mod flaw;\n")).map_err(failed)?;
    fs::write(core.join("flaw.rs"), SWITCH).map_err(failed)?;
    for (number, mutant) in batch {
        let path = core.join(&mutant.file);
        let mut text = fs::read_to_string(&path).map_err(failed)?;
        for (find, replace) in &mutant.edits {
            text = text.replacen(find.as_str(), &replace.replace("FLAW", &number.to_string()), 1);
        }
        fs::write(path, text).map_err(failed)?;
    }
    let mut cargo = process::cargo(&copy);
    cargo.args([
        "build", "--release", "--offline", "-p", "polder-core", "-p", "polder-twin", "--examples", "--target-dir",
    ]);
    process::run(cargo.arg(&target))?;
    let program = copy.join("federation");
    fs::copy(federation::built(&target), &program).map_err(failed)?;
    Ok(program)
}

/// The switch, which stands in copies only.
const SWITCH: &str = r#"//! Which bug is switched on.
use std::sync::OnceLock;

static FLAW: OnceLock<u32> = OnceLock::new();

/// Whether it is this one.
pub fn is(flaw: u32) -> bool {
    let read = || std::env::var("POLDER_FLAW").ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    *FLAW.get_or_init(read) == flaw
}
"#;

/// Runs the simulator with one bug; the first seed that found it, and what was seen.
fn simulate(program: &Path, number: usize, schedules: &str, seed: &str) -> Result<(Option<u64>, String), Failure> {
    let mut command = Command::new(program);
    command.args(["--schedules", schedules, "--seed", seed, "--first", "-o", "json"]);
    let output = command.env("POLDER_FLAW", number.to_string()).stderr(Stdio::null()).output();
    let output = output.map_err(|e| Failure::new(format!("the simulator does not start: {e}"), "build it by hand"))?;
    let read: Value = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    let first = &read["violations"][0];
    let what = first["what"][0].as_str().unwrap_or(if read.is_null() { "the simulator died" } else { "nothing" });
    let seed = if read.is_null() { seed.parse().ok() } else { first["seed"].as_u64() };
    Ok((seed, what.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::{batches, read};
    use crate::process;

    /// The list must keep up with the code: every bug finds its place, and there are enough of them.
    #[test]
    fn every_bug_finds_its_place() {
        let root = process::root().unwrap();
        let all = read(&root).unwrap();
        assert!(all.len() >= 50, "{} bugs", all.len());
        let numbered: Vec<_> = (1..).zip(all).collect();
        let batched: usize = batches(&root, &numbered).unwrap().iter().map(Vec::len).sum();
        assert_eq!(batched, numbered.len());
    }
}
