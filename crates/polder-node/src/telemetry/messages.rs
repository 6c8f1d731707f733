//! OTLP's messages, made from spans and from what is counted.
//!
//! Metrics are those of `/metrics`, read from the same registry; the names that OpenTelemetry's conventions have are written its
//! way, the others stay as they are. Sending is absent.

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1 as metrics;
use opentelemetry_proto::tonic::metrics::v1::{metric, number_data_point};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1 as trace;
use prometheus::proto::{LabelPair, MetricFamily, MetricType};

use super::{Kind, Span, Value};

/// The bit that says whether the parent is in another process is known and set (W3C's flags lie below it).
const SAMPLED: u32 = 1;

/// Where spans and metrics come from.
#[derive(Debug, Clone)]
pub struct Source {
    /// The node.
    pub node: String,
    /// Since when it runs, in Unix nanoseconds.
    pub begun_ns: u64,
}

fn text(value: impl Into<String>) -> AnyValue {
    AnyValue { value: Some(any_value::Value::StringValue(value.into())) }
}

fn pair(key: &str, value: AnyValue) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(value), ..KeyValue::default() }
}

fn value(value: Value) -> AnyValue {
    let array = |words: Vec<&'static str>| ArrayValue { values: words.into_iter().map(text).collect() };
    match value {
        Value::Word(word) => text(word),
        Value::Text(said) => text(said),
        Value::Count(count) => {
            AnyValue { value: Some(any_value::Value::IntValue(i64::try_from(count).unwrap_or(i64::MAX))) }
        }
        Value::Words(words) => AnyValue { value: Some(any_value::Value::ArrayValue(array(words))) },
    }
}

impl Source {
    fn resource(&self) -> Option<Resource> {
        let attributes = vec![
            pair("service.name", text("polder")),
            pair("service.version", text(env!("CARGO_PKG_VERSION"))),
            pair("service.instance.id", text(self.node.as_str())),
        ];
        Some(Resource { attributes, ..Resource::default() })
    }

    fn scope() -> Option<InstrumentationScope> {
        let (name, version) = ("polder".to_owned(), env!("CARGO_PKG_VERSION").to_owned());
        Some(InstrumentationScope { name, version, ..InstrumentationScope::default() })
    }

    /// Spans in a message.
    pub fn traces(&self, spans: Vec<Span>) -> ExportTraceServiceRequest {
        let spans = spans.into_iter().map(span).collect();
        let scope_spans = vec![trace::ScopeSpans { scope: Self::scope(), spans, ..trace::ScopeSpans::default() }];
        let of_node =
            trace::ResourceSpans { resource: self.resource(), scope_spans, ..trace::ResourceSpans::default() };
        ExportTraceServiceRequest { resource_spans: vec![of_node] }
    }

    /// What was counted, in a message.
    pub fn metrics(&self, families: &[MetricFamily], now_ns: u64) -> ExportMetricsServiceRequest {
        let metrics = families.iter().map(|family| self.metric(family, now_ns)).collect();
        let scope_metrics = vec![metrics::ScopeMetrics { scope: Self::scope(), metrics, ..Default::default() }];
        let of_node = metrics::ResourceMetrics { resource: self.resource(), scope_metrics, ..Default::default() };
        ExportMetricsServiceRequest { resource_metrics: vec![of_node] }
    }

    fn metric(&self, family: &MetricFamily, now_ns: u64) -> metrics::Metric {
        let (name, unit) = name_of(family.name());
        let cumulative = metrics::AggregationTemporality::Cumulative as i32;
        let number = |labels: &[LabelPair], value: f64| metrics::NumberDataPoint {
            attributes: attributes(labels),
            start_time_unix_nano: self.begun_ns,
            time_unix_nano: now_ns,
            value: Some(number_data_point::Value::AsDouble(value)),
            ..Default::default()
        };
        let points = family.get_metric().iter();
        let data = match family.get_field_type() {
            MetricType::COUNTER => metric::Data::Sum(metrics::Sum {
                data_points: points.map(|one| number(one.get_label(), one.get_counter().get_value())).collect(),
                aggregation_temporality: cumulative,
                is_monotonic: true,
            }),
            MetricType::HISTOGRAM => metric::Data::Histogram(metrics::Histogram {
                data_points: points.map(|one| self.histogram(one, now_ns)).collect(),
                aggregation_temporality: cumulative,
            }),
            _ => metric::Data::Gauge(metrics::Gauge {
                data_points: points.map(|one| number(one.get_label(), one.get_gauge().get_value())).collect(),
            }),
        };
        let (description, data) = (family.help().to_owned(), Some(data));
        metrics::Metric { name, description, unit, data, ..metrics::Metric::default() }
    }

