//! Tests of frameworks: scores against cases computed by hand and against the published table, bad files, and what facts
//! may and may not say.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use proptest::prelude::*;

use super::*;
use crate::facts::{Claim, Evidence, Fact, Held, Profile, SignedFact, Vendor, believe};
use crate::tests::{REGISTER, control, country, fact, key, node, operator, public, site, trust};

const CALCULATOR: &str = include_str!("../../../../frameworks/csf-calculator-2026-06-01.toml");
const OCTOBER: &str = include_str!("../../../../frameworks/csf-1.2.1-2025-10.toml");

fn calculator() -> &'static Framework {
    static CHECKED: OnceLock<Framework> = OnceLock::new();
    CHECKED.get_or_init(|| Framework::new(toml::from_str(CALCULATOR).unwrap(), None).unwrap())
}

fn october() -> Framework {
    Framework::new(toml::from_str(OCTOBER).unwrap(), Some(calculator())).unwrap()
}

fn id(objective: &str, criterion: u32) -> CriterionId {
    CriterionId { objective: objective.to_owned(), criterion }
}

/// The answer with the highest value to every criterion, or the first.
fn all(framework: &Framework, highest: bool) -> Answers {
    let number = |criterion: &Criterion| if highest { u32::try_from(criterion.answers.len()).unwrap() } else { 1 };
    framework.criteria().map(|(objective, one)| (CriterionId::of(objective, one), number(one))).collect()
}

fn total(framework: &Framework, answers: &str) -> (String, Option<u8>) {
    let score = score(framework, &parse_answers(framework, answers).unwrap());
    (score.score.to_string(), score.seal)
}

#[test]
fn the_shipped_calculator_is_whole() {
    let counts: Vec<usize> = calculator().objectives().iter().map(|one| one.criteria.len()).collect();
    assert_eq!(counts, [8, 6, 5, 6, 7, 5, 7, 4]);
    let weights: Vec<u32> = calculator().objectives().iter().map(|one| one.weight_percent).collect();
    assert_eq!(weights, [20, 10, 10, 15, 10, 15, 15, 5]);
    assert_eq!(calculator().criteria().map(|(_, criterion)| criterion.answers.len()).sum::<usize>(), 235);
    assert!(calculator().licence().contains("CC BY 4.0"));
    assert!(calculator().changes().contains("not endorsed"));
    let first = &calculator().objectives()[0].criteria[0];
    assert_eq!(first.answers.iter().map(|one| one.value_hundredths).collect::<Vec<_>>(), [0, 4_167, 8_334, 12_501]);
    assert_eq!(first.answers.iter().map(|one| one.seal).collect::<Vec<_>>(), [1, 1, 3, 4]);
}

#[test]
fn the_maximal_answer_is_not_clamped() {
    let score = score(calculator(), &all(calculator(), true));
    assert_eq!(score.score.to_string(), "100.0756");
    assert_eq!((score.seal, score.answered, score.criteria), (Some(4), 48, 48));
    // By hand: 3 × 125.01 + 5 × 125, times 20 %, over 1000.
    assert_eq!(score.objectives[0].score.to_string(), "20.0006");
    assert_eq!(score.objectives[0].values_hundredths, 100_003);
    let sum: u64 = score.objectives.iter().map(|one| one.score.0).sum();
    assert_eq!(Points(sum), score.score);
}

#[test]
fn the_lowest_answer_is_nothing_with_the_lowest_seal() {
    let score = score(calculator(), &all(calculator(), false));
    assert_eq!((score.score.to_string().as_str(), score.seal), ("0", Some(0)));
    assert_eq!(score.objectives[1].seal, Some(0));
    assert_eq!(score.objectives[4].seal, Some(0));
    assert_eq!(score.objectives[6].seal, Some(0));
}

#[test]
fn nothing_answered_is_zero_without_a_seal() {
    let score = score(calculator(), &Answers::new());
    assert_eq!((score.score, score.seal, score.answered), (Points(0), None, 0));
    assert!(score.objectives.iter().all(|one| one.seal.is_none() && one.score == Points(0) && one.criteria > 0));
}

