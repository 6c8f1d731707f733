//! Standings: what becomes of each fact of a passport at an instant, and why, for whoever wonders.
//!
//! It says the same as [`super::believe`] and [`Profile`] together, fact by fact. Deciding anything is absent.

use super::{ClaimError, Evidence, FACTS_MAX, Held, Profile, SignedFact, TrustedIssuer, weigh};
use crate::ids::NodeId;

/// Why a fact counts for nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Ignored {
    /// It speaks of someone else.
    #[error("it is about another factory")]
    OtherSubject,
    /// Nobody that the owner trusts signed it.
    #[error("its issuer and key are not among those trusted")]
    Issuer,
    /// The factory signed it under someone else's name.
    #[error("the factory signed it in another's name")]
    AnothersName,
    /// The issuer is trusted, for other things.
    #[error("its issuer is not trusted for this kind of fact")]
    Kind,
    /// Numbers or lists that cannot be.
    #[error("{0}")]
    Claim(ClaimError),
    /// It ends before it begins.
    #[error("it ends before it begins")]
    NeverHolds,
    /// The signature is not the key's.
    #[error("its signature does not hold")]
    Signature,
    /// The passport is longer than what is read.
    #[error("its passport has more than {FACTS_MAX} facts, so none is read")]
    TooMany,
    /// It begins later.
    #[error("it does not hold yet")]
    NotYet,
    /// It has ended.
    #[error("it has expired")]
    Expired,
    /// Its issuer has said something newer.
    #[error("its issuer has replaced it")]
    Replaced,
    /// Another fact contradicts it.
    #[error("another fact contradicts it, so neither counts")]
    Contested,
    /// A better evidenced fact says the same.
    #[error("a better evidenced fact says the same")]
    Weaker,
}

/// What becomes of one fact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing<'a> {
    /// The fact.
    pub signed: &'a SignedFact,
    /// The class that it counts at, or why it counts for nothing.
    pub counts: Result<Evidence, Ignored>,
}

/// What becomes of each fact of a passport at an instant, in the passport's order. The arguments are those of
/// [`super::believe`], and the instant in Unix milliseconds.
pub fn standings<'a>(
    subject: &NodeId,
    passport: &'a [SignedFact],
    own: &[u8; 32],
    trust: &[TrustedIssuer],
    now_ms: u64,
) -> Vec<Standing<'a>> {
    if passport.len() > FACTS_MAX {
        return passport.iter().map(|signed| Standing { signed, counts: Err(Ignored::TooMany) }).collect();
    }
    let weighed: Vec<Result<Held, Ignored>> =
        passport.iter().map(|signed| weigh(subject, signed, own, trust)).collect();
    let held: Vec<Held> = weighed.iter().filter_map(|one| one.as_ref().ok()).cloned().collect();
    let profile = Profile::at(&held, now_ms);
    let standing = |(signed, weighed): (&'a SignedFact, Result<Held, Ignored>)| Standing {
        signed,
        counts: weighed.and_then(|held| placed(&held, &profile, now_ms)),
    };
    passport.iter().zip(weighed).map(standing).collect()
}

fn placed(held: &Held, profile: &Profile, now_ms: u64) -> Result<Evidence, Ignored> {
    if held.fact.from_ms > now_ms {
        return Err(Ignored::NotYet);
    }
    if held.fact.until_ms <= now_ms {
        return Err(Ignored::Expired);
    }
    let slot = held.fact.claim.slot();
    if let Some(contested) = profile.contested.get(&slot) {
        let still = contested.iter().any(|one| one.digest == held.digest);
        return Err(if still { Ignored::Contested } else { Ignored::Replaced });
    }
    match profile.facts.get(&slot) {
        Some(chosen) if chosen.digest == held.digest => Ok(held.evidence),
        Some(chosen) if chosen.fact.issuer == held.fact.issuer && chosen.key == held.key => Err(Ignored::Replaced),
        _ => Err(Ignored::Weaker),
    }
}
