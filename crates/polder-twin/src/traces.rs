//! Traces: work that others recorded, read as a stream in order of time.
//!
//! Rows that cannot be used are counted, and the first of them kept with their line and the reason; none is dropped in silence.
//! A row is in memory only while it is read (of parquet files: a row group), so a trace may be of any size. Absent: traces from the network,
//! and putting rows in order: one that goes back in time is a wrong row.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};

use crate::engine::plan::Job;

#[cfg(feature = "parquet")]
pub mod columns;
#[cfg(not(feature = "parquet"))]
#[path = "traces/unread.rs"]
pub mod columns;
mod text;

/// Longest line of a trace, in bytes.
const LINE_MAX: u64 = 1 << 20;
/// Most wrong rows that are kept with their reason.
const WRONG_KEPT: usize = 10;

/// What a trace is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// The Standard Workload Format of the Parallel Workloads Archive (Feitelson and others): 18 numbers a line.
    Swf,
    /// OpenDC's `tasks.parquet`.
    Tasks,
    /// The Azure LLM inference trace: `TIMESTAMP,ContextTokens,GeneratedTokens`.
    AzureLlm,
    /// Mooncake's JSONL: `timestamp`, `input_length`, `output_length`.
    Mooncake,
}

impl Format {
    /// All of them, by their names in studies.
    pub const ALL: [(&'static str, Self); 4] =
        [("swf", Self::Swf), ("tasks", Self::Tasks), ("azure-llm", Self::AzureLlm), ("mooncake", Self::Mooncake)];

    /// Whether its rows are sessions rather than jobs.
    pub fn has_sessions(self) -> bool {
        matches!(self, Self::AzureLlm | Self::Mooncake)
    }
}

/// A trace as a source of work.
#[derive(Debug, Clone)]
pub struct Traced {
    /// What it is written in.
    pub format: Format,
    /// The file.
    pub path: PathBuf,
    /// How many of the trace's processors one accelerator stands for.
    pub processors_per_accelerator: u32,
}

/// Why a trace cannot be read at all.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The file.
    #[error("the trace `{path}` cannot be read: {message}")]
    Read {
        /// The file.
        path: String,
        /// Why not.
        message: String,
    },
}

impl TraceError {
    pub(crate) fn of(path: &Path, message: impl std::fmt::Display) -> Self {
        Self::Read { path: path.display().to_string(), message: message.to_string() }
    }
}

/// Rows that could not be used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wrong {
    /// How many.
    pub count: u64,
    /// The first ones: line (or row), from 1, and reason.
    pub first: Vec<(u64, String)>,
}

impl Wrong {
    /// Counts one.
    pub fn add(&mut self, line: u64, reason: impl Into<String>) {
        self.count += 1;
        if self.first.len() < WRONG_KEPT {
            self.first.push((line, reason.into()));
        }
    }
}

/// One row of a trace: its instant counts from wherever the trace does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Row {
    /// When it was asked for.
    pub at_us: u64,
    /// Processors of a job.
    pub processors: u32,
    /// How long a job ran.
    pub run_us: u64,
    /// How long its owner said it would; 0 where nothing was said.
    pub limit_us: u64,
    /// Tokens of a session's prompt.
    pub prompt: u32,
    /// Tokens of its answer.
    pub generated: u32,
}

/// A line or row of a trace, from 1, with what it says or why it cannot be used.
pub type Numbered = (u64, Result<Row, String>);

/// A trace as it is read.
pub struct Reading {
    traced: Traced,
    rows: Rows,
    first_us: Option<u64>,
    last_us: u64,
    taken: u64,
    wrong: Wrong,
}

enum Rows {
    Lines { reader: BufReader<File>, line: u64, bytes: Vec<u8> },
    Tasks(Box<columns::Tasks>),
}

impl std::fmt::Debug for Reading {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reading").field("traced", &self.traced).field("taken", &self.taken).finish_non_exhaustive()
    }
}

impl Traced {
    /// Opens the trace at its beginning.
    pub fn open(&self) -> Result<Reading, TraceError> {
        let file = File::open(&self.path).map_err(|e| TraceError::of(&self.path, e))?;
        let rows = match self.format {
            Format::Tasks => Rows::Tasks(Box::new(columns::Tasks::new(file, &self.path)?)),
            _ => Rows::Lines { reader: BufReader::with_capacity(1 << 16, file), line: 0, bytes: Vec::new() },
        };
        Ok(Reading { traced: self.clone(), rows, first_us: None, last_us: 0, taken: 0, wrong: Wrong::default() })
    }
}

impl Reading {
    /// The same trace, opened anew and read up to the same place.
    pub fn fork(&self) -> Result<Self, TraceError> {
        let mut other = self.traced.open()?;
        while other.taken < self.taken && other.next_job()?.is_some() {}
        Ok(other)
    }

    /// Rows that could not be used so far.
    pub fn wrong(&self) -> &Wrong {
        &self.wrong
    }

    /// The next row as a job; its instant counts from the trace's first row. The demand's number is left 0.
    pub fn next_job(&mut self) -> Result<Option<Job>, TraceError> {
        while let Some((line, row)) = self.next_row()? {
            match row.and_then(|row| self.job(row)) {
                Ok(Some(job)) => {
                    self.taken += 1;
                    return Ok(Some(job));
                }
                Ok(None) => {}
                Err(reason) => self.wrong.add(line, reason),
            }
        }
        Ok(None)
    }

    fn job(&mut self, row: Row) -> Result<Option<Job>, String> {
        let first_us = *self.first_us.get_or_insert(row.at_us);
        let at_us = row.at_us.checked_sub(first_us).filter(|at_us| *at_us >= self.last_us);
        let at_us = at_us.ok_or("goes back in time: sort the trace by the time of asking")?;
        self.last_us = at_us;
        let units = row.processors.div_ceil(self.traced.processors_per_accelerator.max(1)).max(1);
        // Who ran over their limit is taken to have asked for what they used.
        let limit_us = row.limit_us.max(row.run_us);
        let (run_us, prompt, generated) = (row.run_us, row.prompt, row.generated);
        Ok(Some(Job { at_us, demand: 0, begun: 0, units, run_us, limit_us, prompt, generated }))
    }

    /// The next line that holds a row, with its number.
    fn next_row(&mut self) -> Result<Option<Numbered>, TraceError> {
        let path = &self.traced.path;
        match &mut self.rows {
            Rows::Tasks(tasks) => Ok(tasks.next_row()?),
            Rows::Lines { reader, line, bytes } => loop {
                bytes.clear();
                let read = reader.by_ref().take(LINE_MAX).read_until(b'\n', bytes);
                let read = read.map_err(|e| TraceError::of(path, e))?;
                if read == 0 {
                    return Ok(None);
                }
                *line += 1;
                if read as u64 == LINE_MAX && bytes.last() != Some(&b'\n') {
                    reader.skip_until(b'\n').map_err(|e| TraceError::of(path, e))?;
                    return Ok(Some((*line, Err(format!("is longer than {LINE_MAX} bytes")))));
                }
                let text = match std::str::from_utf8(bytes) {
                    Ok(text) => text.trim(),
                    Err(_) => return Ok(Some((*line, Err("is not UTF-8".to_owned())))),
                };
                match text::row(self.traced.format, text, *line) {
                    Ok(Some(row)) => return Ok(Some((*line, Ok(row)))),
                    Ok(None) => {}
                    Err(reason) => return Ok(Some((*line, Err(reason)))),
                }
            },
        }
    }
}

#[cfg(test)]
mod tests;
