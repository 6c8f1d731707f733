//! Stands in for `columns` where the feature `parquet` is off: every file is refused, and the reason says what to build.

use std::convert::Infallible;
use std::fs::File;
use std::path::Path;

use super::{Numbered, TraceError};

/// A parquet file, of which there is none here.
pub struct Table(Infallible);

/// One column of one row group.
pub type Cells<T> = Vec<Option<T>>;

impl Table {
    /// Refuses.
    pub fn new(_: File, path: &Path) -> Result<Self, TraceError> {
        Err(TraceError::of(path, "this polder was built without parquet; build it with `--features parquet`"))
    }

    /// How many row groups there are.
    pub fn groups(&self) -> usize {
        match self.0 {}
    }

    /// A column as whole numbers.
    pub fn whole(&self, _: usize, _: &str) -> Result<Cells<i64>, TraceError> {
        match self.0 {}
    }

    /// A column as fractions.
    pub fn fractions(&self, _: usize, _: &str) -> Result<Cells<f64>, TraceError> {
        match self.0 {}
    }

    /// A column as names.
    pub fn names(&self, _: usize, _: &str) -> Result<Cells<String>, TraceError> {
        match self.0 {}
    }
}

/// Tasks, of which there are none here.
pub struct Tasks(Table);

impl Tasks {
    /// Refuses.
    pub fn new(file: File, path: &Path) -> Result<Self, TraceError> {
        Table::new(file, path).map(Self)
    }

    /// The next task, with its row, from 1.
    pub fn next_row(&mut self) -> Result<Option<Numbered>, TraceError> {
        match self.0.0 {}
    }
}
