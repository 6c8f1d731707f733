//! From an order to a supervisor that was told what to do.
//!
//! Nothing of this process is inherited but what is said here: no variable, no open file. The command itself is started by the
//! supervisor.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use polder_core::job::spec::Program;

use super::folder::{Fate, WORK};
use super::talk::{Task, line};
use super::{SUPERVISE, Shared, Start};

/// Where commands are looked for.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// Makes the run's folder and starts its supervisor; the line to it.
pub(super) fn start(shared: &Shared, start: &Start) -> std::io::Result<UnixStream> {
    let folder = shared.folder(&start.run);
    folder.make(shared.limits.user.is_some())?;
    let task = task(shared, start)?;
    let (ours, theirs) = UnixStream::pair()?;
    let mut command = Command::new(&shared.program);
    command.arg(SUPERVISE).arg(&folder.path).env_clear().current_dir("/");
    command.stdin(Stdio::from(OwnedFd::from(theirs))).stdout(Stdio::null()).stderr(Stdio::null());
    let spawned = tokio::process::Command::from(command).spawn();
    if let Err(error) = spawned {
        drop(folder.settle(Fate::Gone));
        return Err(error);
    }
    let mut stream = &ours;
    std::io::Write::write_all(&mut stream, &line(&task)?)?;
    ours.set_nonblocking(true)?;
    Ok(ours)
}

fn task(shared: &Shared, start: &Start) -> std::io::Result<Task> {
    let spec = &start.order.spec;
    let Program::Command(command) = &spec.run else {
        return Err(std::io::Error::other("this factory runs commands only, no images"));
    };
    let folder = shared.folder(&start.run);
    let work = folder.path.join(WORK);
    let text = |path: &std::path::Path| path.display().to_string();
    let mut environment = BTreeMap::from([
        ("PATH".to_owned(), PATH.to_owned()),
        ("HOME".to_owned(), text(&work)),
        ("TMPDIR".to_owned(), text(&work)),
        ("LANG".to_owned(), "C.UTF-8".to_owned()),
        ("POLDER_JOB".to_owned(), start.run.job.to_string()),
        ("POLDER_EPOCH".to_owned(), start.run.epoch.to_string()),
        ("POLDER_TASK".to_owned(), start.order.index.to_string()),
        ("POLDER_TASKS".to_owned(), spec.array.to_string()),
        ("POLDER_CORES".to_owned(), spec.resources.cores.to_string()),
        ("POLDER_ACCELERATORS".to_owned(), spec.resources.accelerators.to_string()),
    ]);
    if let Some(checkpoint) = &spec.checkpoint {
        environment.insert("POLDER_CHECKPOINT".to_owned(), text(&work.join(checkpoint)));
    }
    if let Some(resume) = &start.resume {
        environment.insert("POLDER_RESUME".to_owned(), resume.to_hex());
    }
    Ok(Task {
        folder: folder.path,
        checkpoints: folder.checkpoint,
        command: command.clone(),
        environment,
        checkpoint: spec.checkpoint.clone(),
        inputs: spec.inputs.clone(),
        outputs: spec.outputs.clone(),
        allowed: shared.limits.allowed.clone(),
        until_ms: start.until_ms,
        wall_ms: spec.wall_s.saturating_mul(1_000),
        grace_ms: shared.limits.grace_ms,
        memory_mib: spec.resources.memory_mib,
        output_bytes_max: shared.limits.output_bytes_max,
        user: shared.limits.user,
    })
}
