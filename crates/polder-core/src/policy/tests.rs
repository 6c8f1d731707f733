//! Tests of the policy layers: what may be written, where a fault is said to stand, and that errors refuse.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::*;
use crate::facts::{Claim, Evidence, Profile, SignedFact, believe};
use crate::ids::{ModelId, ProjectId, TenantId};
use crate::labels::{Action, Closed as _, Country, DataClass, Purpose};
use crate::tests::*;

fn parse(text: &str) -> Result<Layer, PolicyError> {
    Layer::parse(LayerKind::Owner, "bank.cedar", text, &schema())
}

/// An owner's text: the permit, then one rule on lines 2 to 4, whose condition stands on line 5.
fn rule(condition: &str) -> String {
    format!("{OPEN}\n@id(\"rule\")\n@reason(\"test\")\nforbid (principal, action, resource)\n{condition};\n")
}

fn fault(text: &str) -> (String, Option<String>) {
    let error = parse(text).unwrap_err();
    (error.to_string(), error.hint)
}

#[test]
fn the_schema_parses_and_holds_every_closed_value() {
    let schema = schema();
    for country in Country::all() {
        assert!(schema.text().contains(&format!("\"{}\"", country.as_str())));
    }
    for text in [BANK, BASELINE, DEFENCE, IMAGE_LAB, START_UP, CIVIL, OPEN, LABELS_POLICY, ""] {
        parse(text).unwrap();
    }
}

#[test]
fn a_syntax_error_is_named_with_its_place() {
    let (message, _) = fault("permit (principal, action, resource);\nforbid (principal,, action, resource);\n");
    assert!(message.starts_with("bank.cedar:2:19: "), "{message}");
    let (message, _) = fault("permit (");
    assert!(message.starts_with("bank.cedar:1:"), "{message}");
}

#[test]
fn a_permit_has_no_conditions() {
    let condition =
        "// permit\npermit (principal, action, resource);\n  permit (principal, action, resource)\nwhen { true };";
    let (message, hint) = fault(condition);
    assert_eq!(message, "bank.cedar:3:3: a permit must not have conditions");
    assert!(hint.unwrap().contains("turn each condition into a `forbid`"));
    let (message, _) = fault("permit (principal == Tenant::\"bank\", action, resource);");
    assert_eq!(message, "bank.cedar:1:1: a permit must not have conditions");
    let (message, _) = fault("permit (principal, action, resource == Factory::\"paris\");");
    assert_eq!(message, "bank.cedar:1:1: a permit must not have conditions");
}

#[test]
fn a_forbid_has_an_id_and_a_reason() {
    let bare = format!("{OPEN}\nforbid (principal, action, resource);");
    let (message, hint) = fault(&bare);
    assert_eq!(message, "bank.cedar:2:1: a forbid needs `@id` and `@reason`");
    assert!(hint.unwrap().contains("@id"));
    let (message, _) = fault(&format!("{OPEN}\n@id(\"a\") forbid (principal, action, resource);"));
    assert_eq!(message, "bank.cedar:2:10: a forbid needs `@id` and `@reason`");
    let (message, _) = fault(&format!("{OPEN}\n@id(\"\")\n@reason(\"a\")\nforbid (principal, action, resource);"));
    assert_eq!(message, "bank.cedar:4:1: a forbid needs `@id` and `@reason`");
}

#[test]
fn the_first_of_several_faults_is_named() {
    let many = format!("{OPEN}\n{}", "forbid (principal, action, resource);\n".repeat(12));
    assert!(fault(&many).0.starts_with("bank.cedar:2:1: "));
    let tricky = "// forbid (\n@id(\"permit (\")\n@reason(\"a \\\" forbid (\")\nforbid (principal, action, resource);\n\
                  forbid (principal, action, resource);";
    assert!(fault(tricky).0.starts_with("bank.cedar:5:1: "));
}

