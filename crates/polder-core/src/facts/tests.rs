//! Tests of belief: whatever is not signed, dated, known and uncontradicted counts as absent.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::*;
use crate::labels::Closed as _;
use crate::tests::{REGISTER, country, fact, key, node, operator, public, site, trust};

const OWN: u8 = 10;

fn signed(claim: Claim, evidence: Evidence, from_ms: u64, until_ms: u64) -> SignedFact {
    let fact = Fact { from_ms, until_ms, ..fact("paris", claim, evidence, "register") };
    SignedFact::sign(fact, &key(REGISTER)).unwrap()
}

fn own(claim: Claim, evidence: Evidence) -> SignedFact {
    SignedFact::sign(fact("paris", claim, evidence, "paris"), &key(OWN)).unwrap()
}

fn held(passport: &[SignedFact], trust: &[TrustedIssuer]) -> Vec<Held> {
    believe(&node("paris"), passport, &public(OWN), trust)
}

fn profile(passport: &[SignedFact], now_ms: u64) -> Profile {
    Profile::at(&held(passport, &[trust(Evidence::B)]), now_ms)
}

#[test]
fn facts_hold_from_their_first_instant_until_before_their_last() {
    let passport = [signed(site("FR"), Evidence::B, 1_000, 2_000)];
    for (now, holds) in [(999, false), (1_000, true), (1_999, true), (2_000, false), (u64::MAX, false)] {
        assert_eq!(profile(&passport, now).facts.contains_key("site"), holds, "at {now}");
    }
}

#[test]
fn a_profile_is_valid_until_the_next_start_or_end() {
    let passport = [signed(site("FR"), Evidence::B, 1_000, 2_000), signed(operator("FR"), Evidence::B, 1_500, 3_000)];
    for (now, next) in [(0, 1_000), (1_000, 1_500), (1_500, 2_000), (2_000, 3_000), (3_000, u64::MAX)] {
        assert_eq!(profile(&passport, now).valid_until_ms, next, "at {now}");
    }
}

#[test]
fn nobody_that_is_not_trusted_is_believed() {
    let register = signed(site("FR"), Evidence::B, 1_000, 2_000);
    assert_eq!(held(std::slice::from_ref(&register), &[]).len(), 0, "unknown signer");
    let mut forged = register.clone();
    forged.fact.claim = site("DE");
    assert_eq!(held(&[forged], &[trust(Evidence::B)]).len(), 0, "changed after signing");
    let mut stolen = register.clone();
    stolen.key = public(OWN);
    assert_eq!(held(&[stolen], &[trust(Evidence::B)]).len(), 0, "another's signature under the own key");
    let renamed = fact("paris", site("FR"), Evidence::B, "other");
    let renamed = SignedFact::sign(renamed, &key(REGISTER)).unwrap();
    assert_eq!(held(&[renamed], &[trust(Evidence::B)]).len(), 0, "the key of one issuer under another's name");
    let elsewhere = fact("munich", site("DE"), Evidence::B, "register");
    let elsewhere = SignedFact::sign(elsewhere, &key(REGISTER)).unwrap();
    assert_eq!(held(&[elsewhere], &[trust(Evidence::B)]).len(), 0, "about another factory");
    assert_eq!(held(&[register], &[trust(Evidence::B)]).len(), 1);
}

#[test]
fn a_class_is_what_both_the_issuer_and_the_owner_grant() {
    for (said, at_most, granted) in [
        (Evidence::A, Evidence::B, Evidence::B),
        (Evidence::C, Evidence::B, Evidence::C),
        (Evidence::B, Evidence::A, Evidence::B),
        (Evidence::B, Evidence::C, Evidence::C),
    ] {
        let passport = [signed(site("FR"), said, 1_000, 2_000)];
        assert_eq!(held(&passport, &[trust(at_most)])[0].evidence, granted);
    }
}

#[test]
fn a_factorys_own_word_is_class_c_whatever_it_says() {
    let passport = [own(site("FR"), Evidence::A)];
    assert_eq!(held(&passport, &[trust(Evidence::B)])[0].evidence, Evidence::C);
    let posing = SignedFact::sign(fact("paris", site("FR"), Evidence::B, "register"), &key(OWN)).unwrap();
    assert!(held(&[posing], &[trust(Evidence::B)]).is_empty(), "under the register's name");
}

#[test]
fn the_better_evidenced_of_two_that_agree_counts() {
    let passport = [own(site("FR"), Evidence::C), signed(site("FR"), Evidence::B, 1_000, 2_000)];
    let profile = profile(&passport, 1_500);
    assert_eq!(profile.facts["site"].evidence, Evidence::B);
    assert!(profile.contested.is_empty());
}

