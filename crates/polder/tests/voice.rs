//! The command's voice: every help text and the main errors, word for word, with their exit codes.
//!
//! A change here is a change for users: review it with `cargo insta review`, or `INSTA_UPDATE=always`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use support::{Folder, polder, run};

const COMMANDS: [&str; 32] = [
    "demo", "up", "ask", "why", "replay", "decide", "run", "jobs", "logs", "cancel", "rerun", "explain", "usage",
    "policy", "framework", "receipt", "verify", "factories", "status", "log", "hold", "node-key", "audit", "kill",
    "key", "token", "budget", "doctor", "facts", "drill", "twin", "completions",
];

/// What a person sees: the line they typed, both outputs, and the exit code; the folder of this test taken out.
fn said(arguments: &[&str]) -> String {
    let folder = Folder::new();
    std::fs::write(folder.path().join("broken.toml"), "node = \"here\"\nlisten = 7\n").unwrap();
    std::fs::write(folder.path().join("no-receipt.json"), "{}\n").unwrap();
    let ended = run(polder(folder.path()).env_remove("POLDER_CVC5").args(arguments));
    let words: Vec<String> = arguments
        .iter()
        .map(|word| if word.contains(' ') { format!("{word:?}") } else { (*word).to_owned() })
        .collect();
    let text = format!("$ polder {}\n{}{}[exit code {}]\n", words.join(" "), ended.stdout, ended.stderr, ended.code);
    text.replace(folder.path().to_str().unwrap(), "FOLDER")
}

#[test]
fn help() {
    let whole: String = std::iter::once(vec!["--help"])
        .chain(COMMANDS.iter().map(|command| vec![*command, "--help"]))
        .chain(["test", "prove", "diff", "activate", "history", "rollback"].map(|task| vec!["policy", task, "--help"]))
        .chain(["export", "forget"].map(|task| vec!["receipt", task, "--help"]))
        .chain(["put", "list", "lift"].map(|task| vec!["hold", task, "--help"]))
        .chain(["rotate", "revoke", "export"].map(|task| vec!["node-key", task, "--help"]))
        .chain(["keys", "monitor", "reconcile", "export"].map(|task| vec!["audit", task, "--help"]))
        .chain(["check", "changes", "day", "alarms"].map(|task| vec!["log", task, "--help"]))
        .chain(["init", "run", "grow", "calibrate"].map(|task| vec!["twin", task, "--help"]))
        .map(|arguments| said(&arguments) + "\n")
        .collect();
    for command in COMMANDS {
        assert!(whole.contains(&format!("\n  {command} ")), "`{command}` stands in the overview");
        assert!(said(&[command, "--help"]).contains("Example: polder "), "`{command}` has an example");
    }
    insta::assert_snapshot!(whole);
}

#[test]
fn errors() {
    let errors: [&[&str]; 23] = [
        &[],
        &["dance"],
        &["ask"],
        &["ask", "What is Polder?", "--colour", "orange"],
        &["ask", "What is Polder?"],
        &["ask", "What is Polder?", "--dir", "nowhere"],
        &["ask", "What is Polder?", "--max-tokens", "many"],
        &["why", "last"],
        &["kill", "paris"],
        &["status"],
        &["status", "--node", "http://127.0.0.1:9"],
        &["status", "--socket", "no.sock"],
        &["factories", "--node", "http://127.0.0.1:9", "--dir", "nowhere"],
        &["policy", "prove"],
        &["policy", "prove", "--claim", "the-moon"],
        &["policy", "prove", "--claim", "bank-never-errors", "--solver", "missing"],
        &["verify", "missing.json"],
        &["verify", "no-receipt.json"],
        &["verify", "no-receipt.json", "--members", "missing.json"],
        &["up"],
        &["up", "--config", "missing.toml"],
        &["up", "--config", "broken.toml"],
        &["up", "--config", "broken.toml", "--upstream", "http://127.0.0.1:9/v1"],
    ];
    let whole: String = errors.iter().map(|arguments| said(arguments) + "\n").collect();
    insta::assert_snapshot!(whole);
}

#[test]
fn errors_of_a_running_demo() {
    let demo = support::demo::Demo::start();
    let errors: [&[&str]; 6] = [
        &["ask", "What is Polder?", "--tenant", "nobody"],
        &["ask", "What is Polder?", "--tenant", "bank", "--project", "none"],
        &["ask", "What is Polder?", "--tenant", "bank", "--model", "none"],
        &["ask", "What is Polder?", "--tenant", "bank", "--class", "public"],
        &["kill", "atlantis"],
        &["why", "decision-00000000000000000000000000000000"],
    ];
    let whole: String = errors
        .iter()
        .map(|arguments| {
            let ended = demo.polder(arguments);
            format!("$ polder {}\n{}{}[exit code {}]\n\n", arguments.join(" "), ended.stdout, ended.stderr, ended.code)
        })
        .collect();
    insta::assert_snapshot!(whole);
}

#[test]
fn completions_for_every_shell() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let ended = run(polder(&std::env::temp_dir()).args(["completions", shell]));
        assert_eq!(ended.code, 0, "{shell}");
        for command in COMMANDS {
            assert!(ended.stdout.contains(command), "{shell}: {command}");
        }
    }
}

#[test]
fn a_reader_that_goes_away_is_no_crash() {
    let mut child = polder(&std::env::temp_dir())
        .args(["completions", "bash"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!errors.contains("panicked"), "{errors}");
}
