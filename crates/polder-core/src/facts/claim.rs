//! Claims: what a fact says, in which slot, and whether two of them can both be true.
//!
//! Each kind fills one attribute that policies read. Who says it and since when are absent: see [`super::Fact`].

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{Certification, Kind, Licence, Precision, Vendor};
use crate::canonical::Digest;
use crate::ids::ModelId;
use crate::labels::{Closed as _, Country, Language};

/// The whole of a share, in millionths.
pub const SHARE_PPM_MAX: u32 = 1_000_000;
/// Most memory of one accelerator that is believed, in GiB.
pub const MEMORY_GIB_MAX: u32 = 4_096;
/// Most carbon of a kilowatt-hour that is believed, in grams of CO2 equivalent; coal alone stays below 1,100.
pub const CARBON_G_PER_KWH_MAX: u32 = 2_000;
/// Power usage effectiveness that is believed, in hundredths: no less than 1, no more than 5.
pub const PUE_PERCENT: std::ops::RangeInclusive<u32> = 100..=500;
/// Longest chain of owners, and longest list of countries or languages, that is read.
const LIST_MAX: usize = 64;
/// Longest name that is read, in bytes.
const NAME_BYTES_MAX: usize = 200;

/// One owner in a chain of control.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Owner {
    /// The owner's name.
    pub name: String,
    /// The jurisdiction the owner is subject to.
    pub country: Country,
    /// Share of the next one down, in millionths.
    pub share_ppm: u32,
}

/// What a chip can do, whoever makes it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Capability {
    /// The number formats that it computes in at full speed.
    pub precisions: BTreeSet<Precision>,
    /// Memory of one accelerator, in GiB.
    pub memory_gib: u32,
}

/// What a fact says.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Claim {
    /// Where the machines stand.
    Site {
        /// The country.
        country: Country,
        /// The town.
        city: String,
    },
    /// Who runs the factory.
    Operator {
        /// The operator's name.
        name: String,
        /// The jurisdiction it is subject to.
        country: Country,
    },
    /// Every owner above the operator, from the direct one to the ultimate parent; empty where there is none.
    Control {
        /// The chain, bottom up.
        owners: Vec<Owner>,
    },
    /// Which accelerators are installed.
    Chip {
        /// Who makes them.
        vendor: Vendor,
        /// Where they are designed.
        origin: Country,
        /// How many there are.
        accelerators: u32,
        /// What one of them can do; absent where nothing is said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        capability: Option<Capability>,
    },
    /// A certificate held.
    Certification {
        /// The scheme.
        scheme: Certification,
    },
    /// The people with access are cleared by this country's authority.
    Clearance {
        /// Whose clearance.
        country: Country,
    },
    /// Every country whose courts or authorities can compel the operator to hand over what it holds.
    Jurisdiction {
        /// The countries; never empty.
        countries: BTreeSet<Country>,
    },
    /// Every country in which people with access to the machines are employed.
    Personnel {
        /// The countries; never empty.
        countries: BTreeSet<Country>,
    },
    /// What the factory runs on.
    Energy {
        /// Share of renewable sources over the last year, in per cent.
        renewable_percent: u32,
        /// Carbon of a kilowatt-hour over the last year, in grams of CO2 equivalent.
        carbon_g_per_kwh: u32,
        /// Power usage effectiveness over the last year (ISO/IEC 30134-2), in hundredths.
        pue_percent: u32,
    },
    /// Where a model that is served here was made.
    ModelOrigin {
        /// The model.
        model: ModelId,
        /// The jurisdiction of whoever trained it.
        country: Country,
    },
    /// What a model that is served here comes under.
    ModelLicence {
        /// The model.
        model: ModelId,
        /// The licence of its weights.
        licence: Licence,
    },
    /// Which weights are served here under a model's name.
    ModelDigest {
        /// The model.
        model: ModelId,
        /// SHA-256 over the model's files, as an execution's statement has it.
        sha256: Digest,
    },
    /// The languages in which a model that is served here was evaluated.
    ModelLanguages {
        /// The model.
        model: ModelId,
        /// The languages; never empty.
        languages: BTreeSet<Language>,
    },
    /// An assessor's answer to one criterion of a framework version.
    Assessment {
        /// The framework version, such as `csf-calculator-2026-06-01`.
        framework: String,
        /// The objective, such as `SOV-1`.
        objective: String,
        /// The criterion's number within the objective.
        criterion: u32,
        /// The answer's number.
        answer: u32,
    },
}