#[test]
fn ids_are_used_once_and_ranks_are_numbers() {
    let twice = format!("{}{}", rule("when { true }"), rule("when { false }"));
    assert_eq!(fault(&twice).0, "bank.cedar:7:1: the rule id `rule` is used twice");
    let rank = rule("").replace("@reason", "@relax(\"soon\")\n@reason");
    assert!(fault(&rank).0.starts_with("bank.cedar:2:1: `@relax` takes a whole number"));
    let ranked = parse(&rule("").replace("@reason", "@relax(\"3\")\n@reason")).unwrap();
    assert_eq!(ranked.rules().next().unwrap().relax, Some(3));
}

#[test]
fn unknown_names_and_unguarded_attributes_are_errors() {
    let cases = [
        ("when { resource.colour == \"red\" }", "bank.cedar:5:", "colour"),
        ("when { context.class == Class::\"secret\" }", "bank.cedar:5:", "secret"),
        ("unless { resource has site && resource.site.country == Country::\"XX\" }", "bank.cedar:5:", "XX"),
        ("unless { resource.site.in_eu }", "bank.cedar:5:", "site"),
        ("when { context.countries.contains(Country::\"FR\") }", "bank.cedar:5:", "countries"),
        ("when { context.class }", "bank.cedar:5:", ""),
    ];
    for (condition, place, names) in cases {
        let (message, _) = fault(&rule(condition));
        assert!(message.starts_with(place) && message.contains(names), "{condition}: {message}");
    }
    let guarded = "unless { resource has site && resource.site.in_eu }";
    parse(&rule(guarded)).unwrap();
    let (_, hint) = fault(&rule("unless { resource.site.in_eu }"));
    assert!(hint.unwrap_or_default().contains("has"), "the hint names the guard");
}

#[test]
fn templates_are_refused() {
    assert!(fault("permit (principal == ?principal, action, resource);").0.contains("templates"));
}

#[test]
fn functions_of_extensions_are_refused() {
    for (condition, name) in [
        ("when { ip(\"::1\").isLoopback() }", "isLoopback"),
        (
            "when { context.project like \"a*\" && [1, 2].contains(3) || decimal(\"1.0\") == decimal(\"2.0\") }",
            "decimal",
        ),
    ] {
        let (message, hint) = fault(&rule(condition));
        assert_eq!(message, format!("bank.cedar:2:1: the function `{name}` is not used here"));
        assert!(hint.unwrap().contains("audit"));
    }
    let like_one = "when { { decimal: [1], ip: context.project }.decimal.contains(1) && resource has site.in_eu }";
    parse(&rule(like_one)).unwrap();
}

#[test]
fn a_rule_knows_what_it_reads_and_where_it_stands() {
    let layer = parse(BANK).unwrap();
    let rule = layer.rules().find(|rule| rule.id == "customer-data-under-eu-control").unwrap();
    assert_eq!(rule.reads.iter().map(String::as_str).collect::<Vec<_>>(), ["control"]);
    assert!(BANK.lines().nth(rule.line as usize - 1).unwrap().contains(&rule.id));
    assert_eq!(rule.relax, None);
    assert_eq!(layer.rules().find(|rule| rule.id == "customer-data-certified").unwrap().relax, Some(1));
}

fn column(claims: &[(Claim, Evidence)]) -> Column {
    let sign = |(claim, evidence): &(Claim, Evidence)| {
        SignedFact::sign(fact("paris", claim.clone(), *evidence, "register"), &key(REGISTER)).unwrap()
    };
    let passport: Vec<SignedFact> = claims.iter().map(sign).collect();
    let held = believe(&node("paris"), &passport, &public(10), &[trust(Evidence::A)]);
    Column::new(&node("paris"), Profile::at(&held, 1_500), Usage::default(), &schema()).unwrap()
}

