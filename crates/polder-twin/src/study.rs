//! A study: a text that says what is to be planned, checked whole before anything runs.
//!
//! TOML with closed lists. Every fault names file, line and what would be allowed. What a study may say stands in `docs/plan.md`.
//! Reading the study and its policies is the caller's; traces are opened here, because a missing one is a fault too.

use std::path::PathBuf;
use std::sync::Arc;

use crate::engine::plan::Plan;
use crate::federation::{Federation, FederationError};
use crate::grow::{Genes, Ground};

mod check;
mod events;
pub(crate) mod ground;
mod growth;
mod raw;

/// Why a study cannot be run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StudyError {
    /// A line of the study.
    #[error("{file}:{line}: {message}")]
    Line {
        /// The study's name, as the caller gave it.
        file: String,
        /// The line, from 1.
        line: usize,
        /// What is wrong and what would be allowed.
        message: String,
    },
    /// The federation's description.
    #[error(transparent)]
    Federation(#[from] FederationError),
    /// Policies or facts.
    #[error("the federation cannot be set up: {0}")]
    Ground(String),
}

/// Gives the text of a file that a study names, by its path relative to the study; `None` where there is none.
pub type ReadText<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// Where a study's other files are.
pub struct Files<'a> {
    /// Gives texts.
    pub read: &'a ReadText<'a>,
    /// The folder that traces are relative to.
    pub folder: PathBuf,
}

/// Reads and checks a study. `file` is its name in messages.
pub fn parse(file: &str, text: &str, files: &Files<'_>) -> Result<Arc<Plan>, StudyError> {
    let source = check::Source { file, text };
    let raw = source.raw()?;
    let path = raw.federation.get_ref().clone();
    let described = (files.read)(&path).ok_or_else(|| {
        source.at(&raw.federation.span(), &format!("`federation` names `{path}`, which is not there: correct the path"))
    })?;
    let folder = path.rsplit_once('/').map_or(String::new(), |(folder, _)| format!("{folder}/"));
    // The description borrows the texts that it names, so they are read before.
    let texts = ground::texts(&described, &|path| (files.read)(&format!("{folder}{path}")));
    let read = |name: &str| texts.get(name).map(String::as_str);
    let federation = Federation::parse(&path, &described, read)?;
    source.plan(&raw, &federation, files)
}

/// A study's text with a plan's halls put behind those that each factory has.
pub fn lines_of(file: &str, text: &str, ground: &Ground<'_>, genes: &Genes) -> Result<String, StudyError> {
    let source = check::Source { file, text };
    let raw = source.raw()?;
    let options = raw.growth.as_ref().map(|growth| growth.get_ref().options.get_ref().as_slice()).unwrap_or_default();
    let racks = |id: &str| {
        let option = options.iter().find(|option| option.id.get_ref() == id)?;
        Some((*option.racks.get_ref(), *option.per_rack.get_ref(), option.accelerator.get_ref().clone()))
    };
    let lines = ground.lines(genes, &racks);
    // From the end on, so that places before stay as they are.
    let mut places: Vec<(usize, String)> = Vec::new();
    for factory in raw.factories.get_ref() {
        let Some(lines) = lines.get(factory.id.get_ref()) else { continue };
        let end = factory.halls.span().end.saturating_sub(1);
        let before = text.get(..end).unwrap_or_default().trim_end();
        let comma = if before.ends_with(',') || before.ends_with('[') { "\n" } else { ",\n" };
        places.push((before.len(), format!("{comma}{}", lines.concat().trim_end())));
    }
    places.sort_by_key(|(place, _)| std::cmp::Reverse(*place));
    let mut grown = text.to_owned();
    for (place, lines) in places {
        grown.insert_str(place, &lines);
    }
    Ok(grown)
}

#[cfg(test)]
mod tests;
