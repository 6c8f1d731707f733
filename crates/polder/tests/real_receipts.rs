//! Receipts of the running demo in forms that others verify: exported, verified by ours and by the commands of `docs/verify.md`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use support::demo::Demo;
use support::{Ended, run, skip, until};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A block of `docs/verify.md` in a language, the first that holds a word.
fn block(language: &str, word: &str) -> String {
    let page = std::fs::read_to_string(root().join("docs/verify.md")).unwrap();
    let fence = format!("```{language}\n");
    let blocks = page.split(&fence).skip(1).map(|rest| rest.split("\n```").next().unwrap());
    blocks.filter(|block| block.contains(word)).map(str::to_owned).next().unwrap()
}

fn shell(folder: &Path, script: &str) -> Ended {
    let mut command = Command::new("bash");
    command.current_dir(folder).env("GOCACHE", folder.join("go-cache")).args(["-euc", script]);
    run(&mut command)
}

fn export(demo: &Demo, what: &str, part: &str, format: &str, name: &str) -> PathBuf {
    let file = demo.around().join(name);
    let out = file.to_str().unwrap();
    let arguments = ["receipt", "export", what, "--tenant", "bank", "--part", part, "--format", format, "--out", out];
    let ended = demo.polder(&arguments);
    assert_eq!(ended.code, 0, "{ended:?}");
    file
}

fn verify(demo: &Demo, file: &Path, more: &[&str]) -> (i32, Value) {
    let mut command = support::polder(demo.around());
    command.args(["verify", "--offline", "-o", "json"]).arg(file).args(more);
    let ended = run(&mut command);
    (ended.code, ended.json())
}

fn strangers_agree(folder: &Path, changed: &Path) {
    let (python, go) = (block("python", "RFC 9162"), block("sh", "go build"));
    std::fs::write(folder.join("check.py"), python).unwrap();
    let by_python = block("sh", "check.py");
    std::fs::copy(root().join("verifiers/go/verify.go"), folder.join("verify.go")).unwrap();
    let mut ways = vec![by_python];
    if Command::new("go").arg("version").output().is_ok() {
        ways.push(go);
    } else {
        skip("docs/verify.md with Go", "golang-go and golang-golang-x-mod-dev are not installed");
    }
    for script in ways {
        let good = shell(folder, &script);
        assert_eq!(good.code, 0, "{good:?}");
        let kept = std::fs::read(changed).unwrap();
        let text = String::from_utf8(kept.clone()).unwrap();
        std::fs::write(changed, text.replacen("refused", "placed", 1)).unwrap();
        let bad = shell(folder, &script);
        assert!(bad.code != 0 && bad.stderr.contains("NOT verified"), "{bad:?}");
        std::fs::write(changed, kept).unwrap();
    }
}

/// With a witness's key the page's script wants its cosignature, which a checkpoint has within a second or so.
fn strangers_know_the_witnesses(demo: &Demo, id: &str) {
    let folder = demo.around();
    std::fs::copy(demo.dir.join("members.json"), folder.join("members.json")).unwrap();
    std::fs::write(folder.join("witnesses.py"), block("python", "import base64, hashlib, json")).unwrap();
    let script = block("sh", "witnesses.py");
    let ended = until("a cosigned checkpoint", || {
        export(demo, id, "decision", "tlog-proof", "refusal.tlog-proof");
        Some(shell(folder, &script)).filter(|ended| ended.code == 0)
    });
    assert!(ended.stdout.contains("ok: and cosigned by polder/kajaani/witness"), "{ended:?}");
    let file = folder.join("refusal.tlog-proof");
    let text = std::fs::read_to_string(&file).unwrap();
    let line = text.lines().find(|line| line.contains("polder/kajaani/witness")).unwrap();
    for bad in [text.replacen(&format!("{line}\n"), "", 1), text.replacen(line, &line.replace("kajaani", "lyon"), 1)] {
        std::fs::write(&file, bad).unwrap();
        let ended = shell(folder, &script);
        assert!(ended.code == 1 && ended.stderr.contains("NOT verified: and cosigned by"), "{ended:?}");
    }
    std::fs::write(&file, text).unwrap();
}

