//! One node as a child of a test, started by `polder up` and ended as an operator would end it.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use super::{LONG, polder, process};

const END_MAX: Duration = Duration::from_secs(20);

/// A running node.
pub struct Running {
    child: Option<Child>,
    /// What it printed when it was ready.
    pub printed: Value,
    /// What it says while it runs.
    pub log: PathBuf,
}

impl Running {
    /// Starts it in a folder and waits until it is ready.
    pub fn start(folder: &Path, arguments: &[&str]) -> Self {
        Self::start_saying(folder, arguments, "info")
    }

    /// The same, with a log of this level.
    pub fn start_saying(folder: &Path, arguments: &[&str], level: &str) -> Self {
        Self::start_in(folder, arguments, level, &[])
    }

    /// The same, with more in its environment.
    pub fn start_in(folder: &Path, arguments: &[&str], level: &str, environment: &[(&str, &str)]) -> Self {
        let log = folder.join(format!("log-{}", std::process::id()));
        let errors = std::fs::File::options().create(true).append(true).open(&log).unwrap();
        let mut command = polder(folder);
        // Its temporary files are found with its other ones.
        command.env("POLDER_LOG", level).env("TMPDIR", folder).envs(environment.iter().copied());
        command.args(arguments).args(["-o", "json"]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(errors);
        let mut child = command.spawn().unwrap();
        let stdout = child.stdout.take().unwrap();
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            let mut text = String::new();
            let mut reader = BufReader::new(stdout);
            // One document over several lines: read until it is whole.
            while reader.read_line(&mut text).is_ok_and(|count| count > 0) {
                if let Ok(value) = serde_json::from_str::<Value>(&text) {
                    drop(sender.send(value));
                    text.clear();
                }
            }
        });
        let mut running = Self { child: Some(child), printed: Value::Null, log };
        let said = || std::fs::read_to_string(&running.log).unwrap_or_default();
        let printed = receiver.recv_timeout(LONG).unwrap_or_else(|error| panic!("not ready: {error}: {}", said()));
        running.printed = printed;
        running
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// Waits until it has ended, told to by someone else; it must have gone well.
    pub fn end_of_itself(mut self) {
        let mut child = self.child.take().unwrap();
        let status = process::wait(&mut child, END_MAX);
        assert_eq!(status.and_then(|status| status.code()), Some(0), "the node's end");
    }

    /// Ends it, which must go well.
    pub fn end(mut self) {
        let mut child = self.child.take().unwrap();
        process::signal(child.id(), Signal::TERM);
        let status = process::wait(&mut child, END_MAX);
        assert_eq!(status.and_then(|status| status.code()), Some(0), "the node's end");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            process::signal(child.id(), Signal::KILL);
            child.wait().unwrap();
        }
    }
}
