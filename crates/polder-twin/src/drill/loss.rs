//! What drops out: a vendor, an operator, a country, a jurisdiction, a factory or a link, and whom that touches.
//!
//! Whom it touches is read from the facts that the home believed at the time. A fact that is missing means that nobody can rule it
//! out, so the factory counts as touched, and the drill says that this is assumed. Absent: how likely a loss is.

use polder_core::facts::{Claim, Profile, Vendor};
use polder_core::ids::NodeId;
use polder_core::labels::{Closed as _, Country};

/// Something that drops out.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Loss {
    /// Chips of a vendor: a factory loses these, and is gone where it has no others.
    Vendor(Vendor),
    /// An operator by its name, as operator or as an owner above one.
    Operator(String),
    /// All sites in a country.
    Country(Country),
    /// Whoever a country's courts can compel: sites, operators, owners, and what a `jurisdiction` fact names.
    Jurisdiction(Country),
    /// A factory.
    Factory(NodeId),
    /// The way from a home to a factory, or to all sites in a country.
    Link(NodeId, End),
}

/// The far end of a link.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// A factory.
    Factory(NodeId),
    /// All sites in a country.
    Country(Country),
}

/// What a loss does to a factory, as seen from a home.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Touch {
    /// Nothing.
    Stays,
    /// It keeps this part of its accelerators, in millionths.
    Shrinks(u64),
    /// It is gone.
    Goes,
    /// It is gone, because no believed fact rules it out.
    Assumed,
}

/// Why a text names no loss.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` names nothing that can drop out: {allowed}")]
pub struct LossError {
    text: String,
    allowed: String,
}

const FORMS: &str = "write `vendor=…`, `operator=…`, `country=…`, `jurisdiction=…`, `factory=…` or `link=HOME/FACTORY`";

impl Loss {
    /// Reads `vendor=nvidia`, `operator=Seine Calcul`, `country=FR`, `jurisdiction=US`, `factory=paris`, `link=bank-home/paris` or
    /// `link=bank-home/FR`.
    pub fn parse(text: &str) -> Result<Self, LossError> {
        let wrong = |allowed: String| LossError { text: text.chars().take(128).collect(), allowed };
        let Some((kind, name)) = text.split_once('=') else { return Err(wrong(FORMS.to_owned())) };
        let vendors =
            || format!("vendors are {}", Vendor::all().iter().map(Vendor::as_str).collect::<Vec<_>>().join(", "));
        let country = |code: &str| {
            Country::try_from(code.to_owned())
                .map_err(|_| wrong("countries are ISO 3166-1 alpha-2 codes, such as `FR`".to_owned()))
        };
        let node = |name: &str| NodeId::parse(name).map_err(|e| wrong(e.to_string()));
        match kind {
            "vendor" => Vendor::parse(name).map(Self::Vendor).map_err(|_| wrong(vendors())),
            "operator" if !name.trim().is_empty() => Ok(Self::Operator(name.trim().to_owned())),
            "operator" => Err(wrong("name the operator as its fact does".to_owned())),
            "country" => country(name).map(Self::Country),
            "jurisdiction" => country(name).map(Self::Jurisdiction),
            "factory" => node(name).map(Self::Factory),
            "link" => {
                let (home, end) = name.split_once('/').ok_or_else(|| {
                    wrong("a link is `HOME/FACTORY` or `HOME/COUNTRY`, such as `bank-home/paris`".to_owned())
                })?;
                let far = match country(end) {
                    Ok(country) => End::Country(country),
                    Err(_) => End::Factory(node(end)?),
                };
                Ok(Self::Link(node(home)?, far))
            }
            _ => Err(wrong(FORMS.to_owned())),
        }
    }

    /// What it does to a factory with this profile, for a home.
    pub fn touches(&self, home: &NodeId, factory: &NodeId, profile: &Profile) -> Touch {
        match self {
            Self::Vendor(vendor) => of_vendor(*vendor, profile),
            Self::Operator(name) => of_operator(name, profile),
            Self::Country(country) | Self::Link(_, End::Country(country)) => {
                if matches!(self, Self::Link(from, _) if from != home) {
                    return Touch::Stays;
                }
                in_country(*country, profile)
            }
            Self::Jurisdiction(country) => under(*country, profile),
            Self::Factory(gone) => goes(gone == factory),
            Self::Link(from, End::Factory(far)) => goes(from == home && far == factory),
        }
    }
}

