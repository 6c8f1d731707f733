//! A job file: what is to be run, with what, when, and what may happen to it. Read from TOML and checked here.
//!
//! Everything has a limit, and unknown keys are errors. Resources are asked for by capability, never by vendor. Absent: reading
//! files, YAML (the command turns it into the same values), and what a URI leads to: inputs move where policy lets them
//! rest, which is decided elsewhere.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::facts::Precision;
use crate::ids::{AwardId, ProjectId};
use crate::labels::{Action, Asked, Closed as _, Country, DataClass, Language, Purpose};

mod check;

/// The longest wall time, in seconds: 30 days.
pub const WALL_S_MAX: u64 = 30 * 86_400;
/// The most tasks of an array.
pub const ARRAY_MAX: u32 = 10_000;
/// The most jobs of a file.
pub const JOBS_MAX: usize = 1_000;
/// The most repetitions after failures of its own.
pub const RETRIES_MAX: u8 = 100;
/// The highest priority; 0 is the lowest.
pub const PRIORITY_MAX: u8 = 100;
/// The longest text of a file's values, in bytes.
pub const TEXT_BYTES_MAX: usize = 4_096;
/// The most entries of a list in a job.
pub const LIST_MAX: usize = 1_000;

/// What happens where nobody knows whether a run came to its end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnUncertain {
    /// It runs again, once its lease has ended for certain.
    #[default]
    Rerun,
    /// A person says whether it runs again.
    HoldForHuman,
}

/// Amounts that a job takes from a factory, and that come back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resources {
    /// Accelerators.
    #[serde(default)]
    pub accelerators: u32,
    /// Processor cores.
    #[serde(default)]
    pub cores: u32,
    /// Memory, in mebibytes.
    #[serde(default)]
    pub memory_mib: u64,
}

/// What a job needs where it runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Needs {
    /// Accelerators.
    #[serde(default)]
    pub accelerators: u32,
    /// Processor cores.
    #[serde(default)]
    pub cores: u32,
    /// Memory, in mebibytes.
    #[serde(default)]
    pub memory_mib: u64,
    /// Least memory of each accelerator, in gibibytes.
    #[serde(default)]
    pub accelerator_memory_gib_min: u32,
    /// Least throughput of each accelerator in bf16, in teraflops.
    #[serde(default)]
    pub bf16_tflops_min: u32,
    /// Number formats that each accelerator must compute in.
    #[serde(default)]
    pub precisions: BTreeSet<Precision>,
}

/// What each accelerator of a factory can do, as its terms say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Abilities {
    /// Memory, in gibibytes.
    pub accelerator_memory_gib: u32,
    /// Throughput in bf16, in teraflops.
    pub bf16_tflops: u32,
    /// Number formats.
    pub precisions: BTreeSet<Precision>,
}

/// What is started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Program {
    /// A command, with its arguments; no shell.
    Command(Vec<String>),
    /// A container image, by digest, and what runs in it.
    Image {
        /// The image.
        image: String,
        /// The command in it; the image's own where empty.
        #[serde(default)]
        command: Vec<String>,
    },
}

/// What is fetched before the start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Where from.
    pub uri: String,
    /// How sensitive it is.
    pub class: DataClass,
    /// Its SHA-256, in hexadecimal, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Where to, relative to the work folder.
    pub path: String,
}

/// What is kept after the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Output {
    /// Where it lies, relative to the work folder.
    pub path: String,
    /// Where to.
    pub uri: String,
    /// How sensitive it is.
    pub class: DataClass,
    /// The most that is kept, in bytes.
    pub bytes_max: u64,
}

/// One job of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobSpec {
    /// Its name, unlike any other of the file.
    pub name: String,
    /// How much it matters among the jobs of its home, up to [`PRIORITY_MAX`].
    #[serde(default = "priority")]
    pub priority: u8,
    /// What it needs.
    pub resources: Needs,
    /// What is started.
    pub run: Program,
    /// What is fetched before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<Input>,
    /// What is kept after.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outputs: Vec<Output>,
    /// The longest that it may run, in seconds.
    pub wall_s: u64,
    /// The folder for checkpoints, relative to the work folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<String>,
    /// How often it runs again after a failure of its own.
    #[serde(default)]
    pub retries: u8,
    /// What happens where nobody knows how far it came.
    #[serde(default)]
    pub on_uncertain: OnUncertain,
    /// How many tasks there are; each is a job of its own that learns its number.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub array: u32,
    /// The jobs of this file that must have succeeded before.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub after: BTreeSet<String>,
    /// The most that one attempt may cost, in micro-euro; so much is reserved.
    pub cost_microeur_max: u64,
}

/// A job file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobFile {
    /// The project whose labels the jobs carry; whoever submits may say it instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<ProjectId>,
    /// Whose money pays; the home's own award where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub award: Option<AwardId>,
    /// What is done, as policies call it: `run-job`, or `train`.
    #[serde(default = "run_job")]
    pub action: Action,
    /// A class above the project's; that of an input or output counts too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<DataClass>,
    /// Purposes among the project's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purposes: Option<BTreeSet<Purpose>>,
    /// Countries among the project's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub countries: Option<BTreeSet<Country>>,
    /// The language of the texts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<Language>,
    /// The jobs.
    pub jobs: Vec<JobSpec>,
}

fn run_job() -> Action {
    Action::RunJob
}

fn priority() -> u8 {
    PRIORITY_MAX / 2
}

fn one() -> u32 {
    1
}

fn is_one(number: &u32) -> bool {
    *number == 1
}

