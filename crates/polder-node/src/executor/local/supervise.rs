//! A supervisor: one process for one run, which starts the command and sees to its end, whoever else is gone.
//!
//! It has a session of its own, so that no signal to the daemon reaches it, and takes in every process that its command leaves
//! behind. It ends all of them at the end of the lease or of the wall time, when the output is over its quota, and when it is told to: first
//! by asking, then by force. How the run ended is on disk before anybody hears of it. Renewing leases is absent: that is the daemon's.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal, WaitOptions, kill_process, kill_process_group};

use super::fetch::{self, FetchError};
use super::folder::{Ended, Fate, Folder, SOCKET, WORK};
use super::outputs;
use super::talk::{Line, Said, Task, line};
use crate::clock::boot_ms;
use crate::executor::Part;

/// How often the output is looked at, at most; and how much longer than a look the pause is.
const LOOK_EVERY: Duration = Duration::from_millis(500);
const LOOK_SHARE: u32 = 20;
/// How long a supervisor keeps trying to write down how its run ended.
const WRITE_AGAIN: Duration = Duration::from_secs(1);
/// What a shell would say of a program that cannot be run, and of one that is not there.
const CODE_NOT_RUNNABLE: i32 = 126;
const CODE_NOT_FOUND: i32 = 127;
/// An input that cannot be had (`EX_NOINPUT`), and an output that cannot be kept (`EX_CANTCREAT`).
const CODE_NO_INPUT: i32 = 66;
const CODE_NO_OUTPUT: i32 = 73;
/// Over its wall time, as `timeout` says it; over its output quota, as the kernel's own signal for that would.
const CODE_WALL: i32 = 124;
const CODE_QUOTA: i32 = 153;

/// What happens to a supervisor.
enum Event {
    Said(Line),
    Line(UnixStream),
    Ended(ExitStatus),
}

/// Why a supervisor ends its command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    Told,
    Lease,
    Wall,
    Quota,
}

/// A run under way.
struct Watch {
    task: Task,
    folder: Folder,
    events: Receiver<Event>,
    lines: Vec<UnixStream>,
    begun: Instant,
    until_ms: u64,
    cause: Option<Cause>,
    /// When it was asked to end.
    asked: Option<Instant>,
    killed: bool,
}

/// Supervises the run that is described on standard input, until all of it has ended.
pub fn supervise() -> std::io::Result<()> {
    let first = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    let mut reader = BufReader::new(first.try_clone()?);
    let mut text = String::new();
    reader.read_line(&mut text)?;
    let task: Task = serde_json::from_str(&text)?;
    // It may be a session's first process already.
    let _ = rustix::process::setsid();
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    let folder = Folder { path: task.folder.clone(), checkpoint: task.checkpoints.clone() };
    std::env::set_current_dir(&folder.path)?;
    let listener = UnixListener::bind(SOCKET)?;
    if folder.settle(Fate::Starts)? == Fate::Gone {
        return Ok(());
    }
    let (sender, events) = mpsc::channel();
    hear(reader, sender.clone());
    let accepted = sender.clone();
    std::thread::spawn(move || accept(&listener, &accepted));
    let until_ms = task.until_ms;
    let mut watch = Watch {
        task,
        folder,
        events,
        lines: vec![first],
        begun: Instant::now(),
        until_ms,
        cause: None,
        asked: None,
        killed: false,
    };
    let code = watch.run(&sender);
    watch.end(code)
}

/// Hears what is said on one line.
fn hear(reader: BufReader<UnixStream>, events: Sender<Event>) {
    std::thread::spawn(move || {
        for text in reader.lines().map_while(Result::ok) {
            if let Ok(said) = serde_json::from_str(&text) {
                drop(events.send(Event::Said(said)));
            }
        }
    });
}

/// Takes in the lines of daemons that were started anew.
fn accept(listener: &UnixListener, events: &Sender<Event>) {
    while let Ok((stream, _)) = listener.accept() {
        if let Ok(reader) = stream.try_clone() {
            hear(BufReader::new(reader), events.clone());
            drop(events.send(Event::Line(stream)));
        }
    }
}

