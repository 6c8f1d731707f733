//! Processes of the tests: ended by their own ids, watched with a limit, and looked for in `/proc`.
//!
//! A process is known by a folder that only this test has and that stands in its arguments; no name is ever looked for.

use std::io::Read as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Sends a signal to one process that this test started.
pub fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

/// Waits for a child's end, or kills it when the time is over.
pub fn wait(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let deadline = Instant::now() + limit;
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    None
}

/// Runs a command to its end, which must come within the limit.
pub fn bounded(command: &mut Command, limit: Duration) -> Output {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let (mut stdout, mut stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let reader = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        stdout.read_to_end(&mut bytes).unwrap();
        bytes
    });
    let errors = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        stderr.read_to_end(&mut bytes).unwrap();
        bytes
    });
    let status = wait(&mut child, limit).unwrap_or_else(|| panic!("{command:?} did not end in {limit:?}"));
    Output { status, stdout: reader.join().unwrap(), stderr: errors.join().unwrap() }
}

/// The processes whose arguments name this folder.
pub fn of_folder(folder: &Path) -> Vec<u32> {
    let wanted = folder.to_str().unwrap();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // A process may end while it is looked at. One that has ended and was not waited for has no arguments.
        let arguments = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let inside = String::from_utf8_lossy(&arguments).split('\0').any(|one| one.starts_with(wanted));
        if inside && pid != std::process::id() {
            found.push(pid);
        }
    }
    found
}

/// Waits until no process names this folder, and returns those that stayed.
pub fn left_behind(folder: &Path, limit: Duration) -> Vec<u32> {
    let deadline = Instant::now() + limit;
    loop {
        let found = of_folder(folder);
        if found.is_empty() || Instant::now() > deadline {
            return found;
        }
        std::thread::sleep(Duration::from_millis(25));
    }
}

/// Whether a process has ended, its files closed and its locks gone; its parent may not have looked yet.
pub fn has_ended(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().find_map(|line| line.strip_prefix("State:")).is_none_or(|state| state.trim().starts_with('Z'))
}

/// A process's resident memory in bytes, shared pages counted in full.
pub fn resident_bytes(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap() * 1024
}
