//! Metrics, traces and log lines of running nodes: what they say, to whom, and that nobody waits for them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::trace::v1::Span;
use serde_json::{Value, json};
use support::collector::{Collector, attribute};
use support::demo::Demo;
use support::engine::{Engine, Mode};
use support::http::{Reply, socket_call};
use support::node::Running;
use support::watched::{COLLECTOR_KEY, Watched};
use support::{run, skip, until};

const CHAT: &str = "/v1/chat/completions";
const MODEL: &str = "org/Model-Instruct";
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

fn chat(stream: bool) -> Value {
    json!({"model": MODEL, "messages": [{"role": "user", "content": "What is Polder?"}], "max_tokens": 4, "stream": stream})
}

/// The value of a series, which is named as it stands in the page.
fn value(page: &str, series: &str) -> Option<f64> {
    page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

/// The names of what a page holds.
fn names(page: &str) -> BTreeSet<String> {
    let name = |line: &str| line.strip_prefix("# TYPE ")?.split(' ').next().map(str::to_owned);
    page.lines().filter_map(name).collect()
}

#[test]
fn operators_see_what_is_counted_and_strangers_do_not() {
    let engine = Engine::start("one", MODEL);
    let node = Watched::start(&engine.url(), 0.0, &[]);
    for _ in 0..3 {
        assert_eq!(node.endpoint.post(CHAT, &chat(false)).status, 200);
    }
    assert_eq!(node.endpoint.post(CHAT, &chat(true)).status, 200);
    engine.now(Mode::Status(500));
    assert_eq!(node.endpoint.post(CHAT, &chat(false)).status, 403);
    assert_eq!(node.endpoint.post(CHAT, &json!({"model": "none", "messages": []})).status, 400);
    assert_eq!(node.endpoint.with_key("").get("/metrics").status, 401);
    assert_eq!(node.endpoint.get("/metrics").status, 403, "an application's key");
    assert_eq!(node.metrics("token-of-nobody").status, 401);
    let account = json!({"account": "project/default", "limits": {"budget": {"microeur": 5_000_000, "window": "day"}}});
    let set = node.endpoint.with_key("token-of-owner").post("/api/v1/budgets", &account);
    assert_eq!(set.status, 200, "{}", set.text());

    let owners = node.metrics("token-of-owner");
    assert_eq!((owners.status, owners.header("content-type")), (200, Some("text/plain; version=0.0.4")));
    let page = owners.text();
    let by_model =
        "gen_ai_operation_name=\"chat\",gen_ai_provider_name=\"polder\",gen_ai_request_model=\"org/Model-Instruct\"";
    let counted = |name: &str, labels: &str| value(&page, &format!("{name}{{{labels}}}"));
    assert_eq!(
        counted("gen_ai_server_request_duration_seconds_count", &format!("error_type=\"\",{by_model}")),
        Some(4.0),
        "{page}"
    );
    let refused = format!("error_type=\"policy_unsatisfiable\",{by_model}");
    assert_eq!(counted("gen_ai_server_request_duration_seconds_count", &refused), Some(1.0), "{page}");
    assert_eq!(counted("gen_ai_server_time_to_first_token_seconds_count", by_model), Some(1.0), "{page}");
    assert_eq!(counted("gen_ai_server_time_per_output_token_seconds_count", by_model), Some(1.0), "{page}");
    let (said, token) = by_model.split_once(",gen_ai_request_model").unwrap();
    let tokens = |kind: &str| format!("{said},gen_ai_request_model{token},gen_ai_token_type=\"{kind}\"");
    assert_eq!(counted("gen_ai_client_token_usage_sum", &tokens("input")), Some(12.0), "{page}");
    assert_eq!(counted("gen_ai_client_token_usage_sum", &tokens("output")), Some(8.0), "{page}");
    for (series, count) in [
        ("polder_decisions_total{outcome=\"placed\"}", 4.0),
        ("polder_decisions_total{outcome=\"refused\"}", 1.0),
        ("polder_attempts_total{factory=\"local\",outcome=\"answered\"}", 4.0),
        ("polder_attempts_total{factory=\"local\",outcome=\"failed\"}", 1.0),
        ("polder_refusals_total{layer=\"availability\",rule=\"engine-failed\"}", 1.0),
        ("polder_errors_total{code=\"policy_unsatisfiable\"}", 1.0),
        ("polder_factory_up{factory=\"local\"}", 1.0),
        ("polder_circuit_open{factory=\"local\"}", 0.0),
        ("polder_admissible_factories{model=\"org/Model-Instruct\",project=\"default\"}", 1.0),
        ("polder_open_answers", 0.0),
        ("polder_budget_left_microeuro{account=\"project/default\"}", 5_000_000.0),
    ] {
        assert_eq!(value(&page, series), Some(count), "{series}\n{page}");
    }
    assert!(value(&page, "polder_log_leaves").is_some_and(|leaves| leaves >= 5.0), "{page}");
    assert!(value(&page, "process_resident_memory_bytes").is_some_and(|bytes| bytes > 1e6), "{page}");

    // Money is for those who may see it elsewhere; everything else is the same.
    let operators = names(&node.metrics("token-of-operator").text());
    let hidden: Vec<String> = names(&page).difference(&operators).cloned().collect();
    assert!(!hidden.is_empty() && hidden.iter().all(|name| name.starts_with("polder_budget_")), "{hidden:?}");
    assert_eq!(names(&socket_call(&node.socket(), "GET", "/metrics").text()), names(&page));

    the_same_goes_to_the_collector(&node);
    node.running.end();
}

/// By OpenTelemetry's names.
fn the_same_goes_to_the_collector(node: &Watched) {
    let metrics = until("the metrics at the collector", || {
        let metrics = node.collector.metrics();
        metrics.iter().any(|one| one.name == "polder_budget_left_microeuro").then_some(metrics)
    });
    let duration = metrics.iter().find(|one| one.name == "gen_ai.server.request.duration").unwrap();
    let Some(Data::Histogram(histogram)) = &duration.data else { panic!("{duration:?}") };
    let whole = histogram.data_points.iter().find(|one| attribute(&one.attributes, "error.type").is_none()).unwrap();
    assert_eq!((whole.count, whole.bucket_counts.iter().sum::<u64>(), duration.unit.as_str()), (4, 4, "s"));
    assert_eq!(whole.bucket_counts.len(), whole.explicit_bounds.len() + 1);
    assert_eq!(attribute(&whole.attributes, "gen_ai.request.model").as_deref(), Some(MODEL));
    assert_eq!(node.collector.spans(), Vec::<Span>::new(), "no request is sampled");
    assert!(String::from_utf8_lossy(&node.collector.bytes()).contains(COLLECTOR_KEY));
}

fn named<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    spans.iter().find(|span| span.name == name).unwrap_or_else(|| panic!("no `{name}` in {spans:#?}"))
}

