//! Tests of policies' tests: the templates pass theirs, and no template can lose a part without one of them noticing.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use super::*;
use crate::tests::schema;

/// Every template with its tests.
const TEMPLATES: &[(&str, &str, &str)] = &[
    (
        "eea-only",
        include_str!("../../../../templates/eea-only.cedar"),
        include_str!("../../../../templates/eea-only.test.toml"),
    ),
    (
        "eu-control",
        include_str!("../../../../templates/eu-control.cedar"),
        include_str!("../../../../templates/eu-control.test.toml"),
    ),
    (
        "model-custody",
        include_str!("../../../../templates/model-custody.cedar"),
        include_str!("../../../../templates/model-custody.test.toml"),
    ),
    (
        "named-countries-and-clearance",
        include_str!("../../../../templates/named-countries-and-clearance.cedar"),
        include_str!("../../../../templates/named-countries-and-clearance.test.toml"),
    ),
    (
        "open-for-public-data",
        include_str!("../../../../templates/open-for-public-data.cedar"),
        include_str!("../../../../templates/open-for-public-data.test.toml"),
    ),
    (
        "vendor-share",
        include_str!("../../../../templates/vendor-share.cedar"),
        include_str!("../../../../templates/vendor-share.test.toml"),
    ),
];

const POLICY: &str = "permit (principal, action, resource);\n@id(\"french\")\n@reason(\"in France\")\n\
                      forbid (principal, action, resource)\nwhen { [Class::\"customer\", Class::\"restricted\"].contains(context.class) }\n\
                      unless { resource has site && resource.site.country == Country::\"FR\" };\n";
const TESTS: &str = "policy = \"p.cedar\"\n[request]\nclass = \"customer\"\npurposes = [\"finance\"]\n\
                     [[factories]]\nname = \"lyon\"\nfacts = [{ kind = \"site\", country = \"FR\", city = \"Lyon\", evidence = \"C\" }]\n\
                     [[factories]]\nname = \"bonn\"\nfacts = [{ kind = \"site\", country = \"DE\", city = \"Bonn\", evidence = \"C\" }]\n\
                     [[cases]]\nname = \"in France\"\nfactory = \"lyon\"\nexpect = \"placed\"\n\
                     [[cases]]\nname = \"in Germany\"\nfactory = \"bonn\"\nexpect = \"refused\"\nby = [\"french\"]\n";

fn layer(text: &str) -> Layer {
    Layer::parse(LayerKind::Owner, "p.cedar", text, &schema()).unwrap()
}

fn no_files(path: &str) -> Result<String, String> {
    Err(format!("nobody reads {path}"))
}

fn run(policy: &str, tests: &str) -> Vec<CaseReport> {
    Trial::parse("p.test.toml", tests).unwrap().ready(&schema(), &no_files).unwrap().run(&layer(policy))
}

fn unnoticed(policy: &str, tests: &str) -> Vec<(String, String)> {
    let trial = Trial::parse("p.test.toml", tests).unwrap();
    let found = trial.ready(&schema(), &no_files).unwrap().unnoticed(&layer(policy));
    found.into_iter().map(|one| (one.rule, one.left_out)).collect()
}

#[test]
fn every_template_passes_its_tests_and_places_and_refuses() {
    for (name, policy, tests) in TEMPLATES {
        let reports = run(policy, tests);
        for report in &reports {
            assert!(report.passed, "{name}: {report:?}");
        }
        assert_eq!(Trial::parse(name, tests).unwrap().policy, format!("{name}.cedar"));
        let of = |outcome| reports.iter().any(|report| report.answered.outcome == outcome);
        assert!(of(Expect::Placed) && of(Expect::Refused), "{name}");
        // Every rule refuses something that no other rule of the template refuses with it.
        for rule in layer(policy).rules() {
            let alone = BTreeSet::from([rule.id.clone()]);
            assert!(reports.iter().any(|report| report.answered.by == alone), "{name}: `{}`", rule.id);
        }
    }
}

#[test]
fn no_part_of_a_template_can_be_left_out_unnoticed() {
    for (name, policy, tests) in TEMPLATES {
        let all = mutations(&layer(policy));
        assert!(all.len() > 2 * layer(policy).rules().count(), "{name}: {}", all.len());
        assert_eq!(unnoticed(policy, tests), [], "{name}");
    }
}

