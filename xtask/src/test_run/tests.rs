//! Tests of the test task: its options, and that skipped tests are counted once.

use super::*;

fn args(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

#[test]
fn options_are_read() {
    let (only, skip_install) = options(&args(&["--only", "fmt", "--skip-install", "--only", "doc"])).unwrap();
    assert_eq!(only, ["fmt", "doc"]);
    assert!(skip_install);
    for bad in [&["--only"][..], &["--only", "dance"], &["--fast"]] {
        assert_eq!(options(&args(bad)).unwrap_err().exit_code(), 2, "{bad:?}");
    }
}

#[test]
fn every_step_stands_in_the_help() {
    for (name, _) in STEPS {
        assert!(HELP.contains(&format!("\n  {name} ")), "{name}");
    }
}

#[test]
fn skipped_tests_are_counted_once() {
    let file = std::env::temp_dir().join(format!("polder-skips-{}", std::process::id()));
    forget(&file).unwrap();
    std::fs::write(&file, "sdk_node: no npm\nsdk_python: no network\n\nsdk_node: no npm\n").unwrap();
    assert_eq!(read_skips(&file), ["sdk_node: no npm", "sdk_python: no network"]);
    forget(&file).unwrap();
    assert!(read_skips(&file).is_empty());
    std::fs::remove_file(&file).unwrap();
}

#[test]
fn a_failed_step_makes_the_task_fail() {
    assert!(conclude("", &[], &[]).is_ok());
    let failure = conclude("", &[], &["fmt", "doc"]).unwrap_err();
    assert!(failure.to_string().contains("--only fmt --only doc"));
}
