//! A collector for OTLP over HTTP, in the test's own process: it keeps what it is sent, as bytes and decoded.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::Metric;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;

#[derive(Default)]
struct Inside {
    bytes: Mutex<Vec<u8>>,
    spans: Mutex<Vec<Span>>,
    metrics: Mutex<Vec<Metric>>,
    /// What it answers; 0 is 200.
    status: AtomicU16,
}

/// A running collector; it ends with the test's process.
pub struct Collector {
    /// Its base URL.
    pub url: String,
    inside: Arc<Inside>,
}

impl Collector {
    /// Starts it.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let inside = Arc::<Inside>::default();
        let shared = Arc::clone(&inside);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let inside = Arc::clone(&shared);
                std::thread::spawn(move || while serve(&stream, &inside).is_some() {});
            }
        });
        Self { url, inside }
    }

    /// From now on it answers with a status.
    pub fn answers(&self, status: u16) {
        self.inside.status.store(status, Ordering::SeqCst);
    }

    /// Every byte that it was sent, headers too.
    pub fn bytes(&self) -> Vec<u8> {
        self.inside.bytes.lock().unwrap().clone()
    }

    /// The spans that it took.
    pub fn spans(&self) -> Vec<Span> {
        self.inside.spans.lock().unwrap().clone()
    }

    /// The metrics that it took last.
    pub fn metrics(&self) -> Vec<Metric> {
        self.inside.metrics.lock().unwrap().clone()
    }
}

/// Reads one message, whose framing this test's own node writes; `None` where the connection ends.
fn serve(mut stream: &TcpStream, inside: &Inside) -> Option<()> {
    let mut bytes = Vec::new();
    let mut byte = [0];
    while !bytes.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        bytes.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&bytes).to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "))?.trim().parse().unwrap();
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    inside.bytes.lock().unwrap().extend([bytes, body.clone()].concat());
    assert!(head.contains("content-type: application/x-protobuf"), "{head}");
    let status = inside.status.load(Ordering::SeqCst);
    if status == 0 {
        take(&head, &body, inside);
    }
    let status = if status == 0 { 200 } else { status };
    stream.write_all(format!("HTTP/1.1 {status} So\r\ncontent-length: 0\r\n\r\n").as_bytes()).ok()
}

fn take(head: &str, body: &[u8], inside: &Inside) {
    if head.starts_with("post /v1/traces ") {
        let message = ExportTraceServiceRequest::decode(body).unwrap();
        let scopes = message.resource_spans.into_iter().flat_map(|one| one.scope_spans);
        inside.spans.lock().unwrap().extend(scopes.flat_map(|scope| scope.spans));
    } else {
        assert!(head.starts_with("post /v1/metrics "), "{head}");
        let message = ExportMetricsServiceRequest::decode(body).unwrap();
        let scopes = message.resource_metrics.into_iter().flat_map(|one| one.scope_metrics);
        *inside.metrics.lock().unwrap() = scopes.flat_map(|scope| scope.metrics).collect();
    }
}

/// An attribute as text.
pub fn attribute(attributes: &[KeyValue], name: &str) -> Option<String> {
    let value = attributes.iter().find(|one| one.key == name)?.value.clone()?.value?;
    Some(match value {
        any_value::Value::StringValue(text) => text,
        any_value::Value::IntValue(count) => count.to_string(),
        any_value::Value::ArrayValue(list) => {
            format!("{:?}", list.values.into_iter().filter_map(|one| one.value).collect::<Vec<_>>())
        }
        other => format!("{other:?}"),
    })
}