impl std::fmt::Display for Loss {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Vendor(vendor) => write!(f, "vendor={}", vendor.as_str()),
            Self::Operator(name) => write!(f, "operator={name}"),
            Self::Country(country) => write!(f, "country={country}"),
            Self::Jurisdiction(country) => write!(f, "jurisdiction={country}"),
            Self::Factory(factory) => write!(f, "factory={factory}"),
            Self::Link(home, End::Factory(factory)) => write!(f, "link={home}/{factory}"),
            Self::Link(home, End::Country(country)) => write!(f, "link={home}/{country}"),
        }
    }
}

/// All losses together.
pub fn touched(losses: &[Loss], home: &NodeId, factory: &NodeId, profile: &Profile) -> Touch {
    let mut left_ppm = 1_000_000;
    let mut assumed = false;
    for loss in losses {
        match loss.touches(home, factory, profile) {
            Touch::Stays => {}
            Touch::Shrinks(ppm) => left_ppm = left_ppm * ppm / 1_000_000,
            Touch::Goes => return Touch::Goes,
            Touch::Assumed => assumed = true,
        }
    }
    match left_ppm {
        _ if assumed => Touch::Assumed,
        1_000_000 => Touch::Stays,
        0 => Touch::Goes,
        ppm => Touch::Shrinks(ppm),
    }
}

fn goes(gone: bool) -> Touch {
    if gone { Touch::Goes } else { Touch::Stays }
}

/// Every claim that anybody believed makes about an attribute, also where claims contradict each other.
fn said<'a>(profile: &'a Profile, attribute: &'a str) -> impl Iterator<Item = &'a Claim> {
    let held = profile.of_attribute(attribute).chain(profile.contested_of(attribute));
    held.map(|held| &held.fact.claim)
}

fn of_vendor(lost: Vendor, profile: &Profile) -> Touch {
    let (mut all, mut gone, mut known, mut named) = (0_u64, 0_u64, false, false);
    for claim in said(profile, "chips") {
        let Claim::Chip { vendor, accelerators, .. } = claim else { continue };
        known = true;
        all += u64::from(*accelerators);
        if *vendor == lost {
            named = true;
            gone += u64::from(*accelerators);
        }
    }
    match (known, named) {
        (false, _) => Touch::Assumed,
        (_, false) => Touch::Stays,
        _ => match ((all - gone) * 1_000_000).checked_div(all) {
            None | Some(0) => Touch::Goes,
            Some(ppm) => Touch::Shrinks(ppm),
        },
    }
}

fn of_operator(name: &str, profile: &Profile) -> Touch {
    let mut known = [false; 2];
    for claim in said(profile, "operator").chain(said(profile, "control")) {
        match claim {
            Claim::Operator { name: own, .. } if own == name => return Touch::Goes,
            Claim::Control { owners } if owners.iter().any(|owner| owner.name == name) => return Touch::Goes,
            Claim::Operator { .. } => known = [true, known[1]],
            Claim::Control { .. } => known = [known[0], true],
            _ => {}
        }
    }
    if known == [true, true] { Touch::Stays } else { Touch::Assumed }
}

fn in_country(lost: Country, profile: &Profile) -> Touch {
    let mut known = false;
    for claim in said(profile, "site") {
        if let Claim::Site { country, .. } = claim {
            known = true;
            if *country == lost {
                return Touch::Goes;
            }
        }
    }
    if known { Touch::Stays } else { Touch::Assumed }
}

fn under(lost: Country, profile: &Profile) -> Touch {
    let attributes = ["site", "operator", "control", "jurisdiction"];
    let named = |claim: &Claim| match claim {
        Claim::Site { country, .. } | Claim::Operator { country, .. } => *country == lost,
        Claim::Control { owners } => owners.iter().any(|owner| owner.country == lost),
        Claim::Jurisdiction { countries } => countries.contains(&lost),
        _ => false,
    };
    if attributes.iter().any(|attribute| said(profile, attribute).any(named)) {
        return Touch::Goes;
    }
    // A `jurisdiction` fact is rare; without it, these three must be known.
    let known = ["site", "operator", "control"].iter().all(|attribute| said(profile, attribute).next().is_some());
    if known { Touch::Stays } else { Touch::Assumed }
}
