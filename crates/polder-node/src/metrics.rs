//! What this process counts, in one place: names, labels, and the functions that the rest of the node calls.
//!
//! One process is one node, so the counters are the process's own. Names follow OpenTelemetry's conventions for generative AI
//! (`gen_ai_*`, <https://github.com/open-telemetry/semantic-conventions-genai>, written as Prometheus writes them) and begin with
//! `polder_` where there is none. Labels come from closed lists or from names that the node's operator configured; what could grow
//! is bounded and ends in `_OTHER`. A request pays some atomic additions: no lock, no allocation. No text of a request or an
//! answer is ever a label. What is measured only when somebody looks is in `gauges`.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use polder_core::ids::NodeId;
use polder_core::placement::{Outcome, Verdict};
use polder_core::policy::LayerKind;
use prometheus::proto::MetricFamily;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry, core::Collector,
};

use crate::home::HomeError;
use crate::route::Came;

mod answers;
pub mod gauges;

pub use answers::{Observation, Observed, Operation};

/// What stands for every name beyond the bound of a label.
pub const OTHER: &str = "_OTHER";
/// Most different rules, and most different codes of errors, that are told apart.
const RULES_MAX: usize = 512;
/// Most factories that are told apart.
const FACTORIES_MAX: usize = 1024;
/// Seconds, as the conventions have them for the duration of a request.
const DURATIONS: [f64; 14] = [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92];
/// Seconds that a batch of the log may take.
const BATCHES: [f64; 10] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0, 5.0];

/// Values of a bounded set of keys, found without a lock. Which keys there are changes seldom.
struct Known<K, V>(ArcSwap<BTreeMap<K, Arc<V>>>);

impl<K: Ord + Clone, V> Known<K, V> {
    fn new() -> Self {
        Self(ArcSwap::default())
    }

    /// The value of a key, made where it is new and there is room for it.
    fn of<Q>(&self, key: &Q, max: usize, own: impl FnOnce() -> K, make: impl FnOnce() -> Option<V>) -> Option<Arc<V>>
    where
        K: std::borrow::Borrow<Q>,
        Q: Ord + ?Sized,
    {
        let known = self.0.load();
        if let Some(value) = known.get(key) {
            return Some(Arc::clone(value));
        }
        if known.len() >= max {
            return None;
        }
        let (key, value) = (own(), Arc::new(make()?));
        // Two at once make two values of the same counter: either counts.
        self.0.rcu(|known| {
            let mut more = BTreeMap::clone(known);
            more.insert(key.clone(), Arc::clone(&value));
            more
        });
        Some(value)
    }
}

/// Everything that is counted.
struct Metrics {
    registry: Registry,
    answers: answers::Answers,
    decisions: IntCounterVec,
    placed: IntCounter,
    refusals: IntCounterVec,
    rules: Known<(LayerKind, String), ()>,
    attempts: IntCounterVec,
    by_factory: Known<NodeId, [IntCounter; 3]>,
    retries: IntCounter,
    errors: IntCounterVec,
    codes: Known<String, IntCounter>,
    connections: IntGauge,
    turned_away: IntCounter,
    streams: IntGauge,
    batches: Histogram,
    leaves: IntCounter,
    engines: HistogramVec,
    engine_ok: Histogram,
    jobs: IntCounterVec,
    jobs_refused: IntCounterVec,
    dropped: IntCounter,
    exports: IntCounterVec,
}

/// Without memory for their names nothing is counted, and the node does its work all the same.
static METRICS: LazyLock<Option<Metrics>> = LazyLock::new(|| {
    let made = Metrics::new();
    if let Err(error) = &made {
        tracing::error!(%error, "nothing will be counted");
    }
    made.ok()
});

fn metrics() -> Option<&'static Metrics> {
    METRICS.as_ref()
}

fn kept<C: Collector + Clone + 'static>(registry: &Registry, made: prometheus::Result<C>) -> prometheus::Result<C> {
    let made = made?;
    registry.register(Box::new(made.clone()))?;
    Ok(made)
}

