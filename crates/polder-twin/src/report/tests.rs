//! Tests of the report: it stands alone, says what it is made from, and every form tells the same figures.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::engine::Engine;
use crate::engine::plan::Plan;
use crate::study::{Files, parse};

fn report(days: u64, name: &str) -> Report {
    let studies = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../studies");
    let text = std::fs::read_to_string(studies.join("demo.toml")).unwrap();
    let read = |name: &str| std::fs::read_to_string(studies.join(name)).ok();
    let plan = parse("demo.toml", &text, &Files { read: &read, folder: studies.clone() }).unwrap();
    let mut engine = Engine::new(Arc::new(Plan { days, ..Plan::clone(&plan) }), 1).unwrap();
    engine.run_until(u64::MAX).unwrap();
    let made = Made {
        name: name.to_owned(),
        file: "demo.toml".to_owned(),
        study_digest: "abc".to_owned(),
        seed: 7,
        whole: false,
        band_per_mille: Some(23),
        wrong_rows: vec![("bank-questions".to_owned(), 2, vec!["line 4 is <odd>".to_owned()])],
    };
    Report::new(made, engine.outcome())
}

#[test]
fn the_page_stands_alone() {
    let page = report(40, "A <script>alert(1)</script> & more").html();
    assert!(page.starts_with("<!doctype html>") && page.ends_with("</html>\n"));
    for outside in ["http:", "https:", "//", "<script", "<link", "@import", "url(", "src="] {
        assert!(!page.contains(outside), "{outside}");
    }
    assert_eq!(page.matches("<svg").count(), 5);
    for told in ["demo.toml", "seed 7", "± 2.3 %", "interrupted", "line 4 is &lt;odd&gt;", "kajaani", "SEAL-"] {
        assert!(page.contains(told), "{told}");
    }
}

#[test]
fn json_and_csv_tell_the_same() {
    let report = report(40, "Demo");
    let json = report.json();
    assert_eq!(json["months"], json!(["2026-01", "2026-02"]));
    let csv = report.csv();
    let rows: Vec<Vec<&str>> = csv.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(rows.len(), 1 + 2 * 8);
    let place = rows[0].iter().position(|head| *head == "grid_kwh").unwrap();
    let paris = json["factories"].as_array().unwrap().iter().find(|site| site["factory"] == "paris").unwrap();
    let february = rows.iter().find(|row| row[..2] == ["2026-02", "paris"]).unwrap();
    assert_eq!(february[place], paris["months"][1]["grid_kwh"].to_string());
    assert!(paris["whole"]["grid_kwh"].as_u64().unwrap() > 1_000);
    assert!(paris["from"].as_str().unwrap().starts_with("demo.toml:"));
    let bank = &json["demands"][0];
    let sum =
        |key: &str| bank["months"].as_array().unwrap().iter().map(|month| month[key].as_u64().unwrap()).sum::<u64>();
    assert_eq!(bank["asked"].as_u64().unwrap(), sum("asked"));
    assert!(bank["work"]["first_token"]["p95_ms"].as_u64().unwrap() > 0);
}
