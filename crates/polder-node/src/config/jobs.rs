//! The `[factory.jobs]` and `[home.jobs]` tables: what a factory offers for jobs and how it runs them, and how a home goes about its own.
//!
//! Schedulers other than this machine's own processes are absent.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use polder_core::facts::Precision;
use polder_core::ids::AwardId;
use polder_core::job::home::{self, Sheet};
use polder_core::job::spec::{Abilities, Resources};
use polder_core::job::{executor, queue};
use serde::{Deserialize, Serialize};

use super::ConfigError;
use crate::executor::local::Allowed;

/// The award that a home's jobs are paid from where none is named.
const AWARD: &str = "own";

/// The `[factory.jobs]` table as a person writes it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FactoryJobs {
    /// Processor cores that jobs may use together; those of the machine where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cores: Option<u32>,
    /// Memory that jobs may use together, in mebibytes; unmetered, and none to be asked for, where absent.
    #[serde(default)]
    pub memory_mib: u64,
    /// Accelerators.
    #[serde(default)]
    pub accelerators: u32,
    /// Memory of each accelerator, in gibibytes.
    #[serde(default)]
    pub accelerator_memory_gib: u32,
    /// Throughput of each accelerator in bf16, in teraflops.
    #[serde(default)]
    pub bf16_tflops: u32,
    /// Number formats of each accelerator.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub precisions: BTreeSet<Precision>,
    /// Price of a core's hour, in micro-euro.
    #[serde(default)]
    pub core_microeur_per_hour: u64,
    /// Price of an accelerator's hour, in micro-euro.
    #[serde(default)]
    pub accelerator_microeur_per_hour: u64,
    /// Where jobs run: a folder for each; `jobs` in the state folder where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<PathBuf>,
    /// Folders that inputs may be read from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<PathBuf>,
    /// Folders that outputs may be written to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outputs: Vec<PathBuf>,
    /// Most bytes that a run may write; 1 GiB where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_bytes_max: Option<u64>,
    /// How long a run has to end by itself, in seconds; 10 where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace_s: Option<u64>,
    /// How long what a run wrote is kept after its end, in hours; 168 where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_h: Option<u64>,
    /// The numbers of the user and group that commands run as; the node's own where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<(u32, u32)>,
}

/// The `[home.jobs]` table as a person writes it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HomeJobs {
    /// The award that pays where a job file names none; `own` where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub award: Option<AwardId>,
    /// How long a lease lasts, in seconds; 60 where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease_s: Option<u64>,
    /// How long a waiting job takes to count as one step of priority more, in seconds; 60 where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ageing_s: Option<u64>,
    /// How long a job waits at most before it stands before all others, in hours; 24 where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub starve_h: Option<u64>,
}

/// How a factory runs jobs.
#[derive(Debug, Clone)]
pub struct JobsConfig {
    /// What it offers.
    pub sheet: Sheet,
    /// Where runs have their folders.
    pub folder: PathBuf,
    /// Where files may be taken from and put to.
    pub allowed: Allowed,
    /// Most bytes that a run may write.
    pub output_bytes_max: u64,
    /// How long a run has to end by itself, in milliseconds.
    pub grace_ms: u64,
    /// How long what a run wrote is kept, in milliseconds.
    pub keep_ms: u64,
    /// The user and group that commands run as.
    pub user: Option<(u32, u32)>,
}

/// How a home goes about its jobs.
#[derive(Debug, Clone)]
pub struct HomeJobsConfig {
    /// The award that pays where none is named.
    pub award: AwardId,
    /// What its machine goes by.
    pub settings: home::Settings,
}

type Content<'a> = &'a dyn Fn(String) -> ConfigError;

