//! Sending spans and metrics to the collector: OTLP over HTTP, in the background, and never in anybody's way.
//!
//! Spans go in batches, metrics now and then. What the collector does not take is tried once more and then given up; the node's
//! requests know nothing of it. Redirects are not followed, so headers with keys go to the configured origin only.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use prost::Message;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout};

use super::messages::Source;
use super::{SPANS, Span, Spans, WAITING_MAX, now_ns};
use crate::config::TelemetryConfig;
use crate::metrics;
use crate::node::Node;

/// Most spans of one message, and how long one waits for others.
const BATCH_MAX: usize = 512;
const BATCH_WAIT: Duration = Duration::from_secs(1);
/// Longest wait for the collector.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);
/// How long after a failure a message is sent again, once.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// Longest answer of a collector that is read; nothing in it is used.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// The one that sends.
pub struct Exporter {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    traces: Uri,
    metrics: Uri,
    headers: HeaderMap,
    every: Duration,
    source: Source,
    spans: mpsc::Receiver<Span>,
    /// Whether the last message arrived; a change is said once.
    arrives: bool,
}

impl Exporter {
    /// Makes ready what a configuration asks for. From now on requests are traced. A second node in the same process has none.
    pub fn open(config: &TelemetryConfig, node: &str) -> Option<Self> {
        let (sender, spans) = mpsc::channel(WAITING_MAX);
        SPANS.set(Spans { sender, below: config.sampled_below }).ok()?;
        let mut http = HttpConnector::new();
        http.set_connect_timeout(Some(SEND_TIMEOUT));
        http.enforce_http(false);
        let connector =
            HttpsConnectorBuilder::new().with_webpki_roots().https_or_http().enable_http1().wrap_connector(http);
        Some(Self {
            client: Client::builder(TokioExecutor::new()).build(connector),
            traces: config.traces.clone(),
            metrics: config.metrics.clone(),
            headers: config.headers.clone(),
            every: config.metrics_every,
            source: Source { node: node.to_owned(), begun_ns: now_ns() },
            spans,
            arrives: true,
        })
    }

    /// Sends until `ended` says that the node has ended, and then what is left.
    pub async fn run(mut self, node: std::sync::Arc<Node>, mut ended: oneshot::Receiver<()>) {
        let mut next_metrics = Instant::now() + self.every;
        let mut batch = Vec::with_capacity(BATCH_MAX);
        loop {
            let batch_ends = Instant::now() + BATCH_WAIT;
            let over = loop {
                tokio::select! {
                    span = self.spans.recv() => batch.extend(span),
                    () = sleep_until(batch_ends) => break false,
                    () = sleep_until(next_metrics) => break false,
                    _ = &mut ended => break true,
                }
                if batch.len() >= BATCH_MAX {
                    break false;
                }
            };
            if over {
                break;
            }
            self.send_spans(std::mem::take(&mut batch)).await;
            if Instant::now() >= next_metrics {
                self.send_metrics(&node).await;
                next_metrics = Instant::now() + self.every;
            }
        }
        while let Ok(span) = self.spans.try_recv() {
            batch.push(span);
        }
        self.send_spans(batch).await;
        self.send_metrics(&node).await;
    }

    async fn send_spans(&mut self, spans: Vec<Span>) {
        if spans.is_empty() {
            return;
        }
        let count = u64::try_from(spans.len()).unwrap_or(u64::MAX);
        let message = self.source.traces(spans).encode_to_vec();
        if !self.send(self.traces.clone(), message.into()).await {
            metrics::dropped(count);
        }
    }

    /// The collector is the owner's: it is told what is left of budgets, as whoever may read `/metrics` whole.
    async fn send_metrics(&mut self, node: &Node) {
        let Ok(families) = metrics::gauges::families(node, true).await else { return };
        let message = self.source.metrics(&families, now_ns()).encode_to_vec();
        self.send(self.metrics.clone(), message.into()).await;
    }

    async fn send(&mut self, to: Uri, message: Bytes) -> bool {
        let mut result = self.try_send(to.clone(), message.clone()).await;
        if matches!(&result, Err(Failed { again: true, .. })) {
            tokio::time::sleep(AGAIN_AFTER).await;
            result = self.try_send(to, message).await;
        }
        let arrived = result.is_ok();
        metrics::exported(arrived);
        if let Err(Failed { reason, .. }) = result
            && self.arrives
        {
            tracing::warn!(reason, "the collector takes no telemetry; what it misses is thrown away");
        }
        if arrived && !self.arrives {
            tracing::info!("the collector takes telemetry again");
        }
        self.arrives = arrived;
        arrived
    }

    async fn try_send(&self, to: Uri, message: Bytes) -> Result<(), Failed> {
        let failed = |reason: String| Failed { reason, again: true };
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(to)
            .header(header::CONTENT_TYPE, "application/x-protobuf")
            .body(Full::new(message))
            .map_err(|e| failed(e.to_string()))?;
        request.headers_mut().extend(self.headers.clone());
        let sent = async {
            let response = self.client.request(request).await.map_err(|e| failed(e.to_string()))?;
            let status = response.status();
            // Read to its end, so that the connection can be used again.
            drop(Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await);
            Ok(status)
        };
        let status = timeout(SEND_TIMEOUT, sent).await.map_err(|_| failed("no answer in time".to_owned()))??;
        // What the specification wants tried again; everything else would fail again.
        let again = matches!(
            status,
            StatusCode::TOO_MANY_REQUESTS
                | StatusCode::BAD_GATEWAY
                | StatusCode::SERVICE_UNAVAILABLE
                | StatusCode::GATEWAY_TIMEOUT
        );
        if status.is_success() {
            Ok(())
        } else {
            Err(Failed { reason: format!("it answered with status {status}"), again })
        }
    }
}

/// Why a message did not arrive.
struct Failed {
    reason: String,
    again: bool,
}
