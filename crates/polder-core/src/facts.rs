//! Facts: signed, dated, expiring statements about a factory, and what may be believed of them at an instant.
//!
//! Unknown means absent, expired means absent, an unknown signer means absent, and two equally strong facts
//! that contradict each other mean absent; absent means no. What policies read is the [`Profile`] of a factory:
//! the strongest fact of each kind, with the attributes that Cedar cannot compute derived here.
//! Reading files and asking clocks is absent: the instant is an argument.

use std::collections::{BTreeMap, BTreeSet};

use ed25519_dalek::{SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};

use crate::canonical::{self, CanonicalError, Digest, bytes_as_hex};
use crate::ids::{IssuerId, NodeId};
use crate::keys;
use crate::labels::{Closed, Country};
use crate::merkle;

const FACT_DOMAIN: &str = "polder/fact/v1";

/// How well a fact is evidenced, from weak to strong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Evidence {
    /// Declared by the operator.
    C,
    /// Signed by a third party whose key the owner trusts.
    B,
    /// Measured by the protocol.
    A,
}

/// Who makes a chip.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)] // The variants are the vendors' own names.
pub enum Vendor {
    Amd,
    Axelera,
    Cerebras,
    Google,
    Graphcore,
    Huawei,
    Intel,
    Nvidia,
    Openchip,
    Qualcomm,
    Sipearl,
    Tenstorrent,
    Vsora,
    Other,
}

/// A scheme that a site or operator is certified under.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)] // The variants are the schemes' own names.
pub enum Certification {
    #[serde(rename = "iso-27001")]
    Iso27001,
    #[serde(rename = "iso-42001")]
    Iso42001,
    #[serde(rename = "en-50600")]
    En50600,
    Secnumcloud,
    BsiC5,
    EnsHigh,
    Hds,
}

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
}

/// One dated, expiring statement about one factory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fact {
    /// The factory it is about.
    pub subject: NodeId,
    /// What it says.
    pub claim: Claim,
    /// How well it is evidenced, as the issuer says; what an owner believes may be less.
    pub evidence: Evidence,
    /// Who says so.
    pub issuer: IssuerId,
    /// First instant at which it holds, in Unix milliseconds.
    pub from_ms: u64,
    /// First instant at which it no longer holds, in Unix milliseconds.
    pub until_ms: u64,
}

/// A fact and its issuer's Ed25519 signature over `polder/fact/v1`, a zero byte and the fact's canonical JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedFact {
    /// The statement.
    pub fact: Fact,
    /// The issuer's public key.
    #[serde(with = "bytes_as_hex")]
    pub key: [u8; 32],
    /// The signature.
    #[serde(with = "bytes_as_hex")]
    pub signature: [u8; 64],
}

/// A factory's facts.
pub type Passport = Vec<SignedFact>;

/// An issuer that an owner trusts, and how far.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustedIssuer {
    /// The issuer's name.
    pub issuer: IssuerId,
    /// Its public key.
    #[serde(with = "bytes_as_hex")]
    pub key: [u8; 32],
    /// The strongest evidence class that is taken from it.
    pub at_most: Evidence,
}

/// A fact that an owner believes, at the class it believes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// The statement.
    pub fact: Fact,
    /// The class that the owner grants it.
    pub evidence: Evidence,
    /// The digest of the signed statement.
    pub digest: Digest,
}

impl SignedFact {
    /// Signs a fact.
    pub fn sign(fact: Fact, key: &SigningKey) -> Result<Self, CanonicalError> {
        let signature = keys::sign(FACT_DOMAIN, &fact, key)?;
        Ok(Self { fact, key: key.verifying_key().to_bytes(), signature })
    }

    /// Whether the signature is the key's.
    pub fn is_signed(&self) -> bool {
        let Ok(key) = VerifyingKey::from_bytes(&self.key) else { return false };
        keys::is_signed(FACT_DOMAIN, &self.fact, &key, &self.signature)
    }
}

/// The facts of a passport that an owner believes. `own` is the factory's authority key: what it signs is declared,
/// class C, whatever it says. A trusted issuer's facts hold at its class at most; all others are left out.
pub fn believe(subject: &NodeId, passport: &[SignedFact], own: &[u8; 32], trust: &[TrustedIssuer]) -> Vec<Held> {
    let mut held = Vec::new();
    for signed in passport.iter().filter(|signed| signed.fact.subject == *subject) {
        let issuer = trust.iter().find(|t| t.key == signed.key && t.issuer == signed.fact.issuer);
        let at_most = match issuer {
            Some(issuer) => issuer.at_most,
            None if signed.key == *own => Evidence::C,
            None => continue,
        };
        let Ok(digest) = canonical::digest("polder/signed-fact/v1", signed) else { continue };
        if signed.is_signed() {
            let evidence = signed.fact.evidence.min(at_most);
            held.push(Held { fact: signed.fact.clone(), evidence, digest });
        }
    }
    held
}

/// The root over a passport: RFC 9162 over the digests of its signed facts, in ascending order.
pub fn passport_root(passport: &[SignedFact]) -> Result<Digest, CanonicalError> {
    let digests = passport.iter().map(|signed| canonical::digest("polder/signed-fact/v1", signed));
    let digests: BTreeSet<Digest> = digests.collect::<Result<_, _>>()?;
    Ok(merkle::root_of(digests.iter().map(|digest| digest.0.as_slice())))
}

