//! Parquet files as OpenDC writes them: tasks, their fragments, and measured power, one row group at a time.
//!
//! Columns are found by name; a whole number may be stored in 32 or 64 bits. Arrow is absent: a handful of plain columns does
//! not need it.

use std::fs::File;
use std::path::{Path, PathBuf};

use parquet::basic::{LogicalType, TimeUnit};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl, get_typed_column_reader};
use parquet::data_type::{ByteArrayType, DataType, DoubleType, FloatType, Int32Type, Int64Type};
use parquet::file::reader::{FileReader as _, RowGroupReader, SerializedFileReader};

use super::{Numbered, Row, TraceError};

/// A parquet file.
pub struct Table {
    path: PathBuf,
    reader: SerializedFileReader<File>,
}

/// One column of one row group; `None` where a row says nothing.
pub type Cells<T> = Vec<Option<T>>;

impl Table {
    /// Opens a file; its footer must hold together.
    pub fn new(file: File, path: &Path) -> Result<Self, TraceError> {
        let reader = SerializedFileReader::new(file).map_err(|e| TraceError::of(path, e))?;
        Ok(Self { path: path.to_owned(), reader })
    }

    /// How many row groups there are.
    pub fn groups(&self) -> usize {
        self.reader.num_row_groups()
    }

    /// A column of a row group, by name, as whole numbers; instants in milliseconds.
    pub fn whole(&self, group: usize, name: &str) -> Result<Cells<i64>, TraceError> {
        let (rows, place, reader) = self.open(group, name)?;
        let cells: Cells<i64> = match reader {
            ColumnReader::Int32ColumnReader(_) => cells::<Int32Type>(reader, rows)
                .map(|cells| cells.into_iter().map(|cell| cell.map(i64::from)).collect()),
            ColumnReader::Int64ColumnReader(_) => cells::<Int64Type>(reader, rows),
            _ => return Err(self.odd(name, "whole numbers")),
        }
        .map_err(|e| TraceError::of(&self.path, e))?;
        let schema = self.reader.metadata().file_metadata().schema_descr();
        let per_ms = match schema.column(place).logical_type_ref() {
            Some(LogicalType::Timestamp(stamp)) => match stamp.unit {
                TimeUnit::MILLIS => 1,
                TimeUnit::MICROS => 1_000,
                TimeUnit::NANOS => 1_000_000,
            },
            _ => 1,
        };
        Ok(if per_ms == 1 { cells } else { cells.into_iter().map(|cell| cell.map(|value| value / per_ms)).collect() })
    }

    /// A column of a row group, by name, as fractions.
    pub fn fractions(&self, group: usize, name: &str) -> Result<Cells<f64>, TraceError> {
        let (rows, _, reader) = self.open(group, name)?;
        match reader {
            ColumnReader::DoubleColumnReader(_) => cells::<DoubleType>(reader, rows),
            ColumnReader::FloatColumnReader(_) => cells::<FloatType>(reader, rows)
                .map(|cells| cells.into_iter().map(|cell| cell.map(f64::from)).collect()),
            ColumnReader::Int64ColumnReader(_) => cells::<Int64Type>(reader, rows)
                .map(|cells| cells.into_iter().map(|cell| cell.map(|v| v as f64)).collect()),
            ColumnReader::Int32ColumnReader(_) => cells::<Int32Type>(reader, rows)
                .map(|cells| cells.into_iter().map(|cell| cell.map(f64::from)).collect()),
            _ => return Err(self.odd(name, "numbers")),
        }
        .map_err(|e| TraceError::of(&self.path, e))
    }

    /// A column of a row group, by name, as names; whole numbers count as names too.
    pub fn names(&self, group: usize, name: &str) -> Result<Cells<String>, TraceError> {
        let (rows, _, reader) = self.open(group, name)?;
        let text = |bytes: parquet::data_type::ByteArray| String::from_utf8_lossy(bytes.data()).into_owned();
        match reader {
            ColumnReader::ByteArrayColumnReader(_) => cells::<ByteArrayType>(reader, rows)
                .map(|cells| cells.into_iter().map(|cell| cell.map(text)).collect())
                .map_err(|e| TraceError::of(&self.path, e)),
            _ => Ok(self.whole(group, name)?.into_iter().map(|cell| cell.map(|value| value.to_string())).collect()),
        }
    }