#[test]
fn facts_that_contradict_each_other_are_as_good_as_none() {
    let other = TrustedIssuer { issuer: IssuerId::parse("other").unwrap(), key: public(3), ..trust(Evidence::B) };
    let says = |code: &str| SignedFact::sign(fact("paris", site(code), Evidence::B, "other"), &key(3)).unwrap();
    let register = signed(site("FR"), Evidence::B, 1_000, 2_000);
    let at = |passport: &[SignedFact]| Profile::at(&held(passport, &[trust(Evidence::B), other.clone()]), 1_500);
    let contested = at(&[register.clone(), says("DE")]);
    assert!(contested.facts.is_empty());
    assert_eq!(contested.contested["site"].len(), 2);
    let agreed = at(&[register.clone(), says("FR")]);
    assert!(agreed.facts.contains_key("site") && agreed.contested.is_empty());
    // A third word does not settle a quarrel, and even the factory's own starts one.
    assert!(at(&[register.clone(), says("DE"), own(site("FR"), Evidence::C)]).facts.is_empty());
    assert!(at(&[register.clone(), own(site("DE"), Evidence::C)]).facts.is_empty());
    // Another spelling of the town is no quarrel.
    let town = Claim::Site { country: country("FR"), city: "Lutetia".to_owned() };
    assert!(at(&[register, own(town, Evidence::C)]).contested.is_empty());
}

#[test]
fn an_issuers_later_word_replaces_its_earlier_one() {
    let earlier = signed(site("FR"), Evidence::B, 1_000, 2_000);
    let later = signed(site("DE"), Evidence::B, 1_400, 3_000);
    for passport in [[earlier.clone(), later.clone()], [later.clone(), earlier.clone()]] {
        assert_eq!(profile(&passport, 1_399).facts["site"].fact.claim, site("FR"));
        assert_eq!(profile(&passport, 1_400).facts["site"].fact.claim, site("DE"));
        assert_eq!(profile(&passport, 2_500).facts["site"].fact.claim, site("DE"));
    }
}

#[test]
fn different_certificates_do_not_contradict_each_other() {
    let certificate = |scheme| signed(Claim::Certification { scheme }, Evidence::B, 1_000, 2_000);
    let clearance = |code: &str| signed(Claim::Clearance { country: country(code) }, Evidence::B, 1_000, 2_000);
    let passport =
        [certificate(Certification::Hds), certificate(Certification::Iso27001), clearance("FR"), clearance("DE")];
    let profile = profile(&passport, 1_500);
    assert_eq!(profile.of_attribute("certifications").count(), 2);
    assert_eq!(profile.of_attribute("clearances").count(), 2);
}

#[test]
fn roots_do_not_depend_on_order_and_change_with_every_fact() {
    let a = signed(site("FR"), Evidence::B, 1_000, 2_000);
    let b = signed(operator("FR"), Evidence::B, 1_000, 2_000);
    let both = passport_root(&[a.clone(), b.clone()]).unwrap();
    assert_eq!(both, passport_root(&[b.clone(), a.clone()]).unwrap());
    assert_ne!(both, passport_root(&[a]).unwrap());
    assert_ne!(both, passport_root(&[b]).unwrap());
    let one = facts_root(&[(node("paris"), both)].into());
    assert_ne!(one, facts_root(&[(node("munich"), both)].into()));
}

