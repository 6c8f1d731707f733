//! Tests of what a configuration names beside its own text: guardrails and frameworks.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::*;

const FRAMEWORK: &str = "id = \"own-2026\"\ntitle = \"t\"\nsource = \"s\"\nlicence = \"l\"\nchanges = \"c\"\n\
[[objectives]]\nid = \"A\"\nname = \"a\"\nweight_percent = 100\n[[objectives.criteria]]\nnumber = 1\nasks = \"q\"\n\
answers = [{ value_hundredths = 1, seal = 0, says = \"x\" }]\n";
const CLAIM: &str = "name = \"mine\"\nsays = \"-\"\npolicies = [\"mine\"]\nnever_errors = true\n";

/// What comes of a home's configuration with these lines in `[home]`.
fn load(name: &str, lines: &str) -> Result<Config, String> {
    let folder = std::env::temp_dir().join(format!("polder-config-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let text = format!(
        "node = \"bank-home\"\nstate = \"state\"\nlisten = \"127.0.0.1:0\"\n[home]\ntenant = \"bank\"\n\
         baseline = \"baseline.cedar\"\npolicy = \"policy.cedar\"\ntrust = \"trust.json\"\nprojects = []\nkeys = []\n{lines}\n\
         [home.weights]\nprice = 1\nload = 0\nlatency = 0\n"
    );
    for (file, text) in
        [("node.toml", text.as_str()), ("trust.json", "[]"), ("own.toml", FRAMEWORK), ("claim.toml", CLAIM)]
    {
        std::fs::write(folder.join(file), text).unwrap();
    }
    let loaded = Config::load(&folder.join("node.toml")).map_err(|e| e.to_string());
    std::fs::remove_dir_all(&folder).unwrap();
    loaded
}

#[test]
fn guardrails_go_by_name_or_path() {
    let home = load("claims", "guardrails = [\"bank-never-errors\", \"claim.toml\"]\nsolver = \"bin/cvc5\"").unwrap();
    let home = home.home.unwrap();
    let names: Vec<&str> = home.guardrails.iter().map(|one| one.claim.name.as_str()).collect();
    assert_eq!(names, ["bank-never-errors", "mine"]);
    assert_ne!(home.guardrails[0].digest, home.guardrails[1].digest);
    assert!(home.solver.unwrap().ends_with("bin/cvc5"));
    for (wrong, says) in [
        ("nobody-said-this", "no claim `nobody-said-this`"),
        ("missing.toml", "cannot read"),
        ("own.toml", "guardrails: the claim `own.toml`"),
    ] {
        let error = load("wrong-claims", &format!("guardrails = [\"{wrong}\"]")).unwrap_err();
        assert!(error.contains(says), "{error}");
    }
}

#[test]
fn a_homes_own_frameworks_are_in_its_schema() {
    let none = load("no-frameworks", "").unwrap().schema().unwrap();
    let own = load("frameworks", "frameworks = [\"own.toml\"]").unwrap().schema().unwrap();
    assert!(own.text().contains("\"own-2026\": { \"A\": Long }") && !none.text().contains("own-2026"));
    assert_ne!(own.digest(), none.digest());
    let rule = "permit (principal, action, resource);\n@id(\"a\")\n@reason(\"b\")\nforbid (principal, action, resource)\n\
                when { resource.seals.attested[\"own-2026\"][\"A\"] < 1 };\n";
    assert!(Layer::parse(LayerKind::Owner, "p.cedar", rule, &own).is_ok());
    assert!(Layer::parse(LayerKind::Owner, "p.cedar", rule, &none).is_err());
    let twice = load("twice", "frameworks = [\"own.toml\", \"own.toml\"]").unwrap().schema().map(drop).unwrap_err();
    assert!(twice.to_string().contains("frameworks"), "{twice}");
    for (file, says) in [("missing.toml", "missing.toml"), ("claim.toml", "claim.toml:1: ")] {
        let error = load("wrong-frameworks", &format!("frameworks = [\"{file}\"]")).unwrap_err();
        assert!(error.contains("frameworks: ") && error.contains(says), "{error}");
    }
}

#[test]
fn a_passport_that_no_home_would_read_is_named_at_once() {
    use polder_core::facts::{Claim, Evidence, FACTS_MAX, Fact, SignedFact};
    use polder_core::ids::IssuerId;
    use polder_core::labels::{Closed as _, Country};

    let folder = std::env::temp_dir().join(format!("polder-config-{}-passport", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let claim = Claim::Site { country: Country::parse("FR").unwrap(), city: "Paris".to_owned() };
    let (subject, issuer) = (NodeId::parse("paris").unwrap(), IssuerId::parse("paris").unwrap());
    let fact = Fact { subject, claim, evidence: Evidence::C, issuer, from_ms: 0, until_ms: 1 };
    let signed = SignedFact::sign(fact, &ed25519_dalek::SigningKey::from_bytes(&[1; 32])).unwrap();
    std::fs::write(folder.join("passport.json"), serde_json::to_string(&vec![signed; FACTS_MAX + 1]).unwrap()).unwrap();
    let text = "node = \"paris\"\nstate = \"state\"\nlisten = \"127.0.0.1:0\"\npeer_listen = \"127.0.0.1:0\"\n[factory]\n\
                terms = \"terms.cedar\"\npassport = \"passport.json\"\nprice_microeur_per_mtok = 1\nplaces = 1\n\
                [factory.models]\ntoy = \"toy\"\n";
    std::fs::write(folder.join("node.toml"), text).unwrap();
    let error = Config::load(&folder.join("node.toml")).unwrap_err().to_string();
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(error.contains("passport.json") && error.contains("4097 facts"), "{error}");
}