    fn histogram(&self, metric: &prometheus::proto::Metric, now_ns: u64) -> metrics::HistogramDataPoint {
        let histogram = metric.get_histogram();
        let mut below = 0;
        let (mut bucket_counts, mut explicit_bounds) = (Vec::new(), Vec::new());
        for bucket in histogram.get_bucket().iter().filter(|bucket| bucket.upper_bound().is_finite()) {
            bucket_counts.push(bucket.cumulative_count().saturating_sub(below));
            explicit_bounds.push(bucket.upper_bound());
            below = bucket.cumulative_count();
        }
        bucket_counts.push(histogram.get_sample_count().saturating_sub(below));
        metrics::HistogramDataPoint {
            attributes: attributes(metric.get_label()),
            start_time_unix_nano: self.begun_ns,
            time_unix_nano: now_ns,
            count: histogram.get_sample_count(),
            sum: Some(histogram.get_sample_sum()),
            bucket_counts,
            explicit_bounds,
            ..Default::default()
        }
    }
}

fn span(span: Span) -> trace::Span {
    let Span { context, parent, name, kind, begun_ns, ended_ns, attributes, error } = span;
    let kind = match kind {
        Kind::Server => trace::span::SpanKind::Server,
        Kind::Client => trace::span::SpanKind::Client,
        Kind::Internal => trace::span::SpanKind::Internal,
    };
    let mut attributes: Vec<KeyValue> = attributes.into_iter().map(|(key, said)| pair(key, value(said))).collect();
    attributes.extend(error.map(|error| pair("error.type", text(error))));
    let code = if error.is_some() { trace::status::StatusCode::Error } else { trace::status::StatusCode::Unset };
    trace::Span {
        trace_id: context.trace.to_be_bytes().to_vec(),
        span_id: context.span.to_be_bytes().to_vec(),
        parent_span_id: parent.map(|parent| parent.to_be_bytes().to_vec()).unwrap_or_default(),
        flags: SAMPLED,
        name,
        kind: kind as i32,
        start_time_unix_nano: begun_ns,
        end_time_unix_nano: ended_ns.max(begun_ns),
        attributes,
        status: Some(trace::Status { code: code as i32, ..trace::Status::default() }),
        ..trace::Span::default()
    }
}

/// A metric's name and unit in OpenTelemetry's way, where its conventions have it.
fn name_of(name: &str) -> (String, String) {
    let (name, unit) = match name {
        "gen_ai_server_request_duration_seconds" => ("gen_ai.server.request.duration", "s"),
        "gen_ai_server_time_to_first_token_seconds" => ("gen_ai.server.time_to_first_token", "s"),
        "gen_ai_server_time_per_output_token_seconds" => ("gen_ai.server.time_per_output_token", "s"),
        "gen_ai_client_token_usage" => ("gen_ai.client.token.usage", "{token}"),
        name if name.ends_with("_seconds") || name.ends_with("_seconds_total") => (name, "s"),
        name if name.ends_with("_bytes") => (name, "By"),
        name => (name, ""),
    };
    (name.to_owned(), unit.to_owned())
}

/// Labels as attributes; one that is empty is absent.
fn attributes(labels: &[LabelPair]) -> Vec<KeyValue> {
    let name = |name: &str| match name {
        "gen_ai_operation_name" => "gen_ai.operation.name".to_owned(),
        "gen_ai_request_model" => "gen_ai.request.model".to_owned(),
        "gen_ai_provider_name" => "gen_ai.provider.name".to_owned(),
        "gen_ai_token_type" => "gen_ai.token.type".to_owned(),
        "error_type" => "error.type".to_owned(),
        name => name.to_owned(),
    };
    let said = labels.iter().filter(|label| !label.value().is_empty());
    said.map(|label| pair(&name(label.name()), text(label.value()))).collect()
}
