//! Facts: signed, dated, expiring statements about a factory, and what may be believed of them at an instant.
//!
//! Unknown means absent, expired means absent, an unknown signer means absent, and facts that contradict each other
//! mean absent, however well evidenced; absent means no. What policies read is the [`Profile`] of a factory: the
//! strongest fact of each slot. Reading files and asking clocks is absent: the instant is an argument.

use std::collections::{BTreeMap, BTreeSet};

use ed25519_dalek::{SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};

use crate::canonical::{self, CanonicalError, Digest, bytes_as_hex};
use crate::ids::{IssuerId, NodeId};
use crate::keys;
use crate::merkle;

mod claim;
mod lists;
mod profile;
mod standing;
mod trust;

pub use claim::{
    CARBON_G_PER_KWH_MAX, Capability, Claim, ClaimError, MEMORY_GIB_MAX, Owner, PUE_PERCENT, SHARE_PPM_MAX,
};
pub use lists::{Certification, Evidence, Kind, Licence, Precision, Vendor};
pub use profile::Profile;
pub use standing::{Ignored, Standing, standings};
pub use trust::{MemberKey, Trust};

const FACT_DOMAIN: &str = "polder/fact/v1";
/// Most facts that a passport may have; of a longer one nothing is believed.
pub const FACTS_MAX: usize = 4_096;

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
    /// The kinds of facts that it is trusted for; all of them where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kinds: Option<BTreeSet<Kind>>,
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
    /// The key that signed it.
    #[serde(with = "bytes_as_hex")]
    pub key: [u8; 32],
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

/// The facts of a passport that an owner believes. `own` is the factory's authority key: what it signs, in its own
/// name, is declared, class C, whatever it says. A trusted issuer's facts hold at its class at most; all others are
/// left out, and so is a whole passport of more than [`FACTS_MAX`].
pub fn believe(subject: &NodeId, passport: &[SignedFact], own: &[u8; 32], trust: &[TrustedIssuer]) -> Vec<Held> {
    if passport.len() > FACTS_MAX {
        return Vec::new();
    }
    passport.iter().filter_map(|signed| weigh(subject, signed, own, trust).ok()).collect()
}

/// One fact at the class that an owner grants it, or why it counts for nothing whatever the time.
fn weigh(subject: &NodeId, signed: &SignedFact, own: &[u8; 32], trust: &[TrustedIssuer]) -> Result<Held, Ignored> {
    let SignedFact { fact, key, .. } = signed;
    if fact.subject != *subject {
        return Err(Ignored::OtherSubject);
    }
    let at_most = match trust.iter().find(|one| one.key == *key && one.issuer == fact.issuer) {
        Some(TrustedIssuer { kinds: Some(kinds), .. }) if !kinds.contains(&fact.claim.kind()) => {
            return Err(Ignored::Kind);
        }
        Some(issuer) => issuer.at_most,
        None if key != own => return Err(Ignored::Issuer),
        None if fact.issuer.as_str() != subject.as_str() => return Err(Ignored::AnothersName),
        None => Evidence::C,
    };
    fact.claim.check().map_err(Ignored::Claim)?;
    if fact.from_ms >= fact.until_ms {
        return Err(Ignored::NeverHolds);
    }
    if !signed.is_signed() {
        return Err(Ignored::Signature);
    }
    let digest = canonical::digest("polder/signed-fact/v1", signed).map_err(|_| Ignored::Signature)?;
    Ok(Held { fact: fact.clone(), evidence: fact.evidence.min(at_most), digest, key: *key })
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

#[cfg(test)]
mod tests;