/// Why a job file cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// It is not TOML of this form.
    #[error("{0}")]
    Form(String),
    /// A value of a job.
    #[error("job `{job}`: {message}")]
    Value {
        /// The job's name.
        job: String,
        /// What is wrong, and what to do.
        message: String,
    },
    /// Jobs that wait for each other.
    #[error("the jobs {0} wait for each other: take one `after` away")]
    Cycle(String),
    /// What no job does.
    #[error("`action` is `{0}`: use `run-job` or `train`")]
    Action(&'static str),
    /// None, or too many.
    #[error("a file has 1 to {JOBS_MAX} jobs and at most {ARRAY_MAX} tasks, this one has {0} jobs and {1} tasks")]
    Count(usize, u64),
}

impl JobFile {
    /// Reads and checks a file in TOML.
    pub fn parse(text: &str) -> Result<Self, SpecError> {
        let file: Self = toml::from_str(text).map_err(|e| SpecError::Form(e.to_string().trim().to_owned()))?;
        file.check()?;
        Ok(file)
    }

    /// What it asks of the project's labels for one of its jobs: its own words, and the highest class among inputs and outputs.
    pub fn asked(&self, job: &JobSpec, project: DataClass) -> Asked {
        let classes = job.inputs.iter().map(|one| one.class).chain(job.outputs.iter().map(|one| one.class));
        let moved = classes.max().filter(|class| *class > project);
        Asked {
            class: self.class.max(moved),
            purposes: self.purposes.clone(),
            countries: self.countries.clone(),
            language: self.language,
        }
    }

    /// Checks every value, the names, and that no job waits for itself.
    pub fn check(&self) -> Result<(), SpecError> {
        if !matches!(self.action, Action::RunJob | Action::Train) {
            return Err(SpecError::Action(self.action.as_str()));
        }
        let tasks = self.jobs.iter().map(|job| u64::from(job.array)).sum();
        if self.jobs.is_empty() || self.jobs.len() > JOBS_MAX || tasks > u64::from(ARRAY_MAX) {
            return Err(SpecError::Count(self.jobs.len(), tasks));
        }
        let mut names = BTreeSet::new();
        for job in &self.jobs {
            job.check()?;
            if !names.insert(job.name.as_str()) {
                return Err(job.wrong("the name stands twice: give each job its own"));
            }
        }
        for job in &self.jobs {
            if let Some(unknown) = job.after.iter().find(|one| !names.contains(one.as_str())) {
                return Err(job.wrong(format!("`after` names `{unknown}`, which is no job of this file")));
            }
        }
        self.order().map(drop)
    }

    /// The jobs' places in an order in which each stands behind those that it waits for.
    pub fn order(&self) -> Result<Vec<usize>, SpecError> {
        let mut left: BTreeMap<&str, usize> =
            self.jobs.iter().enumerate().map(|(place, job)| (job.name.as_str(), place)).collect();
        let mut order = Vec::with_capacity(self.jobs.len());
        while !left.is_empty() {
            let waits = |place: usize| self.jobs.get(place).map(|job| &job.after);
            let free =
                |place: &usize| waits(*place).is_none_or(|after| !after.iter().any(|n| left.contains_key(n.as_str())));
            let ready: Vec<(&str, usize)> = left.iter().filter(|(_, p)| free(p)).map(|(n, p)| (*n, *p)).collect();
            if ready.is_empty() {
                let names: Vec<String> = left.keys().take(8).map(|name| format!("`{name}`")).collect();
                return Err(SpecError::Cycle(names.join(", ")));
            }
            for (name, place) in ready {
                left.remove(name);
                order.push(place);
            }
        }
        Ok(order)
    }
}

impl Resources {
    /// What is left when others are taken away; none where there is not enough of one.
    pub fn less(&self, other: &Self) -> Option<Self> {
        Some(Self {
            accelerators: self.accelerators.checked_sub(other.accelerators)?,
            cores: self.cores.checked_sub(other.cores)?,
            memory_mib: self.memory_mib.checked_sub(other.memory_mib)?,
        })
    }

    /// Both together.
    pub fn and(&self, other: &Self) -> Self {
        Self {
            accelerators: self.accelerators.saturating_add(other.accelerators),
            cores: self.cores.saturating_add(other.cores),
            memory_mib: self.memory_mib.saturating_add(other.memory_mib),
        }
    }

    /// Whether so much is there.
    pub fn holds(&self, other: &Self) -> bool {
        self.less(other).is_some()
    }

    /// The largest share that this is of a whole, over the kinds of resources, in millionths (dominant resource, Ghodsi et
    /// al. 2011). A kind that the whole has none of counts nothing.
    pub fn dominant_share_ppm(&self, whole: &Self) -> u64 {
        let share = |part: u64, whole: u64| part.saturating_mul(1_000_000).checked_div(whole).unwrap_or(0);
        share(u64::from(self.accelerators), u64::from(whole.accelerators))
            .max(share(u64::from(self.cores), u64::from(whole.cores)))
            .max(share(self.memory_mib, whole.memory_mib))
    }
}

impl Needs {
    /// What it takes from a factory while it runs.
    pub fn amounts(&self) -> Resources {
        Resources { accelerators: self.accelerators, cores: self.cores, memory_mib: self.memory_mib }
    }

    /// Whether a factory's accelerators are able enough. A job without accelerators asks nothing of them.
    pub fn met_by(&self, abilities: &Abilities) -> bool {
        self.accelerators == 0
            || (abilities.accelerator_memory_gib >= self.accelerator_memory_gib_min
                && abilities.bf16_tflops >= self.bf16_tflops_min
                && self.precisions.is_subset(&abilities.precisions))
    }
}

#[cfg(test)]
mod tests;
