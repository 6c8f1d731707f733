//! Verifiers in other languages: one process each, one case a line on stdin, `ok` or `no` a line on stdout.

use std::io::{BufRead as _, BufReader, BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::corpus::mutants::{CoseMutant, ProofMutant};
use crate::corpus::{Good, witnesses};

/// The folder of the verifiers' sources.
fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../verifiers")
}

/// A verifier that is not there: said aloud and counted, where somebody counts.
fn absent(name: &str, reason: &str) {
    eprintln!("skipped: {name}: {reason}");
    let Some(path) = std::env::var_os("POLDER_TEST_SKIPS") else { return };
    let mut file = std::fs::File::options().append(true).create(true).open(path).unwrap();
    writeln!(file, "{name}: {reason}").unwrap();
}

/// Go's `sumdb` packages, from Debian's `golang-golang-x-mod-dev`.
pub fn go() -> Option<Command> {
    let library = "/usr/share/gocode/src/golang.org/x/mod/sumdb/note";
    if !Path::new(library).is_dir() || Command::new("go").arg("version").output().is_err() {
        absent("receipts before Go", "golang-go and golang-golang-x-mod-dev are not installed");
        return None;
    }
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("go");
    std::fs::create_dir_all(&folder).unwrap();
    let program = folder.join("verify");
    let mut build = Command::new("go");
    build.args(["build", "-o"]).arg(&program).arg(sources().join("go/verify.go"));
    build.env("GO111MODULE", "off").env("GOPATH", "/usr/share/gocode").env("GOCACHE", folder.join("cache"));
    let built = build.output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    Some(Command::new(program))
}

/// Python with `cwt`, where the test environment has it.
pub fn python() -> Option<Command> {
    let program = std::env::var_os("POLDER_TEST_PYTHON").unwrap_or_else(|| "python3".into());
    let there = Command::new(&program).args(["-c", "import cwt, cbor2"]).output();
    if !there.is_ok_and(|output| output.status.success()) {
        absent("receipts before Python", "the package `cwt` is not installed");
        return None;
    }
    let mut command = Command::new(program);
    command.arg(sources().join("python/verify_cose.py"));
    Some(command)
}

/// A script for node, with the packages of the test environment.
pub fn javascript(script: &str) -> Option<Command> {
    let folder = sources_of_node();
    if !folder.join("node_modules/@auth0/cose").is_dir() {
        absent("receipts before JavaScript", "the package `@auth0/cose` is not installed");
        return None;
    }
    let mut command = Command::new("node");
    // Packages are looked up beside the script, so a copy lies where they are.
    let copy = folder.join(script);
    std::fs::copy(sources().join("node").join(script), &copy).unwrap();
    command.arg(copy).arg(sources().join("verify.html"));
    Some(command)
}

/// Gives cases to a verifier; its answers in their order.
fn answers(mut command: Command, cases: impl Iterator<Item = String>) -> Vec<String> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let reader = std::thread::spawn(move || output.lines().map(Result::unwrap).collect::<Vec<_>>());
    let mut input = BufWriter::new(child.stdin.take().unwrap());
    for case in cases {
        writeln!(input, "{case}").unwrap();
    }
    drop(input);
    let answers = reader.join().unwrap();
    assert!(child.wait().unwrap().success());
    answers
}

fn judge(goods: &[Good], ways: &[(usize, &str)], answers: &[String]) {
    assert_eq!(answers.len(), goods.len() + ways.len(), "one answer for each case");
    for (good, answer) in goods.iter().zip(answers) {
        assert_eq!(answer, "ok", "{} is good", good.name);
    }
    for ((which, how), answer) in ways.iter().zip(&answers[goods.len()..]) {
        assert!(answer.starts_with("no"), "{} is accepted: {how}: {answer}", goods[*which].name);
    }
}

/// Has a verifier judge every good proof and the changed ones.
pub fn proofs(command: Command, goods: &[Good], mutants: impl Iterator<Item = (usize, ProofMutant)>) {
    let keys: Vec<String> = witnesses().iter().map(|(_, key)| key.to_string()).collect();
    let line = |good: &Good, proof: &[u8], statement: &[u8]| {
        let (proof, statement) = (BASE64.encode(proof), BASE64.encode(statement));
        format!("proof\t{}\t{}\t{proof}\t{statement}", good.vkey(), keys.join(","))
    };
    let mut ways = Vec::new();
    let good = goods.iter().map(|good| line(good, good.proof.as_bytes(), &good.export.statement));
    let changed = mutants.map(|(which, mutant)| {
        ways.push((which, mutant.how));
        line(&goods[which], &mutant.proof, &mutant.statement)
    });
    let answers = answers(command, good.chain(changed));
    judge(goods, &ways, &answers);
}

/// Has a verifier judge every good COSE file and the changed ones that it can notice.
pub fn coses(command: Command, goods: &[Good], mutants: impl Iterator<Item = (usize, CoseMutant)>) {
    let line = |good: &Good, cose: &[u8]| {
        let key = BASE64.encode(good.export.log.public_bytes());
        format!("cose\t{}\t{key}\t{}", good.export.log.name(), BASE64.encode(cose))
    };
    let mut ways = Vec::new();
    let good = goods.iter().map(|good| line(good, &good.cose));
    let changed = mutants.filter(|(_, mutant)| !mutant.ours_alone).map(|(which, mutant)| {
        ways.push((which, mutant.how));
        line(&goods[which], &mutant.cose)
    });
    let answers = answers(command, good.chain(changed));
    judge(goods, &ways, &answers);
}

/// Opens the page in a real browser from a file: address and drops each of these files in; its answers.
pub fn browser(files: &[PathBuf]) -> Option<Vec<String>> {
    let mut command = javascript("browser.mjs")?;
    let there = Path::new("/usr/bin/chromium").is_file();
    if !there || !sources_of_node().join("node_modules/playwright-core").is_dir() {
        absent("verify.html in a browser", "chromium or `playwright-core` is not installed");
        return None;
    }
    let output = command.args(files).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect())
}

fn sources_of_node() -> PathBuf {
    std::env::var_os("POLDER_TEST_NODE_DIR").map(PathBuf::from).unwrap_or_default()
}
