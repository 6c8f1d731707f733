//! Changes of facts, each in a world of its own: what is advised, and that signing it in earnest helps.
//!
//! That nothing is missing and nothing superfluous is held in random worlds: see `relax`.

use super::*;
use crate::facts::SignedFact;
use crate::tests::{REGISTER, control, fact, key, operator};

/// What a decision advises at one factory: each set by its changes' names and classes, with its distance.
fn advice(decision: &Decision, factory: &str) -> Vec<(Vec<String>, u64)> {
    let name = |change: &Change| match change {
        Change::Rule { rule, .. } => rule.clone(),
        Change::Fact { fact } => {
            let from = fact.from.map_or("-", |class| class.as_str());
            format!("{} {from}{}", fact.slot, fact.to.as_str())
        }
    };
    let at = decision.nearest.iter().filter(|one| one.factory.as_str() == factory);
    at.map(|one| (one.changes.iter().map(name).collect(), one.distance)).collect()
}

/// The site's own word, class C, in the place of what the register says.
fn declared(mut site: Site, claims: &[Claim]) -> Site {
    for claim in claims {
        site.passport.retain(|signed| signed.fact.claim.slot() != claim.slot());
        let fact = fact(&site.name, claim.clone(), Evidence::B, &site.name);
        site.passport.push(SignedFact::sign(fact, &key(site.authority)).unwrap());
    }
    site
}

/// The register signs what the site says.
fn attested(mut site: Site, claims: &[Claim]) -> Site {
    for claim in claims {
        let fact = fact(&site.name, claim.clone(), Evidence::B, "register");
        site.passport.push(SignedFact::sign(fact, &key(REGISTER)).unwrap());
    }
    site
}

const ISO: Claim = Claim::Certification { scheme: Certification::Iso27001 };

#[test]
fn a_declared_certificate_would_have_to_be_attested() {
    let site = declared(Site::new("a", "FR", "FR", 1), &[ISO]);
    let decision = World::new(BANK, vec![site.clone()]).decide(&customer());
    let give_up = (vec!["customer-data-certified".to_owned()], 11);
    assert_eq!(advice(&decision, "a"), [give_up.clone(), (vec!["certifications/iso-27001 CB".to_owned()], 1_200)]);
    assert_eq!(chosen(&World::new(BANK, vec![attested(site.clone(), &[ISO])]).decide(&customer())), Some("a"));
    // Where there is none, one would have to be had; of other schemes the rule says nothing.
    let decision = World::new(BANK, vec![site.without("certifications")]).decide(&customer());
    assert_eq!(advice(&decision, "a"), [give_up, (vec!["certifications/iso-27001 -B".to_owned()], 1_200)]);
}

#[test]
fn control_is_only_as_well_known_as_the_operator() {
    let (owners, who) = (control(&["FR"]), operator("FR"));
    let site = declared(Site::new("a", "FR", "FR", 1), &[owners.clone(), who.clone()]);
    let decision = World::new(BANK, vec![site.clone()]).decide(&customer());
    let both = vec!["control CB".to_owned(), "operator CB".to_owned()];
    assert_eq!(advice(&decision, "a")[0], (both, 2_400), "one change serves the baseline, too: {:?}", decision.nearest);
    assert_eq!(chosen(&World::new(BANK, vec![attested(site, &[owners, who])]).decide(&customer())), Some("a"));
}

#[test]
fn a_contradiction_would_have_to_be_settled() {
    let site = Site::new("a", "FR", "FR", 1);
    let mut both = declared(site.clone(), &[control(&["US"])]);
    both.passport.extend(site.passport.into_iter().filter(|signed| signed.fact.claim.slot() == "control"));
    let decision = World::new(BANK, vec![both]).decide(&customer());
    assert_eq!(advice(&decision, "a")[0], (vec!["control -B".to_owned()], 1_200));
    let Change::Fact { fact } = &decision.nearest[0].changes[0] else { panic!("{:?}", decision.nearest) };
    assert_eq!((fact.says.as_deref(), fact.issuer.as_ref().unwrap().as_str()), (Some("Owner (FR)"), "register"));
}

#[test]
fn what_nobody_says_is_not_made_up() {
    let decision = World::new(BANK, vec![Site::new("a", "FR", "FR", 1).without("control")]).decide(&customer());
    assert_eq!(advice(&decision, "a"), [(vec!["customer-data-under-eu-control".to_owned()], 10_000)]);
}

#[test]
fn facts_may_be_needed_together() {
    let owner = format!(
        "{OPEN}\n@id(\"both\")\n@reason(\"test\")\nforbid (principal, action, resource) unless {{ \
         resource.certifications.attested.containsAll([Certification::\"secnumcloud\", Certification::\"hds\"]) }};"
    );
    let site = Site::new("a", "FR", "FR", 1);
    let decision = World::new(&owner, vec![site.clone()]).decide(&public());
    let two = vec!["certifications/hds -B".to_owned(), "certifications/secnumcloud -B".to_owned()];
    assert_eq!(advice(&decision, "a"), [(two, 2_400), (vec!["both".to_owned()], 10_000)]);
}

#[test]
fn no_facts_are_sought_where_waiting_helps() {
    let sites =
        vec![Site::new("a", "FR", "FR", 1).unavailable(NO_CAPACITY), declared(Site::new("b", "FR", "FR", 1), &[ISO])];
    let decision = World::new(BANK, sites).decide(&customer());
    assert_eq!(decision.outcome, Outcome::NoCapacity);
    assert_eq!(decision.nearest.iter().map(|one| one.distance).collect::<Vec<_>>(), [1, 11]);
}

#[test]
fn changes_read_as_documented() {
    let rule = Change::Rule { layer: LayerKind::Owner, rule: "r".to_owned() };
    let site = declared(Site::new("a", "FR", "FR", 1), &[ISO]);
    let decision = World::new(BANK, vec![site]).decide(&customer());
    let fact = decision.nearest[1].changes[0].clone();
    let texts =
        [r#"{"layer":"owner","rule":"r"}"#, r#"{"fact":{"slot":"certifications/iso-27001","from":"C","to":"B"}}"#];
    for (change, text) in [rule, fact].iter().zip(texts) {
        assert_eq!(serde_json::to_string(change).unwrap(), text);
        assert_eq!(serde_json::from_str::<Change>(text).unwrap(), *change);
    }
    assert!(serde_json::from_str::<Change>(r#"{"layer":"owner","rule":"r","more":1}"#).is_err());
}

#[test]
fn a_refusal_by_many_names_facts_within_its_tries() {
    // Refused by nearly all rules of the bank and the baseline; only the best-priced are looked into.
    let claims = [crate::tests::site("FR"), operator("FR"), control(&["FR"]), ISO];
    let site = |n: u64| declared(Site::new(&format!("f{n}"), "FR", "FR", n), &claims);
    let decision = World::new(BANK, (10..50).map(site).collect()).decide(&customer());
    assert_eq!(decision.nearest.len(), NEAREST_MAX);
    let named: Vec<&str> = decision.nearest.iter().map(|one| one.factory.as_str()).collect();
    assert_eq!(named[0], "f10", "{:?}", decision.nearest);
    assert!(decision.nearest.iter().any(changes_a_fact), "{:?}", decision.nearest);
}
