//! Tests of the description: the demo's own is read whole, and every fault is named with its place.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use super::*;
use polder_core::facts::{Profile, believe};

const DEMO: &str = include_str!("../../../../demo/federation.toml");

fn any_text(path: &str) -> Option<&'static str> {
    (!path.contains("missing")).then_some("permit (principal, action, resource);")
}

fn demo() -> Federation {
    Federation::parse("federation.toml", DEMO, any_text).unwrap()
}

fn keys(federation: &Federation) -> FederationKeys {
    let key = |seed: u8| SigningKey::from_bytes(&[seed; 32]);
    FederationKeys {
        issuers: federation.issuers.iter().map(|issuer| (issuer.id.clone(), key(1))).collect(),
        factories: (2..).zip(&federation.factories).map(|(seed, one)| (one.id.clone(), key(seed))).collect(),
    }
}

#[test]
fn the_demo_is_read_whole() {
    let demo = demo();
    let factories: Vec<&str> = demo.factories.iter().map(|factory| factory.id.as_str()).collect();
    assert_eq!(factories, ["paris", "munich", "kajaani", "bologna", "krakow", "barcelona", "frankfurt", "virginia"]);
    let tenants: Vec<&str> = demo.tenants.iter().map(|tenant| tenant.id.as_str()).collect();
    assert_eq!(tenants, ["bank", "defence", "image-lab", "start-up"]);
    let bank = demo.tenant("bank").unwrap();
    assert_eq!(bank.policy.path, "policies/bank.cedar");
    assert_eq!(bank.policy.file_name(), "bank.cedar");
    assert_eq!(bank.project("website").unwrap().labels.class, polder_core::labels::DataClass::Public);
    let chip = &demo.factory("kajaani").unwrap().facts[3];
    assert_eq!((chip.issuer.as_ref(), chip.evidence), (None, Evidence::C));
    assert_eq!(demo.factory("paris").unwrap().facts[0].evidence, Evidence::B);
}

#[test]
fn signed_facts_are_believed_at_their_class() {
    let demo = demo();
    let keys = keys(&demo);
    let passports = demo.passports(&keys, 1_000, 2_000).unwrap();
    let trust = demo.trust(demo.tenant("bank").unwrap(), &keys.issuers_public());
    let frankfurt = demo.factory("frankfurt").unwrap();
    let own = keys.factories[&frankfurt.id].verifying_key().to_bytes();
    let held = believe(&frankfurt.id, &passports[&frankfurt.id], &own, &trust);
    assert_eq!(held.len(), frankfurt.facts.len());
    let profile = Profile::at(&held, 1_500);
    assert_eq!(profile.facts["operator"].evidence, Evidence::B);
    // The register and the factory contradict each other about who controls it.
    let said: Vec<String> = profile.contested["control"].iter().map(|held| held.fact.claim.words()).collect();
    assert!(said[0].contains("Potomac") && !said[1].contains("Potomac"), "{said:?}");
    assert!(Profile::at(&held, 2_000).facts.is_empty());
    assert!(Profile::at(&held, 999).facts.is_empty());
}

#[test]
fn facts_without_a_key_to_sign_them_are_an_error() {
    let demo = demo();
    let without = FederationKeys { issuers: BTreeMap::new(), ..keys(&demo) };
    assert_eq!(demo.passports(&without, 0, 1), Err(PassportError::Key("register".to_owned())));
}

#[test]
fn faults_are_named_with_their_place() {
    let cases = [
        ("place = \"Paris (FR)\"", "plaice = \"Paris (FR)\"", "16:1: unknown field `plaice`"),
        ("places = 4", "places = 0", "18:10: `places` is 0"),
        ("places = 4", "places = \"four\"", "18:10: `places`: invalid type"),
        ("id = \"munich\"", "id = \"paris\"", "32:6: `id` is `paris`, a name that is taken"),
        ("id = \"munich\"", "id = \"Mun ich\"", "32:6: `id`: `Mun ich` is not a node name"),
        ("terms = \"terms/open.cedar\"", "terms = \"missing\"", "20:9: `terms` names `missing`, which is not there"),
        (
            "issuer = \"register\", kind = \"site\", country = \"FR\"",
            "issuer = \"x\", kind = \"site\", country = \"FR\"",
            "22:3: `issuer` names `x`",
        ),
        (
            "kind = \"site\", country = \"FR\"",
            "kind = \"site\", country = \"XX\"",
            "22:3: `facts`: `XX` is not a countries",
        ),
        (
            "kind = \"site\", country = \"FR\"",
            "kind = \"sight\", country = \"FR\"",
            "22:3: `facts`: unknown variant `sight`",
        ),
        (
            "origin = \"US\", accelerators = 2048",
            "origin = \"US\", accelerators = 2048, x = 1",
            "25:3: `facts`: unknown field `x`",
        ),
        ("scheme = \"iso-27001\"", "scheme = \"secnumcloud\"", "27:3: `facts` say `certifications/secnumcloud` twice"),
        ("share_ppm = 740_000", "share_ppm = 1_740_000", "41:3: `share_ppm` of `Alpenland Netze` is above"),
        ("home = \"bank-home\"", "home = \"paris\"", "`home` is `paris`, a name that is taken"),
        (
            "trust = [\"register\"]",
            "trust = [\"regsiter\"]",
            "`trust` names `regsiter`, which is not an issuer: use one of `register`",
        ),
        ("purposes = [\"finance\"]", "purposes = []", "`purposes` is empty"),
        ("model = \"polder-toy\"", "model = \"other\"", "`model` is `other`, which no factory serves"),
        ("id = \"website\"", "id = \"customer-service\"", "`id` is `customer-service`, a name that is taken"),
        ("baseline = \"policies", "baseline = \"missing", "7:12: `baseline` names `missing"),
    ];
    for (good, bad, expected) in cases {
        assert!(DEMO.contains(good), "{good}");
        let text = DEMO.replacen(good, bad, 1);
        match Federation::parse("federation.toml", &text, any_text) {
            Ok(_) => panic!("{bad} was taken"),
            Err(error) => assert!(error.to_string().contains(expected), "{bad}: {error}"),
        }
    }
    let error = Federation::parse("f.toml", "baseline = [", any_text).unwrap_err();
    assert!(error.to_string().starts_with("f.toml:1:13: "), "{error}");
}