#[test]
fn scores_are_those_computed_by_hand() {
    // 20 × 62.5 / 1000
    assert_eq!(total(calculator(), "SOV-1\t8\t3\n"), ("1.25".to_owned(), Some(2)));
    // 20 × (41.67 + 83) / 1000 + 5 × 187.5 / 1000 = 2.4934 + 0.9375
    assert_eq!(total(calculator(), "SOV-1\t1\t2\nSOV-1\t7\t3\nSOV-8\t1\t4"), ("3.4309".to_owned(), Some(1)));
    // 10 × (84 + 125.25) / 1000 + 15 × 35.75 / 1000 = 2.0925 + 0.53625
    assert_eq!(total(calculator(), "SOV-2\t1\t2\nSOV-2\t4\t4\nSOV-7\t2\t2\n"), ("2.62875".to_owned(), Some(1)));
}

#[test]
fn october_weighs_the_same_criteria_differently() {
    let october = october();
    let weights: Vec<u32> = october.objectives().iter().map(|one| one.weight_percent).collect();
    assert_eq!(weights, [15, 10, 10, 15, 20, 15, 10, 5]);
    let criteria = |framework: &Framework| -> Vec<Criterion> {
        framework.criteria().map(|(_, criterion)| criterion.clone()).collect()
    };
    assert_eq!(criteria(&october), criteria(calculator()));
    // 15 × 62.5 / 1000
    assert_eq!(total(&october, "SOV-1\t8\t3"), ("0.9375".to_owned(), Some(2)));
    // 15 × 1000.03 + 10 × 1002 + 10 × 1000 + 15 × 1002 + 20 × 1001 + 15 × 1000 + 10 × 1001 + 5 × 1000, over 1000
    assert_eq!(score(&october, &all(&october, true)).score.to_string(), "100.08045");
}

#[test]
fn answers_are_read_with_comments_and_blank_lines() {
    let text = "\u{feff}# objective, criterion, answer\r\n\r\nSOV-1\t8\t3\r\n  SOV-2 \t 1\t2 \n# end";
    let answers = parse_answers(calculator(), text).unwrap();
    assert_eq!(answers, BTreeMap::from([(id("SOV-1", 8), 3), (id("SOV-2", 1), 2)]));
    assert!(parse_answers(calculator(), "").unwrap().is_empty());
}

#[test]
fn bad_answers_name_their_line() {
    for (text, line, part) in [
        ("SOV-9\t1\t1", 1, "`SOV-9` is no objective"),
        ("sov-1\t1\t1", 1, "`sov-1` is no objective"),
        ("# x\n\nSOV-1\t9\t1", 3, "`9` is no criterion of SOV-1: use 1, 2"),
        ("SOV-1\t0\t1", 1, "`0` is no criterion"),
        ("SOV-1\t1\t5", 1, "`5` is no answer to SOV-1/1: use 1 to 4"),
        ("SOV-1\t1\t0", 1, "`0` is no answer"),
        ("SOV-1\t1\t-1", 1, "`-1` is no answer"),
        ("SOV-1\t1\t+1", 1, "`+1` is no answer"),
        ("SOV-1\t1\t", 1, "2 found"),
        ("SOV-1\t1\t99999999999999999999", 1, "is no answer"),
        ("SOV-1 1 1", 1, "separated by tabs; 1 found"),
        ("SOV-1\t1\t1\t1", 1, "4 found"),
        ("SOV-1\t1\t1\nSOV-1\t1\t2", 2, "answered twice, first in line 1"),
        ("SOV-1\t1\t1\nSOV-1\t1\t1", 2, "answered twice"),
    ] {
        let error = parse_answers(calculator(), text).unwrap_err();
        assert!(error.line == line && error.message.contains(part), "{text:?}: {error}");
    }
}

