//! What daemon and supervisor say to each other: one JSON value a line, over a Unix socket.
//!
//! The first line that a supervisor ever reads says what to run; everything after it is short.

use std::collections::BTreeMap;
use std::path::PathBuf;

use polder_core::job::executor::Exit;
use polder_core::job::spec::{Input, Output};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::sync::mpsc::UnboundedReceiver;

use super::folder::Ended;
use super::{Allowed, Word};

/// What a supervisor is to do.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Task {
    /// The run's folder.
    pub folder: PathBuf,
    /// Where its job's checkpoints lie.
    pub checkpoints: PathBuf,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Everything that the command finds in its environment.
    pub environment: BTreeMap<String, String>,
    /// The folder for checkpoints, as the command knows it.
    pub checkpoint: Option<String>,
    pub inputs: Vec<Input>,
    pub outputs: Vec<Output>,
    pub allowed: Allowed,
    pub until_ms: u64,
    pub wall_ms: u64,
    pub grace_ms: u64,
    pub memory_mib: u64,
    pub output_bytes_max: u64,
    pub user: Option<(u32, u32)>,
}

/// What a supervisor is told later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Line {
    /// The run may go on until then.
    Until(u64),
    /// End it.
    Stop,
}

/// What a supervisor says.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Said {
    /// How the run ended.
    Ended(Ended),
}

/// A value as a line.
pub(super) fn line<T: Serialize>(value: &T) -> std::io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    Ok(line)
}

/// Passes words on until the supervisor says how the run ended; none where it goes without a word.
pub(super) async fn attend(stream: UnixStream, mut words: UnboundedReceiver<Word>) -> Option<Exit> {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    let mut heard = true;
    loop {
        tokio::select! {
            said = lines.next_line() => {
                let text = said.ok().flatten()?;
                if let Ok(Said::Ended(ended)) = serde_json::from_str(&text) {
                    return Some(ended.into());
                }
            }
            word = words.recv(), if heard => {
                let Some(word) = word else {
                    heard = false;
                    continue;
                };
                let said = match word {
                    Word::Extend(until_ms) => Line::Until(until_ms),
                    Word::Stop => Line::Stop,
                };
                // A supervisor that has gone is noticed by its end of the line.
                drop(write.write_all(&line(&said).ok()?).await);
            }
        }
    }
}
