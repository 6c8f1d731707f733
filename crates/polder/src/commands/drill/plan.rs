//! A drill over a study: run whole and without, side by side.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use polder_twin::calendar::{DAY_US, Date};
use polder_twin::drill::Drill;
use polder_twin::drill::loss::Loss;
use polder_twin::drill::plans::rehearse;
use polder_twin::engine::plan::Plan;

use super::Arguments;
use crate::commands::twin::{progress, read_study};
use crate::failure::{Exit, Failure};

pub(super) async fn run(
    study: &Path,
    arguments: &Arguments,
    losses: Vec<Loss>,
    stop: Arc<AtomicBool>,
) -> Result<Drill, Failure> {
    let (plan, _) = read_study(study)?;
    let from_us = instant("--from", arguments.from.as_deref(), &plan, 0)?;
    let until_us = instant("--until", arguments.until.as_deref(), &plan, plan.end_us())?;
    if from_us >= until_us {
        return Err(Failure::new("`--from` is not before `--until`").exit(Exit::Usage));
    }
    let work = move || {
        let mut bar = progress::Bar::new(Instant::now());
        let mut look = |done: u64| {
            bar.show(done, 1_000, "thousandths of the time");
            !stop.load(Ordering::Relaxed)
        };
        rehearse(&plan, &losses, (from_us, until_us), 1, &mut look).map_err(|e| Failure::new(e.to_string()))
    };
    tokio::task::spawn_blocking(work).await.map_err(|e| Failure::new(format!("the drill ended by itself: {e}")))?
}

/// A day of the study, in microseconds since its beginning.
fn instant(option: &str, text: Option<&str>, plan: &Plan, otherwise: u64) -> Result<u64, Failure> {
    let Some(text) = text else { return Ok(otherwise) };
    let (begin, end) = (plan.begin, Date(plan.begin.0 + plan.days));
    match Date::parse(text).filter(|date| begin <= *date && *date <= end) {
        Some(date) => Ok((date.0 - begin.0) * DAY_US),
        None => {
            let message = format!("`{option}` is `{text}`: allowed are dates from {begin} to {end}");
            Err(Failure::new(message).exit(Exit::Usage))
        }
    }
}
