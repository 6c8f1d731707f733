//! Tests of the README: its blocks are read rightly, and they print what the README says.

use std::path::PathBuf;

use super::session::Session;
use super::*;
use crate::process;

fn block(lines: &str) -> String {
    format!("# Title\n\n```console\n{lines}\n```\n")
}

fn expected(lines: &[&str]) -> Vec<String> {
    lines.iter().map(|line| (*line).to_owned()).collect()
}

#[test]
fn commands_and_their_output_are_read() {
    let steps =
        parse(&block("$ cargo run --release -- ask --tenant bank \"two words\"\nplaced\n\n$ echo $?\n0")).unwrap();
    assert_eq!(steps.len(), 2);
    let args = expected(&["ask", "--tenant", "bank", "two words"]);
    assert_eq!(steps[0].action, Action::Polder { args, background: false });
    assert_eq!(steps[0].expected, expected(&["placed", ""]));
    assert_eq!(steps[1].action, Action::EchoStatus);
    let steps = parse(&block("$ polder demo &\nready")).unwrap();
    assert_eq!(steps[0].action, Action::Polder { args: expected(&["demo"]), background: true });
}

#[test]
fn what_cannot_run_is_named() {
    for bad in ["$ polder status | head", "$ curl localhost", "output first"] {
        assert_eq!(parse(&block(bad)).unwrap_err()[0].line, 4, "{bad}");
    }
    assert!(parse("```console no-run: it stays up\n$ curl x\n```\n").unwrap().is_empty());
    assert_eq!(parse("```console no-run:\n$ curl x\n```\n").unwrap_err()[0].line, 1);
    assert!(parse("```sh\n$ curl x\n```\n").unwrap().is_empty());
}

#[test]
fn what_differs_from_run_to_run_is_made_equal() {
    let same = [
        ("ready in 812 ms", "ready in 1.2 ms"),
        ("ready (0.8 s)", "ready (12 s)"),
        ("took 3ms.", "took 14ms."),
        ("http://127.0.0.1:8080/v1", "http://127.0.0.1:40123/v1"),
        ("decision-0123456789abcdef0123456789abcdef", "decision-fedcba9876543210fedcba9876543210"),
        ("receipt 4f2a9c01", "receipt 00112233"),
        ("key sk-polder-Ab3dEf6hIj9kLm2n-Zz9", "key sk-polder-Zy8xWv7uTs6rQp5o-Aa1"),
        ("at 2026-11-22T09:30:00Z,", "at 2027-01-02T10:11:12.5Z,"),
        ("key q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQ", "key AbC+/Rw2eJCrze8SNFZ4kKvN7xI0Vw=="),
        ("paris      yes", "paris  yes"),
        ("/tmp/polder-demo-41234/x", "/tmp/polder-demo-987/x"),
    ];
    for (a, b) in same {
        assert_eq!(normal::line(a), normal::line(b));
    }
    for (a, b) in [
        ("4 homes", "5 homes"),
        ("placed in paris", "placed in munich"),
        ("class-b", "class-c"),
        ("context 512", "context 1024"),
    ] {
        assert_ne!(normal::line(a), normal::line(b));
    }
}

#[test]
fn dots_stand_for_any_lines_and_a_difference_is_shown() {
    assert_eq!(normal::difference(&expected(&["a", "...", "z", ""]), "a\nb\nc\nz\n"), None);
    assert_eq!(normal::difference(&expected(&["a", "..."]), "a\n"), None);
    let message = normal::difference(&expected(&["a", "b"]), "a\nc\n").unwrap();
    assert!(message.contains("line 2") && message.contains("printed: c"), "{message}");
}

/// Runs a README against a shell that stands in for the binary.
#[cfg(unix)]
fn told_by_a_shell(lines: &str) -> Vec<Result<(), String>> {
    let home = std::env::temp_dir();
    let mut session = Session::new("README.md", std::path::Path::new("/bin/sh"), &home);
    parse(&block(lines)).unwrap().iter().map(|step| session.run(step)).collect()
}

#[cfg(unix)]
#[test]
fn a_session_remembers_what_came_before() {
    let told = told_by_a_shell(
        "$ export NAME=polder\n$ polder -c 'echo $NAME; echo aside >&2; exit 3'\npolder\naside\n$ echo $?\n3\n\
         $ polder -c 'echo ready; exec sleep 60' &\nready\n$ polder -c 'echo other'\nsame",
    );
    assert_eq!(told.len(), 5);
    assert!(told[..4].iter().all(Result::is_ok), "{told:?}");
    let message = told[4].as_ref().unwrap_err();
    assert!(message.starts_with("README.md:12: ") && message.contains("README:  same"), "{message}");
}

#[cfg(unix)]
#[test]
fn what_a_page_shows_stands_for_what_was_printed() {
    let told = told_by_a_shell(
        "$ polder -c 'echo \"at http://127.0.0.1:4711/v1 key polder-0123456789abcdef.\"'\n\
         at http://127.0.0.1:8080/v1 key polder-fedcba9876543210.\n\
         $ export BASE=http://127.0.0.1:8080\n$ export KEY=polder-fedcba9876543210.\n\
         $ polder -c 'test $BASE = http://127.0.0.1:4711 && test $KEY = polder-0123456789abcdef. && echo same'\nsame",
    );
    assert!(told.iter().all(Result::is_ok), "{told:?}");
}

