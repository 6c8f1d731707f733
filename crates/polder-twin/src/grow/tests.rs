//! Tests of growth: coarse load is close to the engine, and a search keeps to its limits, repeats, and finds a known best.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::expect_used)]

use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::engine::{Engine, plan::Plan};
use crate::study::{Files, parse};

fn study(name: &str, change: impl Fn(String) -> String) -> Arc<Plan> {
    let studies = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../studies");
    let path = studies.join(name);
    let text = change(std::fs::read_to_string(&path).unwrap());
    let folder = path.parent().unwrap().to_owned();
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).ok();
    parse(name, &text, &Files { read: &read, folder: folder.clone() }).unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn coarse_load_is_close_to_the_engine() {
    let plan = study("demo.toml", |text| text);
    let plan = Arc::new(Plan { days: 120, ..Plan::clone(&plan) });
    let mut engine = Engine::new(Arc::clone(&plan), 2).unwrap();
    engine.run_until(u64::MAX).unwrap();
    let (exact, coarse) = (engine.outcome(), coarse::run(&plan, coarse::STEP_H));
    let close = |what: &str, one: u128, other: u128, percent: f64| {
        let off = (one as f64 / other as f64 - 1.0).abs() * 100.0;
        assert!(off < percent, "{what}: {one} and {other}, {off} %");
    };
    let mut whole = crate::engine::meter::Figures::default();
    coarse.sites.iter().for_each(|site| whole.add(site));
    close("energy", whole.grid_nj, exact.whole().grid_nj, 2.0);
    close("cost", whole.cost_microeur, exact.whole().cost_microeur, 3.0);
    close("accelerators", whole.used_us[0], exact.whole().used_us[0], 3.0);
    for (demand, served) in exact.demands.iter().zip(&coarse.demands) {
        if demand.used_for == crate::engine::plan::Use::Batch {
            close(&demand.id, served.done_us, demand.tally.work_us, 5.0);
        }
    }
}

const GROWTH: &str = "[growth]\ntimes = 2\nbudget_keur = 30_000\npower_kw_max = 4_000\n\
[[growth.options]]\nid = \"more\"\nracks = 24\nper_rack = 8\naccelerator = \"large\"\nvendor = \"amd\"\nlead_days = 60\nmost = 2\ncost_keur = 5_000\ngrid_kw = 260\n";

fn growing(limits: &str) -> Arc<Plan> {
    study("demo.toml", |text| {
        let text = text.split("[[events]]").next().unwrap().replace("days = 365", "days = 270");
        // Demand for batch work that doubles.
        let text = text.replace("growth_percent_per_year = 60\nsizes", "growth_percent_per_year = 300\nsizes");
        let text = text.replace("growth_percent_per_year = 40\nsizes", "growth_percent_per_year = 300\nsizes");
        format!("{text}\n{}", GROWTH.replace("times = 2\n", limits))
    })
}

#[test]
fn a_search_keeps_to_its_limits_and_repeats() {
    let plan = growing("times = 2\nvendor_share_percent_max = 80\n");
    let ground = Ground::new(&plan, 24).unwrap();
    let front = search(&ground, 5, 96, 2, &mut |_| true).unwrap();
    assert_eq!(front.tried, 96);
    assert!(front.reached, "{:?}", front.plans);
    for (genes, score) in &front.plans {
        assert!(score.misses.is_empty() && score.times_percent >= 200 && score.served_percent >= 95, "{score:?}");
        let orders = ground.orders(genes);
        assert_eq!(score.build_keur, orders.iter().map(|order| order.cost_keur).sum::<u64>());
        assert!(score.build_keur <= 30_000 && score.power_kw <= 4_000 && score.vendor_percent <= 80);
        assert!(orders.iter().all(|order| order.there.as_str() < "2026-09-28"), "{orders:?}");
        assert!(!front.plans.iter().any(|(_, other)| other.beats(score)));
    }
    assert_eq!(front, search(&ground, 5, 96, 1, &mut |_| true).unwrap());
    assert_ne!(front.plans, search(&ground, 6, 96, 2, &mut |_| true).unwrap().plans);
    // A search that is ended early still gives what it has.
    let early = search(&ground, 5, 96, 1, &mut |tried| tried < 32).unwrap();
    assert!(!early.whole && early.tried == 32 && !early.plans.is_empty());
    let page = page(&ground, &front, "Growth");
    assert!(page.contains("<circle") && !page.contains("http://"));
}

#[test]
fn what_cannot_be_reached_says_what_it_misses() {
    let plan = growing("times = 50\n");
    let ground = Ground::new(&plan, 24).unwrap();
    let front = search(&ground, 5, 40, 1, &mut |_| true).unwrap();
    assert!(!front.reached && front.plans.len() == 1);
    assert!(
        front.plans[0].1.misses.iter().any(|limit| limit.name == "times" && limit.must == 5_000),
        "{:?}",
        front.plans
    );
}

/// With few options everything can be tried: the search finds what that finds.
#[test]
fn a_search_finds_the_best_of_a_small_space() {
    let plan = growing("times = 2\n");
    let mut plan = Plan::clone(&plan);
    let growth = plan.growth.as_mut().unwrap();
    growth.options.retain(|option| option.site < 3);
    growth.options.iter_mut().for_each(|option| option.from_us = 180 * DAY_US);
    growth.times_percent = 130;
    let ground = Ground::new(&plan, 24).unwrap();
    let slots: Vec<u8> = ground.growth.options.iter().map(|option| ground.slots(option)).collect();
    assert!(slots.iter().all(|slots| *slots == 0), "{slots:?}");
    let mut best: Option<Score> = None;
    for number in 0..27_u8 {
        let genes: Genes = vec![(number % 3, 0), (number / 3 % 3, 0), (number / 9, 0)];
        let score = ground.score(&genes);
        let key = |score: &Score| (score.misses_ppm(), score.objectives()[0]);
        if best.as_ref().is_none_or(|best| key(&score) < key(best)) {
            best = Some(score);
        }
    }
    let front = search(&ground, 1, 27, 1, &mut |_| true).unwrap();
    let found = front.plans.iter().map(|(_, score)| score.objectives()[0]).min();
    assert_eq!(found, best.map(|best| best.objectives()[0]));
}

/// What is written out is read again, and comes to the same by coarse load.
#[test]
fn a_plan_written_into_its_study_is_that_plan() {
    let studies = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../studies");
    let text = std::fs::read_to_string(studies.join("demo.toml")).unwrap();
    let text = format!("{}\n{GROWTH}", text.split("[[events]]").next().unwrap());
    let plan = study("demo.toml", |_| text.clone());
    let ground = Ground::new(&plan, 24).unwrap();
    let mut genes: Genes = vec![(0, 0); ground.growth.options.len()];
    (genes[1], genes[4]) = ((2, 3), (1, 0));
    let grown = crate::study::lines_of("demo.toml", &text, &ground, &genes).unwrap();
    assert_eq!(grown.matches("id = \"more-2026").count(), 3);
    let again = study("demo.toml", |_| grown.clone());
    assert_eq!(coarse::run(&again, 24), coarse::run(&ground.built(&genes), 24));
}
