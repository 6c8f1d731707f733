//! Tests of belief in a passport file: trusted issuers at their class, the factory's own word as declared, others not.
#![allow(clippy::unwrap_used)]

use ed25519_dalek::SigningKey;
use polder_core::facts::{Claim, Fact, SignedFact};
use polder_core::ids::IssuerId;
use polder_core::labels::{Closed as _, Country};

use super::*;

fn signed(issuer: &str, number: u8, country: &str) -> SignedFact {
    let claim = Claim::Site { country: Country::parse(country).unwrap(), city: "Town".to_owned() };
    let (subject, issuer) = (paris(), IssuerId::parse(issuer).unwrap());
    let fact = Fact { subject, claim, evidence: Evidence::B, issuer, from_ms: 1_000, until_ms: 2_000 };
    SignedFact::sign(fact, &SigningKey::from_bytes(&[number; 32])).unwrap()
}

fn paris() -> NodeId {
    NodeId::parse("paris").unwrap()
}

fn register(at_most: Evidence) -> TrustedIssuer {
    let key = SigningKey::from_bytes(&[1; 32]).verifying_key().to_bytes();
    TrustedIssuer { issuer: IssuerId::parse("register").unwrap(), key, at_most, kinds: None }
}

fn site(passport: &[SignedFact], trusted: Option<Vec<TrustedIssuer>>, now_ms: u64) -> Option<(String, Evidence)> {
    let profile = believed(&passport.to_vec(), &paris(), trusted, now_ms);
    profile.facts.get("site").map(|held| (held.fact.claim.words(), held.evidence))
}

#[test]
fn trust_says_which_facts_count_and_how_far() {
    let fr = |evidence| Some(("Town (FR)".to_owned(), evidence));
    let by_register = [signed("register", 1, "FR")];
    assert_eq!(site(&by_register, Some(vec![register(Evidence::B)]), 1_500), fr(Evidence::B));
    assert_eq!(site(&by_register, Some(vec![register(Evidence::C)]), 1_500), fr(Evidence::C));
    assert_eq!(site(&by_register, Some(Vec::new()), 1_500), None);
    assert_eq!(site(&by_register, None, 1_500), fr(Evidence::C));
    assert_eq!(site(&by_register, None, 2_000), None);
    // Its own word, and another's under the register's name.
    assert_eq!(site(&[signed("paris", 7, "FR")], Some(Vec::new()), 1_500), fr(Evidence::C));
    assert_eq!(site(&[signed("register", 9, "FR")], Some(vec![register(Evidence::B)]), 1_500), None);
}

#[test]
fn contradictions_leave_nothing() {
    let both = [signed("register", 1, "US"), signed("paris", 7, "FR")];
    assert_eq!(site(&both, None, 1_500), None);
    assert_eq!(site(&both, Some(vec![register(Evidence::B)]), 1_500), None);
    let mut forged = signed("register", 1, "FR");
    forged.signature[0] ^= 1;
    assert_eq!(site(&[forged], None, 1_500), None);
}

#[test]
fn the_factory_must_be_named_where_there_are_several() {
    let other = SignedFact {
        fact: Fact { subject: NodeId::parse("lyon").unwrap(), ..signed("paris", 7, "FR").fact },
        ..signed("paris", 7, "FR")
    };
    let source = |factory: Option<&str>| FactSource {
        facts: None,
        factory: factory.map(str::to_owned),
        trust: None,
        at_ms: None,
    };
    let (one, two) = (vec![signed("paris", 7, "FR")], vec![signed("paris", 7, "FR"), other]);
    assert_eq!(source(None).factory(&one).unwrap(), paris());
    assert_eq!(source(Some("paris")).factory(&two).unwrap(), paris());
    for (name, passport) in [(None, &two), (Some("rome"), &two), (None, &Vec::new())] {
        assert_eq!(source(name).factory(passport).unwrap_err().exit_code(), Exit::Usage.into());
    }
}
