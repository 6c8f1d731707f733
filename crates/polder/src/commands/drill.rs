//! `polder drill`: what stops, moves and waits when something drops out, by decisions that were made or by a study.

use std::path::PathBuf;
use std::process::ExitCode;

use polder_twin::drill::loss::Loss;
use polder_twin::drill::{Drill, Share};

use super::audit::Logs;
use crate::Output;
use crate::failure::{Exit, Failure, of_file};
use crate::render;

mod past;
mod plan;

/// Rehearse a loss: what still runs, what stops, what waits and what it costs when something drops out.
///
/// Every decision of the last days is decided again by the code that decides in production: first as it was, which must come to
/// the same, then with what drops out taken away from the facts of its time. What then runs elsewhere fills that factory, and later
/// decisions see it fuller. With --study a study is run twice instead, whole and without. A factory of which no believed fact
/// rules the loss out counts as lost, and is named as such. Ctrl-C ends a drill early, with a report up to there.
///
/// Example: polder drill --without vendor=nvidia --report drill.html
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Arguments {
    /// What drops out: vendor=…, operator=…, country=…, jurisdiction=…, factory=…, link=HOME/FACTORY; may be given again.
    #[arg(long, value_name = "WHAT", required = true)]
    without: Vec<String>,
    #[command(flatten)]
    logs: Logs,
    /// How many days of receipts are decided again.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=36_500))]
    days: u64,
    /// How long something waits for room before it counts as stopped, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 120, value_parser = clap::value_parser!(u64).range(0..=86_400))]
    patience: u64,
    /// Run this study with and without, instead of reading receipts.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["logs", "dir", "token"])]
    study: Option<PathBuf>,
    /// From this day of the study on, such as 2026-03-01; from its beginning where absent.
    #[arg(long, value_name = "DATE", requires = "study")]
    from: Option<String>,
    /// Until this day of the study; until its end where absent.
    #[arg(long, value_name = "DATE", requires = "study")]
    until: Option<String>,
    /// Write the report as one HTML page, which needs no network.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

/// Rehearses; exit code 5 where a decision does not come out as it stands in its log.
pub async fn run(arguments: Arguments, output: Output) -> Result<ExitCode, Failure> {
    let losses = losses(&arguments.without)?;
    let stop = super::interrupted();
    let drill = match &arguments.study {
        Some(study) => plan::run(study, &arguments, losses, stop).await?,
        None => past::run(&arguments, losses, stop).await?,
    };
    if let Some(path) = &arguments.report {
        std::fs::write(path, drill.html("A drill")).map_err(of_file(path))?;
    }
    match output {
        Output::Json => render::json(&drill.json())?,
        Output::Table => print(&drill)?,
    }
    if !drill.whole {
        return Err(
            Failure::new("interrupted: the report holds for what was done before").hint("run it again for the whole")
        );
    }
    if drill.unlike_count > 0 {
        let message = format!("{} decisions do not come out as they stand in their logs", drill.unlike_count);
        return Err(Failure::new(message).hint("`polder audit monitor` says more of them").exit(Exit::NotVerified));
    }
    Ok(ExitCode::SUCCESS)
}

fn losses(texts: &[String]) -> Result<Vec<Loss>, Failure> {
    let read = |text: &String| Loss::parse(text).map_err(|e| Failure::new(e.to_string()).exit(Exit::Usage));
    texts.iter().map(read).collect()
}

fn print(drill: &Drill) -> Result<(), Failure> {
    render::line(&format!("without {}", drill.without.join(", ")))?;
    drill.drops.iter().try_for_each(|one| render::line(&format!("  {} {}", one.factory, one.words())))?;
    render::line("")?;
    let mut rows: Vec<Vec<String>> =
        drill.shares.iter().map(|((tenant, class), share)| row(tenant, class, share)).collect();
    rows.push(row("all", "", &drill.all()));
    let heading = [
        "TENANT", "CLASS", "RAN", "STILL RUNS", "ELSEWHERE", "WAIT S, 95 %", "STOPS: POLICY", "STOPS: FULL",
        "ADDED EUR",
    ];
    render::table(&heading, &rows)?;
    if !drill.savings.is_empty() {
        render::line("\none change that would save most:")?;
        for one in drill.savings.iter().take(5) {
            render::line(&format!("  {}: {} of {}", one.words(), one.saves.requests, one.tenants.join(", ")))?;
        }
    }
    let [before, after] = &drill.concentration;
    render::line(&format!("\nconcentration ({})", polder_twin::drill::concentration::FORMULA))?;
    let index = |one: &polder_twin::drill::concentration::Index| {
        [one.hhi.to_string(), format!("{} {} %", one.largest, one.largest_ppm / 10_000)]
    };
    let rows: Vec<Vec<String>> = before
        .iter()
        .zip(after)
        .map(|(one, other)| [[one.dimension.to_owned()].to_vec(), index(one).to_vec(), index(other).to_vec()].concat())
        .collect();
    render::table(&["BY", "HHI BEFORE", "LARGEST", "HHI AFTER", "LARGEST"], &rows)?;
    if drill.decided_again > 0 {
        let same = drill.decided_again - drill.unlike_count;
        render::line(&format!("\n{} decisions decided again as they were: {same} the same", drill.decided_again))?;
    }
    if let Some(first) = &drill.first_unread {
        eprintln!("{} decisions could not be read; the first: {first}", drill.unread);
    }
    Ok(())
}

fn row(tenant: &str, class: &str, share: &Share) -> Vec<String> {
    let added = i128::try_from(share.cost_after_pico).unwrap_or(i128::MAX)
        - i128::try_from(share.cost_before_of_rest_pico).unwrap_or(i128::MAX);
    let ppm = share.runs_ppm();
    vec![
        tenant.to_owned(),
        class.to_owned(),
        share.before.requests.to_string(),
        format!("{}.{} %", ppm / 10_000, ppm / 1_000 % 10),
        share.elsewhere.requests.to_string(),
        format!("{}", share.waits.quantile_us(950) / 1_000_000),
        share.stopped.requests.to_string(),
        share.stopped_full.requests.to_string(),
        format!("{:+.6}", added as f64 / 1e12),
    ]
}