const SMALL: &str = r#"
id = "small-1"
title = "A small scheme"
source = "us"
licence = "CC0"
changes = "none"
[[objectives]]
id = "A"
name = "the first"
weight_percent = 60
  [[objectives.criteria]]
  number = 1
  asks = "Certified?"
  answers = [{ value_hundredths = 0, seal = 0, says = "no" }, { value_hundredths = 100000, seal = 4, says = "yes" }]
  rules = [{ answer = 2, when = [{ certified = "iso-27001" }, { cleared-by = "FR" }] }]
[[objectives]]
id = "B"
name = "the second"
weight_percent = 40
  [[objectives.criteria]]
  number = 2
  asks = "Open?"
  touches = ["model"]
  answers = [{ value_hundredths = 1, seal = 2, says = "somewhat" }]
"#;

fn checked(text: &str, base: Option<&Framework>) -> Result<Framework, String> {
    let raw: raw::Framework = toml::from_str(text).map_err(|e| e.message().to_owned())?;
    Framework::new(raw, base).map_err(|e| e.to_string())
}

#[test]
fn bad_frameworks_say_where() {
    assert!(checked(SMALL, None).is_ok());
    for (from, to, part) in [
        ("small-1", "Small 1", "id: `Small 1` is not an id"),
        ("\"A small scheme\"", "\"\"", "title: is empty"),
        ("= 60", "= 61", "add up to 101"),
        ("= 60", "= 4294967295", "not to 100"),
        ("= 60", "= -1", "invalid value"),
        ("id = \"B\"", "id = \"A\"", "A: stands here twice"),
        ("name = \"the first\"", "", "A: needs `name`"),
        ("number = 1", "number = 0", "A, criterion 0: numbers begin with 1"),
        ("seal = 4", "seal = 5", "A, criterion 1, answer 2: SEAL 5"),
        ("= 100000,", "= 100000001,", "A, criterion 1, answer 2: the value"),
        ("\"yes\"", "\" \"", "A, criterion 1, answer 2, says: is empty"),
        ("answer = 2", "answer = 3", "A, criterion 1, rule 1: answer 3 does not exist"),
        ("when = [{ certified = \"iso-27001\" }, { cleared-by = \"FR\" }]", "when = []", "rule 1, when: is empty"),
        ("iso-27001", "iso-1", "unknown variant"),
        ("\"FR\"", "\"XX\"", "`XX`"),
        ("[\"model\"]", "[\"moon\"]", "unknown variant"),
        ("weight_percent = 40", "weight_percent = 40\ncolour = 1", "unknown field"),
        ("changes = \"none\"", "changes = \"none\"\nbase = \"nowhere\"", "base: `nowhere` is not known"),
        ("[{ value_hundredths = 1, seal = 2, says = \"somewhat\" }]", "[]", "B, criterion 2, answers: is empty"),
    ] {
        assert!(SMALL.contains(from), "{from}");
        let said = checked(&SMALL.replacen(from, to, 1), None).unwrap_err();
        assert!(said.contains(part), "{to}: {said}");
    }
}

#[test]
fn a_base_gives_everything_but_weights() {
    let base = checked(SMALL, None).unwrap();
    let head =
        "id = \"small-2\"\ntitle = \"t\"\nsource = \"s\"\nlicence = \"l\"\nchanges = \"c\"\nbase = \"small-1\"\n";
    let with = |objectives: &str| checked(&format!("{head}objectives = [{objectives}]"), Some(&base));
    let fine = with("{ id = \"A\", weight_percent = 10 }, { id = \"B\", weight_percent = 90 }").unwrap();
    assert_eq!(fine.objectives()[0].criteria, base.objectives()[0].criteria);
    for (objectives, part) in [
        ("{ id = \"A\", weight_percent = 100 }", "B: stands in the base"),
        ("{ id = \"A\", weight_percent = 50 }, { id = \"C\", weight_percent = 50 }", "C: is no objective of the base"),
        ("{ id = \"A\", name = \"x\", weight_percent = 100 }", "A: comes from the base"),
        ("", "objectives: is empty"),
    ] {
        assert!(with(objectives).unwrap_err().contains(part), "{objectives}");
    }
    let other = Framework { id: "else".to_owned(), ..base.clone() };
    let text = format!("{head}objectives = [{{ id = \"A\", weight_percent = 100 }}]");
    assert!(checked(&text, Some(&other)).unwrap_err().contains("`small-1` is not known"));
}