#[test]
fn a_case_fails_by_a_wrong_answer_or_by_the_wrong_rule() {
    assert!(run(POLICY, TESTS).iter().all(|report| report.passed));
    let wider = POLICY.replace("Country::\"FR\"", "Country::\"DE\"");
    let reports = run(&wider, TESTS);
    assert_eq!(reports.iter().map(|report| report.passed).collect::<Vec<_>>(), [false, false]);
    assert_eq!(reports[0].answered.by, BTreeSet::from(["french".to_owned()]));
    let renamed = run(&POLICY.replace("\"french\"", "\"gallic\""), TESTS);
    assert_eq!(renamed.iter().map(|report| report.passed).collect::<Vec<_>>(), [true, false]);
    // What the labels refuse is no rule of the owner's.
    let named = TESTS.replace("[request]", "[request]\ncountries = [\"IT\"]");
    let labels = run(POLICY, &named);
    assert!(!labels[0].passed && labels[0].answered.by.is_empty());
    assert!(labels[0].answered.others.contains("labels: outside-the-named-countries"));
}

#[test]
fn what_no_case_notices_is_named() {
    // Nobody asks with restricted data, and nobody with other data, so neither an entry nor the condition is needed.
    let found = unnoticed(POLICY, TESTS);
    let expected = [("french", "the whole `when`"), ("french", "`Class::\"restricted\"` of `when`")];
    assert_eq!(found, expected.map(|(rule, left_out)| (rule.to_owned(), left_out.to_owned())));
    let more = "[[cases]]\nname = \"restricted\"\nfactory = \"bonn\"\nclass = \"restricted\"\nexpect = \"refused\"\nby = [\"french\"]\n\
                [[cases]]\nname = \"public\"\nfactory = \"bonn\"\nclass = \"public\"\nexpect = \"placed\"\n";
    assert_eq!(unnoticed(POLICY, &format!("{TESTS}{more}")), []);
}

#[test]
fn mutations_leave_out_one_thing_at_a_time() {
    let text = "permit (principal, action, resource);\n@id(\"a\")\n@reason(\"b\")\n\
                forbid (principal, action in [Action::\"infer\", Action::\"embed\"], resource)\n\
                when { context.class == Class::\"public\" && (resource has site || resource has chips) && \
                !([Country::\"FR\", Country::\"DE\"].containsAny(resource.clearances.declared)) };\n";
    let found = mutations(&layer(text));
    let left_out: Vec<&str> = found.iter().map(|one| one.left_out.as_str()).collect();
    assert_eq!(
        left_out,
        [
            "the whole policy",
            "the whole policy",
            "the action `infer`",
            "the action `embed`",
            "the whole `when`",
            "`context.class == Class::\"public\"` of `when`",
            "`(resource has site) || (resource has chips)` of `when`",
            "`resource has site` of `when`",
            "`resource has chips` of `when`",
            "`![Country::\"FR\", Country::\"DE\"].containsAny(resource.clearances.declared)` of `when`",
            "`Country::\"FR\"` of `when`",
            "`Country::\"DE\"` of `when`",
        ]
    );
    for mutation in &found {
        assert_ne!(layer(&mutation.text).digest(), layer(text).digest(), "{}", mutation.left_out);
    }
}

#[test]
fn what_is_wrong_with_a_file_is_said() {
    let wrong = |from: &str, to: &str| {
        let text = TESTS.replacen(from, to, 1);
        assert_ne!(text, TESTS);
        let read = Trial::parse("p.test.toml", &text);
        read.and_then(|trial| trial.ready(&schema(), &no_files).map(drop)).unwrap_err().to_string()
    };
    assert!(wrong("policy = ", "policy = 7 #").starts_with("p.test.toml:1: "));
    assert!(
        wrong("expect = \"placed\"", "expect = \"yes\"").contains("p.test.toml:14: "),
        "{}",
        wrong("\"placed\"", "\"yes\"")
    );
    assert_eq!(
        wrong("factory = \"bonn\"", "factory = \"rome\""),
        "the case `in Germany`: `rome` is none of the factories"
    );
    assert!(wrong("class = \"customer\"", "").contains("name its `class`"));
    assert!(wrong("purposes = [\"finance\"]", "").contains("`purposes` is empty"));
    assert!(wrong("\"in Germany\"", "\"in France\"").contains("stands there twice"));
    assert!(wrong("name = \"bonn\"", "name = \"lyon\"").contains("stands twice"));
    assert!(wrong("expect = \"placed\"", "expect = \"placed\"\nby = [\"french\"]").contains("leave `by` out"));
    assert!(
        wrong("policy = \"p.cedar\"", "policy = \"p.cedar\"\nbaseline = \"b.cedar\"").contains("nobody reads b.cedar")
    );
    assert!(wrong("country = \"FR\"", "country = \"XX\"").contains("p.test.toml:"));
    assert!(wrong("expect = \"placed\"", "expect = \"placed\"\ncolour = \"red\"").contains("colour"));
}