impl Watch {
    /// From the inputs to the outputs; the run's code, none where its lease ended.
    fn run(&mut self, sender: &Sender<Event>) -> Option<i32> {
        if let Err(error) = fetch::all(&self.task, &self.folder, &mut || self.until_ms <= boot_ms()) {
            if matches!(error, FetchError::Late) {
                return None;
            }
            self.note(&error.to_string());
            return Some(CODE_NO_INPUT);
        }
        // What it was told meanwhile.
        while let Ok(event) = self.events.try_recv() {
            self.take(event);
        }
        if self.cause.is_some() || self.until_ms <= boot_ms() {
            return self.cause.map(|_| 128 + Signal::TERM.as_raw());
        }
        let child = match self.start() {
            Ok(child) => child,
            Err(error) => {
                let program = self.task.command.first().map_or("", String::as_str);
                let shown: String = program.chars().take(128).collect();
                self.note(&format!("`{shown}` cannot be started here: {error}"));
                let missing = error.kind() == std::io::ErrorKind::NotFound;
                return Some(if missing { CODE_NOT_FOUND } else { CODE_NOT_RUNNABLE });
            }
        };
        self.begun = Instant::now();
        let group = Pid::from_child(&child);
        self.wait_for(child, sender.clone());
        let status = self.watch(group);
        end_all(group);
        let code = self.code(status);
        if code != Some(0) {
            return code;
        }
        match outputs::all(&self.task, &self.folder) {
            Ok(()) => Some(0),
            Err(error) => {
                self.note(&error.to_string());
                Some(CODE_NO_OUTPUT)
            }
        }
    }

    fn start(&self) -> std::io::Result<Child> {
        let (program, arguments) = self.task.command.split_first().ok_or(std::io::ErrorKind::InvalidInput)?;
        let (out, err) = (self.folder.open_part(Part::Out)?, self.folder.open_part(Part::Err)?);
        let mut command = Command::new(program);
        command.args(arguments).env_clear().envs(&self.task.environment).current_dir(self.folder.path.join(WORK));
        command.stdin(Stdio::null()).stdout(out).stderr(err).process_group(0);
        if let Some((user, group)) = self.task.user {
            std::os::unix::fs::chown(self.folder.path.join(WORK), Some(user), Some(group))?;
            command.uid(user).gid(group);
        }
        let child = command.spawn()?;
        self.folder.name_group(child.id())?;
        self.limit(Pid::from_child(&child));
        Ok(child)
    }

    /// The kernel's own limits; what the command starts later has them too.
    fn limit(&self, pid: Pid) {
        let set = |resource, most: u64| {
            // A command that has ended already needs none.
            let _ = rustix::process::prlimit(Some(pid), resource, Rlimit { current: Some(most), maximum: Some(most) });
        };
        set(Resource::Core, 0);
        set(Resource::Fsize, self.task.output_bytes_max);
        if self.task.memory_mib > 0 {
            set(Resource::Data, self.task.memory_mib.saturating_mul(1 << 20));
        }
    }

    fn wait_for(&self, mut child: Child, sender: Sender<Event>) {
        std::thread::spawn(move || {
            if let Ok(status) = child.wait() {
                drop(sender.send(Event::Ended(status)));
            }
        });
    }