#[test]
fn a_file_of_a_page_is_a_step() {
    let steps = parse(
        "```python app.py\nprint(1)\n\nprint(2)\n```\n```python\nno file\n```\n```console\n$ python app.py\n1\n```\n",
    );
    let steps = steps.unwrap();
    let file = Action::File { name: "app.py".to_owned(), text: "print(1)\n\nprint(2)\n".to_owned() };
    assert_eq!(steps[0].action, file);
    assert_eq!(steps[1].action, Action::Client { program: Program::Python, script: "app.py".to_owned() });
    assert_eq!((steps.len(), &steps[1].expected), (2, &vec!["1".to_owned()]));
}

#[cfg(unix)]
#[test]
fn the_folder_of_a_session_is_shown_as_the_default_one() {
    let told = told_by_a_shell(
        "$ polder -c 'echo \"$XDG_STATE_HOME/polder/demo-1-2/demo.json\"'\n~/.local/state/polder/demo-1-2/demo.json",
    );
    assert!(told.iter().all(Result::is_ok), "{told:?}");
}

#[cfg(unix)]
#[test]
fn a_line_with_control_c_interrupts() {
    let told = told_by_a_shell(
        "$ polder -c 'trap \"echo stopped; exit 4\" INT; echo ready; while true; do sleep 0.05; done'\nready\n^C\n\
         stopped\n$ echo $?\n4",
    );
    assert!(told.iter().all(Result::is_ok), "{told:?}");
}

#[test]
fn the_readme_prints_what_it_says() {
    prints_what_it_says("README.md");
}

/// From nothing to a proved policy in force. It needs the solver.
#[test]
fn the_policy_page_prints_what_it_says() {
    if !process::works(std::process::Command::new("cvc5").arg("--version")) {
        return skip("the_policy_page_prints_what_it_says", "cvc5 is not on the PATH");
    }
    prints_what_it_says("docs/policy.md");
}

/// Applications that move by a variable. It needs the clients.
#[test]
fn the_migration_page_prints_what_it_says() {
    if has_clients("the_migration_page_prints_what_it_says") {
        prints_what_it_says("docs/migrate.md");
    }
}

/// A batch from a file to its answers. It needs the clients.
#[test]
fn the_batches_page_prints_what_it_says() {
    if has_clients("the_batches_page_prints_what_it_says") {
        prints_what_it_says("docs/batches.md");
    }
}

/// Whether the clients' environment is there; where it is not, the test is skipped and counted.
fn has_clients(test: &str) -> bool {
    let missing = ["POLDER_TEST_PYTHON", "POLDER_TEST_NODE_DIR"].iter().any(|name| std::env::var_os(name).is_none());
    if missing {
        let told = std::env::var("POLDER_TEST_SKIP_REASON");
        skip(test, &told.unwrap_or_else(|_| "run it with `cargo xtask test`".to_owned()));
    }
    !missing
}

#[test]
fn the_planning_page_prints_what_it_says() {
    prints_what_it_says("docs/plan.md");
}

#[test]
fn the_page_about_jobs_prints_what_it_says() {
    prints_what_it_says("docs/jobs.md");
}

#[test]
fn the_keys_page_prints_what_it_says() {
    prints_what_it_says("docs/keys.md");
}

#[test]
fn the_audit_page_prints_what_it_says() {
    prints_what_it_says("docs/audit.md");
}

#[test]
fn the_retention_page_prints_what_it_says() {
    prints_what_it_says("docs/retention.md");
}

#[test]
fn the_page_about_a_nodes_keys_prints_what_it_says() {
    prints_what_it_says("docs/node-keys.md");
}

#[test]
fn the_page_about_who_may_call_what_prints_what_it_says() {
    prints_what_it_says("docs/authorisation.md");
}

/// Notes that a test could not run, and why, where `cargo xtask test` counts it.
fn skip(name: &str, reason: &str) {
    use std::io::Write as _;
    eprintln!("skipped: {name}: {reason}");
    let Some(path) = std::env::var_os("POLDER_TEST_SKIPS") else { return };
    let mut file = std::fs::File::options().append(true).create(true).open(path).unwrap();
    writeln!(file, "{name}: {reason}").unwrap();
}

fn prints_what_it_says(page: &str) {
    let root = process::root().unwrap();
    let text = std::fs::read_to_string(root.join(page)).unwrap();
    let steps = parse(&text).unwrap();
    assert!(!steps.is_empty(), "`{page}` has no console block that runs");
    let binary = binary();
    assert!(binary.is_file(), "`{}` is missing, run `cargo build --release` first", binary.display());
    let name = page.replace(['/', '.'], "-");
    let home = std::env::temp_dir().join(format!("polder-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&home).unwrap();
    let mut session = Session::new(page, &binary, &home);
    let failures: Vec<String> = steps.iter().filter_map(|step| session.run(step).err()).collect();
    drop(session);
    std::fs::remove_dir_all(&home).unwrap();
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

/// The binary beside this test, built in the same profile.
fn binary() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let folder = test.parent().and_then(std::path::Path::parent).unwrap();
    folder.join(format!("polder{}", std::env::consts::EXE_SUFFIX))
}