/// Why a claim says nothing that could be true.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClaimError {
    /// A number outside its range.
    #[error("`{field}` is {value}: use {from} to {to}")]
    Range {
        /// Which number.
        field: &'static str,
        /// What was said.
        value: u32,
        /// The least that can be.
        from: u32,
        /// The most that can be.
        to: u32,
    },
    /// A list that says nothing, or too much.
    #[error("`{field}` has {count} entries: use {least} to {LIST_MAX}")]
    Length {
        /// Which list.
        field: &'static str,
        /// How many there are.
        count: usize,
        /// The fewest that make sense.
        least: usize,
    },
    /// A name that no one could read.
    #[error("`{field}` is longer than {NAME_BYTES_MAX} bytes")]
    Name {
        /// Which name.
        field: &'static str,
    },
}

impl Claim {
    /// What the claim is about.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Site { .. } => Kind::Site,
            Self::Operator { .. } => Kind::Operator,
            Self::Control { .. } => Kind::Control,
            Self::Chip { .. } => Kind::Chip,
            Self::Certification { .. } => Kind::Certification,
            Self::Clearance { .. } => Kind::Clearance,
            Self::Jurisdiction { .. } => Kind::Jurisdiction,
            Self::Personnel { .. } => Kind::Personnel,
            Self::Energy { .. } => Kind::Energy,
            Self::ModelOrigin { .. } => Kind::ModelOrigin,
            Self::ModelLicence { .. } => Kind::ModelLicence,
            Self::ModelDigest { .. } => Kind::ModelDigest,
            Self::ModelLanguages { .. } => Kind::ModelLanguages,
            Self::Assessment { .. } => Kind::Assessment,
        }
    }

    /// The slot that the claim fills: facts of one slot replace or contradict each other.
    pub fn slot(&self) -> String {
        let attribute = self.kind().attribute();
        match self {
            Self::Chip { vendor, .. } => format!("{attribute}/{}", vendor.as_str()),
            Self::Certification { scheme } => format!("{attribute}/{}", scheme.as_str()),
            Self::Clearance { country } => format!("{attribute}/{country}"),
            Self::ModelOrigin { model, .. }
            | Self::ModelLicence { model, .. }
            | Self::ModelDigest { model, .. }
            | Self::ModelLanguages { model, .. } => format!("{attribute}/{model}"),
            Self::Assessment { framework, objective, criterion, .. } => {
                format!("{attribute}/{framework}/{objective}/{criterion}")
            }
            _ => attribute.to_owned(),
        }
    }

    /// Whether two claims of one slot say the same wherever a policy looks; names and towns may be spelled differently.
    pub fn agrees_with(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Site { country: a, .. }, Self::Site { country: b, .. })
            | (Self::Operator { country: a, .. }, Self::Operator { country: b, .. }) => a == b,
            (Self::Control { owners: a }, Self::Control { owners: b }) => {
                let said = |owners: &[Owner]| owners.iter().map(|o| (o.country, o.share_ppm)).collect::<Vec<_>>();
                said(a) == said(b)
            }
            (
                Self::Chip { vendor: a, origin: from, capability: can, .. },
                Self::Chip { vendor: b, origin, capability, .. },
            ) => a == b && from == origin && (can == capability || can.is_none() || capability.is_none()),
            _ => self == other,
        }
    }

    /// The claim in a few words, for people.
    pub fn words(&self) -> String {
        match self {
            Self::Site { country, city } => format!("{city} ({country})"),
            Self::Operator { name, country } => format!("{name} ({country})"),
            Self::Control { owners } if owners.is_empty() => "no owner above the operator".to_owned(),
            Self::Control { owners } => {
                owners.iter().map(|o| format!("{} ({})", o.name, o.country)).collect::<Vec<_>>().join(", then ")
            }
            Self::Chip { vendor, origin, accelerators, capability } => {
                let can = capability.as_ref().map_or_else(String::new, |can| format!(", {} GiB each", can.memory_gib));
                format!("{accelerators} from {} ({origin}){can}", vendor.as_str())
            }
            Self::Certification { scheme } => scheme.as_str().to_owned(),
            Self::Clearance { country } => format!("people cleared by {country}"),
            Self::Jurisdiction { countries } => format!("under the law of {}", list(countries)),
            Self::Personnel { countries } => format!("people in {}", list(countries)),
            Self::Energy { renewable_percent, carbon_g_per_kwh, pue_percent } => {
                let (whole, hundredths) = (pue_percent / 100, pue_percent % 100);
                format!("{renewable_percent} % renewable, {carbon_g_per_kwh} g/kWh, PUE {whole}.{hundredths:02}")
            }
            Self::ModelOrigin { model, country } => format!("{model} made in {country}"),
            Self::ModelLicence { model, licence } => format!("{model} under {}", licence.as_str()),
            Self::ModelDigest { model, sha256 } => format!("{model} is {sha256}"),
            Self::ModelLanguages { model, languages } => format!("{model} evaluated in {}", list(languages)),
            Self::Assessment { framework, objective, criterion, answer } => {
                format!("{framework} {objective}/{criterion}: answer {answer}")
            }
        }
    }

    /// Whether every number is in its range and every list and name of a bearable length. A claim that is not counts
    /// for nothing.
    pub fn check(&self) -> Result<(), ClaimError> {
        match self {
            Self::Site { city: name, .. } => named("city", name),
            Self::Operator { name, .. } => named("name", name),
            Self::Control { owners } => {
                counted("owners", owners.len(), 0)?;
                owners.iter().try_for_each(|owner| {
                    named("owners", &owner.name)?;
                    ranged("share_ppm", owner.share_ppm, 0..=SHARE_PPM_MAX)
                })
            }
            Self::Chip { capability: Some(can), .. } => ranged("memory_gib", can.memory_gib, 1..=MEMORY_GIB_MAX),
            Self::Jurisdiction { countries } | Self::Personnel { countries } => {
                counted("countries", countries.len(), 1)
            }
            Self::Energy { renewable_percent, carbon_g_per_kwh, pue_percent } => {
                ranged("renewable_percent", *renewable_percent, 0..=100)?;
                ranged("carbon_g_per_kwh", *carbon_g_per_kwh, 0..=CARBON_G_PER_KWH_MAX)?;
                ranged("pue_percent", *pue_percent, PUE_PERCENT)
            }
            Self::ModelLanguages { languages, .. } => counted("languages", languages.len(), 1),
            Self::Assessment { framework, objective, .. } => {
                named("framework", framework)?;
                named("objective", objective)
            }
            Self::Chip { .. }
            | Self::Certification { .. }
            | Self::Clearance { .. }
            | Self::ModelOrigin { .. }
            | Self::ModelLicence { .. }
            | Self::ModelDigest { .. } => Ok(()),
        }
    }
}

