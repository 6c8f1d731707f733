//! HTTP to a node, over TCP or its own socket. Slow calls only; nothing here is on a request's path.

use std::path::Path;
use std::time::Duration;

use reqwest::header::HeaderMap;
use reqwest::{Method, Response, StatusCode};
use serde_json::Value;

use crate::failure::{Exit, Failure};

/// A node as a command reaches it.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    base: String,
    token: Option<String>,
}

/// An answer: its status, headers and body.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body's bytes.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as JSON; null where it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// A header's text.
    pub fn header(&self, name: &str) -> Option<String> {
        Some(self.headers.get(name)?.to_str().ok()?.to_owned())
    }

    /// The answer's JSON, or the failure that it reports.
    pub fn ok(self) -> Result<Value, Failure> {
        if self.status.is_success() {
            return Ok(self.json());
        }
        let body = self.json();
        let said = body.get("detail").or_else(|| body.pointer("/error/message")).and_then(Value::as_str);
        let failure = Failure::new(said.map_or_else(|| format!("the node answered {}", self.status), str::to_owned));
        Err(if self.status == StatusCode::UNAUTHORIZED { failure.exit(Exit::Usage) } else { failure })
    }
}

impl Client {
    /// A node at a URL.
    pub fn to(url: &str, token: Option<&str>) -> Result<Self, Failure> {
        let base = url.trim_end_matches('/').trim_end_matches("/v1").to_owned();
        let own_machine = ["http://127.", "http://localhost", "http://[::1]"].iter().any(|own| base.starts_with(own));
        let builder = if own_machine { without_roots() } else { reqwest::Client::builder() };
        Ok(Self { http: build(builder)?, base, token: token.map(str::to_owned) })
    }

    /// A node over its own socket.
    pub fn over_socket(socket: &Path) -> Result<Self, Failure> {
        let http = build(without_roots().unix_socket(socket))?;
        Ok(Self { http, base: "http://polder.invalid".to_owned(), token: None })
    }

    /// Reads a path.
    pub async fn get(&self, path: &str) -> Result<Answer, Failure> {
        self.call(Method::GET, path, None, &[]).await
    }

    /// Sends JSON with headers.
    pub async fn post(&self, path: &str, body: &Value, headers: &[(String, String)]) -> Result<Answer, Failure> {
        self.call(Method::POST, path, Some(body), headers).await
    }

    /// Deletes what a path names.
    pub async fn delete(&self, path: &str) -> Result<Answer, Failure> {
        self.call(Method::DELETE, path, None, &[]).await
    }

    /// Reads a path of whoever may be slow, endless or gone: no more than so many bytes, in no more than this time.
    pub async fn bounded(
        &self,
        path: &str,
        body: Option<&Value>,
        bytes_max: usize,
        time: Duration,
    ) -> Result<Answer, Failure> {
        let read = async {
            let method = if body.is_some() { Method::POST } else { Method::GET };
            let mut request = self.http.request(method, format!("{}{path}", self.base));
            if let Some(token) = &self.token {
                request = request.bearer_auth(token);
            }
            if let Some(body) = body {
                request = request.json(body);
            }
            let mut response = request.send().await.map_err(|e| self.unreachable(&e))?;
            let mut body = Vec::new();
            while let Some(chunk) = response.chunk().await.map_err(|e| self.unreachable(&e))? {
                if body.len().saturating_add(chunk.len()) > bytes_max {
                    return Err(Failure::new(format!("`{path}` has more than {bytes_max} bytes")));
                }
                body.extend_from_slice(&chunk);
            }
            Ok(Answer { status: response.status(), headers: response.headers().clone(), body })
        };
        let late = |_| Failure::new(format!("`{path}` was not answered within {} ms", time.as_millis()));
        tokio::time::timeout(time, read).await.map_err(late)?
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        headers: &[(String, String)],
    ) -> Result<Answer, Failure> {
        let mut request = self.http.request(method, format!("{}{path}", self.base));
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        for (name, value) in headers {
            request = request.header(name, value);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let response: Response = request.send().await.map_err(|e| self.unreachable(&e))?;
        let (status, headers) = (response.status(), response.headers().clone());
        let body = response.bytes().await.map_err(|e| self.unreachable(&e))?.to_vec();
        Ok(Answer { status, headers, body })
    }

    fn unreachable(&self, error: &reqwest::Error) -> Failure {
        let mut reason = error.to_string();
        let mut source = std::error::Error::source(error);
        while let Some(inner) = source {
            reason = inner.to_string();
            source = inner.source();
        }
        let node = if self.base.ends_with(".invalid") { "the node" } else { &self.base };
        Failure::new(format!("{node} does not answer: {reason}"))
            .hint("is it running? `polder status` shows the demo's nodes")
    }
}

/// For what never speaks TLS: reading the system's certificates would take longer than most calls.
fn without_roots() -> reqwest::ClientBuilder {
    reqwest::Client::builder().tls_certs_only(std::iter::empty())
}

fn build(builder: reqwest::ClientBuilder) -> Result<reqwest::Client, Failure> {
    let built = builder.no_proxy().connect_timeout(Duration::from_secs(3)).timeout(Duration::from_secs(300)).build();
    built.map_err(|e| Failure::new(format!("cannot make an HTTP client: {e}")))
}
