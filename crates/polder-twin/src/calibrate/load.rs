//! The load of a site over time, from tasks and their fragments, beside what its meter said.
//!
//! Fragments follow each other from a task's submission on; those that lie across two measurements count for each by their part of it. Fragments
//! are read a row group at a time; what is kept is a few sums for each measurement.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use super::{CalibrateError, Sample};
use crate::traces::columns::Table;
use crate::traces::{TraceError, Wrong};

/// Most measurements of a meter: 30 s each, 30 years.
const SLOTS_MAX: u64 = 1 << 25;

/// The three files of a site.
#[derive(Debug, Clone)]
pub struct Files {
    /// `tasks.parquet`.
    pub tasks: PathBuf,
    /// `fragments.parquet`.
    pub fragments: PathBuf,
    /// `consumption.parquet`.
    pub consumption: PathBuf,
}

/// The load, one sample for each measurement, in order of time.
#[derive(Debug, Clone)]
pub struct Load {
    /// Measurements with their load.
    pub samples: Vec<Sample>,
    /// Rows that could not be used, for each file.
    pub wrong: Vec<(String, Wrong)>,
}

impl Files {
    /// The files of a folder, by their names.
    pub fn of(folder: &Path) -> Self {
        let file = |name: &str| folder.join(name);
        Self {
            tasks: file("tasks.parquet"),
            fragments: file("fragments.parquet"),
            consumption: file("consumption.parquet"),
        }
    }
}

fn table(path: &Path) -> Result<Table, TraceError> {
    let file = File::open(path).map_err(|e| TraceError::of(path, e))?;
    Table::new(file, path)
}

/// A task while its fragments are read.
struct Task {
    /// Where its next fragment begins, in milliseconds from the first submission.
    next_ms: u64,
    /// What all its processors give, in megahertz.
    capacity: f64,
}

/// Sums of how busy hosts were, for each measurement and shape, in host-milliseconds.
struct Sums<'a> {
    shapes: &'a [f64],
    slot_ms: u64,
    slots: Vec<f64>,
}

impl Sums<'_> {
    fn add(&mut self, from_ms: u64, until_ms: u64, utilisation: f64) {
        let count = self.shapes.len();
        let last = (until_ms.saturating_sub(1) / self.slot_ms).min(self.slots.len() as u64 / count as u64);
        for slot in from_ms / self.slot_ms..=last {
            let begins_ms = slot * self.slot_ms;
            let for_ms = until_ms.min(begins_ms + self.slot_ms).saturating_sub(from_ms.max(begins_ms));
            let at = usize::try_from(slot).unwrap_or(usize::MAX).saturating_mul(count);
            let sums = self.slots.iter_mut().skip(at).take(count);
            for (sum, shape) in sums.zip(self.shapes) {
                *sum += (1.0 - (-utilisation / shape).exp()) * for_ms as f64;
            }
        }
    }
}

impl Load {
    /// Reads all three.
    pub fn read(files: &Files, shapes: &[f64]) -> Result<Self, CalibrateError> {
        let mut wrong = Vec::new();
        let measured = measured(files, &mut wrong)?;
        let slot_ms = measured.windows(2).map(|pair| pair.iter().fold(0, |a, (at, _)| at.abs_diff(a))).min();
        let slot_ms = slot_ms.filter(|ms| *ms > 0).ok_or_else(|| {
            CalibrateError::Data(
                "`consumption.parquet` holds fewer than two measurements at different times".to_owned(),
            )
        })?;
        let last_ms = measured.last().map_or(0, |(at_ms, _)| *at_ms);
        let count = last_ms / slot_ms + 1;
        if count > SLOTS_MAX {
            return Err(CalibrateError::Data(format!("`consumption.parquet` spans {count} measurements: too many")));
        }
        let mut tasks = tasks(files, &mut wrong)?;
        let slots = vec![0.0; usize::try_from(count).unwrap_or(0) * shapes.len()];
        let mut sums = Sums { shapes, slot_ms, slots };
        fragments(files, &mut tasks, &mut sums, &mut wrong)?;
        let sample = |(at_ms, watts): (u64, f64)| {
            // A meter speaks of the time before.
            let slot = usize::try_from((at_ms / slot_ms).saturating_sub(1)).ok()?;
            let busy: Vec<f64> = sums.slots.chunks(shapes.len()).nth(slot)?.to_vec();
            let busy = busy.into_iter().map(|sum| sum / slot_ms as f64).collect();
            Some(Sample { at_ms: slot as u64 * slot_ms, busy, watts })
        };
        Ok(Self { samples: measured.into_iter().filter_map(sample).collect(), wrong })
    }
}