fn chip(origin: &str, vendor: Vendor) -> Claim {
    Claim::Chip { vendor, origin: country(origin), accelerators: 8, capability: None }
}

/// A profile from claims by the register (class B) and by the factory itself (class C).
fn profile(attested: &[Claim], declared: &[Claim]) -> Profile {
    let sign = |claim: &Claim, evidence, issuer: &str, number| {
        SignedFact::sign(fact("paris", claim.clone(), evidence, issuer), &key(number)).unwrap()
    };
    let attested = attested.iter().map(|claim| sign(claim, Evidence::B, "register", REGISTER));
    let declared = declared.iter().map(|claim| sign(claim, Evidence::C, "paris", 10));
    let passport: Vec<SignedFact> = attested.chain(declared).collect();
    Profile::at(&believe(&node("paris"), &passport, &public(10), &[trust(Evidence::B)]), 1_500)
}

fn derived(attested: &[Claim], declared: &[Claim]) -> BTreeMap<String, (u32, Evidence)> {
    let found = derive(calculator(), &profile(attested, declared));
    found.into_iter().map(|(id, one)| (id.to_string(), (one.answer, one.evidence))).collect()
}

#[test]
fn facts_answer_what_they_really_say() {
    use Evidence::{B, C};
    let say = |list: &[(&str, u32, Evidence)]| -> BTreeMap<String, (u32, Evidence)> {
        list.iter().map(|(id, answer, evidence)| ((*id).to_owned(), (*answer, *evidence))).collect()
    };
    let european = [site("FR"), operator("FR"), control(&["FR", "DE"])];
    assert_eq!(
        derived(&european, &[chip("US", Vendor::Nvidia)]),
        say(&[("SOV-1/1", 4, B), ("SOV-2/1", 3, B), ("SOV-6/5", 2, C)])
    );
    // The operator's own word about its owners weakens everything that rests on it.
    assert_eq!(
        derived(&european[..2], &[control(&["FR"]), chip("ES", Vendor::Openchip)]),
        say(&[("SOV-1/1", 4, C), ("SOV-2/1", 3, C), ("SOV-6/5", 4, C)])
    );
    // A parent abroad; who governs the contracts is then not said.
    assert_eq!(derived(&[site("DE"), operator("DE"), control(&["DE", "US"])], &[]), say(&[("SOV-1/1", 2, B)]));
    // Abroad throughout; nobody owns the operator.
    assert_eq!(
        derived(&[site("US"), operator("US"), control(&[])], &[]),
        say(&[("SOV-1/1", 1, B), ("SOV-2/1", 1, B), ("SOV-2/2", 1, B), ("SOV-3/4", 1, B)])
    );
    // An owner abroad between two in the EU: a person must say.
    assert_eq!(derived(&[operator("DE"), control(&["US", "DE"])], &[]), say(&[]));
    // Norway is in the EEA and not in the EU.
    assert_eq!(derived(&[site("NO")], &[]), say(&[]));
    assert_eq!(derived(&[], &[]), say(&[]));
}

#[test]
fn contested_and_mixed_chips_answer_nothing() {
    let mixed = [chip("US", Vendor::Nvidia), chip("ES", Vendor::Openchip)];
    assert!(!derived(&[site("FR")], &mixed).contains_key("SOV-6/5"));
    let mut contested = profile(&[site("FR")], &[chip("ES", Vendor::Openchip)]);
    assert_eq!(derive(calculator(), &contested)[&id("SOV-6", 5)].answer, 4);
    let quarrel = contested.facts["site"].clone();
    let claim = chip("US", Vendor::Amd);
    let quarrel = Held { fact: Fact { claim, ..quarrel.fact }, ..quarrel };
    contested.contested.insert("chips/amd".to_owned(), vec![quarrel]);
    assert!(!derive(calculator(), &contested).contains_key(&id("SOV-6", 5)));
}

