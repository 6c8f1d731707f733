//! Tests of job files: one that is good, and everything that is refused, with a word of its cause.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use super::*;

const GOOD: &str = r#"
[[jobs]]
name = "prepare"
resources = { cores = 4, memory_mib = 8192 }
run = { command = ["python3", "prepare.py"] }
inputs = [{ uri = "s3://data/set.tar", class = "internal", path = "in/set.tar" }]
wall_s = 600
cost_microeur_max = 1000000

[[jobs]]
name = "train"
priority = 80
resources = { accelerators = 8, accelerator_memory_gib_min = 80, bf16_tflops_min = 900, precisions = ["bf16"] }
run = { image = { image = "train@sha256:00", command = ["train"] } }
outputs = [{ path = "out", uri = "s3://models/run-1", class = "internal", bytes_max = 1000000000 }]
wall_s = 86400
checkpoint = "ckpt"
retries = 2
on_uncertain = "hold_for_human"
array = 4
after = ["prepare"]
cost_microeur_max = 500000000
"#;

#[test]
fn a_job_file_is_read() {
    let file = JobFile::parse(GOOD).unwrap();
    assert_eq!(file.order().unwrap(), [0, 1]);
    let train = &file.jobs[1];
    assert_eq!(train.resources.accelerators, 8);
    assert_eq!(train.on_uncertain, OnUncertain::HoldForHuman);
    assert_eq!((train.array, file.jobs[0].array, file.jobs[0].priority), (4, 1, 50));
}

/// Each row changes one thing of the good file, and names a word of the refusal.
#[test]
fn bad_files_are_refused_with_their_cause() {
    let rows = [
        ("wall_s = 600", "wall_s = 0", "wall_s"),
        ("wall_s = 600", "wall_s = 99999999", "wall_s"),
        ("wall_s = 600", "wall_s = -1", "-1"),
        ("cores = 4", "cores = -4", "-4"),
        ("cores = 4, memory_mib = 8192", "cores = 0", "asks for nothing"),
        ("cores = 4", "gpus = 4", "gpus"),
        ("retries = 2", "retries = 101", "retries"),
        ("array = 4", "array = 0", "array"),
        ("array = 4", "array = 10001", "tasks"),
        ("priority = 80", "priority = 101", "priority"),
        ("name = \"train\"", "name = \"prepare\"", "twice"),
        ("name = \"train\"", "name = \"Train it\"", "name"),
        ("after = [\"prepare\"]", "after = [\"elsewhere\"]", "elsewhere"),
        ("after = [\"prepare\"]", "after = [\"train\"]", "wait for each other"),
        ("in/set.tar\"", "../set.tar\"", "work folder"),
        ("in/set.tar\"", "/etc/passwd\"", "work folder"),
        ("in/set.tar\"", "in/../../x\"", "work folder"),
        ("in/set.tar\"", "C:x\"", "work folder"),
        ("checkpoint = \"ckpt\"", "checkpoint = \"~/c\"", "work folder"),
        ("@sha256:00", ":latest", "digest"),
        ("[\"python3\", \"prepare.py\"]", "[]", "empty"),
        ("class = \"internal\", path", "class = \"secret\", path", "secret"),
        ("on_uncertain = \"hold_for_human\"", "on_uncertain = \"perhaps\"", "perhaps"),
        ("cost_microeur_max = 500000000", "", "cost_microeur_max"),
        ("cost_microeur_max = 500000000", "cost_microeur_max = 999999999999999", "cost_microeur_max"),
        ("wall_s = 86400", "wall_s = 86400\nvendor = \"any\"", "vendor"),
    ];
    for (from, to, word) in rows {
        assert!(GOOD.contains(from), "{from}");
        let error = JobFile::parse(&GOOD.replacen(from, to, 1)).unwrap_err().to_string();
        assert!(error.contains(word), "`{to}` gave: {error}");
    }
}

#[test]
fn circles_of_any_length_are_found() {
    let job = |n: usize, after: usize| {
        GOOD.split("[[jobs]]").nth(1).map(|one| {
            format!("[[jobs]]{}\nafter = [\"j{after}\"]\n", one.replace("\"prepare\"", &format!("\"j{n}\"")))
        })
    };
    let text: String = (0..40).filter_map(|n| job(n, (n + 1) % 40)).collect();
    assert!(matches!(JobFile::parse(&text), Err(SpecError::Cycle(_))));
    let line: String = (0..39).filter_map(|n| job(n, n + 1)).collect();
    let last = GOOD.split("[[jobs]]").nth(1).unwrap().replace("\"prepare\"", "\"j39\"");
    let file = JobFile::parse(&format!("{line}[[jobs]]{last}")).unwrap();
    assert_eq!(file.order().unwrap().first(), Some(&39));
}

#[test]
fn amounts_are_taken_and_come_back() {
    let whole = Resources { accelerators: 8, cores: 64, memory_mib: 1000 };
    let part = Resources { accelerators: 2, cores: 32, memory_mib: 0 };
    let rest = whole.less(&part).unwrap();
    assert_eq!(rest.and(&part), whole);
    assert!(!part.holds(&whole));
    assert_eq!(part.dominant_share_ppm(&whole), 500_000);
    assert_eq!(part.dominant_share_ppm(&Resources::default()), 0);
}

#[test]
fn abilities_are_least_values() {
    let needs = JobFile::parse(GOOD).unwrap().jobs[1].resources.clone();
    let able = Abilities {
        accelerator_memory_gib: 80,
        bf16_tflops: 900,
        precisions: BTreeSet::from([Precision::Bf16, Precision::Fp8]),
    };
    assert!(needs.met_by(&able));
    assert!(!needs.met_by(&Abilities { accelerator_memory_gib: 79, ..able.clone() }));
    assert!(!needs.met_by(&Abilities { bf16_tflops: 899, ..able.clone() }));
    assert!(!needs.met_by(&Abilities { precisions: BTreeSet::new(), ..able }));
    assert!(Needs::default().met_by(&Abilities::default()));
}
