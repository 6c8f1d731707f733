//! Tests of a batch's parts on a real content store: lines, problems, the journal, and when a line waits.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::path::PathBuf;

use polder_core::ids::{ProjectId, TenantId};
use serde_json::json;

use super::journal::{Ended, Entry, Journal, part_of};
use super::line::{Patience, of_refusals, patience};
use super::lines::{Lines, check, request};
use super::*;
use crate::content::{ContentLimits, ContentStore, New};
use crate::store::Store;

const LINE_MAX: usize = 100_000;

/// A content store in a folder that goes with its owner.
struct Bench(PathBuf, ContentStore);

impl Drop for Bench {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

fn project() -> ProjectId {
    ProjectId::parse("loans").unwrap()
}

impl Bench {
    async fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("polder-batches-{}-{name}", std::process::id()));
        drop(std::fs::remove_dir_all(&folder));
        std::fs::create_dir_all(folder.join("keys")).unwrap();
        let store = Store::open(&folder.join("node.db")).await.unwrap();
        let limits = ContentLimits { bytes_max: 64 << 20, days: 30 };
        let tenant = TenantId::parse("bank").unwrap();
        let content = ContentStore::open(&folder, &tenant, limits, store, now_ms()).await.unwrap();
        Self(folder, content)
    }

    async fn lines(&self, text: &[u8]) -> Lines {
        let new = New { kind: Kind::File, project: project(), id: "f".to_owned(), note: Vec::new(), keep_ms: None };
        self.1.put(new, text, now_ms()).await.unwrap();
        let (_, reader) = self.1.reader(&project(), Kind::File, "f", now_ms()).await.unwrap().unwrap();
        Lines::new(reader, LINE_MAX)
    }

    async fn journal(&self, found: Vec<(u32, u32)>) -> Journal {
        Journal::open(self.1.clone(), project(), "batch_1".to_owned(), found).await.unwrap()
    }

    async fn parts(&self) -> Vec<(u32, u32)> {
        let mut parts = Journal::parts(&self.1, &project(), "batch_1").await.unwrap();
        parts.sort_unstable();
        parts
    }
}

async fn all(lines: &mut Lines) -> Vec<(u32, Option<usize>)> {
    let mut read = Vec::new();
    while let Some(line) = lines.next().await.unwrap() {
        read.push((line.number, line.bytes.map(|bytes| bytes.len())));
    }
    read
}

#[tokio::test]
async fn lines_are_read_whatever_their_ends_and_lengths() {
    let bench = Bench::new("lines").await;
    let long = "x".repeat(LINE_MAX);
    for (text, expected) in [
        (String::new(), vec![]),
        ("\n \n\r\n".to_owned(), vec![]),
        ("\u{feff}ab\nc".to_owned(), vec![(1, Some(2)), (2, Some(1))]),
        ("a\r\n\nbc\n".to_owned(), vec![(1, Some(2)), (3, Some(2))]),
        (format!("{long}\n{long}"), vec![(1, Some(LINE_MAX)), (2, Some(LINE_MAX))]),
        (format!("{long}y\nab\n{long}{long}{long}"), vec![(1, None), (2, Some(2)), (3, None)]),
    ] {
        let mut lines = bench.lines(text.as_bytes()).await;
        assert_eq!(all(&mut lines).await, expected, "{} bytes", text.len());
    }
}

fn line(custom_id: &str) -> Value {
    json!({"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": {"model": "canary"}})
}

#[tokio::test]
async fn wrong_lines_are_named_by_number_and_never_quoted() {
    let bench = Bench::new("wrong").await;
    let with = |name: &str, value: Value| {
        let mut line = line("canary");
        line[name] = value;
        line.to_string()
    };
    for (text, code, param) in [
        ("{\"custom_id\": \"canary\"".to_owned(), "invalid_json_line", None),
        ("[\"canary\"]".to_owned(), "invalid_json_line", None),
        ("{\"custom_id\":\"canary\",\"custom_id\":\"canary\"}".to_owned(), "invalid_json_line", None),
        (with("custom_id", json!(null)), "invalid_type", Some("custom_id")),
        (with("custom_id", json!("")), "invalid_value", Some("custom_id")),
        (with("custom_id", json!("x".repeat(513))), "invalid_value", Some("custom_id")),
        (with("method", json!("GET canary")), "invalid_method", Some("method")),
        (with("url", json!("/v1/canary")), "mismatched_url", Some("url")),
        (with("body", json!(["canary"])), "invalid_type", Some("body")),
        (with("canary", json!(1)), "unsupported_parameter", None),
    ] {
        let mut lines = bench.lines(format!("\n{text}").as_bytes()).await;
        let problem = request(&lines.next().await.unwrap().unwrap(), Endpoint::Chat).unwrap_err();
        assert_eq!((problem.code.as_str(), problem.param.as_deref(), problem.line), (code, param, Some(2)), "{text}");
        assert!(!problem.message.contains("canary"), "{}", problem.message);
    }
    let mut good = bench.lines(line("a").to_string().as_bytes()).await;
    let request = request(&good.next().await.unwrap().unwrap(), Endpoint::Chat).unwrap();
    assert_eq!((request.custom_id.as_str(), &request.body["model"]), ("a", &json!("canary")));
}