#[test]
fn other_schemes_may_read_certificates_and_clearances() {
    use crate::facts::Certification::{Iso27001, Secnumcloud};
    let small = checked(SMALL, None).unwrap();
    let cleared = Claim::Clearance { country: country("FR") };
    let found = derive(&small, &profile(&[Claim::Certification { scheme: Iso27001 }], std::slice::from_ref(&cleared)));
    let one = &found[&id("A", 1)];
    assert_eq!((one.answer, one.evidence), (2, Evidence::C));
    assert_eq!(one.facts, BTreeSet::from(["certifications/iso-27001".to_owned(), "clearances/FR".to_owned()]));
    assert!(derive(&small, &profile(&[Claim::Certification { scheme: Secnumcloud }, cleared], &[])).is_empty());
}

#[test]
fn coverage_counts_every_criterion_once() {
    let found = derive(calculator(), &profile(&[site("FR"), operator("FR")], &[control(&[]), chip("US", Vendor::Amd)]));
    assert_eq!(Coverage::of(calculator(), &found), Coverage { a: 0, b: 0, c: 3, nothing: 45 });
    assert_eq!(Coverage::of(calculator(), &Evidenced::new()), Coverage { nothing: 48, ..Coverage::default() });
    let trusted = trust(Evidence::A);
    let measured = fact("paris", site("US"), Evidence::A, "register");
    let passport = [SignedFact::sign(measured, &key(REGISTER)).unwrap()];
    let held = believe(&node("paris"), &passport, &public(10), &[trusted]);
    let found = derive(calculator(), &Profile::at(&held, 1_500));
    assert_eq!(Coverage::of(calculator(), &found), Coverage { a: 1, nothing: 47, ..Coverage::default() });
}

#[test]
fn where_hand_and_facts_differ_the_lower_counts() {
    let found = derive(calculator(), &profile(&[operator("DE"), control(&["DE", "US"])], &[]));
    assert_eq!(found[&id("SOV-1", 1)].answer, 2);
    for (by_hand, counts, differs, rests) in [(4, 2, true, true), (1, 1, true, false), (2, 2, false, true)] {
        let by_hand = Answers::from([(id("SOV-1", 1), by_hand), (id("SOV-1", 2), 5)]);
        let combined = combine(calculator(), &by_hand, &found);
        assert_eq!(combined.answers, Answers::from([(id("SOV-1", 1), counts), (id("SOV-1", 2), 5)]));
        assert_eq!(combined.differing.contains(&id("SOV-1", 1)), differs);
        assert_eq!(combined.evidenced.contains_key(&id("SOV-1", 1)), rests);
    }
}

/// The SEALs of the calculator for a request that touches these parts.
fn seals_of(profile: &Profile, parts: &[Touch]) -> FrameworkSeals {
    let frameworks = std::slice::from_ref(calculator());
    seals(frameworks, profile, &parts.iter().copied().collect()).pop().unwrap()
}

fn assessment(objective: &str, criterion: u32, answer: u32) -> Claim {
    let framework = "csf-calculator-2026-06-01".to_owned();
    Claim::Assessment { framework, objective: objective.to_owned(), criterion, answer }
}

#[test]
fn for_a_request_a_touched_criterion_without_evidence_is_seal_0() {
    let known = [site("FR"), operator("FR"), control(&["FR"])];
    // The route touches one criterion only, which no fact answers: the calculator's reading would pass over it.
    let route = seals_of(&profile(&known, &[]), &[Touch::Route]);
    assert_eq!(route.declared["SOV-3"], 0);
    assert!(route.declared.values().all(|seal| *seal == 0), "what is not touched shows nothing");
    let answered = [&known[..], &[assessment("SOV-3", 4, best("SOV-3", 4))]].concat();
    let route = seals_of(&profile(&answered, &[]), &[Touch::Route]);
    assert_eq!((route.declared["SOV-3"], route.attested["SOV-3"], route.measured["SOV-3"]), (4, 4, 0));
    let own_word = seals_of(&profile(&known, &[assessment("SOV-3", 4, best("SOV-3", 4))]), &[Touch::Route]);
    assert_eq!((own_word.declared["SOV-3"], own_word.attested["SOV-3"]), (4, 0));
    // With the model one more criterion of the objective counts, and nobody answered it.
    assert_eq!(seals_of(&profile(&answered, &[]), &[Touch::Route, Touch::Model]).attested["SOV-3"], 0);
    assert_eq!(route.digest, calculator().digest());
}