#[test]
fn a_trace_goes_from_the_application_through_the_node_to_the_engine() {
    let engine = Engine::start("one", MODEL);
    let node = Watched::start(&engine.url(), 0.0, &["--log-format", "json"]);
    let asked = |flag: &str| {
        let parent = format!("00-{TRACE}-00f067aa0ba902b7-{flag}");
        let headers = [
            ("content-type", "application/json"),
            ("traceparent", parent.as_str()),
            ("tracestate", "a=secret"),
            ("baggage", "b=secret"),
        ];
        node.endpoint.call("POST", CHAT, &headers, chat(true).to_string().as_bytes())
    };
    assert_eq!(asked("00").status, 200);
    let passed = engine.asked().into_iter().rev().find_map(|asked| asked.trace).expect("it goes on");
    assert!(passed.starts_with(&format!("00-{TRACE}-")) && passed.ends_with("-00"), "{passed}");
    let reply = asked("01");
    assert_eq!(reply.status, 200);
    let spans = until("the spans at the collector", || {
        let spans = node.collector.spans();
        spans.iter().any(|span| span.name == format!("chat {MODEL}")).then_some(spans)
    });
    let whole = named(&spans, &format!("chat {MODEL}"));
    let (decide, attempt, call) = (named(&spans, "decide"), named(&spans, "attempt"), named(&spans, "engine"));
    assert_eq!(spans.len(), 4, "{spans:#?}");
    assert!(
        spans
            .iter()
            .all(|span| hex::encode(&span.trace_id) == TRACE && span.end_time_unix_nano >= span.start_time_unix_nano)
    );
    assert_eq!(hex::encode(&whole.parent_span_id), "00f067aa0ba902b7");
    assert_eq!((&decide.parent_span_id, &attempt.parent_span_id), (&whole.span_id, &whole.span_id));
    assert_eq!(call.parent_span_id, attempt.span_id);
    let passed = engine.asked().into_iter().rev().find_map(|asked| asked.trace).unwrap();
    assert_eq!(passed, format!("00-{TRACE}-{}-01", hex::encode(&call.span_id)));
    let said = |name: &str| attribute(&whole.attributes, name);
    assert_eq!(said("gen_ai.operation.name").as_deref(), Some("chat"));
    assert_eq!(said("gen_ai.provider.name").as_deref(), Some("polder"));
    assert_eq!(said("gen_ai.request.model").as_deref(), Some(MODEL));
    assert_eq!(said("gen_ai.usage.input_tokens").as_deref(), Some("3"));
    assert_eq!(said("gen_ai.usage.output_tokens").as_deref(), Some("2"));
    assert_eq!(said("gen_ai.response.finish_reasons").as_deref(), Some("[StringValue(\"stop\")]"));
    assert_eq!(said("polder.decision").as_deref(), reply.header("polder-decision"), "from a span to its proof");
    assert_eq!(attribute(&call.attributes, "server.address").as_deref(), Some("127.0.0.1"));
    let sent = String::from_utf8_lossy(&node.collector.bytes()).into_owned();
    assert!(!sent.contains("secret"), "neither state nor baggage goes on");

    what_fails_is_told_and_nobody_waits(&node, &engine, &asked);
    node.running.end();
}

