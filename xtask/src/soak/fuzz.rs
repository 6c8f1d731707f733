//! `cargo xtask soak fuzz`: libFuzzer over every target of `fuzz/`, following coverage, on the stable toolchain.
//!
//! Coverage is an LLVM pass that stable rustc can be told to run; only sanitizers need nightly, and the code has no `unsafe`. What is
//! found is kept in `fuzz/corpus/`, so that the next run goes on from there. `POLDER_FUZZ_SECONDS` is each target's time,
//! `POLDER_FUZZ_TARGET` takes one alone. Minimising a corpus is absent: `cargo fuzz cmin` does it where it is installed.

use std::path::Path;
use std::process::Command;

use crate::failure::Failure;
use crate::process;

/// The name of this long test.
pub const NAME: &str = "fuzz";
/// Its line in the list.
pub const SUMMARY: &str =
    "libFuzzer over every parser of what strangers send (POLDER_FUZZ_SECONDS for each, POLDER_FUZZ_TARGET)";

const SECONDS: &str = "600";
/// What `cargo fuzz` gives too, without what needs nightly.
const FLAGS: [&str; 7] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Ccodegen-units=1",
    "--cfg=fuzzing",
];
/// Longest input, in bytes.
const INPUT_BYTES_MAX: &str = "-max_len=65536";

/// Builds the targets and runs each for its time.
pub fn run() -> Result<(), Failure> {
    let root = process::root()?;
    let folder = root.join("fuzz");
    // Naming the target keeps the flags away from build scripts and macros.
    let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let mut build = process::cargo(&folder);
    build.args(["build", "--release", "--bins", "--target", &triple]).env("RUSTFLAGS", FLAGS.join(" "));
    process::run(build.env_remove("CARGO_TARGET_DIR"))?;
    let only = std::env::var("POLDER_FUZZ_TARGET").ok();
    let names: Vec<String> =
        targets(&folder)?.into_iter().filter(|name| only.as_ref().is_none_or(|one| one == name)).collect();
    if names.is_empty() {
        let next = "look into `fuzz/fuzz_targets/`";
        return Err(Failure::usage(format!("no target is called `{}`", only.unwrap_or_default()), next));
    }
    let seconds = std::env::var("POLDER_FUZZ_SECONDS").unwrap_or_else(|_| SECONDS.to_owned());
    for name in names {
        let (corpus, artifacts) = (folder.join("corpus").join(&name), folder.join("artifacts").join(&name));
        for made in [&corpus, &artifacts] {
            std::fs::create_dir_all(made)
                .map_err(|e| Failure::new(format!("`{}`: {e}", made.display()), "make the folder writable"))?;
        }
        let mut command = Command::new(folder.join("target").join(&triple).join("release").join(&name));
        command.arg(&corpus).args(seeds(&root, &name)).arg(format!("-artifact_prefix={}/", artifacts.display()));
        command.args([
            format!("-max_total_time={seconds}").as_str(),
            INPUT_BYTES_MAX,
            "-timeout=10",
            "-print_final_stats=1",
        ]);
        process::run(&mut command)?;
    }
    Ok(())
}

fn targets(folder: &Path) -> Result<Vec<String>, Failure> {
    let folder = folder.join("fuzz_targets");
    let entries = std::fs::read_dir(&folder)
        .map_err(|e| Failure::new(format!("`{}`: {e}", folder.display()), "run the task in a whole checkout"))?;
    let mut names: Vec<String> =
        entries.flatten().filter_map(|entry| Some(entry.path().file_stem()?.to_str()?.to_owned())).collect();
    names.sort();
    Ok(names)
}

/// Folders of good and bad files to begin with, where there are any of the target's kind.
fn seeds(root: &Path, name: &str) -> Vec<std::path::PathBuf> {
    let folders = [root.join("fuzz/seeds").join(name), root.join("vectors/good"), root.join("vectors/bad")];
    folders.into_iter().filter(|folder| folder.is_dir()).collect()
}