fn counters(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntCounterVec> {
    kept(registry, IntCounterVec::new(Opts::new(name, help), labels))
}

fn jobs_over(registry: &Registry) -> prometheus::Result<IntCounterVec> {
    counters(registry, "polder_jobs_over_total", "Jobs of this home that are over, by how they ended.", &["end"])
}

fn jobs_refused(registry: &Registry) -> prometheus::Result<IntCounterVec> {
    let help = "What was refused about jobs before anything was done: submissions, messages, tickets, floods.";
    counters(registry, "polder_jobs_refused_total", help, &["what"])
}

impl Metrics {
    fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let counter = |name: &str, help: &str| kept(&registry, IntCounter::new(name, help));
        let gauge = |name: &str, help: &str| kept(&registry, IntGauge::new(name, help));
        let decisions = counters(
            &registry,
            "polder_decisions_total",
            "Requests by what the last decision about them came to.",
            &["outcome"],
        )?;
        let engines = HistogramVec::new(
            HistogramOpts::new(
                "polder_engine_answer_begins_seconds",
                "How long an engine behind OpenAI's API took to the head of its answer.",
            )
            .buckets(DURATIONS.to_vec()),
            &["outcome"],
        );
        let engines = kept(&registry, engines)?;
        let batches =
            HistogramOpts::new("polder_log_batch_seconds", "How long writing and signing a batch of the log took.");
        Ok(Self {
            answers: answers::Answers::new(&registry)?,
            placed: decisions.get_metric_with_label_values(&["placed"])?,
            decisions,
            refusals: counters(
                &registry,
                "polder_refusals_total",
                "Requests that a rule refused at one factory at least, by the layer and the rule.",
                &["layer", "rule"],
            )?,
            rules: Known::new(),
            attempts: counters(
                &registry,
                "polder_attempts_total",
                "Requests sent to a factory, by what came of them.",
                &["factory", "outcome"],
            )?,
            by_factory: Known::new(),
            retries: counter("polder_retries_total", "Requests decided again after a factory failed.")?,
            errors: counters(
                &registry,
                "polder_errors_total",
                "Errors that applications were told, by code.",
                &["code"],
            )?,
            codes: Known::new(),
            connections: gauge("polder_connections", "Connections of applications, operators and peers over TCP.")?,
            turned_away: counter("polder_connections_refused_total", "Connections for which there was no place.")?,
            streams: gauge("polder_open_answers", "Answers that have begun and not ended.")?,
            batches: kept(&registry, Histogram::with_opts(batches.buckets(BATCHES.to_vec())))?,
            leaves: counter("polder_log_leaves_written_total", "Leaves of the log that are on disk.")?,
            engine_ok: engines.get_metric_with_label_values(&["answered"])?,
            engines,
            jobs: jobs_over(&registry)?,
            jobs_refused: jobs_refused(&registry)?,
            dropped: counter(
                "polder_telemetry_dropped_total",
                "Spans that were thrown away because the collector was slow or gone.",
            )?,
            exports: counters(
                &registry,
                "polder_telemetry_exports_total",
                "Messages to the collector, by what came of them.",
                &["outcome"],
            )?,
            registry,
        })
    }

    /// One more refusal by a rule. A rule is named by whoever wrote the policy, so how many are told apart is bounded.
    fn refused_by(&self, layer: LayerKind, rule: &str) {
        let key = (layer, rule.to_owned());
        let known = self.rules.of(&key, RULES_MAX, || key.clone(), || Some(())).is_some();
        let rule = if known { rule } else { OTHER };
        if let Ok(counter) = self.refusals.get_metric_with_label_values(&[layer_name(layer), rule]) {
            counter.inc();
        }
    }
}

fn layer_name(layer: LayerKind) -> &'static str {
    match layer {
        LayerKind::Baseline => "baseline",
        LayerKind::Owner => "owner",
        LayerKind::Labels => "labels",
        LayerKind::Terms => "terms",
        LayerKind::Availability => "availability",
    }
}

/// A request was placed, or why it was not.
pub fn decided<T>(result: &Result<T, HomeError>) {
    let Some(metrics) = metrics() else { return };
    let outcome = match result {
        Ok(_) => return metrics.placed.inc(),
        Err(HomeError::Refused(record)) => {
            refused(metrics, &record.verdicts);
            if record.statement.outcome == Outcome::NoCapacity { "no_capacity" } else { "refused" }
        }
        Err(HomeError::Request { .. }) => "invalid",
        Err(HomeError::Internal(_)) => "failed",
    };
    if let Ok(counter) = metrics.decisions.get_metric_with_label_values(&[outcome]) {
        counter.inc();
    }
}

