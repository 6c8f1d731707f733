//! Calibration: what a site draws, learned from its load and its meter, and how far such a prediction is to be believed.
//!
//! The model has two coefficients and one shape: what is drawn when nothing runs, what a busy processor adds, and how soon a
//! processor counts as busy, because the first few per cent of utilisation cost the most. Coefficients come from least squares on
//! relative errors. The shape comes from a handful, by what is predicted best of whole stretches that were left out of the fit; the
//! error band is what remains there. A prediction reads the load alone, never the meter. Fractions are used here: nothing of it is
//! accounted for.

use serde::Serialize;

use crate::traces::{TraceError, Wrong};

mod fit;
mod load;

pub use fit::{Model, Sample, Score, fit, score};
pub use load::{Files, Load};

/// Shapes that are tried: the utilisation at which a processor has reached 63 % of what it adds.
pub const SHAPES: [f64; 8] = [0.02, 0.04, 0.06, 0.08, 0.12, 0.2, 0.4, 1.0];

/// Why a site cannot be calibrated.
#[derive(Debug, thiserror::Error)]
pub enum CalibrateError {
    /// A file.
    #[error(transparent)]
    Trace(#[from] TraceError),
    /// Too little to learn from, or nothing to hold against it.
    #[error("{0}")]
    Data(String),
}

/// A stretch of the data, in milliseconds from its beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Span {
    /// From.
    pub from_ms: u64,
    /// Until just before.
    pub until_ms: u64,
}

impl Span {
    /// Reads `0d..2d`; `h` for hours.
    pub fn parse(text: &str) -> Option<Self> {
        let (from, until) = text.split_once("..")?;
        let read = |text: &str| {
            let (count, unit_ms) = match text.strip_suffix('h') {
                Some(hours) => (hours, 3_600_000),
                None => (text.strip_suffix('d')?, 86_400_000),
            };
            count.parse::<u64>().ok()?.checked_mul(unit_ms)
        };
        let span = Self { from_ms: read(from)?, until_ms: read(until)? };
        (span.from_ms < span.until_ms).then_some(span)
    }

    fn holds(&self, at_ms: u64) -> bool {
        self.from_ms <= at_ms && at_ms < self.until_ms
    }
}

/// What calibration found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Calibration {
    /// What was learned from.
    pub train: Span,
    /// What it was held against.
    pub test: Span,
    /// How many measurements each had.
    pub train_samples: usize,
    /// See `train_samples`.
    pub test_samples: usize,
    /// The model.
    pub model: Model,
    /// The error on what was not learned from.
    #[serde(flatten)]
    pub score: Score,
    /// The error on what was learned from; it says little.
    pub train_mape_percent: f64,
    /// Rows that could not be used, for each file: how many, and the first.
    pub wrong_rows: Vec<(String, u64, Vec<String>)>,
}

/// Learns from the one stretch and holds it against the other, which must not touch each other.
pub fn calibrate(files: &Files, train: Span, test: Span) -> Result<Calibration, CalibrateError> {
    if train.from_ms < test.until_ms && test.from_ms < train.until_ms {
        return Err(CalibrateError::Data(
            "`--train` and `--test` overlap: what was learned from proves nothing".to_owned(),
        ));
    }
    let load = Load::read(files, &SHAPES)?;
    let of = |span: Span| load.samples.iter().filter(|one| span.holds(one.at_ms)).cloned().collect::<Vec<_>>();
    let (learned, held) = (of(train), of(test));
    for (name, found) in [("--train", &learned), ("--test", &held)] {
        if found.len() < 100 {
            let message = format!("`{name}` holds {} measurements: name a stretch with at least 100", found.len());
            return Err(CalibrateError::Data(message));
        }
    }
    let model = fit(&learned, &SHAPES).ok_or_else(|| CalibrateError::Data("the load never changes".to_owned()))?;
    let score_of_test = score(&model, &held);
    Ok(Calibration {
        train,
        test,
        train_samples: learned.len(),
        test_samples: held.len(),
        train_mape_percent: score(&model, &learned).mape_percent,
        score: score_of_test,
        model,
        wrong_rows: load.wrong.iter().map(|(file, wrong)| told(file, wrong)).collect(),
    })
}

fn told(file: &str, wrong: &Wrong) -> (String, u64, Vec<String>) {
    let first = wrong.first.iter().map(|(row, reason)| format!("row {row}: {reason}")).collect();
    (file.to_owned(), wrong.count, first)
}

#[cfg(test)]
mod tests;