#[test]
fn claims_are_read_in_their_own_shape_only() {
    let read = |text: &str| serde_json::from_str::<Claim>(text);
    assert!(read(r#"{"kind":"site","country":"FR","city":"Paris"}"#).is_ok());
    for wrong in [
        r#"{"kind":"site","country":"fr","city":"Paris"}"#,
        r#"{"kind":"site","country":"XX","city":"Paris"}"#,
        r#"{"kind":"site","country":"FR"}"#,
        r#"{"kind":"site","country":"FR","city":"Paris","mayor":"x"}"#,
        r#"{"kind":"moon"}"#,
    ] {
        assert!(read(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn an_issuer_is_believed_only_in_what_it_is_trusted_for() {
    let sites_only = TrustedIssuer { kinds: Some([Kind::Site].into()), ..trust(Evidence::B) };
    let passport = [signed(site("FR"), Evidence::B, 1_000, 2_000), signed(operator("FR"), Evidence::B, 1_000, 2_000)];
    let found = held(&passport, std::slice::from_ref(&sites_only));
    assert_eq!(found.iter().map(|one| one.fact.claim.kind()).collect::<Vec<_>>(), [Kind::Site]);
}

#[test]
fn claims_that_cannot_be_true_count_for_nothing() {
    let countries = BTreeSet::new;
    let energy = |renewable_percent, carbon_g_per_kwh, pue_percent| Claim::Energy {
        renewable_percent,
        carbon_g_per_kwh,
        pue_percent,
    };
    let owner = Owner { name: "Owner".to_owned(), country: country("FR"), share_ppm: SHARE_PPM_MAX + 1 };
    let chip = |memory_gib| Claim::Chip {
        vendor: Vendor::Amd,
        origin: country("US"),
        accelerators: 1,
        capability: Some(Capability { precisions: BTreeSet::new(), memory_gib }),
    };
    for wrong in [
        energy(101, 0, 100),
        energy(0, CARBON_G_PER_KWH_MAX + 1, 100),
        energy(0, 0, 99),
        energy(0, 0, 501),
        Claim::Jurisdiction { countries: countries() },
        Claim::Personnel { countries: countries() },
        Claim::Control { owners: vec![owner; 65] },
        Claim::Control { owners: control_above_the_whole() },
        Claim::Site { country: country("FR"), city: "x".repeat(201) },
        chip(0),
        chip(MEMORY_GIB_MAX + 1),
    ] {
        assert!(
            held(&[signed(wrong.clone(), Evidence::B, 1_000, 2_000)], &[trust(Evidence::B)]).is_empty(),
            "{wrong:?}"
        );
    }
    assert_eq!(held(&[signed(energy(100, 0, 100), Evidence::B, 1_000, 2_000)], &[trust(Evidence::B)]).len(), 1);
}

fn control_above_the_whole() -> Vec<Owner> {
    vec![Owner { name: "Owner".to_owned(), country: country("FR"), share_ppm: SHARE_PPM_MAX + 1 }]
}

#[test]
fn every_fact_has_a_standing_with_its_reason() {
    let stranger = SignedFact::sign(fact("paris", operator("FR"), Evidence::B, "stranger"), &key(9)).unwrap();
    let elsewhere = SignedFact::sign(fact("munich", site("DE"), Evidence::B, "register"), &key(REGISTER)).unwrap();
    let posing = SignedFact::sign(fact("paris", operator("FR"), Evidence::B, "register"), &key(OWN)).unwrap();
    let mut forged = signed(operator("FR"), Evidence::B, 1_000, 2_000);
    forged.fact.claim = operator("DE");
    let untrusted_kind = signed(Claim::Clearance { country: country("FR") }, Evidence::B, 1_000, 2_000);
    let passport = [
        signed(site("FR"), Evidence::B, 1_000, 2_000),
        own(site("FR"), Evidence::C),
        stranger,
        elsewhere,
        posing,
        forged,
        untrusted_kind,
        signed(operator("FR"), Evidence::B, 1_600, 2_000),
        signed(operator("FR"), Evidence::B, 1_000, 1_400),
        signed(crate::tests::control(&["FR"]), Evidence::B, 1_000, 2_000),
        own(crate::tests::control(&["US"]), Evidence::C),
        signed(site("DE"), Evidence::B, 900, 2_000),
        signed(operator("FR"), Evidence::B, 1_300, 1_300),
    ];
    let all_but_clearances = Kind::all().into_iter().filter(|kind| *kind != Kind::Clearance).collect();
    let trust = TrustedIssuer { kinds: Some(all_but_clearances), ..trust(Evidence::B) };
    let found = standings(&node("paris"), &passport, &public(OWN), &[trust], 1_500);
    let counts: Vec<Result<Evidence, Ignored>> = found.into_iter().map(|one| one.counts).collect();
    let expected = [
        Ok(Evidence::B),
        Err(Ignored::Weaker),
        Err(Ignored::Issuer),
        Err(Ignored::OtherSubject),
        Err(Ignored::AnothersName),
        Err(Ignored::Signature),
        Err(Ignored::Kind),
        Err(Ignored::NotYet),
        Err(Ignored::Expired),
        Err(Ignored::Contested),
        Err(Ignored::Contested),
        Err(Ignored::Replaced),
        Err(Ignored::NeverHolds),
    ];
    assert_eq!(counts, expected);
    let long = vec![signed(site("FR"), Evidence::B, 1_000, 2_000); FACTS_MAX + 1];
    assert!(held(&long, &[trust_all()]).is_empty());
    assert!(
        standings(&node("paris"), &long, &public(OWN), &[trust_all()], 1_500)
            .iter()
            .all(|one| one.counts == Err(Ignored::TooMany))
    );
}

fn trust_all() -> TrustedIssuer {
    trust(Evidence::B)
}
