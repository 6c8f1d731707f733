//! Labels: what a request says of itself, each a value of a closed list.
//!
//! The lists and their order are a format (`docs/formats.md`): lists grow at the end only, and the order of
//! [`DataClass`] is the order in which a request may move. Free text is absent, so that a policy can be
//! checked against every value that can ever occur.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

mod countries;
pub use countries::{ADEQUATE, Country, EEA, EU};

/// How sensitive data is, from open to closed. A request may only move upwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DataClass {
    /// Published, or free to be.
    Public,
    /// For the owner's people; a leak embarrasses.
    Internal,
    /// Data of or about the owner's customers, personal data among it.
    Customer,
    /// Data under a legal or contractual secrecy duty, such as defence work.
    Restricted,
}

/// What work is for. All but [`Purpose::Defence`] are civil.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Purpose {
    /// Research and teaching.
    Research,
    /// Industry and services not named below.
    Industry,
    /// Banks, insurers, payments.
    Finance,
    /// Care and medicine.
    Health,
    /// Culture, media and the arts.
    Culture,
    /// Public administration.
    PublicService,
    /// Energy, water, transport, networks.
    CriticalInfrastructure,
    /// Defence.
    Defence,
}

/// The language of a request, ISO 639-1: the official languages of the EEA and some of its neighbours and regions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)] // The variants are the standard's own codes.
pub enum Language {
    Bg,
    Ca,
    Cs,
    Da,
    De,
    El,
    En,
    Es,
    Et,
    Eu,
    Fi,
    Fr,
    Ga,
    Gl,
    Hr,
    Hu,
    Is,
    It,
    Lb,
    Lt,
    Lv,
    Mt,
    Nb,
    Nl,
    Nn,
    Pl,
    Pt,
    Ro,
    Se,
    Sk,
    Sl,
    Sv,
    Uk,
}

/// What is to be done with a model at a factory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Generate text.
    Infer,
    /// Turn text into vectors.
    Embed,
    /// Generate a picture.
    GenerateImage,
    /// Run a batch job.
    RunJob,
    /// Train or fine-tune a model.
    Train,
    /// Keep data.
    Store,
    /// Take data or weights in from elsewhere.
    Move,
    /// Keep a model's weights.
    HoldWeights,
}

impl Action {
    /// Whether the accelerators work on it; the others only keep or take in what is stored.
    pub fn computes(self) -> bool {
        !matches!(self, Self::Store | Self::Move | Self::HoldWeights)
    }
}

/// A closed list: every value and its text.
pub trait Closed: Sized + Copy + Ord + 'static {
    /// What the list is called in messages and headers, such as `purpose`.
    const NAME: &'static str;
    /// Every value, in the list's order.
    fn all() -> Vec<Self>;
    /// The value's text.
    fn as_str(&self) -> &'static str;
    /// The value that a text names.
    fn parse(text: &str) -> Result<Self, LabelError> {
        Self::all().into_iter().find(|value| value.as_str() == text).ok_or_else(|| LabelError::Unknown {
            label: Self::NAME,
            value: text.chars().take(64).collect(),
            list: Self::all().iter().map(Self::as_str).collect::<Vec<_>>().join(", "),
        })
    }
}

/// Why labels cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LabelError {
    /// A value outside its closed list.
    #[error("`{value}` is not a {label}: use one of {list}")]
    Unknown {
        /// Which label.
        label: &'static str,
        /// What was said.
        value: String,
        /// What could have been said.
        list: String,
    },
    /// A label that would widen what the project allows.
    #[error("`{value}` would widen the project's {label}, which is {allowed}: a request may only narrow it")]
    Widens {
        /// Which label.
        label: &'static str,
        /// What was said.
        value: String,
        /// What the project allows.
        allowed: String,
    },
    /// Two sources that leave nothing when both are kept.
    #[error("the request's {label} leave nothing that the project and every source allow")]
    Empty {
        /// Which label.
        label: &'static str,
    },
}

impl LabelError {
    /// Which label is at fault.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Unknown { label, .. } | Self::Widens { label, .. } | Self::Empty { label } => label,
        }
    }
}

/// The labels that a decision looks at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Labels {
    /// How sensitive the data is.
    pub class: DataClass,
    /// What the work may be for; every one of them must be allowed where it runs. Never empty.
    pub purposes: BTreeSet<Purpose>,
    /// Where it may run, by the site's country; `None` where the request does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub countries: Option<BTreeSet<Country>>,
    /// The language of the text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<Language>,
}

/// What one source (headers, or metadata) asks for. Everything absent leaves the project's value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asked {
    /// A class, not below the project's.
    pub class: Option<DataClass>,
    /// Purposes, all among the project's.
    pub purposes: Option<BTreeSet<Purpose>>,
    /// Countries, all among the project's.
    pub countries: Option<BTreeSet<Country>>,
    /// The language of the text.
    pub language: Option<Language>,
}

