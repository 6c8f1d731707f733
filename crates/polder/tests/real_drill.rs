//! `polder drill` and `polder twin grow` from outside: a demo's receipts decided again with a vendor gone, with the nodes and from files,
//! and a plan that is found, written out and run.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use serde_json::{Value, json};
use support::demo::Demo;
use support::{Folder, polder, run};

const CHAT: &str = "/v1/chat/completions";

fn ask(demo: &Demo, tenant: &str, project: &str, times: usize) {
    let body =
        json!({"model": "polder-toy", "messages": [{"role": "user", "content": "What is Polder?"}], "max_tokens": 4});
    for _ in 0..times {
        let reply = demo.endpoint(tenant, project).post(CHAT, &body);
        assert!(reply.header("polder-decision").is_some());
    }
}

fn share<'v>(report: &'v Value, tenant: &str, class: &str) -> &'v Value {
    let shares = report["shares"].as_array().unwrap();
    shares.iter().find(|one| one["tenant"] == tenant && one["class"] == class).unwrap_or_else(|| panic!("{report}"))
}

#[test]
fn a_demos_receipts_are_decided_again_without_a_vendor() {
    let demo = Demo::start();
    ask(&demo, "bank", "customer-service", 5);
    ask(&demo, "bank", "website", 4);
    let report = demo.around().join("drill.html");
    // A log shows what its checkpoint covers, which the next round of witnesses publishes.
    let found = support::until("every decision is published", || {
        let begun = std::time::Instant::now();
        let drilled =
            demo.polder(&["drill", "--without", "vendor=nvidia", "-o", "json", "--report", report.to_str().unwrap()]);
        // What if, asked of a federation that runs: its nodes are read and the answer is there within five seconds.
        assert!(begun.elapsed() < std::time::Duration::from_secs(5), "{:?}", begun.elapsed());
        let found = (drilled.code == 0).then(|| drilled.json());
        found.filter(|found| found["work"]["without_execution"] == 0 && found["decided_again"].as_u64() >= Some(9))
    });
    // Everything came out again as it was: the same code, policies and facts.
    assert!(found["decided_again"].as_u64().unwrap() >= 9, "{found}");
    assert_eq!((&found["decided_again"], found["unread"].as_u64()), (&found["came_out_the_same"], Some(0)));
    // Customers' data of the bank may run in Paris and Munich alone; public data goes on elsewhere.
    let customers = share(&found, "bank", "customer");
    assert_eq!((customers["runs_ppm"].as_u64(), customers["stops_by_policy"]["requests"].as_u64()), (Some(0), Some(5)));
    assert_eq!(customers["without_execution"], 0, "factories' logs were read too");
    let public = share(&found, "bank", "public");
    assert_eq!((public["runs_ppm"].as_u64(), public["elsewhere"]["requests"].as_u64()), (Some(1_000_000), Some(4)));
    let dropped: Vec<&str> =
        found["drops"].as_array().unwrap().iter().filter_map(|drop| drop["factory"].as_str()).collect();
    assert!(dropped.contains(&"munich") && !dropped.contains(&"kajaani"), "{dropped:?}");
    let savings = found["savings"].as_array().unwrap();
    assert!(savings.iter().any(|saving| saving["factory"] == "kajaani" || saving["factory"].is_null()), "{savings:?}");
    assert!(std::fs::read_to_string(&report).unwrap().contains("vendor=nvidia"));
    // From files, where no node is: the same figures, but for places that only nodes tell.
    let files: Vec<String> = ["bank-home", "munich", "virginia"]
        .iter()
        .map(|node| {
            let file = demo.around().join(format!("{node}.json")).display().to_string();
            let exported = demo.polder(&["audit", "export", node, "--out", &file]);
            assert_eq!(exported.code, 0, "{exported:?}");
            file
        })
        .collect();
    let folder = Folder::new();
    let offline = |more: &[&str]| run(polder(folder.path()).arg("drill").args(more).args(&files).args(["-o", "json"]));
    let again = offline(&["--without", "vendor=nvidia"]);
    assert_eq!(again.code, 0, "{}", again.stderr);
    assert_eq!(share(&again.json(), "bank", "customer")["stops_by_policy"], customers["stops_by_policy"]);
    // One decision altered in the file does not come out.
    let mut file: Value = serde_json::from_slice(&std::fs::read(&files[0]).unwrap()).unwrap();
    let rows = file["statements"].as_array_mut().unwrap();
    let placed =
        rows.iter_mut().find(|row| row["statement"].as_str().unwrap().contains("\"factory\":\"munich\",\"facts\""));
    let row = placed.unwrap();
    row["statement"] = row["statement"]
        .as_str()
        .unwrap()
        .replace("\"factory\":\"munich\",\"facts\"", "\"factory\":\"krakow\",\"facts\"")
        .into();
    std::fs::write(&files[0], file.to_string()).unwrap();
    let altered = offline(&["--without", "vendor=nvidia"]);
    assert!(altered.code == 5 && altered.stderr.contains("do not come out"), "{}", altered.stderr);
    let wrong = offline(&["--without", "vendor=acme"]);
    assert!(wrong.code == 2 && wrong.stderr.contains("vendors are amd"), "{}", wrong.stderr);
}