impl Kind {
    /// The attribute that policies read, such as `chips`; those of a model begin with `model.`.
    pub fn attribute(self) -> &'static str {
        match self {
            Self::Site => "site",
            Self::Operator => "operator",
            Self::Control => "control",
            Self::Chip => "chips",
            Self::Certification => "certifications",
            Self::Clearance => "clearances",
            Self::Jurisdiction => "jurisdiction",
            Self::Personnel => "personnel",
            Self::Energy => "energy",
            Self::ModelOrigin => "model.origin",
            Self::ModelLicence => "model.licence",
            Self::ModelDigest => "model.digest",
            Self::ModelLanguages => "model.languages",
            Self::Assessment => "seals",
        }
    }
}

fn list<T: crate::labels::Closed>(values: &BTreeSet<T>) -> String {
    values.iter().map(T::as_str).collect::<Vec<_>>().join(", ")
}

fn named(field: &'static str, name: &str) -> Result<(), ClaimError> {
    if name.len() > NAME_BYTES_MAX { Err(ClaimError::Name { field }) } else { Ok(()) }
}

fn counted(field: &'static str, count: usize, least: usize) -> Result<(), ClaimError> {
    if (least..=LIST_MAX).contains(&count) { Ok(()) } else { Err(ClaimError::Length { field, count, least }) }
}

fn ranged(field: &'static str, value: u32, range: std::ops::RangeInclusive<u32>) -> Result<(), ClaimError> {
    let (from, to) = range.into_inner();
    if (from..=to).contains(&value) { Ok(()) } else { Err(ClaimError::Range { field, value, from, to }) }
}
