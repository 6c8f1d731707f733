//! Tests of studies: the shipped ones are read, and every fault is told with its line and what would be allowed.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::path::Path;

use super::*;

fn shipped(path: &str) -> (String, String, PathBuf) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../studies").join(path);
    let text = std::fs::read_to_string(&folder).unwrap();
    (path.to_owned(), text, folder.parent().unwrap().to_owned())
}

fn read_shipped(path: &str, change: impl Fn(&str) -> String) -> Result<Arc<Plan>, StudyError> {
    let (file, text, folder) = shipped(path);
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).ok();
    parse(&file, &change(&text), &Files { read: &read, folder: folder.clone() })
}

#[test]
fn the_shipped_studies_are_read() {
    let plan = read_shipped("demo.toml", str::to_owned).unwrap();
    assert_eq!((plan.sites.len(), plan.homes.len(), plan.demands.len(), plan.days), (8, 4, 5, 365));
    // Ordered on the first of April, 90 days of lead time: there on the 30th of June.
    let kajaani = plan.sites.iter().find(|site| site.id.as_str() == "kajaani").unwrap();
    assert_eq!(kajaani.halls[2].from_us / crate::calendar::DAY_US, 31 + 28 + 31 + 90);
    let plan = read_shipped("tenfold/study.toml", str::to_owned).unwrap();
    assert_eq!((plan.sites.len(), plan.days), (24, 730));
    let plan = read_shipped("tenfold/year.toml", str::to_owned).unwrap();
    assert!(plan.sites.iter().all(|site| site.halls[0].accelerators == 10_000));
}

#[test]
fn faults_are_told_with_line_and_what_is_allowed() {
    let faults: [(&str, &str, &[&str]); 15] = [
        ("idle_w = 150", "idle_w = -150", &["idle_w", "from 0"]),
        ("idle_w = 150", "idle_watts = 150", &["unknown key `idle_watts`", "`idle_w`"]),
        ("active_w = 1_000", "active_w = 100", &["`active_w` is 100", "allowed are 150"]),
        ("days = 365", "days = 0", &["`days` is 0", "allowed are 1 to"]),
        ("begin = \"2026-01-01\"", "begin = \"2026-02-30\"", &["`begin` is `2026-02-30`", "2027-03-01"]),
        ("growth_percent_per_year = 60", "growth_percent_per_year = 20_000", &["20000", "0 to 10000"]),
        ("accelerator = \"large\" },", "accelerator = \"huge\" },", &["`accelerator` is `huge`", "`large`"]),
        ("rack_kw = 12, accelerator", "rack_kw = 3, accelerator", &["`rack_kw` is 3", "8 or more"]),
        ("until = \"2026-05-11\"", "until = \"2026-05-01\"", &["`until` is `2026-05-01`", "after `2026-05-04`"]),
        ("from = \"2026-05-04\"", "from = \"2025-05-04\"", &["outside the study", "2026-01-01 to 2027-01-01"]),
        ("kind = \"curtailment\"", "kind = \"blackout\"", &["`kind` is `blackout`", "`curtailment`"]),
        ("country = \"IT\"", "country = \"AQ\"", &["`country` is `AQ`", "`DE`"]),
        ("tenant = \"defence\"", "tenant = \"nobody\"", &["`tenant` is `nobody`", "`bank`"]),
        ("per_hour = 900", "trace = { format = \"azure-llm\", file = \"missing.csv\" }", &["missing.csv", "fetch"]),
        (
            "federation = \"../demo/federation.toml\"",
            "federation = \"nowhere.toml\"",
            &["nowhere.toml", "correct the path"],
        ),
    ];
    let (_, whole, _) = shipped("demo.toml");
    for (good, bad, told) in faults {
        assert!(whole.contains(good), "{good}");
        let error = read_shipped("demo.toml", |text| text.replacen(good, bad, 1)).unwrap_err();
        let line = whole[..whole.find(good).unwrap()].matches('\n').count() + 1;
        let message = error.to_string();
        assert!(told.iter().all(|part| message.contains(part)), "{bad}: {message}");
        // What is told of a whole factory points at it or at the value itself.
        assert!(message.starts_with(&format!("demo.toml:{line}:")), "{bad}, line {line}: {message}");
    }
}

#[test]
fn halls_that_wait_for_each_other_and_dates_out_of_order() {
    let hall = "lead_days = 90 }";
    let round = "lead_days = 90, after = \"batch-3\" },\n  { id = \"batch-3\", racks = 1, per_rack = 8, accelerator = \"large\", after = \"batch-2\" }";
    let error = read_shipped("demo.toml", |text| text.replacen(hall, round, 1)).unwrap_err().to_string();
    assert!(error.contains("circle") && error.contains("`batch-2`") && error.contains("`batch-3`"), "{error}");
    let early = "lead_days = 90 },\n  { id = \"batch-3\", racks = 1, per_rack = 8, accelerator = \"large\", after = \"batch-2\", ordered = \"2026-05-01\" }";
    let error = read_shipped("demo.toml", |text| text.replacen(hall, early, 1)).unwrap_err().to_string();
    assert!(error.contains("2026-05-01") && error.contains("2026-06-30"), "{error}");
    let small = |text: &str| text.replacen("contracted_kw = 100", "contracted_kw = 3", 1);
    let error = read_shipped("demo.toml", small).unwrap_err().to_string();
    assert!(error.contains("`contracted_kw` is 3"), "{error}");
}
