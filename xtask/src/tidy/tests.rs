//! Tests of tidy: this repository is tidy, and each check finds what it is for in a small bad tree.

use super::tree::Crate;
use super::*;

const HEADER: &str = "//! A file of a test, with a header that is long enough to say something.\n";

/// A Rust file with a header.
fn with_header(code: &str) -> String {
    format!("{HEADER}{code}")
}

/// What one check says about a tree, one line for each finding.
fn said(check: fn(&Tree) -> Vec<Finding>, files: &[(&str, &str)]) -> Vec<String> {
    check(&Tree::of(files)).iter().map(ToString::to_string).collect()
}

/// Checks that there is one finding, at a place, which contains a text.
fn one(found: &[String], place: &str, part: &str) {
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(found[0].starts_with(&format!("{place}: ")), "{found:#?}");
    assert!(found[0].contains(part), "{found:#?}");
    assert!(found[0].contains("\n  next: "), "{found:#?}");
}

#[test]
fn the_repository_is_tidy() {
    let tree = Tree::read(&process::root().unwrap()).unwrap();
    assert!(tree.crates().len() >= 5);
    let found: Vec<String> = findings(&tree).iter().map(ToString::to_string).collect();
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn rust_that_cannot_be_read_is_found() {
    one(&said(rust::check, &[("a.rs", "//! x\n\nfn f( {}\n")]), "a.rs:3", "not readable");
}

fn member(name: &str, normal: &[&str], other: &[&str]) -> Crate {
    let own = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let manifest = format!("crates/{name}/Cargo.toml");
    Crate { name: name.to_owned(), manifest, normal: own(normal), other: own(other) }
}

#[test]
fn forbidden_arrows_are_found() {
    let crates = |crates: Vec<Crate>| {
        arrows::check(&Tree::default().with_crates(crates)).iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert!(crates(vec![member("polder-node", &["polder-core", "tokio"], &[])]).is_empty());
    one(
        &crates(vec![member("polder-twin", &["polder-node"], &[])]),
        "crates/polder-twin/Cargo.toml:1",
        "must not depend on `polder-node`",
    );
    one(
        &crates(vec![member("polder-core", &[], &["polder-twin"])]),
        "crates/polder-core/Cargo.toml:1",
        "`polder-twin`",
    );
    one(&crates(vec![member("polder", &["xtask"], &[])]), "crates/polder/Cargo.toml:1", "`xtask`");
    one(&crates(vec![member("polder-extra", &[], &[])]), "crates/polder-extra/Cargo.toml:1", "new crate");
}

#[test]
fn manifests_are_read() {
    let bad = said(manifests::check, &[("crates/a/Cargo.toml", "[lints]\nrust.unsafe_code = \"allow\"\n")]);
    one(&bad, "crates/a/Cargo.toml:1", "lints");
    assert!(said(manifests::check, &[("crates/a/Cargo.toml", "[lints]\nworkspace = true\n")]).is_empty());
    let tree = Tree::default().with_crates(vec![member("polder-core", &["serde", "reqwest"], &["proptest"])]);
    let found: Vec<String> = manifests::check(&tree).iter().map(ToString::to_string).collect();
    one(&found, "crates/polder-core/Cargo.toml:1", "`reqwest`");
}

#[test]
fn impure_code_in_the_core_is_found() {
    let core = |code: &str| said(purity::check, &[("crates/polder-core/src/a.rs", &with_header(code))]);
    let bad = [
        ("use std::collections::HashMap;", "`HashMap`"),
        ("use std::{cmp, time::{Duration, Instant}};", "`std::time::Instant`"),
        ("use std::{fs, fmt};", "`std::fs`"),
        ("fn f() { let _ = std::env::var(\"A\"); }", "`std::env`"),
        ("fn f(x: u32) -> bool { x as f64 > g() }", "`f64`"),
        ("const A: u32 = (0.5 as u32);", "fraction `0.5`"),
        ("async fn f() {}", "`async fn f`"),
        ("fn f() { let _ = async { 1 }; }", "`async` block"),
        ("fn f() { g!(std::thread::yield_now()); }", "`std::thread`"),
        ("fn f() { g!(1.5); }", "fraction `1.5`"),
        ("fn f() { println!(\"x\"); }", "`println`"),
        ("macro_rules! a { () => {} }\nmacro_rules! b { () => {} }", "second `macro_rules!`"),
    ];
    for (code, part) in bad {
        let found = core(code);
        assert!(!found.is_empty(), "{code}");
        assert!(found.iter().any(|line| line.contains(part)), "{code}: {found:?}");
    }
    one(&core("\nuse std::net::IpAddr;"), "crates/polder-core/src/a.rs:3", "`std::net`");
}

#[test]
fn pure_code_and_tests_of_the_core_are_free() {
    let code = "use std::time::Duration;\nuse std::collections::BTreeMap;\nfn f() { let _ = env!(\"A\"); }\n\
        #[cfg(test)]\nmod inline { use std::collections::HashMap; async fn f() {} }\n";
    assert!(said(purity::check, &[("crates/polder-core/src/a.rs", &with_header(code))]).is_empty());
    let free = with_header("use std::time::SystemTime;");
    assert!(said(purity::check, &[("crates/polder-core/src/a/tests.rs", &free)]).is_empty());
    assert!(said(purity::check, &[("crates/polder-node/src/a.rs", &free)]).is_empty());
}

#[test]
fn missing_and_empty_headers_are_found() {
    one(&said(headers::check, &[("a.rs", "fn f() {}\n")]), "a.rs:1", "does not begin");
    one(&said(headers::check, &[("a.rs", "//! Too short.\n")]), "a.rs:1", "too little");
    assert!(said(headers::check, &[("a.rs", HEADER), ("b.rs", "//! Two lines.\n//! Enough.\n")]).is_empty());
}

/// A function of so many lines in a method of a type.
fn long_function(lines: usize) -> String {
    with_header(&format!("struct S;\nimpl S {{\nfn long() {{\n{}}}\n}}\n", "f();\n".repeat(lines - 2)))
}

#[test]
fn long_functions_and_files_are_found() {
    assert!(said(lengths::check, &[("a.rs", &long_function(70))]).is_empty());
    one(&said(lengths::check, &[("a.rs", &long_function(71))]), "a.rs:4", "`a.rs::S::long` has 71 lines");
    assert!(said(lengths::check, &[("a/tests.rs", &long_function(99))]).is_empty());
    let long = with_header(&"\n".repeat(500));
    one(&said(lengths::check, &[("a.rs", &long)]), "a.rs:1", "501 lines");
    assert!(said(lengths::check, &[("crates/a/tests/real.rs", &long)]).is_empty());
}

#[test]
fn the_ratchet_may_only_shrink() {
    let with = |lines: usize, entry: &str| {
        let ratchet = format!("[function_lines]\n\"a.rs::S::long\" = {entry}\n");
        said(lengths::check, &[("a.rs", &long_function(lines)), ("xtask/tidy-ratchet.toml", &ratchet)])
    };
    assert!(with(80, "80").is_empty());
    one(&with(81, "80"), "a.rs:4", "grew from 80 to 81");
    one(&with(79, "80"), "xtask/tidy-ratchet.toml:2", "lower it to 79");
    one(&with(70, "80"), "xtask/tidy-ratchet.toml:2", "remove it");
    one(&with(70, "\"many\""), "xtask/tidy-ratchet.toml:2", "not understood");
    one(&said(lengths::check, &[("xtask/tidy-ratchet.toml", "[x\n")]), "xtask/tidy-ratchet.toml:1", "not TOML");
}

#[test]
fn names_that_say_nothing_are_found() {
    one(&said(names::check, &[("crates/a/src/utils.rs", HEADER)]), "crates/a/src/utils.rs:1", "`utils`");
    one(&said(names::check, &[("docs/common/a.md", "")]), "docs/common/a.md:1", "`common`");
    for (code, word) in [
        ("struct LeaseManager;", "manager"),
        ("fn parse_helper() {}", "helper"),
        ("mod policy_v2 {}", "v2"),
        ("struct TicketV3;", "v3"),
        ("struct S; impl S { fn util() {} }", "util"),
    ] {
        one(&said(names::check, &[("a.rs", &with_header(code))]), "a.rs:2", &format!("`{word}`"));
    }
    let fine = "fn commonly() {}\nmod v1 {}\nstruct Utility;\nuse x::CommonName;\n";
    assert!(said(names::check, &[("crates/a/src/decide.rs", &with_header(fine))]).is_empty());
}

#[test]
fn unsafe_code_has_one_place() {
    let code = with_header("#![allow(unsafe_code)]\n");
    one(&said(lifted::check, &[("crates/polder/src/a.rs", &code)]), "crates/polder/src/a.rs:2", "`unsafe_code`");
    let hidden = with_header("mod m { #[cfg_attr(unix, allow(unsafe_code))] fn f() {} }\n");
    one(&said(lifted::check, &[("a.rs", &hidden)]), "a.rs:2", "`unsafe_code`");
    assert!(said(lifted::check, &[("crates/polder-node/src/engine/mapped.rs", &code)]).is_empty());
    assert!(said(lifted::check, &[("a.rs", &with_header("#![deny(unsafe_code)]\n"))]).is_empty());
}

#[test]
fn only_tests_may_unwrap() {
    let code = with_header("fn f() {\n    #[allow(clippy::unwrap_used)]\n    g();\n}\n");
    one(&said(lifted::check, &[("a.rs", &code)]), "a.rs:3", "`unwrap_used`");
    let hidden = with_header("#![cfg_attr(not(test), allow(clippy::panic))]\n");
    one(&said(lifted::check, &[("a.rs", &hidden)]), "a.rs:2", "`panic`");
    let inline = with_header(
        "#![cfg_attr(test, allow(clippy::panic))]\n#[cfg(test)]\nmod t { #![allow(clippy::unwrap_used)] }\n",
    );
    assert!(said(lifted::check, &[("a.rs", &inline), ("a/tests.rs", &code)]).is_empty());
}

#[test]
fn open_marks_and_machine_paths_are_found() {
    let mark = ["TO", "DO"].concat();
    one(&said(marks::check, &[("a.md", &format!("fine\n{mark}: more\n"))]), "a.md:2", &mark);
    assert!(said(marks::check, &[("a.md", &format!("MAS{mark}R todo!\n"))]).is_empty());
    let merge = ["<<<<", "<<< HEAD"].concat();
    one(&said(marks::check, &[("a.rs", &format!("//! x\n{merge}\n"))]), "a.rs:2", "unfinished merge");
    let path = ["/ho", "me/ada/x"].concat();
    one(&said(marks::check, &[("a.toml", &format!("dir = \"{path}\"\n"))]), "a.toml:1", "path of one machine");
    assert!(said(marks::check, &[("a.md", &format!("https://example.org{path} ~{path}\n"))]).is_empty());
    let lock = "{\n  \"resolved\": \"https://example.org/a.tgz\"\n}\n";
    one(&said(marks::check, &[("clients/node/package-lock.json", lock)]), "clients/node/package-lock.json:2", "host");
}

#[test]
fn console_blocks_that_cannot_run_are_found() {
    one(&said(console::check, &[("README.md", "# P\n```console\n$ curl x\n```\n")]), "README.md:3", "`curl x`");
    assert!(said(console::check, &[("README.md", "```console\n$ polder status\n...\n```\n")]).is_empty());
}

#[test]
fn architecture_names_must_exist() {
    let code = with_header("pub struct Tree;\npub fn decide() {}\npub enum E { Gone }\nids! { NodeId, \"node\"; }\n");
    let of =
        |text: &str| said(architecture::check, &[("crates/polder-core/src/a.rs", &code), ("ARCHITECTURE.md", text)]);
    let fine = "`crates/polder-core`, `a.rs`, `crates/polder-core/src/`, `Tree`, `decide()`, `a::decide`, `HashMap`, \
        `std::fs`, `polder demo`, `/v1/models`, `labels`, `E::Gone`, `NodeId`\n```\n`Nothing`\n```\n";
    assert!(of(fine).is_empty(), "{:?}", of(fine));
    one(&of("x\n`Forest`\n"), "ARCHITECTURE.md:2", "an item");
    one(&of("`judge()`\n"), "ARCHITECTURE.md:1", "an item");
    one(&of("`a::judge`\n"), "ARCHITECTURE.md:1", "an item");
    one(&of("`crates/polder-moon/`\n"), "ARCHITECTURE.md:1", "a path");
}

#[test]
fn links_must_lead_somewhere() {
    let of = |text: &str| said(links::check, &[("docs/a.md", text), ("docs/b.md", "# One thing\n"), ("LICENSE", "x")]);
    let fine = "[b](b.md) [c](b.md#one-thing) [l](../LICENSE) [w](https://example.org) [d](../docs/) `[c](d)` [`b`](b.md)\n```\n[x](y)\n```\n";
    assert!(of(fine).is_empty(), "{:?}", of(fine));
    one(&of("\n[b](c.md)\n"), "docs/a.md:2", "no file");
    one(&of("[b](b.md#two)\n"), "docs/a.md:1", "no heading `#two`");
    one(&of("[out](../../x)\n"), "docs/a.md:1", "no file");
    one(&of("[name]: gone.md\n"), "docs/a.md:1", "no file");
}

#[test]
fn a_route_that_the_authorisation_table_does_not_name_is_found() {
    let table = "[[routes]]\nmethod = \"GET\"\npath = \"/a\"\n";
    let code = |routes: &str| with_header(&format!("fn router() -> Router {{\n    Router::new(){routes}\n}}\n"));
    let said = |routes: &str| {
        let code = code(routes);
        said(routes::check, &[("clients/authorisation.toml", table), ("crates/polder-node/src/a.rs", &code)])
    };
    assert!(said(".route(\"/a\", axum::routing::get(list)).layer(x)").is_empty());
    assert!(said(".route(\"/a\", { let node = node(); get(move || async {}) })").is_empty());
    let second = said(".route(\"/a\", get(list).post(create).fallback(other))");
    one(&second, "crates/polder-node/src/a.rs:3", "`POST /a` stands in no row");
    one(&said(".merge(others)"), "clients/authorisation.toml:3", "no router has `GET /a`");
    let hidden = said(".route(\"/a\", get(list)).nest(\"/b\", others)");
    one(&hidden, "crates/polder-node/src/a.rs:3", "hidden");
    let computed = said(".route(\"/a\", get(list)).route(PATH, get(list))");
    one(&computed, "crates/polder-node/src/a.rs:3", "not written out");
}

#[test]
fn log_fields_that_are_not_on_the_list_are_found() {
    let list =
        ("crates/polder-node/src/log_fields.rs", "//! x\npub const LOG_FIELDS: &[&str] = &[\"error\", \"lost\"];\n");
    let of = |code: &str| said(logged::check, &[list, ("crates/a/src/lib.rs", &with_header(code))]);
    let good = "fn f() { tracing::warn!(%error, lost = all.len(), \"gone, all of it\"); }";
    assert_eq!(of(good), Vec::<String>::new());
    let place = "crates/a/src/lib.rs:2";
    one(&of("fn f() { tracing::warn!(prompt, \"gone\"); }"), place, "`prompt`");
    one(&of("fn f() { select! { a => tracing::warn!(?prompt.text, \"gone\") } }"), place, "`prompt.text`");
    one(&of("fn f() { tracing::warn!(answer = %error, \"gone\"); }"), place, "`answer`");
    one(&of("fn f() { tracing::warn!(\"gone: {prompt}\"); }"), place, "hole");
    one(&of("fn f() { tracing::warn!(%error); }"), place, "without a message");
    one(&of("use tracing::warn;"), place, "`tracing::warn`");
    one(&of("#[tracing::instrument] fn f() {}"), place, "`tracing::instrument`");
}
