//! `polder twin grow`: searches for plans of growth that reach a target within limits, and shows the front.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use polder_twin::engine::coarse;
use polder_twin::engine::plan::Plan;
use polder_twin::grow::{Front, Ground, page, search};
use polder_twin::study;
use serde_json::json;

use super::progress::Bar;
use super::run::read_study;
use crate::Output;
use crate::failure::{Exit, Failure, of_file};
use crate::render;

/// Search for plans that reach a target, such as tenfold in two years, within budget, power, lead times and dependence.
///
/// The study's part [growth] says the target, the limits and the halls that may be built. Plans are tried with coarse load: the same
/// deciding code, halls, power and weather, and work as a flow instead of jobs. What is shown is a front: no plan of it beats another
/// in cost, carbon and concentration at once. --out writes the study with the cheapest of them built, for `polder twin run`.
/// The same study and seed find the same plans. Ctrl-C ends the search early, with the best up to then.
///
/// Example: polder twin grow studies/tenfold/grow.toml --report growth.html --out grown.toml
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Arguments {
    /// The study's file.
    study: PathBuf,
    /// How many plans are tried.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    plans: u64,
    /// Hours of a step of coarse load.
    #[arg(long, value_name = "HOURS", default_value_t = coarse::STEP_H, value_parser = clap::value_parser!(u64).range(1..=24))]
    step: u64,
    /// Another seed than the study's.
    #[arg(long)]
    seed: Option<u64>,
    /// Try so many plans side by side; what is found stays the same.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Write the front as one HTML page, which needs no network.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Write the study with the first plan's halls in it; in the same folder, because a study names other files.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Searches; exit code 4 where no plan that was tried keeps to everything.
pub(super) async fn run(arguments: Arguments, output: Output) -> Result<ExitCode, Failure> {
    let stop = crate::commands::interrupted();
    let done = tokio::task::spawn_blocking(move || grow(&arguments, &stop, output));
    done.await.map_err(|e| Failure::new(format!("the search ended by itself: {e}")))?
}

fn grow(arguments: &Arguments, stop: &Arc<AtomicBool>, output: Output) -> Result<ExitCode, Failure> {
    let (plan, text) = read_study(&arguments.study)?;
    let none = || {
        Failure::new(format!("`{}` has no part `[growth]`", arguments.study.display()))
            .hint("docs/plan.md says what it holds; `polder twin init` writes one: studies/tenfold/grow.toml")
            .exit(Exit::Usage)
    };
    let ground = Ground::new(&plan, arguments.step).ok_or_else(none)?;
    for demand in coarse::left_out(&plan) {
        eprintln!("{demand}: a trace has no rate and is left out of coarse load");
    }
    let count = usize::try_from(arguments.plans).unwrap_or(usize::MAX);
    let mut bar = Bar::new(Instant::now());
    let mut look = |tried: usize| {
        bar.show(tried as u64, arguments.plans, "plans");
        !stop.load(Ordering::Relaxed)
    };
    let seed = arguments.seed.unwrap_or(plan.seed);
    let front = search(&ground, seed, count, arguments.threads, &mut look).map_err(Failure::new)?;
    if let Some(path) = &arguments.report {
        std::fs::write(path, page(&ground, &front, &plan.name)).map_err(of_file(path))?;
    }
    if let (Some(path), Some((genes, _))) = (&arguments.out, front.plans.first()) {
        write(path, arguments, &text, &ground, genes)?;
    }
    match output {
        Output::Json => json_of(&ground, &front, seed)?,
        Output::Table => print(&plan, &ground, &front)?,
    }
    if !front.whole {
        return Err(Failure::new("interrupted: these are the best plans up to then").hint("run it again for the whole"));
    }
    Ok(if front.reached { ExitCode::SUCCESS } else { Exit::NoCapacity.into() })
}

/// The study with a plan's halls, beside the one that it comes from.
fn write(
    path: &Path,
    arguments: &Arguments,
    text: &str,
    ground: &Ground<'_>,
    genes: &polder_twin::grow::Genes,
) -> Result<(), Failure> {
    let file = arguments.study.display().to_string();
    let lines = study::lines_of(&file, text, ground, genes);
    let grown = lines.map_err(|e| Failure::new(e.to_string()))?;
    std::fs::write(path, grown).map_err(of_file(path))?;
    eprintln!("{}: the study with the first plan's halls", path.display());
    Ok(())
}

fn json_of(ground: &Ground<'_>, front: &Front, seed: u64) -> Result<(), Failure> {
    let plan = |(genes, score): &(polder_twin::grow::Genes, polder_twin::grow::Score)| json!({"score": score, "orders": ground.orders(genes)});
    render::json(&json!({
        "growth": "polder/growth-report/v1", "seed": seed, "tried": front.tried, "whole": front.whole, "reached": front.reached,
        "plans": front.plans.iter().map(plan).collect::<Vec<_>>(),
    }))
}

fn print(plan: &Plan, ground: &Ground<'_>, front: &Front) -> Result<(), Failure> {
    render::line(&format!("{}: {} plans tried", plan.name, front.tried))?;
    let row = |(number, (_, score)): (usize, &(polder_twin::grow::Genes, polder_twin::grow::Score))| {
        vec![
            (number + 1).to_string(),
            format!("{} %", score.times_percent),
            format!("{} %", score.served_percent),
            score.reached.clone().unwrap_or_else(|| "never".to_owned()),
            (score.build_keur / 1_000).to_string(),
            (score.energy_keur / 1_000).to_string(),
            score.carbon_t.to_string(),
            score.power_kw.to_string(),
            format!("{} {} %", score.vendor, score.vendor_percent),
            format!("{} {} %", score.country, score.country_percent),
        ]
    };
    let rows: Vec<Vec<String>> = front.plans.iter().enumerate().map(row).collect();
    let heading =
        ["PLAN", "WORK", "SERVED", "REACHED", "HALLS MEUR", "ENERGY MEUR", "CARBON T", "POWER KW", "VENDOR", "COUNTRY"];
    render::table(&heading, &rows)?;
    let Some((genes, score)) = front.plans.first() else { return Ok(()) };
    for limit in &score.misses {
        render::line(&format!("misses `{}`: {}, and it must be {}", limit.name, limit.is, limit.must))?;
    }
    render::line("\nplan 1:")?;
    let rows: Vec<Vec<String>> = ground
        .orders(genes)
        .iter()
        .map(|one| {
            let halls = format!("{} {}", one.count, one.hall);
            vec![one.ordered.clone(), one.there.clone(), one.factory.clone(), halls, one.accelerators.to_string()]
        })
        .collect();
    render::table(&["ORDERED", "THERE", "FACTORY", "HALLS", "ACCELERATORS"], &rows)
}
