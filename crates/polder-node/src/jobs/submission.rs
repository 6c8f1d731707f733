//! From a job file to what the home's machine takes: arrays written out, labels narrowed, names turned into places.
//!
//! The file was parsed by whoever read it; every value is checked again here. Deciding is absent.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use polder_core::ids::{AwardId, ProjectId};
use polder_core::job::home::Submission;
use polder_core::job::spec::JobFile;
use polder_core::job::{JobId, Order};
use polder_core::labels::LabelError;
use polder_core::request::Request;

use crate::clock::random;
use crate::home::Home;

/// Why a job file is not taken.
#[derive(Debug, thiserror::Error)]
pub enum SubmissionError {
    /// A value of the file.
    #[error(transparent)]
    Spec(#[from] polder_core::job::spec::SpecError),
    /// A label that is not the project's to give.
    #[error(transparent)]
    Label(#[from] LabelError),
    /// A project that is not there.
    #[error("`{0}` is not a project of this tenant")]
    Project(String),
    /// No project is named and there are several.
    #[error("name the project whose labels the jobs carry: `project` in the file, or `--project`")]
    NoProject,
    /// The system gave no randomness for ids.
    #[error("no randomness: {0}")]
    Random(#[from] std::io::Error),
}

/// Reads a job file: YAML where its name ends so, TOML otherwise. Nothing of it is checked but its form.
pub fn read_file(name: &str, text: &str) -> Result<JobFile, String> {
    let yaml = [".yaml", ".yml"].iter().any(|end| name.ends_with(end));
    if yaml {
        serde_saphyr::from_str(text).map_err(|error| error.to_string())
    } else {
        toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())
    }
}

/// Jobs to submit, and what each is called.
pub struct Submitted {
    /// What the machine takes.
    pub submission: Submission,
    /// Name and index of each job, by its place.
    pub names: Vec<(String, u32)>,
}

/// Makes a submission of a file. `only` is the one project that whoever asks may use.
pub fn expand(
    home: &Home,
    file: &JobFile,
    only: Option<&ProjectId>,
    key: String,
    award: &AwardId,
) -> Result<Submitted, SubmissionError> {
    file.check()?;
    let project = match (&file.project, only) {
        (Some(named), Some(only)) if named != only => return Err(SubmissionError::Project(named.to_string())),
        (Some(project), _) | (None, Some(project)) => project.clone(),
        (None, None) => home.only_project().cloned().ok_or(SubmissionError::NoProject)?,
    };
    let labels = home.labels_of(&project).ok_or_else(|| SubmissionError::Project(project.to_string()))?;
    let award = file.award.as_ref().unwrap_or(award);
    let (mut jobs, mut names) = (Vec::new(), Vec::new());
    let mut places: BTreeMap<&str, BTreeSet<usize>> = BTreeMap::new();
    for place in file.order()? {
        let Some(spec) = file.jobs.get(place) else { continue };
        let labels = labels.narrow(&file.asked(spec, labels.class))?;
        let request =
            Request { action: file.action, tenant: home.tenant.clone(), project: project.clone(), model: None, labels };
        let after: BTreeSet<usize> =
            spec.after.iter().filter_map(|name| places.get(name.as_str())).flatten().copied().collect();
        for index in 0..spec.array {
            places.entry(spec.name.as_str()).or_default().insert(jobs.len());
            let order = Order { request: request.clone(), award: award.clone(), spec: spec.clone(), index };
            jobs.push((JobId(random()?), Arc::new(order), after.clone()));
            names.push((spec.name.clone(), index));
        }
    }
    // A key is a project's own: another's does not collide with it.
    let key = format!("{project}/{key}");
    Ok(Submitted { submission: Submission { call: 0, tenant: home.tenant.clone(), key, jobs }, names })
}