/// Each rule counts once for a request, however many factories it keeps out.
fn refused(metrics: &Metrics, verdicts: &[Verdict]) {
    let causes = verdicts.iter().flat_map(|verdict| &verdict.causes);
    let rules: std::collections::BTreeSet<(LayerKind, &str)> =
        causes.map(|cause| (cause.layer, cause.rule.as_str())).collect();
    rules.into_iter().for_each(|(layer, rule)| metrics.refused_by(layer, rule));
}

/// A request was sent to a factory, and this came of it.
pub(crate) fn attempted(factory: &NodeId, came: Came) {
    let Some(metrics) = metrics() else { return };
    let make = || {
        let one = |outcome| metrics.attempts.get_metric_with_label_values(&[factory.as_str(), outcome]).ok();
        Some([one("answered")?, one("failed")?, one("undecided")?])
    };
    let counters = metrics.by_factory.of(factory, FACTORIES_MAX, || factory.clone(), make);
    let Some([answered, failed, undecided]) = counters.as_deref() else { return };
    match came {
        Came::Answered => answered.inc(),
        Came::Failed => failed.inc(),
        Came::Undecided => undecided.inc(),
    }
}

/// A request is decided again.
pub fn retried() {
    if let Some(metrics) = metrics() {
        metrics.retries.inc();
    }
}

/// An application was told of an error.
pub fn told_error(code: &str) {
    let Some(metrics) = metrics() else { return };
    let make = |code: &str| metrics.errors.get_metric_with_label_values(&[code]).ok();
    let counter = metrics.codes.of(code, RULES_MAX, || code.to_owned(), || make(code));
    if let Some(counter) = counter {
        counter.inc();
    } else if let Some(counter) = make(OTHER) {
        counter.inc();
    }
}

/// A connection has a place, until what is returned is dropped.
pub fn connection() -> Open {
    Open::of(metrics().map(|metrics| &metrics.connections))
}

/// There was no place for a connection.
pub fn turned_away() {
    if let Some(metrics) = metrics() {
        metrics.turned_away.inc();
    }
}

/// Something that is open; dropping it closes it.
pub struct Open(Option<&'static IntGauge>);

impl Open {
    fn of(gauge: Option<&'static IntGauge>) -> Self {
        if let Some(gauge) = gauge {
            gauge.inc();
        }
        Self(gauge)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Some(gauge) = self.0 {
            gauge.dec();
        }
    }
}

/// A batch of the log was written and signed.
pub fn batch_written(leaves: usize, took: Duration) {
    if let Some(metrics) = metrics() {
        metrics.batches.observe(took.as_secs_f64());
        metrics.leaves.inc_by(u64::try_from(leaves).unwrap_or(u64::MAX));
    }
}

/// An engine was asked, and its answer's head came or did not.
pub fn engine_asked(took: Duration, answered: bool) {
    let Some(metrics) = metrics() else { return };
    let seconds = took.as_secs_f64();
    match answered {
        true => metrics.engine_ok.observe(seconds),
        false => {
            if let Ok(histogram) = metrics.engines.get_metric_with_label_values(&["failed"]) {
                histogram.observe(seconds);
            }
        }
    }
}

/// A job of this home is over.
pub fn job_over(end: &str) {
    let counter = metrics().and_then(|metrics| metrics.jobs.get_metric_with_label_values(&[end]).ok());
    counter.into_iter().for_each(|counter| counter.inc());
}

/// Something about jobs was refused before a machine heard of it: a submission, a message, an offer's ticket.
pub fn job_refused(what: &str) {
    let counter = metrics().and_then(|metrics| metrics.jobs_refused.get_metric_with_label_values(&[what]).ok());
    counter.into_iter().for_each(|counter| counter.inc());
}

/// Spans were thrown away.
pub fn dropped(spans: u64) {
    if let Some(metrics) = metrics() {
        metrics.dropped.inc_by(spans);
    }
}

/// A message went to the collector, or did not arrive.
pub fn exported(arrived: bool) {
    let counter = metrics().and_then(|metrics| {
        metrics.exports.get_metric_with_label_values(&[if arrived { "sent" } else { "failed" }]).ok()
    });
    if let Some(counter) = counter {
        counter.inc();
    }
}

/// Everything that was counted until now.
pub fn gathered() -> Vec<MetricFamily> {
    metrics().map(|metrics| metrics.registry.gather()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
