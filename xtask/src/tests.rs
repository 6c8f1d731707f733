//! Tests of the task list: names are unique, help is there, and a wrong name says what to do.

use super::*;

fn args(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

#[test]
fn every_task_is_listed_once_and_has_help() {
    for task in TASKS {
        assert_eq!(TASKS.iter().filter(|other| other.name == task.name).count(), 1, "{}", task.name);
        assert!(overview().contains(task.summary));
        assert!(task.help.starts_with(&format!("Usage: cargo xtask {}", task.name)), "{}", task.name);
        assert!(task.help.contains("Example"), "{}", task.name);
        dispatch(&args(&[task.name, "--help"])).unwrap();
    }
}

#[test]
fn an_unknown_task_is_a_usage_error() {
    let failure = dispatch(&args(&["polish"])).unwrap_err();
    assert_eq!(failure.exit_code(), 2);
    assert!(failure.to_string().contains("`polish`"));
    assert!(failure.to_string().contains("cargo xtask"));
}