#[tokio::test]
async fn a_whole_file_is_looked_at_once() {
    let bench = Bench::new("check").await;
    let text = |ids: &[&str]| ids.iter().map(|id| format!("{}\n", line(id))).collect::<String>();
    let codes = async |text: String, most: u32| {
        let (total, problems) = check(&mut bench.lines(text.as_bytes()).await, Endpoint::Chat, most).await.unwrap();
        let said = |problem: super::record::Problem| (problem.code, problem.line);
        (total, problems.into_iter().map(said).collect::<Vec<_>>())
    };
    assert_eq!(codes(text(&["a", "b", "c"]), 3).await, (3, vec![]));
    assert_eq!(codes(text(&["a", "b", "a"]), 3).await.1, [("duplicate_custom_id".to_owned(), Some(3))]);
    assert_eq!(codes(text(&["a", "b", "c"]), 2).await.1, [("too_many_lines".to_owned(), None)]);
    assert_eq!(codes("\n\n".to_owned(), 2).await.1, [("empty_file".to_owned(), None)]);
    assert_eq!(codes("x\n".repeat(500), 1_000).await.1.len(), 32);
}

fn ended(number: u32) -> Entry {
    Entry::Ended(Ended { number, good: number & 1 == 0, text: format!("{{\"n\":{number}}}").into_bytes() })
}

/// The numbers of the lines that begin and end, in the journal's order.
async fn read(journal: &Journal) -> (Vec<u32>, Vec<u32>) {
    let (mut begun, mut ends, mut entries) = (Vec::new(), Vec::new(), journal.entries());
    while let Some(entry) = entries.next().await.unwrap() {
        match entry {
            Entry::Begun(lines) => begun.extend(lines),
            Entry::Left(lines) => begun.retain(|line| !lines.contains(line)),
            Entry::Ended(one) => {
                assert_eq!(one.text, format!("{{\"n\":{}}}", one.number).into_bytes());
                assert_eq!(one.good, one.number & 1 == 0);
                ends.push(one.number);
            }
        }
    }
    (begun, ends)
}

#[tokio::test]
async fn a_journal_says_after_a_crash_what_it_said_before() {
    let bench = Bench::new("journal").await;
    let mut journal = bench.journal(Vec::new()).await;
    for number in 0..63 {
        journal.write(&[ended(number), Entry::Begun(vec![number + 1, number + 2])]).await.unwrap();
        journal.put_together().await.unwrap();
    }
    assert_eq!(bench.parts().await.len(), 63);
    let before = read(&journal).await;
    journal.write(&[Entry::Left(vec![5])]).await.unwrap();
    let apart = bench.parts().await;
    journal.put_together().await.unwrap();
    assert_eq!(bench.parts().await, [(0, 63)]);
    // A crash before the old parts were removed leaves both: what was put together stands for them.
    let mut both = apart.clone();
    both.push((0, 63));
    let mut again = bench.journal(both).await;
    let (begun, ends) = read(&again).await;
    assert_eq!(ends, before.1);
    assert_eq!(begun.len(), before.0.iter().filter(|line| **line != 5).count());
    again.write(&[ended(100)]).await.unwrap();
    assert_eq!(bench.parts().await, [(0, 63), (64, 64)]);
    assert_eq!(read(&again).await.1.last(), Some(&100));
    again.remove().await.unwrap();
    assert_eq!(bench.parts().await, []);
}

#[test]
fn parts_are_known_by_their_ids() {
    assert_eq!(part_of("batch_1.00000002-00000065"), Some(("batch_1", (2, 65))));
    for odd in ["batch_1", "batch_1.2", "batch_1.a-b", "batch_1.-1-2"] {
        assert_eq!(part_of(odd), None, "{odd}");
    }
}

#[test]
fn a_line_waits_for_what_may_change_and_for_nothing_else() {
    let error =
        |status: u16, code: &str| patience(&ApiError::new(http::StatusCode::from_u16(status).unwrap(), code, "x"));
    assert_eq!(error(429, "no_capacity"), Patience::Long);
    assert_eq!(error(429, "rate_limit_exceeded"), Patience::Long);
    assert_eq!(error(429, "insufficient_quota"), Patience::None);
    assert_eq!(error(502, "engine_failed"), Patience::Little);
    assert_eq!(error(503, "ledger_unavailable"), Patience::Little);
    assert_eq!(error(400, "invalid_value"), Patience::None);
    let refusals = |entries: &[(&str, &str, &str)]| {
        let entry =
            |(factory, layer, rule): &(&str, &str, &str)| json!({"factory": factory, "layer": layer, "rule": rule});
        of_refusals(&entries.iter().map(entry).collect())
    };
    let away = ("a", "availability", "unreachable");
    assert_eq!(refusals(&[away, ("b", "owner", "no")]), Patience::Some);
    // What would not run it were it there is not waited for.
    assert_eq!(refusals(&[away, ("a", "owner", "no")]), Patience::None);
    assert_eq!(refusals(&[("a", "availability", "engine-failed"), ("b", "owner", "no")]), Patience::Little);
    assert_eq!(refusals(&[("a", "availability", "model-not-served")]), Patience::None);
    assert_eq!(refusals(&[]), Patience::None);
}

#[test]
fn how_long_outputs_are_kept_is_an_anchor_and_seconds() {
    let kept = |after: Value| {
        let Value::Object(after) = after else { panic!("an object was written") };
        output_keep_ms(after).map_err(|error| error.code().to_owned())
    };
    assert_eq!(kept(json!({})), Ok(None));
    assert_eq!(kept(json!({"anchor": "created_at", "seconds": 3600})), Ok(Some(3_600_000)));
    for (odd, code) in [
        (json!({"anchor": "created_at", "seconds": 3599}), "invalid_value"),
        (json!({"anchor": "created_at"}), "missing_required_parameter"),
        (json!({"seconds": 3600}), "invalid_value"),
        (json!({"anchor": "created_at", "seconds": "3600"}), "invalid_type"),
        (json!({"anchor": "created_at", "seconds": 3600, "days": 1}), "invalid_type"),
    ] {
        assert_eq!(kept(odd.clone()), Err(code.to_owned()), "{odd}");
    }
}