/// What the meter said, in order of time; each stands at the end of what it speaks of.
fn measured(files: &Files, all: &mut Vec<(String, Wrong)>) -> Result<Vec<(u64, f64)>, TraceError> {
    let table = table(&files.consumption)?;
    let (mut found, mut wrong, mut row) = (Vec::new(), Wrong::default(), 0);
    for group in 0..table.groups() {
        let at = table.whole(group, "timestamp")?;
        for (at, watts) in at.into_iter().zip(table.fractions(group, "power_draw")?) {
            row += 1;
            let at = at.and_then(|at| u64::try_from(at).ok()).filter(|at| *at > 0);
            match (at, watts.filter(|watts| watts.is_finite() && *watts > 0.0)) {
                (Some(at), Some(watts)) => found.push((at, watts)),
                (None, _) => wrong.add(row, "`timestamp` is missing or not above 0"),
                _ => wrong.add(row, "`power_draw` is missing or not above 0"),
            }
        }
    }
    found.sort_by_key(|(at, _)| *at);
    found.dedup_by_key(|(at, _)| *at);
    all.push(("consumption.parquet".to_owned(), wrong));
    Ok(found)
}

fn tasks(files: &Files, all: &mut Vec<(String, Wrong)>) -> Result<BTreeMap<String, Task>, TraceError> {
    let table = table(&files.tasks)?;
    let (mut found, mut wrong, mut row, mut first_ms) = (Vec::new(), Wrong::default(), 0, i64::MAX);
    for group in 0..table.groups() {
        let (ids, at) = (table.names(group, "id")?, table.whole(group, "submission_time")?);
        let capacity = table.fractions(group, "cpu_capacity")?;
        for ((id, at), capacity) in ids.into_iter().zip(at).zip(capacity) {
            row += 1;
            match (id, at, capacity.filter(|mhz| mhz.is_finite() && *mhz > 0.0)) {
                (Some(id), Some(at), Some(capacity)) => {
                    first_ms = first_ms.min(at);
                    found.push((id, at, capacity));
                }
                _ => wrong.add(row, "`id`, `submission_time` or `cpu_capacity` is missing or not above 0"),
            }
        }
    }
    all.push(("tasks.parquet".to_owned(), wrong));
    let task = |(id, at, capacity): (String, i64, f64)| (id, Task { next_ms: at.abs_diff(first_ms), capacity });
    Ok(found.into_iter().map(task).collect())
}

fn fragments(
    files: &Files,
    tasks: &mut BTreeMap<String, Task>,
    sums: &mut Sums<'_>,
    all: &mut Vec<(String, Wrong)>,
) -> Result<(), TraceError> {
    let table = table(&files.fragments)?;
    let (mut wrong, mut row) = (Wrong::default(), 0);
    for group in 0..table.groups() {
        let ids = table.names(group, "id")?;
        let (lasts, usage) = (table.whole(group, "duration")?, table.fractions(group, "cpu_usage")?);
        for ((id, lasts), usage) in ids.into_iter().zip(lasts).zip(usage) {
            row += 1;
            let lasts = lasts.and_then(|ms| u64::try_from(ms).ok()).filter(|ms| *ms > 0);
            let usage = usage.filter(|mhz| mhz.is_finite() && *mhz >= 0.0);
            let (Some(id), Some(lasts), Some(usage)) = (id, lasts, usage) else {
                wrong.add(row, "`id`, `duration` or `cpu_usage` is missing or out of range");
                continue;
            };
            let Some(task) = tasks.get_mut(&id) else {
                wrong.add(row, format!("belongs to the task `{id}`, which `tasks.parquet` does not hold"));
                continue;
            };
            let until_ms = task.next_ms.saturating_add(lasts);
            sums.add(task.next_ms, until_ms, (usage / task.capacity).min(1.0));
            task.next_ms = until_ms;
        }
    }
    all.push(("fragments.parquet".to_owned(), wrong));
    Ok(())
}