impl Labels {
    /// These labels narrowed by one source. A value that would widen is an error, never ignored.
    pub fn narrow(&self, asked: &Asked) -> Result<Self, LabelError> {
        let mut narrowed = self.clone();
        if let Some(class) = asked.class {
            if class < self.class {
                return Err(widens(DataClass::NAME, class.as_str(), self.class.as_str()));
            }
            narrowed.class = class;
        }
        if let Some(purposes) = &asked.purposes {
            narrowed.purposes = subset(purposes, &self.purposes)?;
        }
        if let Some(countries) = &asked.countries {
            narrowed.countries = Some(match &self.countries {
                Some(allowed) => subset(countries, allowed)?,
                None if countries.is_empty() => return Err(LabelError::Empty { label: Country::NAME }),
                None => countries.clone(),
            });
        }
        narrowed.language = asked.language.or(self.language);
        Ok(narrowed)
    }

    /// The labels of a project narrowed by several sources, each against the project, then intersected.
    pub fn narrow_all(&self, sources: &[Asked]) -> Result<Self, LabelError> {
        let mut labels = self.clone();
        for asked in sources {
            let one = self.narrow(asked)?;
            labels.class = labels.class.max(one.class);
            labels.purposes = both(&labels.purposes, &one.purposes)?;
            labels.countries = match (labels.countries, one.countries) {
                (Some(a), Some(b)) => Some(both(&a, &b)?),
                (a, b) => a.or(b),
            };
            labels.language = asked.language.or(labels.language);
        }
        Ok(labels)
    }
}

fn widens(label: &'static str, value: &str, allowed: &str) -> LabelError {
    LabelError::Widens { label, value: value.to_owned(), allowed: format!("`{allowed}`") }
}

fn subset<T: Closed>(asked: &BTreeSet<T>, allowed: &BTreeSet<T>) -> Result<BTreeSet<T>, LabelError> {
    if asked.is_empty() {
        return Err(LabelError::Empty { label: T::NAME });
    }
    match asked.iter().find(|value| !allowed.contains(value)) {
        Some(value) => {
            let allowed = allowed.iter().map(T::as_str).collect::<Vec<_>>().join("`, `");
            Err(widens(T::NAME, value.as_str(), &allowed))
        }
        None => Ok(asked.clone()),
    }
}

fn both<T: Closed>(a: &BTreeSet<T>, b: &BTreeSet<T>) -> Result<BTreeSet<T>, LabelError> {
    let both: BTreeSet<T> = a.intersection(b).copied().collect();
    if both.is_empty() { Err(LabelError::Empty { label: T::NAME }) } else { Ok(both) }
}

impl Closed for DataClass {
    const NAME: &'static str = "class";
    fn all() -> Vec<Self> {
        vec![Self::Public, Self::Internal, Self::Customer, Self::Restricted]
    }
    fn as_str(&self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Internal => "internal",
            Self::Customer => "customer",
            Self::Restricted => "restricted",
        }
    }
}

impl Closed for Purpose {
    const NAME: &'static str = "purpose";
    fn all() -> Vec<Self> {
        use Purpose::*;
        vec![Research, Industry, Finance, Health, Culture, PublicService, CriticalInfrastructure, Defence]
    }
    fn as_str(&self) -> &'static str {
        match self {
            Self::Research => "research",
            Self::Industry => "industry",
            Self::Finance => "finance",
            Self::Health => "health",
            Self::Culture => "culture",
            Self::PublicService => "public-service",
            Self::CriticalInfrastructure => "critical-infrastructure",
            Self::Defence => "defence",
        }
    }
}

impl Closed for Language {
    const NAME: &'static str = "language";
    fn all() -> Vec<Self> {
        use Language::*;
        vec![
            Bg, Ca, Cs, Da, De, El, En, Es, Et, Eu, Fi, Fr, Ga, Gl, Hr, Hu, Is, It, Lb, Lt, Lv, Mt, Nb, Nl, Nn, Pl, Pt,
            Ro, Se, Sk, Sl, Sv, Uk,
        ]
    }
    fn as_str(&self) -> &'static str {
        const CODES: &[&str] = &[
            "bg", "ca", "cs", "da", "de", "el", "en", "es", "et", "eu", "fi", "fr", "ga", "gl", "hr", "hu", "is", "it",
            "lb", "lt", "lv", "mt", "nb", "nl", "nn", "pl", "pt", "ro", "se", "sk", "sl", "sv", "uk",
        ];
        CODES.get(*self as usize).copied().unwrap_or("en")
    }
}

impl Closed for Action {
    const NAME: &'static str = "action";
    fn all() -> Vec<Self> {
        use Action::*;
        vec![Infer, Embed, GenerateImage, RunJob, Train, Store, Move, HoldWeights]
    }
    fn as_str(&self) -> &'static str {
        match self {
            Self::Infer => "infer",
            Self::Embed => "embed",
            Self::GenerateImage => "generate-image",
            Self::RunJob => "run-job",
            Self::Train => "train",
            Self::Store => "store",
            Self::Move => "move",
            Self::HoldWeights => "hold-weights",
        }
    }
}

#[cfg(test)]
mod tests;