    fn open(&self, group: usize, name: &str) -> Result<(usize, usize, ColumnReader), TraceError> {
        let schema = self.reader.metadata().file_metadata().schema_descr();
        let place = schema.columns().iter().position(|column| column.name() == name);
        let place = place.ok_or_else(|| {
            let known: Vec<_> = schema.columns().iter().map(|column| format!("`{}`", column.name())).collect();
            TraceError::of(&self.path, format!("there is no column `{name}`; it has {}", known.join(", ")))
        })?;
        let of = |e: parquet::errors::ParquetError| TraceError::of(&self.path, e);
        let group: Box<dyn RowGroupReader + '_> = self.reader.get_row_group(group).map_err(of)?;
        let rows = usize::try_from(group.metadata().num_rows()).unwrap_or(0);
        Ok((rows, place, group.get_column_reader(place).map_err(of)?))
    }

    fn odd(&self, name: &str, what: &str) -> TraceError {
        TraceError::of(&self.path, format!("the column `{name}` does not hold {what}"))
    }
}

fn cells<T: DataType>(reader: ColumnReader, rows: usize) -> Result<Cells<T::T>, parquet::errors::ParquetError> {
    let mut reader: ColumnReaderImpl<T> = get_typed_column_reader(reader);
    let (mut levels, mut values) = (Vec::with_capacity(rows), Vec::with_capacity(rows));
    let mut read = 0;
    while read < rows {
        let (records, ..) = reader.read_records(rows - read, Some(&mut levels), None, &mut values)?;
        if records == 0 {
            break;
        }
        read += records;
    }
    // A column that must be there has no levels.
    if levels.is_empty() {
        return Ok(values.into_iter().map(Some).collect());
    }
    let mut values = values.into_iter();
    Ok(levels.into_iter().map(|level| if level > 0 { values.next() } else { None }).collect())
}

/// Tasks in order of submission.
pub struct Tasks {
    table: Table,
    group: usize,
    rows: std::vec::IntoIter<Numbered>,
    number: u64,
}

impl Tasks {
    /// Opens a file of tasks.
    pub fn new(file: File, path: &Path) -> Result<Self, TraceError> {
        Ok(Self { table: Table::new(file, path)?, group: 0, rows: Vec::new().into_iter(), number: 0 })
    }

    /// The next task, with its row, from 1.
    pub fn next_row(&mut self) -> Result<Option<Numbered>, TraceError> {
        loop {
            if let Some(row) = self.rows.next() {
                return Ok(Some(row));
            }
            if self.group >= self.table.groups() {
                return Ok(None);
            }
            let submitted = self.table.whole(self.group, "submission_time")?;
            let ran = self.table.whole(self.group, "duration")?;
            let processors = self.table.whole(self.group, "cpu_count")?;
            let mut rows = Vec::with_capacity(submitted.len());
            for ((at, ran), processors) in submitted.into_iter().zip(ran).zip(processors) {
                self.number += 1;
                rows.push((self.number, task(at, ran, processors)));
            }
            self.group += 1;
            self.rows = rows.into_iter();
        }
    }
}

fn task(at_ms: Option<i64>, ran_ms: Option<i64>, processors: Option<i64>) -> Result<Row, String> {
    let us = |ms: Option<i64>| ms.and_then(|ms| u64::try_from(ms).ok()).and_then(|ms| ms.checked_mul(1_000));
    let at_us = us(at_ms).ok_or("`submission_time` is missing or negative")?;
    let run_us = us(ran_ms).filter(|us| *us > 0).ok_or("`duration` is missing or not above 0")?;
    let processors = processors.and_then(|count| u32::try_from(count).ok()).filter(|count| *count > 0);
    Ok(Row { at_us, run_us, processors: processors.ok_or("`cpu_count` is missing or not above 0")?, ..Row::default() })
}
