//! Expressions that no schema would let through: audit's evaluator fails where Cedar fails, and nowhere else.
//!
//! A layer is checked when it is read, so most of these never get that far; an evaluator that is right only about what
//! another program checked would be half of one.

use cedar_policy::{Authorizer, Context, Decision, EntityUid, PolicySet};

use super::*;
use crate::tests::random::Dice;

const LEAVES: [&str; 21] = [
    "principal",
    "resource",
    "context",
    "context.n",
    "context.project",
    "context.set",
    "context.nothing",
    "resource.site",
    "resource.site.country",
    "resource.nothing",
    "principal.nothing",
    "Country::\"FR\"",
    "Factory::\"paris\"",
    "true",
    "false",
    "1",
    "9223372036854775807",
    "-9223372036854775808",
    "\"paris\"",
    "[]",
    "{}",
];

/// An expression of no particular type.
fn expression(dice: &mut Dice, depth: usize) -> String {
    if depth == 0 || dice.percent(20) {
        return (*dice.pick(&LEAVES)).to_owned();
    }
    let binary = ["==", "!=", "<", "<=", ">", ">=", "&&", "||", "+", "-", "*", "in"];
    let methods = ["contains", "containsAll", "containsAny"];
    let (a, b) = (expression(dice, depth - 1), expression(dice, depth - 1));
    match dice.below(15) {
        0..=3 => format!("({a} {} {b})", dice.pick(&binary)),
        4..=5 => format!("({a}).{}({b})", dice.pick(&methods)),
        6 => format!("(if {a} then {b} else {})", expression(dice, depth - 1)),
        7 => format!("({a} has {})", dice.pick(&["site", "site.country", "site.nothing.more", "n.m", "\"a b\""])),
        8 => format!("({a})[\"{}\"]", dice.pick(&["site", "a b", "n"])),
        9 => format!("({a} like \"{}\")", dice.pick(&["*", "p*s", r"\*", "paris"])),
        10 => format!("({a} is {})", dice.pick(&["Factory", "Country", "Factory in [resource]", "Factory in 1"])),
        11 => format!("(!({a}))"),
        12 => format!("(-({a}))"),
        13 => format!("({a}).isEmpty()"),
        _ => dice.pick(&[format!("[{a}, {b}]"), format!("{{ \"a b\": {a}, n: {b} }}")]).clone(),
    }
}

#[test]
fn expressions_of_any_type_come_to_the_same() {
    let context = json!({"n": 3, "project": "web*", "set": [1, entity("Factory", "paris")]});
    let place = json!({"site": {"country": entity("Country", "FR")}, "a b": true});
    let id = |kind: &str, id: &str| EntityUid::from_json(json!({"type": kind, "id": id})).unwrap();
    let factory = json!([{"uid": {"type": "Factory", "id": "paris"}, "attrs": place, "parents": []}]);
    let cedars = cedar_policy::Entities::from_json_value(factory, None).unwrap();
    let asked = Context::from_json_value(context.clone(), None).unwrap();
    let (bank, infer, paris) = (id("Tenant", "bank"), id("Action", "infer"), id("Factory", "paris"));
    let request = cedar_policy::Request::new(bank, infer, paris, asked, None).unwrap();

    let named = evaluate::Value::named;
    let entities = Entities::from([(named("Factory", "paris"), evaluate::Value::read(&place).unwrap())]);
    let question = Question {
        principal: named("Tenant", "bank"),
        action: named("Action", "infer"),
        resource: named("Factory", "paris"),
        context: evaluate::Value::read(&context).unwrap(),
        entities: &entities,
    };

    let mut dice = Dice::new(7);
    let mut seen = [0; 3];
    for _ in 0..10_000 {
        // Comparing makes a yes or a no of any value, so that most of these are about values and not about errors.
        let (depth, sign) = (dice.below(3), *dice.pick(&["==", "!="]));
        let (a, b) = (expression(&mut dice, depth), expression(&mut dice, depth));
        let text = format!("permit (principal, action, resource) when {{ {a} {sign} {b} }};");
        let set: PolicySet = text.parse().unwrap_or_else(|error| panic!("{error}\n{text}"));
        let response = Authorizer::new().is_authorized(&request, &set, &cedars);
        let errs = response.diagnostics().errors().next().is_some();
        let expected: &[&str] = match response.decision() {
            Decision::Allow => &[],
            Decision::Deny if errs => &["not-permitted", "policy-error"],
            Decision::Deny => &["not-permitted"],
        };
        let refusals = Policies::parse(&text).unwrap().refusals(&question);
        assert!(refusals.iter().map(String::as_str).eq(expected.iter().copied()), "{text}: {expected:?}, {refusals:?}");
        seen[expected.len()] += 1;
    }
    assert!(seen.iter().all(|count| *count > 500), "yes, no and error all come up: {seen:?}");
}

#[test]
fn what_is_outside_the_subset_refuses() {
    let world = World::new(BANK, vec![Site::new("paris", "FR", "FR", 1)]);
    let statement = world.statement(&request(DataClass::Public, &[Purpose::Finance]));
    for condition in ["decimal(\"1.0\") == decimal(\"1.0\")", "resource.hasTag(\"a\")", "ip(\"::1\").isLoopback()"] {
        let text = format!(
            "permit (principal, action, resource); forbid (principal, action, resource) when {{ {condition} }};"
        );
        let entities = Entities::new();
        let policies = Policies::parse(&text);
        let refusals =
            ask(&statement.statement.request, Purpose::Finance, &node("paris"), Some(&entities), policies.as_ref());
        assert_eq!(refusals, BTreeSet::from(["policy-error".to_owned()]), "{condition}");
    }
    let template = "permit (principal == ?principal, action, resource);";
    for text in [template, "permit ("] {
        assert!(Policies::parse(text).is_none(), "{text}");
    }
}

#[test]
fn patterns_match_as_people_read_them() {
    let yes = [("*", ""), ("a*", "a"), ("*a*b", "xxaayb"), ("é*", "éa"), (r"\**", "*a")];
    let no = [("", "a"), ("a*", "ba"), ("*a*b", "xxaaybc"), (r"\*", "a"), ("ab", "abc")];
    for ((pattern, project), expected) in
        yes.into_iter().map(|one| (one, true)).chain(no.into_iter().map(|one| (one, false)))
    {
        let text = format!("permit (principal, action, resource) when {{ \"{project}\" like \"{pattern}\" }};");
        let entities = Entities::new();
        let request = request(DataClass::Public, &[Purpose::Finance]);
        let policies = Policies::parse(&text);
        let refusals = ask(&request, Purpose::Finance, &node("paris"), Some(&entities), policies.as_ref());
        assert_eq!(refusals.is_empty(), expected, "{project} like {pattern}");
    }
}