/// The number of the answer with the highest SEAL.
fn best(objective: &str, criterion: u32) -> u32 {
    let answers = &calculator().criterion(&id(objective, criterion)).unwrap().answers;
    let place = (0..answers.len()).max_by_key(|place| answers[*place].seal).unwrap();
    u32::try_from(place + 1).unwrap()
}

#[test]
fn of_an_assessment_and_a_rule_the_lower_counts() {
    let abroad = [operator("DE"), control(&["DE", "US"])];
    let one = |assessed: u32| {
        let all = [&abroad[..], &[assessment("SOV-1", 1, assessed)]].concat();
        derive(calculator(), &profile(&all, &[]))[&id("SOV-1", 1)].answer
    };
    assert_eq!((one(4), one(1)), (2, 1));
    let unknown = profile(&[assessment("SOV-1", 1, 99), assessment("SOV-99", 1, 1)], &[]);
    assert!(derive(calculator(), &unknown).is_empty(), "an answer that does not exist is none");
}

#[test]
fn what_a_request_touches_leads_to_criteria() {
    let touched = |parts: &[Touch]| calculator().touched_by(&parts.iter().copied().collect());
    assert_eq!(touched(&[Touch::Route]), BTreeSet::from([id("SOV-3", 4)]));
    assert_eq!(touched(&[Touch::Model, Touch::Route]), BTreeSet::from([id("SOV-3", 4), id("SOV-3", 5)]));
    assert!(touched(&[Touch::Operator]).contains(&id("SOV-1", 1)));
    assert!(touched(&[]).is_empty());
}

#[test]
fn points_print_exactly() {
    for (points, text) in [(0, "0"), (1, "0.00001"), (100_000, "1"), (10_007_560, "100.0756"), (1_000_000, "10")] {
        assert_eq!(Points(points).to_string(), text);
    }
}

fn some_answers() -> impl Strategy<Value = Answers> {
    let each: Vec<_> = calculator()
        .criteria()
        .map(|(objective, criterion)| {
            let (id, last) = (CriterionId::of(objective, criterion), u32::try_from(criterion.answers.len()).unwrap());
            (0..=last).prop_map(move |answer| (id.clone(), answer))
        })
        .collect();
    each.prop_map(|all| all.into_iter().filter(|(_, answer)| *answer > 0).collect())
}

proptest! {
    #[test]
    fn one_more_answer_never_lowers_the_count_or_the_score_nor_raises_the_seal(answers in some_answers(), place in 0..48_usize) {
        let whole = score(calculator(), &answers);
        let mut fewer = answers.clone();
        let Some(gone) = answers.keys().nth(place % answers.len().max(1)).cloned() else { return Ok(()) };
        fewer.remove(&gone);
        let less = score(calculator(), &fewer);
        prop_assert_eq!(less.answered + 1, whole.answered);
        prop_assert!(less.score <= whole.score);
        prop_assert!(whole.seal.unwrap() <= less.seal.unwrap_or(SEAL_MAX));
        prop_assert_eq!(whole.seal, whole.objectives.iter().filter_map(|one| one.seal).min());
    }

    #[test]
    fn answers_survive_their_own_notation(answers in some_answers()) {
        let lines = answers.iter().map(|(id, answer)| format!("{}\t{}\t{answer}\n", id.objective, id.criterion));
        prop_assert_eq!(parse_answers(calculator(), &lines.collect::<String>()).unwrap(), answers);
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in "[SOV0-9\\t\\n# -]{0,80}") {
        drop(parse_answers(calculator(), &text));
    }
}