#[test]
fn a_study_without_a_country_and_a_plan_that_is_found_and_run() {
    let folder = Folder::new();
    assert_eq!(run(polder(folder.path()).args(["twin", "init", "plans"])).code, 0);
    let path = folder.path().join("plans/studies/demo.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let text = text.split("[[events]]").next().unwrap().replace("days = 365", "days = 90");
    let growth = "[growth]\ntimes = 1\nserved_percent = 50\nbudget_keur = 30_000\npower_kw_max = 4_000\n[[growth.options]]\nid = \"more\"\n\
racks = 4\nper_rack = 8\naccelerator = \"large\"\nvendor = \"amd\"\nlead_days = 20\nmost = 2\ncost_keur = 500\ngrid_kw = 50\n";
    std::fs::write(&path, format!("{text}\n{growth}").replace("days = 90", "days = 4")).unwrap();
    let study = path.display().to_string();
    // Nothing could be there in time: refused with the line.
    let late = run(polder(folder.path()).args(["twin", "grow", &study]));
    assert!(
        late.code == 2 && late.stderr.contains("demo.toml:") && late.stderr.contains("20 days later"),
        "{}",
        late.stderr
    );
    let short = text.replace("days = 90", "days = 4");
    std::fs::write(&path, &short).unwrap();
    let none = run(polder(folder.path()).args(["twin", "grow", &study]));
    assert!(none.code == 2 && none.stderr.contains("[growth]"), "{}", none.stderr);
    let drilled = run(polder(folder.path())
        .args(["drill", "--study", &study, "--without", "country=FR", "--without", "country=DE", "-o", "json"]));
    assert_eq!(drilled.code, 0, "{}", drilled.stderr);
    assert_eq!(share(&drilled.json(), "bank", "customer")["runs_ppm"], 0);
    let dates = run(
        polder(folder.path()).args(["drill", "--study", &study, "--without", "country=FR", "--from", "2027-01-01"])
    );
    assert!(dates.code == 2 && dates.stderr.contains("2026-01-05"), "{}", dates.stderr);
    std::fs::write(&path, format!("{text}\n{growth}")).unwrap();
    let out = folder.path().join("plans/studies/grown.toml");
    let grown = run(polder(folder.path()).args([
        "twin",
        "grow",
        &study,
        "--plans",
        "40",
        "--step",
        "24",
        "-o",
        "json",
        "--out",
        out.to_str().unwrap(),
        "--report",
        "front.html",
    ]));
    assert_eq!(grown.code, 0, "{}", grown.stderr);
    let found = grown.json();
    assert_eq!((found["reached"].as_bool(), found["tried"].as_u64()), (Some(true), Some(40)));
    assert!(std::fs::read_to_string(folder.path().join("front.html")).unwrap().contains("<circle"));
    // What was written can be run.
    std::fs::write(&out, std::fs::read_to_string(&out).unwrap().replace("days = 90", "days = 30")).unwrap();
    let ran = run(polder(folder.path()).args([
        "drill",
        "--study",
        out.to_str().unwrap(),
        "--without",
        "factory=paris",
        "--until",
        "2026-01-03",
    ]));
    assert_eq!(ran.code, 0, "{}", ran.stderr);
}
