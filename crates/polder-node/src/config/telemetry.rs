//! Where spans and metrics are sent: the `[telemetry]` table as a person writes it, and what is made of it.
//!
//! Without the table nothing is sent and nothing is traced; `/metrics` is there either way.

use std::path::{Path, PathBuf};
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use serde::{Deserialize, Serialize};

use super::{ConfigError, read_text};

/// The `[telemetry]` table.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Telemetry {
    /// The collector's base URL for OTLP over HTTP, such as `http://127.0.0.1:4318`.
    pub endpoint: String,
    /// Of how many requests spans are kept, from 0 to 1; a hundredth where absent. A request that comes with a `traceparent` is
    /// kept or not as that says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sample_ratio: Option<f64>,
    /// The file of headers for the collector, one `name: value` a line: keys do not belong into this file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub headers_file: Option<PathBuf>,
    /// Seconds between two messages of metrics; 60 where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics_every_s: Option<u64>,
}

/// Where spans and metrics are sent.
#[derive(Clone)]
pub struct TelemetryConfig {
    /// Where spans go.
    pub traces: Uri,
    /// Where metrics go.
    pub metrics: Uri,
    /// What the collector asks for, such as a key.
    pub headers: HeaderMap,
    /// Requests whose 64-bit random number lies below it are sampled.
    pub sampled_below: u64,
    /// Between two messages of metrics.
    pub metrics_every: Duration,
}

impl std::fmt::Debug for TelemetryConfig {
    /// Without the headers, which hold keys.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TelemetryConfig").field("traces", &self.traces).finish_non_exhaustive()
    }
}

/// Of how many requests spans are kept where the file does not say.
const SAMPLE_RATIO: f64 = 0.01;
/// Longest time between two messages of metrics, in seconds.
const EVERY_S_MAX: u64 = 3_600;

impl Telemetry {
    pub(crate) fn check(
        self,
        folder: &Path,
        content: &dyn Fn(String) -> ConfigError,
    ) -> Result<TelemetryConfig, ConfigError> {
        let base = self.endpoint.trim_end_matches('/');
        let wrong = || {
            let example = "write it like `http://127.0.0.1:4318`; `/v1/traces` and `/v1/metrics` are added";
            content(format!("telemetry: `endpoint` is `{base}`, which is no http or https URL: {example}"))
        };
        let of = |path: &str| -> Result<Uri, ConfigError> {
            let uri: Uri = format!("{base}{path}").parse().map_err(|_| wrong())?;
            let known =
                matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some() && uri.query().is_none();
            if known { Ok(uri) } else { Err(wrong()) }
        };
        let ratio = self.sample_ratio.unwrap_or(SAMPLE_RATIO);
        if !(0.0..=1.0).contains(&ratio) {
            return Err(content(format!("telemetry: `sample_ratio` is {ratio}: choose 0 to 1")));
        }
        let every_s = self.metrics_every_s.unwrap_or(60);
        if !(1..=EVERY_S_MAX).contains(&every_s) {
            return Err(content(format!(
                "telemetry: `metrics_every_s` is {every_s}: choose 1 to {EVERY_S_MAX} seconds"
            )));
        }
        let headers = match &self.headers_file {
            Some(file) => headers(&folder.join(file))?,
            None => HeaderMap::new(),
        };
        Ok(TelemetryConfig {
            traces: of("/v1/traces")?,
            metrics: of("/v1/metrics")?,
            headers,
            // Saturates: a ratio of 1 takes all but the very last number.
            sampled_below: (ratio * u64::MAX as f64) as u64,
            metrics_every: Duration::from_secs(every_s),
        })
    }
}

/// The headers of a file. An error names the line and not what stands there: it may be a key.
fn headers(path: &Path) -> Result<HeaderMap, ConfigError> {
    let text = read_text(path)?;
    let mut headers = HeaderMap::new();
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let parsed = line.split_once(':').and_then(|(name, value)| {
            let mut value = HeaderValue::from_str(value.trim()).ok()?;
            value.set_sensitive(true);
            Some((HeaderName::try_from(name.trim()).ok()?, value))
        });
        let (name, value) = parsed.ok_or_else(|| {
            let message = format!("line {number} is no header: write `name: value`");
            ConfigError::Content { path: path.to_owned(), message }
        })?;
        headers.append(name, value);
    }
    Ok(headers)
}