fn what_fails_is_told_and_nobody_waits(node: &Watched, engine: &Engine, asked: &dyn Fn(&str) -> Reply) {
    // A failure is an error of a closed list.
    engine.now(Mode::Status(500));
    assert_eq!(asked("01").status, 403);
    let failed = until("the failure's span", || {
        let spans = node.collector.spans();
        spans.into_iter().filter(|span| span.name.starts_with("chat ")).nth(1)
    });
    assert_eq!(attribute(&failed.attributes, "error.type").as_deref(), Some("policy_unsatisfiable"));

    // A collector that takes nothing is said once, and no request waits for it.
    engine.now(Mode::Answers);
    node.collector.answers(500);
    until("the word that nothing arrives", || node.said().contains("the collector takes no telemetry").then_some(()));
    let begun = Instant::now();
    assert_eq!(asked("01").status, 200);
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    let lines = node.said();
    for line in lines.lines() {
        let object: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(
            object["timestamp"].is_string() && object["level"].is_string() && object["message"].is_string(),
            "{line}"
        );
    }
}

/// Between two processes: a home and a factory, whose span is the child of the home's attempt.
#[test]
fn a_trace_goes_on_at_the_factory() {
    let demo = Demo::start();
    let collector = Collector::start();
    let config = |name: &str| demo.node_folder(name).join("node.toml");
    let reply = demo.endpoint("start-up", "product").post(CHAT, &toy());
    assert_eq!(reply.status, 200, "{}", reply.text());
    let factory = reply.header("polder-factory").unwrap().to_owned();
    let home = "start-up-home";
    let nodes = [home, factory.as_str()].map(|name| {
        let file = config(name);
        let mut table: toml::Table = toml::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
        let more = format!("[telemetry]\nendpoint = \"{}\"\nsample_ratio = 1.0\n", collector.url);
        table.extend(toml::from_str::<toml::Table>(&more).unwrap());
        std::fs::write(&file, toml::to_string(&table).unwrap()).unwrap();
        assert_eq!(demo.polder(&["kill", name]).code, 0);
        Running::start(demo.around(), &["up", "--config", file.to_str().unwrap()])
    });
    let spans = until("a trace over two nodes", || {
        let reply = demo.endpoint("start-up", "product").post(CHAT, &toy());
        let there = reply.status == 200 && reply.header("polder-factory") == Some(factory.as_str());
        std::thread::sleep(Duration::from_millis(1_500));
        let spans = collector.spans();
        (there && spans.iter().any(|span| span.name == "run")).then_some(spans)
    });
    let ran = named(&spans, "run");
    let attempt = spans.iter().find(|span| span.span_id == ran.parent_span_id).expect("its parent is here too");
    assert_eq!((attempt.name.as_str(), &attempt.trace_id), ("attempt", &ran.trace_id));
    assert!(attribute(&ran.attributes, "gen_ai.usage.output_tokens").is_some(), "{ran:?}");
    nodes.into_iter().for_each(Running::end);
}

