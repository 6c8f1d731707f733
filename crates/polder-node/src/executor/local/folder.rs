//! A run's folder: what is in it, who makes which file, and what can be told from it after a crash.
//!
//! `work` is where the command runs, `out` and `err` are what it says, `socket` is where its supervisor listens, `exit` is how it
//! ended, `group` names its processes, `forgotten` says that nobody asks any more. `fate` is made once: by the supervisor before it starts the
//! command, or by whoever looks for the run and finds no supervisor; whoever makes it says whether the run ever starts.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use polder_core::job::RunId;
use polder_core::job::executor::Exit;
use rustix::process::{Pid, Signal, kill_process_group};
use serde::{Deserialize, Serialize};

use crate::clock::random;
use crate::executor::{Part, Piece};

/// Names of what lies in a run's folder.
pub(super) const WORK: &str = "work";
pub(super) const SOCKET: &str = "socket";
const EXIT: &str = "exit";
const FATE: &str = "fate";
const GROUP: &str = "group";
const FORGOTTEN: &str = "forgotten";
/// Where checkpoints lie, beside the runs.
const CHECKPOINTS: &str = "checkpoints";

/// A run's folder.
#[derive(Debug, Clone)]
pub(super) struct Folder {
    pub(super) path: PathBuf,
    /// Where the checkpoints of the run's job lie, whatever its epoch.
    pub(super) checkpoint: PathBuf,
}

/// Whether a run ever starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// Its supervisor starts it.
    Starts,
    /// It never does.
    Gone,
}

/// How a run ended, as its supervisor wrote it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Ended {
    pub code: Option<i32>,
    pub started: bool,
    pub ran_ms: u64,
    pub ended_ms: u64,
}

/// The processes of a run: their group, and when its first one started, so that a number that came round again is told apart.
#[derive(Debug, Serialize, Deserialize)]
struct Group {
    pid: i32,
    started: String,
}

impl From<Ended> for Exit {
    fn from(ended: Ended) -> Self {
        let Ended { code, started, ran_ms, ended_ms } = ended;
        Self { code, started, ran_ms, ended_ms }
    }
}

/// Makes the folder of all runs. Where commands run as another user, that one has to get through.
pub(super) fn make_root(root: &Path, others: bool) -> std::io::Result<()> {
    let mode = if others { 0o711 } else { 0o700 };
    fs::DirBuilder::new().recursive(true).mode(mode).create(root)?;
    fs::DirBuilder::new().recursive(true).mode(mode).create(root.join(CHECKPOINTS))
}

impl Folder {
    /// The folder of a run.
    pub(super) fn of(root: &Path, run: &RunId) -> Self {
        let job = format!("{}-{}", hex::encode(run.job.0), run.home);
        let path = root.join(format!("{}-{:06}-{}", hex::encode(run.job.0), run.epoch, run.home));
        Self { path, checkpoint: root.join(CHECKPOINTS).join(job) }
    }

    /// Makes it.
    pub(super) fn make(&self, others: bool) -> std::io::Result<()> {
        let mode = if others { 0o711 } else { 0o700 };
        fs::DirBuilder::new().mode(mode).create(&self.path)?;
        fs::DirBuilder::new().mode(0o700).create(self.path.join(WORK))
    }

    /// Settles whether the run starts; what it was settled as by whoever came first.
    pub(super) fn settle(&self, fate: Fate) -> std::io::Result<Fate> {
        settle(&self.path.join(FATE), fate)
    }

    /// The line to the run's supervisor, where there is one. Where there is none, the run never starts after this.
    pub(super) fn reach(&self) -> Option<UnixStream> {
        // A supervisor listens before it settles the fate: whoever finds none and settles it first is alone.
        self.connect().or_else(|| match self.settle(Fate::Gone) {
            Ok(Fate::Starts) => self.connect(),
            Ok(Fate::Gone) | Err(_) => None,
        })
    }

    fn connect(&self) -> Option<UnixStream> {
        // A socket's path may have 107 bytes only; through the open folder it is short.
        let folder = File::open(&self.path).ok()?;
        let stream = UnixStream::connect(format!("/proc/self/fd/{}/{SOCKET}", folder.as_raw_fd())).ok()?;
        stream.set_nonblocking(true).ok()?;
        Some(stream)
    }