    /// Stays with the command until it has ended.
    fn watch(&mut self, group: Pid) -> Option<ExitStatus> {
        let mut look = Instant::now() + LOOK_EVERY;
        let inputs = outputs::bytes_under(&self.folder.path);
        loop {
            let pause = self.press(group).min(look.saturating_duration_since(Instant::now()));
            match self.events.recv_timeout(pause) {
                Ok(Event::Ended(status)) => return Some(status),
                Ok(event) => self.take(event),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return None,
            }
            let now = Instant::now();
            if now >= look {
                let written = outputs::bytes_under(&self.folder.path).saturating_sub(inputs);
                if written > self.task.output_bytes_max {
                    self.cause.get_or_insert(Cause::Quota);
                }
                look = Instant::now() + LOOK_EVERY.max(now.elapsed() * LOOK_SHARE);
            }
        }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Said(Line::Until(until_ms)) => self.until_ms = self.until_ms.max(until_ms),
            Event::Said(Line::Stop) => drop(self.cause.get_or_insert(Cause::Told)),
            Event::Line(line) => self.lines.push(line),
            Event::Ended(_) => {}
        }
    }

    /// Does what is due about the command's end; when to look again at the latest.
    fn press(&mut self, group: Pid) -> Duration {
        let now_ms = boot_ms();
        let ran_ms = ms(self.begun.elapsed());
        if now_ms >= self.until_ms {
            self.cause.get_or_insert(Cause::Lease);
            self.kill(group);
        } else if ran_ms >= self.task.wall_ms {
            self.cause.get_or_insert(Cause::Wall);
        }
        let grace = Duration::from_millis(self.task.grace_ms);
        match (self.cause, self.asked) {
            (None, _) => {}
            (Some(_), None) => {
                self.asked = Some(Instant::now());
                // It may have ended meanwhile.
                let _ = kill_process_group(group, Signal::TERM);
            }
            (Some(_), Some(asked)) if asked.elapsed() >= grace => self.kill(group),
            (Some(_), Some(_)) => {}
        }
        let lease = Duration::from_millis(self.until_ms.saturating_sub(now_ms));
        let wall = Duration::from_millis(self.task.wall_ms.saturating_sub(ran_ms));
        let left = |asked: Instant| grace.saturating_sub(asked.elapsed()).max(Duration::from_millis(1));
        let kill = self.asked.filter(|_| !self.killed).map_or(Duration::MAX, left);
        let wall = if self.asked.is_some() { Duration::MAX } else { wall };
        lease.max(Duration::from_millis(10)).min(wall.max(Duration::from_millis(1))).min(kill)
    }

    fn kill(&mut self, group: Pid) {
        self.killed = true;
        let _ = kill_process_group(group, Signal::KILL);
    }

    fn code(&mut self, status: Option<ExitStatus>) -> Option<i32> {
        let own = status.and_then(|status| status.code().or_else(|| status.signal().map(|signal| 128 + signal)));
        match self.cause {
            Some(Cause::Lease) => None,
            Some(Cause::Wall) => Some(CODE_WALL),
            Some(Cause::Quota) => Some(CODE_QUOTA),
            Some(Cause::Told) | None => Some(own.unwrap_or(128 + Signal::KILL.as_raw())),
        }
        .inspect(|code| {
            if *code == CODE_QUOTA {
                let most = self.task.output_bytes_max;
                self.note(&format!("the run was ended: it wrote more than its quota of {most} bytes"));
            }
        })
    }

    /// Tells whoever reads what the run said why it ended.
    fn note(&self, words: &str) {
        if let Ok(mut err) = self.folder.open_part(Part::Err) {
            // On a full disk the code alone has to do.
            drop(writeln!(err, "polder: {words}"));
        }
    }

    /// Writes down how it ended, and tells whoever listens.
    fn end(mut self, code: Option<i32>) -> std::io::Result<()> {
        let ended = Ended { code, started: true, ran_ms: ms(self.begun.elapsed()), ended_ms: boot_ms() };
        let said = line(&Said::Ended(ended.clone()))?;
        let mut written = self.folder.write_exit(&ended);
        // Whoever listens hears of it even where the disk is full; whoever comes later finds it once there is room.
        loop {
            self.lines.retain_mut(|line| line.write_all(&said).is_ok());
            if written.is_ok() || !self.folder.path.exists() {
                return written;
            }
            if let Ok(Event::Line(line)) = self.events.recv_timeout(WRITE_AGAIN) {
                self.lines.push(line);
            }
            written = self.folder.write_exit(&ended);
        }
    }
}

/// Ends whatever the command left behind.
fn end_all(group: Pid) {
    let _ = kill_process_group(group, Signal::KILL);
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some(_)) => {}
            Ok(None) => {
                for pid in children() {
                    let _ = kill_process(pid, Signal::KILL);
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            // None is left.
            Err(_) => return,
        }
    }
}

/// The processes whose parent this one is.
fn children() -> Vec<Pid> {
    let own = rustix::process::getpid().as_raw_nonzero().to_string();
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pid = |entry: std::fs::DirEntry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let text = std::fs::read_to_string(entry.path().join("stat")).ok()?;
        let (_, rest) = text.rsplit_once(')')?;
        (rest.split_whitespace().nth(1)? == own).then(|| Pid::from_raw(pid))?
    };
    entries.filter_map(pid).collect()
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
