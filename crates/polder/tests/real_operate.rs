//! The commands of `docs/operate.md`, run in their order as an operator would type them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use support::{Folder, POLDER, process};

/// An operator has ten minutes for all of it; a test has less.
const TIME_MAX: Duration = Duration::from_secs(120);

/// The lines that a reader types: those that begin with `$ ` in blocks of console.
fn commands(page: &str) -> Vec<String> {
    let mut inside = false;
    let mut found = Vec::new();
    for line in page.lines() {
        match line {
            "```console" => inside = true,
            "```" => inside = false,
            line if inside => found.extend(line.strip_prefix("$ ").map(str::to_owned)),
            _ => {}
        }
    }
    found
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn an_operator_becomes_a_member_by_the_page() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let page = std::fs::read_to_string(root.join("docs/operate.md")).unwrap();
    let mut script = "set -eu -o pipefail\nset -x\ntrap 'kill $(jobs -p); wait' EXIT\n".to_owned();
    let commands = commands(&page);
    assert!(commands.len() >= 15, "the page has its commands: {commands:?}");
    script.extend(commands.iter().map(|line| format!("{line}\n")));
    for port in ["8080", "8081", "7443"] {
        script = script.replace(&format!("127.0.0.1:{port}"), &format!("127.0.0.1:{}", free_port()));
    }
    let folder = Folder::new();
    std::fs::create_dir(folder.path().join("models")).unwrap();
    std::os::unix::fs::symlink(root.join("demo/model"), folder.path().join("models/toy")).unwrap();
    std::fs::create_dir(folder.path().join("bin")).unwrap();
    std::os::unix::fs::symlink(POLDER, folder.path().join("bin/polder")).unwrap();
    std::fs::write(folder.path().join("page.sh"), script).unwrap();
    let log = std::fs::File::create(folder.path().join("said")).unwrap();
    let path = format!("{}:{}", folder.path().join("bin").display(), std::env::var("PATH").unwrap());
    let mut command = Command::new("bash");
    command.arg("page.sh").current_dir(folder.path()).env("PATH", path).env("HOME", folder.path());
    for name in ["OPENAI_BASE_URL", "OPENAI_API_KEY", "POLDER_NODE", "POLDER_TOKEN", "POLDER_LOG"] {
        command.env_remove(name);
    }
    let begun = Instant::now();
    // A group of its own, so that nothing of it is left where it hangs.
    command.process_group(0);
    let mut child = command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
    let group = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    let ended = process::wait(&mut child, TIME_MAX);
    if ended.is_none() {
        rustix::process::kill_process_group(group, rustix::process::Signal::KILL).unwrap();
    }
    let said = std::fs::read_to_string(folder.path().join("said")).unwrap();
    assert_eq!(ended.and_then(|status| status.code()), Some(0), "after {:?}: {said}", begun.elapsed());
}