    /// How a run without a supervisor ended, where that is known. Whatever is left of its processes is ended.
    pub(super) fn what_became(&self) -> Option<Ended> {
        self.end_group();
        let text = fs::read(self.path.join(EXIT)).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// Writes down how the run ended: whole or not at all.
    pub(super) fn write_exit(&self, ended: &Ended) -> std::io::Result<()> {
        write_whole(&self.path.join(EXIT), &serde_json::to_vec(ended)?)
    }

    /// Names the run's processes.
    pub(super) fn name_group(&self, pid: u32) -> std::io::Result<()> {
        let pid = i32::try_from(pid).map_err(std::io::Error::other)?;
        let group = Group { pid, started: started(pid).unwrap_or_default() };
        write_whole(&self.path.join(GROUP), &serde_json::to_vec(&group)?)
    }

    /// Ends the processes of a run whose supervisor is gone.
    fn end_group(&self) {
        let group = fs::read(self.path.join(GROUP)).ok().and_then(|text| serde_json::from_slice::<Group>(&text).ok());
        let Some(group) = group.filter(|group| started(group.pid).as_ref() == Some(&group.started)) else { return };
        if let Some(pid) = Pid::from_raw(group.pid) {
            // It may have ended meanwhile.
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }

    /// Nobody asks how the run ended any more.
    pub(super) fn mark_forgotten(&self) -> std::io::Result<()> {
        fs::write(self.path.join(FORGOTTEN), b"")?;
        fs::remove_dir_all(self.path.join(WORK))
    }

    /// What the command says goes here.
    pub(super) fn open_part(&self, part: Part) -> std::io::Result<File> {
        OpenOptions::new().create(true).append(true).mode(0o600).open(self.path.join(part.as_str()))
    }

    /// A piece of what the run wrote.
    pub(super) fn piece(&self, part: Part, from: u64, bytes_max: usize) -> std::io::Result<Piece> {
        // Looked at first: what is written after the end is nothing.
        let ended = self.path.join(EXIT).exists() || self.path.join(FORGOTTEN).exists();
        let mut bytes = Vec::new();
        match File::open(self.path.join(part.as_str())) {
            Ok(mut file) => {
                file.seek(SeekFrom::Start(from))?;
                file.take(bytes_max as u64).read_to_end(&mut bytes)?;
            }
            Err(error) if error.kind() == ErrorKind::NotFound && self.path.exists() => {}
            Err(error) => return Err(error),
        }
        let whole = bytes.len() < bytes_max;
        Ok(Piece { next: from.saturating_add(bytes.len() as u64), bytes, ended: ended && whole })
    }
}

fn settle(path: &Path, fate: Fate) -> std::io::Result<Fate> {
    let word = if fate == Fate::Starts { "starts" } else { "gone" };
    // Written beside and linked: whoever reads it reads it whole. Each has a file of its own, or one would cut off what another
    // has linked already.
    let beside = path.with_extension(hex::encode(random::<8>()?));
    fs::write(&beside, word)?;
    let linked = fs::hard_link(&beside, path);
    drop(fs::remove_file(&beside));
    match linked {
        Ok(()) => Ok(fate),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let said = fs::read_to_string(path)?;
            Ok(if said == "starts" { Fate::Starts } else { Fate::Gone })
        }
        Err(error) => Err(error),
    }
}

fn write_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let beside = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(bytes)?;
    fs::rename(&beside, path)
}

/// When a process started, in the kernel's own count; none where there is no such process.
fn started(pid: i32) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before it may hold anything but ends with the last bracket.
    let (_, rest) = text.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    // A process that ended and was not waited for runs nothing.
    if fields.next() == Some("Z") {
        return None;
    }
    fields.nth(18).map(str::to_owned)
}

/// Deletes the folders of runs that were forgotten longer ago than `keep_ms`, and checkpoints that nobody touched for as long.
pub(super) fn sweep(root: &Path, keep_ms: u64) -> std::io::Result<()> {
    let keep = Duration::from_millis(keep_ms);
    let old = |path: &Path| {
        let modified = fs::metadata(path).and_then(|held| held.modified()).ok();
        modified.and_then(|at| at.elapsed().ok()).is_some_and(|age| age > keep)
    };
    for entry in fs::read_dir(root)? {
        let path = entry?.path();
        if old(&path.join(FORGOTTEN)) {
            fs::remove_dir_all(&path)?;
        }
    }
    for entry in fs::read_dir(root.join(CHECKPOINTS))? {
        let path = entry?.path();
        if old(&path) {
            fs::remove_dir_all(&path)?;
        }
    }
    Ok(())
}
