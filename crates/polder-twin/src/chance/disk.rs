//! A site's disk: what was written before a crash is there after it, and the last record may be torn.
//!
//! In schedules with real bytes every record is framed, checksummed and written as JSON, a crash leaves any part of the last
//! one, and a start reads the bytes again. In the others rows are kept as values, and a torn record is one that is not there,
//! which is what reading it comes to.

use std::collections::BTreeMap;

use polder_core::ids::{NodeId, TenantId};
use polder_core::job::{JobId, Nonce, Row, RunId};
use polder_core::ledger::books::EntryId;
use sha2::{Digest as _, Sha256};

use super::dice::Dice;

/// What replaces what.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    Job(JobId),
    Submission(TenantId, String),
    Entry(EntryId),
    Slice(Nonce),
    Run(NodeId, JobId, u64),
}

/// A disk.
#[derive(Debug, Default)]
pub struct Disk {
    rows: BTreeMap<Key, Row>,
    /// The file, in schedules with real bytes.
    bytes: Option<Vec<u8>>,
    pub full: bool,
}

impl Disk {
    /// An empty disk.
    pub fn new(real: bool) -> Self {
        Self { rows: BTreeMap::new(), bytes: real.then(Vec::new), full: false }
    }

    /// Writes a record.
    pub fn write(&mut self, rows: &[Row]) {
        if let Some(bytes) = &mut self.bytes {
            bytes.extend(framed(rows));
        }
        rows.iter().for_each(|row| put(&mut self.rows, row.clone()));
    }

    /// A crash hits in the middle of a record; whether it is there afterwards.
    pub fn tear(&mut self, rows: &[Row], dice: &mut Dice) -> bool {
        let whole = dice.percent(30);
        if whole {
            self.write(rows);
        } else if let Some(bytes) = &mut self.bytes {
            let frame = framed(rows);
            let kept = dice.place(frame.len());
            bytes.extend(frame.into_iter().take(kept));
        }
        whole
    }

    /// What a start finds. Bytes are read again, a torn end is cut off, and anything else that is not whole is an error.
    pub fn read(&mut self) -> Result<Vec<Row>, String> {
        if let Some(bytes) = &mut self.bytes {
            let (rows, whole) = unframed(bytes)?;
            bytes.truncate(whole);
            let mut found = BTreeMap::new();
            rows.into_iter().for_each(|row| put(&mut found, row));
            if found != self.rows {
                return Err("the rows that were read are not the rows that were written".to_owned());
            }
        }
        Ok(self.rows.values().cloned().collect())
    }

    /// What is there now.
    pub fn rows(&self) -> impl Iterator<Item = (&Key, &Row)> {
        self.rows.iter()
    }
}

/// The key of a row; none for one that takes another away.
pub fn key(row: &Row) -> Option<Key> {
    let run = |id: &RunId| Key::Run(id.home.clone(), id.job, id.epoch);
    match row {
        Row::Job(id, _) => Some(Key::Job(*id)),
        Row::Submission(row) => Some(Key::Submission(row.tenant.clone(), row.key.clone())),
        Row::Entry(entry) => Some(Key::Entry(entry.id)),
        Row::Slice(ask, _) => Some(Key::Slice(*ask)),
        Row::Run(id, _) => Some(run(id)),
        Row::RunOver(_) => None,
    }
}

fn put(rows: &mut BTreeMap<Key, Row>, row: Row) {
    match (key(&row), &row) {
        (Some(key), _) => drop(rows.insert(key, row)),
        (None, Row::RunOver(id)) => drop(rows.remove(&Key::Run(id.home.clone(), id.job, id.epoch))),
        (None, _) => {}
    }
}

/// Length, the first eight bytes of the SHA-256, and the JSON.
fn framed(rows: &[Row]) -> Vec<u8> {
    let text = serde_json::to_vec(rows).unwrap_or_default();
    let length = u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes();
    let sum = Sha256::digest(&text);
    let mut frame = length.to_vec();
    frame.extend(sum.iter().take(8));
    frame.extend(text);
    frame
}

/// Every whole record, and where they end.
fn unframed(bytes: &[u8]) -> Result<(Vec<Row>, usize), String> {
    let (mut all, mut whole) = (Vec::new(), 0);
    while let Some(rest) = bytes.get(whole..).filter(|rest| !rest.is_empty()) {
        let length = rest.first_chunk::<4>().map(|length| u32::from_be_bytes(*length) as usize);
        let Some(text) = length.and_then(|length| rest.get(12..12 + length)) else { break };
        if rest.get(4..12) != Sha256::digest(text).get(..8) {
            return Err("a record in the middle of the file is damaged".to_owned());
        }
        let rows: Vec<Row> = serde_json::from_slice(text).map_err(|e| format!("a record cannot be read: {e}"))?;
        all.extend(rows);
        whole += 12 + text.len();
    }
    Ok((all, whole))
}
