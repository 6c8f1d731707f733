//! `polder twin run`: runs a study, with its progress, and writes the report. Ctrl-C ends it early, with a report up to there.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use polder_core::canonical::hash;
use polder_twin::calendar::DAY_US;
use polder_twin::engine::Engine;
use polder_twin::engine::plan::Plan;
use polder_twin::report::{Made, Report};
use polder_twin::study;

use super::progress::Bar;
use crate::Output;
use crate::failure::{Exit, Failure, of_file};
use crate::render;

/// Run a study and report what was served, refused, used, drawn and spent, and what stands in the way from when on.
///
/// The same study and seed give the same figures, to the bit, whatever the machine and the number of threads. Ctrl-C ends the
/// run early; the report then holds for the time before, and says so.
///
/// Example: polder twin run studies/demo.toml --report report.html --csv months.csv
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Arguments {
    /// The study's file.
    study: PathBuf,
    /// Write the report as one HTML page, which needs no network.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Write one row for each month and factory.
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Another seed than the study's.
    #[arg(long)]
    seed: Option<u64>,
    /// Run factories side by side on so many threads; the figures stay the same.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// The error band to write beside energy, in per cent, as `polder twin calibrate` found it.
    #[arg(long, value_name = "PERCENT")]
    band_percent: Option<f64>,
}

pub(super) async fn run(arguments: Arguments, output: Output) -> Result<ExitCode, Failure> {
    let stop = crate::commands::interrupted();
    let done = tokio::task::spawn_blocking(move || {
        let report = simulate(&arguments, &stop)?;
        write(&arguments, &report, output)?;
        Ok(report.made().whole)
    });
    let whole = done.await.map_err(|e| Failure::new(format!("the study ended by itself: {e}")))??;
    if !whole {
        return Err(
            Failure::new("interrupted: the report holds for the time before").hint("run it again for the whole")
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// A study's plan and its text.
pub fn read_study(path: &Path) -> Result<(Arc<Plan>, String), Failure> {
    let text = std::fs::read_to_string(path).map_err(of_file(path))?;
    let folder = path.parent().unwrap_or(Path::new("")).to_owned();
    let file = path.display().to_string();
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).ok();
    let files = study::Files { read: &read, folder: folder.clone() };
    let plan = study::parse(&file, &text, &files)
        .map_err(|e| Failure::new(e.to_string()).hint("docs/plan.md says what a study may say").exit(Exit::Usage))?;
    Ok((plan, text))
}

fn simulate(arguments: &Arguments, stop: &AtomicBool) -> Result<Report, Failure> {
    let (plan, text) = read_study(&arguments.study)?;
    let file = arguments.study.display().to_string();
    let plan = match arguments.seed {
        Some(seed) => Arc::new(Plan { seed, ..Plan::clone(&plan) }),
        None => plan,
    };
    let (name, seed) = (plan.name.clone(), plan.seed);
    let mut engine = Engine::new(plan, arguments.threads).map_err(|e| Failure::new(e.to_string()))?;
    let whole = advance(&mut engine, stop)?;
    let wrong_rows = engine.wrong_rows().map(|(demand, wrong)| {
        let first = wrong.first.iter().map(|(line, reason)| format!("line {line} {reason}")).collect();
        (demand.to_owned(), wrong.count, first)
    });
    let band_per_mille = arguments.band_percent.map(|percent| (percent * 10.0).round().clamp(0.0, 10_000.0) as u64);
    let made = Made {
        name,
        file,
        study_digest: hash("polder/study/v1", &[text.as_bytes()]).to_string(),
        seed,
        whole,
        band_per_mille,
        wrong_rows: wrong_rows.collect(),
    };
    Ok(Report::new(made, engine.outcome()))
}

/// Runs day by day until the end, or until somebody wants it to stop; says whether it came to the end.
fn advance(engine: &mut Engine, stop: &AtomicBool) -> Result<bool, Failure> {
    let (end_us, mut bar) = (engine.plan().end_us(), Bar::new(Instant::now()));
    while engine.now_us() < end_us {
        if stop.load(Ordering::Relaxed) {
            return Ok(false);
        }
        engine.run_until(engine.now_us() + DAY_US).map_err(|e| Failure::new(e.to_string()))?;
        let arrived = engine.arrived() as f64;
        let words =
            |took: f64| format!("{:.1} million jobs, {:.0} thousand a second", arrived / 1e6, arrived / took / 1e3);
        bar.line(engine.now_us() as f64 / end_us.max(1) as f64, words);
    }
    Ok(true)
}

fn write(arguments: &Arguments, report: &Report, output: Output) -> Result<(), Failure> {
    if let Some(path) = &arguments.report {
        std::fs::write(path, report.html()).map_err(of_file(path))?;
    }
    if let Some(path) = &arguments.csv {
        std::fs::write(path, report.csv()).map_err(of_file(path))?;
    }
    let outcome = report.outcome();
    for (demand, count, first) in report.made().wrong_rows.iter().filter(|(_, count, _)| *count > 0) {
        eprintln!("{demand}: {count} rows of its trace were not used; the first: {}", first.join("; "));
    }
    if output == Output::Json {
        return render::json(&report.json());
    }
    let row = |one: &polder_twin::engine::DemandOutcome| {
        let (asked, tally) = (&one.asked, &one.tally);
        let counts = [asked.arrived, tally.finished, asked.refused_by_policy, asked.refused_for_capacity];
        let waits = [tally.waits.mean_us() / 1_000_000, tally.waits.quantile_us(950) / 1_000_000];
        std::iter::once(one.id.clone()).chain(counts.into_iter().chain(waits).map(|n| n.to_string())).collect()
    };
    let heading = ["WORK", "ASKED", "FINISHED", "BY POLICY", "BY CAPACITY", "WAIT S", "WAIT S, 95 %"];
    render::table(&heading, &outcome.demands.iter().map(row).collect::<Vec<_>>())?;
    let whole = outcome.whole();
    let kwh = |nj: u128| nj / 3_600_000_000_000_000;
    render::line(&format!(
        "\n{} MWh from the grid, {} EUR, {} t CO2, PUE {}.{:02}",
        kwh(whole.grid_nj) / 1_000,
        whole.cost_microeur / 1_000_000,
        whole.carbon_ug / 1_000_000_000_000,
        whole.facility_nj() / whole.it_nj.max(1),
        whole.facility_nj() * 100 / whole.it_nj.max(1) % 100,
    ))?;
    for one in &outcome.bottlenecks {
        render::line(&format!("{} at {} from {}", one.cause, one.factory, one.month))?;
    }
    render::line(&format!("digest of all figures: {}", report.digest()))
}