#[test]
fn a_stranger_checks_the_demos_receipts() {
    let demo = Demo::start();
    let placed = demo.polder(&["ask", "What is Polder?", "--tenant", "bank", "-o", "json"]);
    assert_eq!(placed.code, 0, "{placed:?}");
    let placed_id = placed.json()["decision"].as_str().unwrap().to_owned();
    let members = demo.dir.join("members.json");
    let members = ["--members", members.to_str().unwrap()];
    for (part, format) in
        [("decision", "tlog-proof"), ("execution", "tlog-proof"), ("decision", "cose"), ("execution", "cose")]
    {
        let file = export(&demo, &placed_id, part, format, &format!("{part}.{format}"));
        let (code, said) = verify(&demo, &file, &[]);
        assert_eq!((code, &said["verified"]), (0, &Value::Bool(true)), "{said}");
        let (code, said) = verify(&demo, &file, &members);
        assert!(code == 0 && said["passed"].as_array().unwrap().contains(&"members".into()), "{said}");
        let statement = std::fs::read(file.with_file_name(format!("{part}.{format}.statement"))).unwrap();
        let beyond = std::fs::metadata(&file).unwrap().len().saturating_sub(if format == "cose" {
            statement.len() as u64
        } else {
            0
        });
        // A decision's tables stand beside it, so that whoever has the file can derive it again; an execution has none.
        let tables = file.with_file_name(format!("{part}.{format}.tables"));
        assert_eq!(
            (tables.exists(), said["passed"].as_array().unwrap().contains(&"tables".into())),
            (part == "decision", part == "decision")
        );
        assert!(beyond <= 2_048, "{part} {format}: {beyond} bytes beside the statement");
    }
    let activation = export(&demo, "1", "activation", "tlog-proof", "policy.tlog-proof");
    assert_eq!(verify(&demo, &activation, &members).0, 0);

    for name in ["paris", "munich"] {
        assert_eq!(demo.polder(&["kill", name]).code, 0);
    }
    let refused = demo.polder(&["ask", "What is Polder?", "--tenant", "bank", "-o", "json"]);
    assert_eq!(refused.code, 3, "{refused:?}");
    let refused_id = refused.json()["decision"].as_str().unwrap().to_owned();
    let file = export(&demo, &refused_id, "decision", "tlog-proof", "refusal.tlog-proof");
    let statement = file.with_file_name("refusal.tlog-proof.statement");
    strangers_agree(demo.around(), &statement);
    strangers_know_the_witnesses(&demo, &refused_id);
    changed_files_are_named(&demo, &file);

    // A receipt's own file is enough for a proof, without the node; not for what the node would have to sign.
    let receipt = refused.json()["receipt"].as_str().unwrap().to_owned();
    let offline = export(&demo, &receipt, "decision", "tlog-proof", "offline.tlog-proof");
    assert_eq!(verify(&demo, &offline, &members).0, 0);
    let out = demo.around().join("no.cose");
    let no = demo.polder(&["receipt", "export", &receipt, "--format", "cose", "--out", out.to_str().unwrap()]);
    assert!(no.code == 2 && no.stderr.contains("signed by the node") && !out.exists(), "{no:?}");
}

/// Exit code 5, and the check that failed.
fn changed_files_are_named(demo: &Demo, file: &Path) {
    let with = |ending: &str| PathBuf::from(format!("{}{ending}", file.display()));
    let text = std::fs::read_to_string(file).unwrap();
    let index = text.lines().find(|line| line.starts_with("index ")).unwrap();
    let changes = [
        (file.to_path_buf(), text.replacen(index, &format!("{index}9"), 1), "inclusion"),
        (file.to_path_buf(), text.replacen("@v1", "@v2", 1), "format"),
        (with(".statement"), "{}".to_owned(), "statement"),
        (with(".dsse"), "{}".to_owned(), "signature"),
        (with(".tables"), r#"{"scores":[],"seals":[],"verdicts":[]}"#.to_owned(), "tables"),
        (with(".vkey"), "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW".to_owned(), "keys"),
    ];
    for (path, change, check) in changes {
        let kept = std::fs::read(&path).unwrap();
        std::fs::write(&path, change).unwrap();
        let (code, said) = verify(demo, file, &[]);
        assert_eq!((code, said["check"].as_str()), (5, Some(check)), "{said}");
        std::fs::write(&path, kept).unwrap();
    }
    let key = std::fs::read_to_string(with(".vkey")).unwrap();
    let policy = demo.around().join("policy");
    std::fs::write(&policy, format!("log {key}\nquorum none\n")).unwrap();
    assert_eq!(verify(demo, file, &["--policy", policy.to_str().unwrap()]).0, 0);
    std::fs::write(&policy, "quorum none\n").unwrap();
    let (code, said) = verify(demo, file, &["--policy", policy.to_str().unwrap()]);
    assert_eq!((code, said["check"].as_str()), (5, Some("keys")), "{said}");
}
