//! Least squares on relative errors, and what is left over.
//!
//! What is left out in turn are whole stretches of time, halves and quarters, because measurements that stand beside each other resemble each other, and leaving out every
//! tenth would flatter any model. Absent: anything that reads the meter to predict it.

use serde::Serialize;

/// In how many stretches the time is cut, one of them being left out in turn. Halves are what a new day is like; quarters are
/// more of them.
const FOLDS: [usize; 2] = [2, 4];
/// What a band that was seen on two halves has to be widened by for a time that is like neither: the root of 1 + 1/2, as for the
/// mean of two.
const NEW_TIME: f64 = 1.224_744_871;
/// The part of what is left over that the band is to hold, in thousandths.
const BAND_PER_MILLE: usize = 950;

/// One measurement with the load of its time.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// When, in milliseconds from the beginning.
    pub at_ms: u64,
    /// For each shape, the sum over all that ran of how busy it was, from 0 to 1 each.
    pub busy: Vec<f64>,
    /// What was measured, in watts.
    pub watts: f64,
}

/// What a site draws.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Model {
    /// What it draws when nothing runs, in watts.
    pub idle_watts: f64,
    /// What a busy host adds, in watts.
    pub busy_watts: f64,
    /// The utilisation at which a host has reached 63 % of that.
    pub shape: f64,
    /// Which of the shapes that is.
    #[serde(skip)]
    pub place: usize,
    /// Half of the error band, in per cent of the prediction.
    pub band_percent: f64,
    /// The error on stretches that were left out of the fit, in per cent.
    pub left_out_mape_percent: f64,
}

/// How well a model does.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Score {
    /// Mean absolute error, in per cent of what was measured.
    pub mape_percent: f64,
    /// Error of the whole energy, in per cent of what was measured.
    pub energy_error_percent: f64,
    /// How many measurements lie within the band, in per cent.
    pub band_coverage_percent: f64,
}

impl Model {
    /// What it predicts for a load, in watts.
    pub fn watts(&self, sample: &Sample) -> f64 {
        self.idle_watts + self.busy_watts * sample.busy.get(self.place).copied().unwrap_or(0.0)
    }
}

/// Fits every shape and keeps the one that predicts best what was left out.
pub fn fit(samples: &[Sample], shapes: &[f64]) -> Option<Model> {
    let best = (0..shapes.len()).filter_map(|place| Some((left_out(samples, place)?, place)));
    let (errors, place) = best.min_by(|(one, _), (other, _)| mean(one).total_cmp(&mean(other)))?;
    let (idle_watts, busy_watts) = line(samples.iter(), place)?;
    let shape = shapes.get(place).copied()?;
    let left_out_mape_percent = mean(&errors) * 100.0;
    let band_percent = band(errors) * NEW_TIME * 100.0;
    Some(Model { idle_watts, busy_watts, shape, place, band_percent, left_out_mape_percent })
}

/// The absolute relative errors of every sample, predicted from the other stretches.
fn left_out(samples: &[Sample], place: usize) -> Option<Vec<f64>> {
    let mut errors = Vec::with_capacity(samples.len() * FOLDS.len());
    for folds in FOLDS {
        let length = samples.len().div_ceil(folds).max(1);
        for (number, fold) in samples.chunks(length).enumerate() {
            let others = samples.chunks(length).enumerate().filter(|(other, _)| *other != number);
            let (idle_watts, busy_watts) = line(others.flat_map(|(_, fold)| fold), place)?;
            for sample in fold {
                let predicted = idle_watts + busy_watts * sample.busy.get(place).copied().unwrap_or(0.0);
                errors.push(((sample.watts - predicted) / predicted).abs());
            }
        }
    }
    Some(errors)
}

/// The least squares of the relative error: both coefficients, neither below 0.
fn line<'a>(samples: impl Iterator<Item = &'a Sample> + Clone, place: usize) -> Option<(f64, f64)> {
    let (mut ww, mut wx, mut xx, mut w, mut x) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for sample in samples {
        // Each row is divided by what was measured, so that it is to come out as 1.
        let one = 1.0 / sample.watts;
        let busy = sample.busy.get(place).copied()? * one;
        (ww, wx, xx) = (ww + one * one, wx + one * busy, xx + busy * busy);
        (w, x) = (w + one, x + busy);
    }
    let determinant = ww * xx - wx * wx;
    if determinant.is_nan() || determinant <= 1e-9 * ww * xx {
        return None;
    }
    let (idle, busy) = ((w * xx - x * wx) / determinant, (x * ww - w * wx) / determinant);
    if idle < 0.0 {
        return Some((0.0, x / xx));
    }
    if busy < 0.0 { Some((w / ww, 0.0)) } else { Some((idle, busy)) }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

fn band(mut errors: Vec<f64>) -> f64 {
    errors.sort_by(f64::total_cmp);
    let place = (errors.len() * BAND_PER_MILLE).div_ceil(1_000).saturating_sub(1);
    errors.get(place).copied().unwrap_or(0.0)
}

/// Holds a model against measurements.
pub fn score(model: &Model, samples: &[Sample]) -> Score {
    let (mut errors, mut within, mut predicted_sum, mut measured_sum) = (0.0, 0_usize, 0.0, 0.0);
    for sample in samples {
        let predicted = model.watts(sample);
        let off = (predicted - sample.watts).abs();
        errors += off / sample.watts;
        within += usize::from(off <= predicted * model.band_percent / 100.0);
        predicted_sum += predicted;
        measured_sum += sample.watts;
    }
    let count = samples.len().max(1) as f64;
    Score {
        mape_percent: errors / count * 100.0,
        energy_error_percent: (predicted_sum / measured_sum - 1.0) * 100.0,
        band_coverage_percent: within as f64 / count * 100.0,
    }
}
