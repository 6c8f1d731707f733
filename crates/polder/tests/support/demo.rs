//! The demo as a child of a test: started, ready, and gone with the test, its twelve processes too.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use super::http::Endpoint;
use super::{Ended, Folder, LONG, polder, process, run};

/// The demo's end may wait for answers under way.
const END_MAX: Duration = Duration::from_secs(20);

/// A running demo.
pub struct Demo {
    child: Option<Child>,
    /// The demo's folder.
    pub dir: PathBuf,
    /// What it printed when it was ready.
    pub printed: Value,
    /// `demo.json`
    pub record: Value,
    folder: Folder,
}

impl Demo {
    /// Starts it and waits until it says that it is ready.
    pub fn start() -> Self {
        Self::start_saying("info")
    }

    /// The same, with its nodes' logs of this level.
    pub fn start_saying(level: &str) -> Self {
        let folder = Folder::new();
        let dir = folder.path().join("demo");
        let errors = std::fs::File::create(folder.path().join("stderr")).unwrap();
        let mut command = polder(folder.path());
        command.env("POLDER_LOG", level).env("TMPDIR", folder.path());
        command.args(["demo", "-o", "json", "--dir"]).arg(&dir).stdin(Stdio::null()).stdout(Stdio::piped());
        // A group of its own: a test that sends Ctrl-C's signal sends it to this group, as a terminal would.
        let mut child = command.stderr(errors).process_group(0).spawn().unwrap();
        let stdout = child.stdout.take().unwrap();
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            let mut documents = serde_json::Deserializer::from_reader(stdout).into_iter::<Value>();
            drop(sender.send(documents.next()));
            // Keeps the pipe open until the demo ends.
            documents.for_each(drop);
        });
        let printed = receiver.recv_timeout(LONG);
        let said = || std::fs::read_to_string(folder.path().join("stderr")).unwrap_or_default();
        let Ok(Some(Ok(printed))) = printed else { panic!("the demo did not start: {printed:?} {}", said()) };
        let record = serde_json::from_slice(&std::fs::read(dir.join("demo.json")).unwrap()).unwrap();
        Self { child: Some(child), dir, printed, record, folder }
    }

    /// The demo's own process.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// The folder around the demo's, for a test's own files.
    pub fn around(&self) -> &Path {
        self.folder.path()
    }

    /// A command that speaks to this demo.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = polder(self.folder.path());
        command.args(arguments).arg("--dir").arg(&self.dir);
        command
    }

    /// Runs a command that speaks to this demo.
    pub fn polder(&self, arguments: &[&str]) -> Ended {
        run(&mut self.command(arguments))
    }

    /// Has every node count all of its leaves now: from then on no link comes until something else is written.
    pub fn count_all(&self) {
        let stated = self.polder(&["log", "day"]);
        assert_eq!(stated.code, 0, "{stated:?}");
    }

    /// A node's entry in `demo.json`.
    pub fn node(&self, name: &str) -> &Value {
        let nodes = self.record["nodes"].as_array().unwrap();
        nodes.iter().find(|node| node["node"] == name).unwrap()
    }

    /// A node's folder.
    pub fn node_folder(&self, name: &str) -> PathBuf {
        self.dir.join("nodes").join(name)
    }

    /// A node's process.
    pub fn node_pid(&self, name: &str) -> u32 {
        u32::try_from(self.node(name)["pid"].as_u64().unwrap()).unwrap()
    }

    /// Where a tenant's project speaks.
    pub fn endpoint(&self, tenant: &str, project: &str) -> Endpoint {
        let tenants = self.record["tenants"].as_array().unwrap();
        let tenant = tenants.iter().find(|one| one["tenant"] == tenant).unwrap();
        let projects = tenant["projects"].as_array().unwrap();
        let project = projects.iter().find(|one| one["project"] == project).unwrap();
        Endpoint::new(tenant["endpoint"].as_str().unwrap(), project["key"].as_str().unwrap())
    }

    /// Ends the demo by a signal; returns its exit code, none where the signal itself ended it, and the processes it left.
    pub fn end(mut self, signal: Signal, whole_group: bool) -> (Option<i32>, Vec<u32>) {
        let mut child = self.child.take().unwrap();
        if whole_group {
            let group = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
            rustix::process::kill_process_group(group, signal).unwrap();
        } else {
            process::signal(child.id(), signal);
        }
        let status = process::wait(&mut child, END_MAX);
        (status.expect("the demo ends").code(), self.left())
    }

    /// The processes that are left of it; killed, so that a failed test leaves none either.
    fn left(&self) -> Vec<u32> {
        let left = process::left_behind(&self.dir, END_MAX);
        for pid in &left {
            // It may have ended meanwhile.
            let _ = rustix::process::kill_process(rustix::process::Pid::from_raw(*pid as i32).unwrap(), Signal::KILL);
        }
        left
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        process::signal(child.id(), Signal::TERM);
        let status = process::wait(&mut child, END_MAX);
        let left = self.left();
        if !std::thread::panicking() {
            assert_eq!(status.and_then(|status| status.code()), Some(0), "the demo's end");
            assert_eq!(left, Vec::<u32>::new(), "processes left behind");
        }
    }
}