fn toy() -> Value {
    json!({"model": "polder-toy", "messages": [{"role": "user", "content": "What is Polder?"}], "max_tokens": 8})
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../observability")
}

/// The words of a text that look like names of metrics.
fn words(text: &str) -> BTreeSet<String> {
    let word = |one: &&str| ["polder_", "gen_ai_", "process_"].iter().any(|prefix| one.starts_with(prefix));
    text.split(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '_'))
        .filter(word)
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_dashboard_and_the_alerts_name_what_a_node_tells() {
    let engine = Engine::start("one", MODEL);
    let node = Watched::start(&engine.url(), 0.0, &[]);
    assert_eq!(node.endpoint.post(CHAT, &chat(true)).status, 200);
    // What has no series before it happens for the first time.
    engine.now(Mode::Status(500));
    assert_eq!(node.endpoint.post(CHAT, &chat(false)).status, 403);
    let account = json!({"account": "tenant", "limits": {"budget": {"microeur": 5_000_000, "window": "day"}}});
    assert_eq!(node.endpoint.with_key("token-of-owner").post("/api/v1/budgets", &account).status, 200);
    until("a message at the collector", || (!node.collector.metrics().is_empty()).then_some(()));
    let page = node.metrics("token-of-owner").text();
    let mut known = names(&page);
    for name in names(&page) {
        known.extend(["_bucket", "_sum", "_count"].map(|end| format!("{name}{end}")));
    }
    // Labels have names of the same kind.
    let labels = ["gen_ai_operation_name", "gen_ai_request_model", "gen_ai_token_type", "gen_ai_provider_name"];
    known.extend(labels.map(str::to_owned));
    let dashboard: Value = serde_json::from_slice(&std::fs::read(folder().join("grafana.json")).unwrap()).unwrap();
    let mut asked = String::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            asked.push_str(target["expr"].as_str().unwrap());
            asked.push('\n');
        }
    }
    assert!(words(&asked).len() > 10, "{asked}");
    let alerts = std::fs::read_to_string(folder().join("alerts.yaml")).unwrap();
    for (file, text) in [("grafana.json", &asked), ("alerts.yaml", &alerts)] {
        let unknown: Vec<String> = words(text).difference(&known).cloned().collect();
        assert_eq!(unknown, Vec::<String>::new(), "{file} asks for what no node tells:\n{page}");
    }
    node.running.end();
    let Some(promtool) = std::env::var_os("POLDER_PROMTOOL") else {
        return skip("the_dashboard_and_the_alerts_name_what_a_node_tells", "promtool is not there");
    };
    let checked = run(Command::new(&promtool).args(["check", "rules"]).arg(folder().join("alerts.yaml")));
    assert_eq!(checked.code, 0, "{checked:?}");
}