/// The root over several factories' facts: RFC 9162 over name, zero byte and passport root, in name order.
pub fn facts_root(roots: &BTreeMap<NodeId, Digest>) -> Digest {
    let leaves: Vec<Vec<u8>> =
        roots.iter().map(|(node, root)| [node.as_str().as_bytes(), &[0], &root.0].concat()).collect();
    merkle::root_of(leaves.iter().map(Vec::as_slice))
}

/// What may be believed of a factory at one instant: the strongest fact of each kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Profile {
    /// The chosen facts, by their slot (`site`, `control`, `certification/iso-27001` …).
    pub facts: BTreeMap<String, Held>,
    /// Slots that are empty because equally strong facts contradict each other.
    pub contested: BTreeSet<String>,
    /// First instant after the given one at which this profile may change; `u64::MAX` where none is known.
    pub valid_until_ms: u64,
}

impl Profile {
    /// The profile at an instant, in Unix milliseconds.
    pub fn at(held: &[Held], now_ms: u64) -> Self {
        let mut profile = Self { valid_until_ms: u64::MAX, ..Self::default() };
        let mut slots: BTreeMap<String, Vec<&Held>> = BTreeMap::new();
        for one in held {
            let Fact { from_ms, until_ms, .. } = one.fact;
            if let Some(next) = [from_ms, until_ms].into_iter().filter(|t| *t > now_ms).min() {
                profile.valid_until_ms = profile.valid_until_ms.min(next);
            }
            if from_ms <= now_ms && now_ms < until_ms {
                slots.entry(one.fact.claim.slot()).or_default().push(one);
            }
        }
        for (slot, candidates) in slots {
            match strongest(&candidates) {
                Some(one) => drop(profile.facts.insert(slot, one.clone())),
                None => drop(profile.contested.insert(slot)),
            }
        }
        profile
    }

    /// The facts whose slot is `kind` or begins with `kind/`.
    pub fn of_kind<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Held> {
        self.facts.values().filter(move |held| held.fact.claim.kind() == kind)
    }
}

/// The strongest of several facts about the same thing; `None` where the strongest contradict each other.
/// An issuer's later statement replaces its earlier one.
fn strongest<'a>(candidates: &[&'a Held]) -> Option<&'a Held> {
    let top = candidates.iter().map(|held| held.evidence).max()?;
    let mut latest: BTreeMap<&IssuerId, &'a Held> = BTreeMap::new();
    for held in candidates.iter().filter(|held| held.evidence == top) {
        let entry = latest.entry(&held.fact.issuer).or_insert(held);
        if (held.fact.from_ms, held.digest) > (entry.fact.from_ms, entry.digest) {
            *entry = held;
        }
    }
    let mut rest = latest.into_values();
    let first = rest.next()?;
    rest.all(|held| held.fact.claim == first.fact.claim).then_some(first)
}

impl Claim {
    /// What the claim is about: the name of the attribute that policies read.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Site { .. } => "site",
            Self::Operator { .. } => "operator",
            Self::Control { .. } => "control",
            Self::Chip { .. } => "chips",
            Self::Certification { .. } => "certifications",
            Self::Clearance { .. } => "clearances",
        }
    }

    /// The slot that the claim fills: facts of one slot replace or contradict each other.
    pub fn slot(&self) -> String {
        match self {
            Self::Site { .. } | Self::Operator { .. } | Self::Control { .. } => self.kind().to_owned(),
            Self::Chip { vendor, .. } => format!("{}/{}", self.kind(), vendor.as_str()),
            Self::Certification { scheme } => format!("{}/{}", self.kind(), scheme.as_str()),
            Self::Clearance { country } => format!("{}/{country}", self.kind()),
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
            Self::Chip { vendor, origin, accelerators } => {
                format!("{accelerators} from {} ({origin})", vendor.as_str())
            }
            Self::Certification { scheme } => scheme.as_str().to_owned(),
            Self::Clearance { country } => format!("people cleared by {country}"),
        }
    }
}

impl Closed for Evidence {
    const NAME: &'static str = "evidence class";
    fn all() -> Vec<Self> {
        vec![Self::C, Self::B, Self::A]
    }
    fn as_str(&self) -> &'static str {
        match self {
            Self::C => "C",
            Self::B => "B",
            Self::A => "A",
        }
    }
}

impl Closed for Vendor {
    const NAME: &'static str = "chip vendor";
    fn all() -> Vec<Self> {
        use Vendor::*;
        vec![
            Amd, Axelera, Cerebras, Google, Graphcore, Huawei, Intel, Nvidia, Openchip, Qualcomm, Sipearl, Tenstorrent,
            Vsora, Other,
        ]
    }
    fn as_str(&self) -> &'static str {
        const NAMES: &[&str] = &[
            "amd", "axelera", "cerebras", "google", "graphcore", "huawei", "intel", "nvidia", "openchip", "qualcomm",
            "sipearl", "tenstorrent", "vsora", "other",
        ];
        NAMES.get(*self as usize).copied().unwrap_or("other")
    }
}

impl Closed for Certification {
    const NAME: &'static str = "certification";
    fn all() -> Vec<Self> {
        use Certification::*;
        vec![Iso27001, Iso42001, En50600, Secnumcloud, BsiC5, EnsHigh, Hds]
    }
    fn as_str(&self) -> &'static str {
        match self {
            Self::Iso27001 => "iso-27001",
            Self::Iso42001 => "iso-42001",
            Self::En50600 => "en-50600",
            Self::Secnumcloud => "secnumcloud",
            Self::BsiC5 => "bsi-c5",
            Self::EnsHigh => "ens-high",
            Self::Hds => "hds",
        }
    }
}

#[cfg(test)]
mod tests;