fn case(class: DataClass, countries: Option<&[&str]>) -> Case {
    Case {
        action: Action::Infer,
        tenant: TenantId::parse("bank").unwrap(),
        project: ProjectId::parse("website").unwrap(),
        model: Some(ModelId::parse("polder-toy").unwrap()),
        class,
        purpose: Purpose::Finance,
        countries: countries.map(|codes| codes.iter().map(|code| country(code)).collect()),
        language: None,
    }
}

fn refusals(layer: &Layer, column: &Column, case: &Case) -> Vec<String> {
    layer.refusals(column, case, &schema()).into_iter().map(|cause| cause.rule).collect()
}

/// Whether a condition holds at a factory.
fn holds(condition: &str, column: &Column) -> bool {
    let layer = parse(&rule(&format!("when {{ {condition} }}"))).unwrap();
    !refusals(&layer, column, &case(DataClass::Public, None)).is_empty()
}

#[test]
fn an_evaluation_error_refuses() {
    let overflow = rule("when { 9223372036854775807 + 1 == 0 }");
    let causes = parse(&overflow).unwrap().refusals(&column(&[]), &case(DataClass::Public, None), &schema());
    assert_eq!(causes.len(), 1);
    assert_eq!(causes[0].rule, "policy-error");
    assert_eq!(causes[0].clause.as_ref().unwrap().file, "bank.cedar");
    assert!(causes[0].reason.starts_with("`rule` cannot be evaluated: "), "{}", causes[0].reason);
}

#[test]
fn what_could_fail_is_found_beforehand() {
    let hazard = |condition: &str| parse(&rule(&format!("when {{ {condition} }}"))).unwrap().hazard();
    for fine in [
        "1 + 2 == 3",
        "resource.usage.vendor_share_percent * 3 - 5 < 60",
        "resource has energy && -resource.energy.pue_percent + resource.energy.renewable_percent * 1000 > 0",
        "resource.seals.attested[\"csf-calculator-2026-06-01\"][\"SOV-1\"] * 9223372036854775 >= 2",
        "(if context.class == Class::\"public\" then 1 else 2) * 4611686018427387903 > 0",
    ] {
        assert_eq!(hazard(fine), None, "{fine}");
    }
    for (fails, says) in [
        ("9223372036854775807 + 1 == 0", "`+`"),
        ("resource.usage.vendor_share_percent * 9223372036854775807 == 0", "`*`"),
        ("[1].contains(0 - 9223372036854775807 - 2)", "`-`"),
        ("(if context.class == Class::\"public\" then 1 else 3) * 4611686018427387903 > 0", "`*`"),
    ] {
        let found = hazard(fails).unwrap();
        assert!(found.message.contains(says) && found.line == 2, "{fails}: {found}");
    }
}

#[test]
fn a_layer_without_a_permit_refuses() {
    let empty = parse("").unwrap();
    assert_eq!(refusals(&empty, &column(&[]), &case(DataClass::Public, None)), ["not-permitted"]);
    let embed_only = parse("permit (principal, action == Action::\"embed\", resource);").unwrap();
    assert_eq!(refusals(&embed_only, &column(&[]), &case(DataClass::Public, None)), ["not-permitted"]);
    let embed = Case { action: Action::Embed, ..case(DataClass::Public, None) };
    assert!(refusals(&embed_only, &column(&[]), &embed).is_empty());
}

#[test]
fn the_labels_layer_keeps_to_the_named_countries() {
    let layer = Layer::parse(LayerKind::Labels, "labels", LABELS_POLICY, &schema()).unwrap();
    let french = column(&[(site("FR"), Evidence::C)]);
    let outside = ["outside-the-named-countries"];
    assert!(refusals(&layer, &french, &case(DataClass::Public, None)).is_empty());
    assert!(refusals(&layer, &french, &case(DataClass::Public, Some(&["DE", "FR"]))).is_empty());
    assert_eq!(refusals(&layer, &french, &case(DataClass::Public, Some(&["DE"]))), outside);
    assert_eq!(refusals(&layer, &column(&[]), &case(DataClass::Public, Some(&["DE"]))), outside);
    let causes = layer.refusals(&french, &case(DataClass::Public, Some(&["DE"])), &schema());
    assert_eq!((causes[0].layer, &causes[0].clause), (LayerKind::Labels, &None));
}

