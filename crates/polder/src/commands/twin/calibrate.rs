//! `polder twin calibrate`: what a site draws, learned from its load and its meter.

use std::path::PathBuf;
use std::process::ExitCode;

use polder_twin::calibrate::{Calibration, Files, Span, calibrate};

use crate::Output;
use crate::failure::{Exit, Failure};
use crate::render;

/// Learn what a site draws from its load and its meter, and say how wrong that is on time that was not learned from.
///
/// The folder holds tasks.parquet, fragments.parquet and consumption.parquet, as OpenDC writes them. Two coefficients come from
/// least squares, and the shape of the curve between them from stretches that are left out of the fit; the error band is what
/// remains there. Predictions read the load alone.
///
/// Example: polder twin calibrate --data telemetry --train 0d..2d --test 2d..7d -o json
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Arguments {
    /// The folder with the three files.
    #[arg(long, value_name = "FOLDER")]
    data: PathBuf,
    /// What to learn from, counted from the first measurement, such as 0d..2d or 0h..36h.
    #[arg(long, value_name = "SPAN")]
    train: String,
    /// What to hold it against; it may not overlap with --train.
    #[arg(long, value_name = "SPAN")]
    test: String,
}

pub(super) fn run(arguments: &Arguments, output: Output) -> Result<ExitCode, Failure> {
    let span = |name: &str, text: &str| {
        Span::parse(text).ok_or_else(|| {
            Failure::new(format!("`{text}` is not a stretch of time for `{name}`"))
                .hint("write it as `0d..2d` or `0h..36h`, the earlier end first")
                .exit(Exit::Usage)
        })
    };
    let (train, test) = (span("--train", &arguments.train)?, span("--test", &arguments.test)?);
    let found = calibrate(&Files::of(&arguments.data), train, test)
        .map_err(|e| Failure::new(e.to_string()).hint("`polder twin calibrate --help` says what the folder holds"))?;
    for (file, count, first) in found.wrong_rows.iter().filter(|(_, count, _)| *count > 0) {
        eprintln!("{file}: {count} rows not used; the first: {}", first.join("; "));
    }
    match output {
        Output::Json => render::json(&found)?,
        Output::Table => print(&found)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn print(found: &Calibration) -> Result<(), Failure> {
    let (model, score) = (&found.model, &found.score);
    let row = |name: &str, value: String| vec![name.to_owned(), value];
    render::table(
        &["FIGURE", "VALUE"],
        &[
            row("idle power", format!("{:.0} W", model.idle_watts)),
            row("a busy host adds", format!("{:.1} W", model.busy_watts)),
            row("63 % of that at", format!("{:.0} % utilisation", model.shape * 100.0)),
            row("error, held out (MAPE)", format!("{:.2} %", score.mape_percent)),
            row("error of the energy, held out", format!("{:+.2} %", score.energy_error_percent)),
            row("error band (95 %)", format!("± {:.2} %", model.band_percent)),
            row("within the band, held out", format!("{:.1} %", score.band_coverage_percent)),
            row("measurements, learned and held out", format!("{}, {}", found.train_samples, found.test_samples)),
        ],
    )
}
