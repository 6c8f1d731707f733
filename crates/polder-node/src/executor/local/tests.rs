//! Fates and folders: what is left of a run can be told, and whoever settles a fate first is alone. Supervisors are tested with the real
//! command, in `crates/polder/tests/real_jobs.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use polder_core::ids::NodeId;
use polder_core::job::{JobId, RunId};

use super::folder::{Ended, Fate, Folder, make_root, sweep};
use crate::executor::Part;

fn folder(name: &str) -> (std::path::PathBuf, Folder) {
    let root = std::env::temp_dir().join(format!("polder-runs-{}-{name}", std::process::id()));
    drop(std::fs::remove_dir_all(&root));
    make_root(&root, false).unwrap();
    let run = RunId { home: NodeId::parse("here").unwrap(), job: JobId([7; 16]), epoch: 3 };
    let folder = Folder::of(&root, &run);
    (root, folder)
}

#[test]
fn a_fate_is_settled_once() {
    let (root, folder) = folder("fate");
    folder.make(false).unwrap();
    let settled: Vec<Fate> = std::thread::scope(|scope| {
        let one = |fate| {
            let folder = folder.clone();
            scope.spawn(move || folder.settle(fate).unwrap())
        };
        let all: Vec<_> = [Fate::Starts, Fate::Gone].into_iter().cycle().take(8).map(one).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert!(settled.iter().all(|fate| *fate == settled[0]), "{settled:?}");
    std::fs::remove_dir_all(root).unwrap();
}

#[test]
fn a_run_that_nobody_started_never_starts_once_it_was_looked_for() {
    let (root, folder) = folder("looked");
    assert!(folder.reach().is_none() && folder.what_became().is_none(), "not even a folder");
    folder.make(false).unwrap();
    assert!(folder.reach().is_none());
    assert_eq!(folder.settle(Fate::Starts).unwrap(), Fate::Gone);
    std::fs::remove_dir_all(root).unwrap();
}

#[test]
fn how_a_run_ended_and_what_it_said_can_be_read_until_it_is_swept() {
    use std::io::Write as _;
    let (root, folder) = folder("ended");
    folder.make(false).unwrap();
    folder.open_part(Part::Out).unwrap().write_all(b"one two").unwrap();
    let piece = folder.piece(Part::Out, 4, 2).unwrap();
    assert_eq!((piece.bytes.as_slice(), piece.next, piece.ended), (b"tw".as_slice(), 6, false));
    folder.write_exit(&Ended { code: Some(3), started: true, ran_ms: 5, ended_ms: 9 }).unwrap();
    assert_eq!(folder.what_became().unwrap().code, Some(3));
    let rest = folder.piece(Part::Out, 6, 64).unwrap();
    assert_eq!((rest.bytes.as_slice(), rest.ended), (b"o".as_slice(), true));
    sweep(&root, 0).unwrap();
    assert!(folder.path.exists(), "it was not forgotten");
    folder.mark_forgotten().unwrap();
    assert!(!folder.path.join("work").exists());
    sweep(&root, 60_000).unwrap();
    assert!(folder.path.exists(), "it was forgotten just now");
    std::thread::sleep(std::time::Duration::from_millis(20));
    sweep(&root, 0).unwrap();
    assert!(!folder.path.exists());
    std::fs::remove_dir_all(root).unwrap();
}