#[test]
fn a_stronger_class_satisfies_the_weaker_ones() {
    for (class, satisfied) in [(Evidence::C, "C"), (Evidence::B, "CB"), (Evidence::A, "CBA")] {
        let column = column(&[(site("FR"), class)]);
        for asked in ["A", "B", "C"] {
            let condition = format!("resource has site && resource.site.evidence.contains(Evidence::\"{asked}\")");
            assert_eq!(holds(&condition, &column), satisfied.contains(asked), "{class:?} for {asked}");
        }
    }
}

#[test]
fn control_is_the_operator_and_every_owner() {
    let in_eu = "resource has control && resource.control.in_eu";
    let all = |home: &str, owners: &[&str]| column(&[(operator(home), Evidence::B), (control(owners), Evidence::B)]);
    assert!(holds(in_eu, &all("FR", &["DE", "FR"])));
    assert!(holds(in_eu, &all("FR", &[])));
    assert!(!holds(in_eu, &all("FR", &["DE", "US"])));
    assert!(!holds(in_eu, &all("US", &[])), "an operator outside is control from outside");
    let unknown = column(&[(control(&["FR"]), Evidence::B)]);
    assert!(!holds("resource has control", &unknown), "no operator, no control");
    let weak = column(&[(operator("FR"), Evidence::C), (control(&["FR"]), Evidence::B)]);
    assert!(!holds("resource has control && resource.control.evidence.contains(Evidence::\"B\")", &weak));
}

fn changes(old: &str, new: &str) -> [Vec<String>; 3] {
    let RuleChanges { added, removed, changed } = rule_changes(&parse(old).unwrap(), &parse(new).unwrap());
    [added, removed, changed]
}

#[test]
fn what_differs_goes_by_rule_ids_and_by_the_text_of_permits() {
    let only = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
    let named = |id: &str, condition: &str| rule(condition).replace("\"rule\"", &format!("\"{id}\"")).replace(OPEN, "");
    let eu = "unless { resource has site && resource.site.in_eu }";
    let old = format!("{OPEN}{}{}", named("a", eu), named("b", eu));
    let public = "when { context.class == Class::\"public\" }";
    let new = format!("{OPEN}{}{}", named("b", public), named("c", eu));
    assert_eq!(changes(&old, &new), [only(&["c"]), only(&["a"]), only(&["b"])]);
    assert_eq!(changes(&old, &format!("// a comment\n\n{old}")), [only(&[]), only(&[]), only(&[])]);
    // Another reason is a change of the rule, and none of what it forbids.
    let reworded = old.replacen("@reason(\"test\")", "@reason(\"other\")", 1);
    assert_eq!(changes(&old, &reworded), [only(&[]), only(&[]), only(&["a"])]);
    assert!(is_only_narrower(&parse(&old).unwrap(), &parse(&reworded).unwrap()));
    let [added, removed, changed] = changes(OPEN, "permit (principal, action == Action::\"infer\", resource);");
    assert_eq!((added.len(), removed.len(), changed.len()), (1, 1, 0));
    assert!(added[0].contains("infer") && removed[0].starts_with("permit"), "{added:?} {removed:?}");
}

#[test]
fn polders_own_rule_ids_are_refused() {
    for id in RESERVED {
        let text = format!(
            "permit (principal, action, resource);\n@id(\"{id}\")\n@reason(\"r\")\nforbid (principal, action, resource);"
        );
        let error = Layer::parse(LayerKind::Owner, "policy.cedar", &text, &schema()).unwrap_err();
        assert_eq!(
            (error.line, error.message.as_str()),
            (2, format!("the rule id `{id}` is one of Polder's own").as_str())
        );
        assert!(error.hint.unwrap().contains("another `@id`"));
    }
}