impl FactoryJobs {
    pub(super) fn check(self, folder: &Path, state: &Path, content: Content<'_>) -> Result<JobsConfig, ConfigError> {
        let cores = self.cores.unwrap_or_else(|| {
            std::thread::available_parallelism().map_or(1, |count| u32::try_from(count.get()).unwrap_or(1))
        });
        let whole = Resources { accelerators: self.accelerators, cores, memory_mib: self.memory_mib };
        if whole == Resources::default() {
            return Err(content("`[factory.jobs]` offers nothing: name cores, memory_mib or accelerators".to_owned()));
        }
        let ranges = [
            ("grace_s", self.grace_s.unwrap_or(10), 1..=600),
            ("keep_h", self.keep_h.unwrap_or(168), 1..=87_600),
            ("output_bytes_max", self.output_bytes_max.unwrap_or(1 << 30), 1 << 10..=1 << 50),
        ];
        if let Some((name, _, range)) = ranges.iter().find(|(_, value, range)| !range.contains(value)) {
            let (least, most) = (range.start(), range.end());
            return Err(content(format!("`{name}` of `[factory.jobs]` must be {least} to {most}")));
        }
        let [grace_s, keep_h, output_bytes_max] = ranges.map(|(_, value, _)| value);
        if self.user.is_some() && self.folder.is_none() {
            let next = "name a `folder` outside of the state folder, which nobody else may enter";
            return Err(content(format!("`user` of `[factory.jobs]` needs a folder of its own: {next}")));
        }
        let under = |paths: Vec<PathBuf>| paths.into_iter().map(|path| folder.join(path)).collect();
        Ok(JobsConfig {
            sheet: Sheet {
                whole,
                abilities: Abilities {
                    accelerator_memory_gib: self.accelerator_memory_gib,
                    bf16_tflops: self.bf16_tflops,
                    precisions: self.precisions,
                },
                accelerator_microeur_per_hour: self.accelerator_microeur_per_hour,
                core_microeur_per_hour: self.core_microeur_per_hour,
            },
            // A run's folder is named to other processes: it must not hang on where they stand.
            folder: absolute(&self.folder.map_or_else(|| state.join("jobs"), |own| folder.join(own)), content)?,
            allowed: Allowed { inputs: under(self.inputs), outputs: under(self.outputs) },
            output_bytes_max,
            grace_ms: grace_s.saturating_mul(1_000),
            keep_ms: keep_h.saturating_mul(3_600_000),
            user: self.user,
        })
    }
}

fn absolute(path: &Path, content: Content<'_>) -> Result<PathBuf, ConfigError> {
    std::path::absolute(path).map_err(|e| content(format!("`{}`: {e}", path.display())))
}

impl JobsConfig {
    /// What the factory's machine goes by.
    pub fn settings(&self) -> executor::Settings {
        executor::Settings { sheet: self.sheet.clone(), ..executor::Settings::default() }
    }
}

impl HomeJobs {
    pub(crate) fn check(self, content: &dyn Fn(String) -> ConfigError) -> Result<HomeJobsConfig, ConfigError> {
        let ranges = [
            ("lease_s", self.lease_s.unwrap_or(60), 2..=86_400),
            ("ageing_s", self.ageing_s.unwrap_or(60), 1..=86_400),
            ("starve_h", self.starve_h.unwrap_or(24), 1..=8_760),
        ];
        if let Some((name, _, range)) = ranges.iter().find(|(_, value, range)| !range.contains(value)) {
            let (least, most) = (range.start(), range.end());
            return Err(content(format!("`{name}` of `[home.jobs]` must be {least} to {most}")));
        }
        let [lease_s, ageing_s, starve_h] = ranges.map(|(_, value, _)| value);
        let award = match self.award {
            Some(award) => award,
            None => AwardId::parse(AWARD).map_err(|e| content(e.to_string()))?,
        };
        let default = home::Settings::default();
        let lease_ms = lease_s.saturating_mul(1_000);
        let queue = queue::Rules {
            ageing_ms: ageing_s.saturating_mul(1_000),
            starve_ms: starve_h.saturating_mul(3_600_000),
            ..default.queue
        };
        // Whoever wants short leases wants to hear soon.
        let resend_ms = default.resend_ms.min(lease_ms / 4).max(100);
        let (offer_ms, shun_ms) = (default.offer_ms.min(lease_ms), default.shun_ms.min(lease_ms));
        let retry_ms = default.retry_ms.min(lease_ms / 2).max(200);
        let settings = home::Settings { lease_ms, queue, resend_ms, offer_ms, shun_ms, retry_ms, ..default };
        Ok(HomeJobsConfig { award, settings })
    }
}
