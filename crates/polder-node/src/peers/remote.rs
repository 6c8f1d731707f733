//! A factory on the other end of TLS connections, one HTTP/2 connection for all requests of one thread to it.
//!
//! A connection is made when it is needed and again when it broke. It stays with its thread, so that no frame goes from one to
//! another. Retrying is absent: a retry is a new decision, the home's.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use ed25519_dalek::SigningKey;
use futures_util::{Stream, StreamExt as _};
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, BodyStream, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use polder_core::ids::NodeId;
use polder_core::receipt::{Half, Sealed};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::wire::{Envelope, FRAME_BYTES_MAX, Status};
use super::{FrameStream, Peer, PeerError, PeerFuture, tls};
use crate::serve::workers::number;
use crate::telemetry;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const FETCH_TIMEOUT: Duration = Duration::from_secs(2);
/// A factory that vanished without a word is noticed within the sum of these while something runs there.
const PING_EVERY: Duration = Duration::from_secs(5);
const PING_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest wait for the head of an answer; the factory sends it as soon as it has decided.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest text that is read, in bytes.
const TEXT_BYTES_MAX: usize = 64 << 10;
/// Most connections to one factory; threads beyond that share them.
const SHARDS: usize = 32;

/// A factory behind TLS.
pub struct Remote {
    node: NodeId,
    address: SocketAddr,
    tls: Arc<ClientConfig>,
    connections: [Mutex<Option<SendRequest<Full<Bytes>>>>; SHARDS],
}

impl Remote {
    /// The factory `node` at an address, whose transport key is `pin`.
    pub fn new(node: NodeId, address: SocketAddr, pin: [u8; 32], own: &SigningKey) -> Result<Self, rustls::Error> {
        let tls = tls::client_config(own, &node, pin)?;
        Ok(Self { node, address, tls, connections: Default::default() })
    }

    fn unreachable(&self, reason: impl ToString) -> PeerError {
        PeerError::Unreachable { peer: self.node.clone(), reason: reason.to_string() }
    }

    fn protocol(&self, reason: impl ToString) -> PeerError {
        PeerError::Protocol { peer: self.node.clone(), reason: reason.to_string() }
    }

    async fn sender(&self) -> Result<SendRequest<Full<Bytes>>, PeerError> {
        let own =
            self.connections.get(number() % SHARDS).ok_or_else(|| self.unreachable("no place for a connection"))?;
        let mut held = own.lock().await;
        if let Some(sender) = held.as_ref().filter(|sender| !sender.is_closed()) {
            return Ok(sender.clone());
        }
        let sender = timeout(CONNECT_TIMEOUT, self.connect())
            .await
            .map_err(|_| self.unreachable("connecting took too long"))??;
        *held = Some(sender.clone());
        Ok(sender)
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, PeerError> {
        let tcp = TcpStream::connect(self.address).await.map_err(|e| self.unreachable(e))?;
        tcp.set_nodelay(true).map_err(|e| self.unreachable(e))?;
        // The name is never looked at: the key is.
        let name = ServerName::try_from("polder.invalid").map_err(|e| self.unreachable(e))?;
        let stream =
            TlsConnector::from(Arc::clone(&self.tls)).connect(name, tcp).await.map_err(|e| self.unreachable(e))?;
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder.timer(TokioTimer::new()).keep_alive_interval(PING_EVERY).keep_alive_timeout(PING_TIMEOUT);
        let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(|e| self.unreachable(e))?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to a peer ended");
            }
        });
        Ok(sender)
    }

    /// What the peer answers on a path, read as JSON.
    pub async fn fetch<T: serde::de::DeserializeOwned>(&self, path: &str) -> Result<T, PeerError> {
        let response = self.send(Method::GET, path, Bytes::new()).await?;
        if response.status() != StatusCode::OK {
            return Err(self.protocol(response.status()));
        }
        let body = Limited::new(response.into_body(), FRAME_BYTES_MAX);
        let bytes = body.collect().await.map_err(|e| self.unreachable(e))?.to_bytes();
        serde_json::from_slice(&bytes).map_err(|e| self.protocol(misread(&e)))
    }

    /// Sends a body to a path; the answer's status and text, whatever they are.
    pub async fn post_text(&self, path: &str, body: Vec<u8>) -> Result<(StatusCode, String), PeerError> {
        self.text(Method::POST, path, body.into()).await
    }

    /// Asks for a path; the answer's status and text, whatever they are.
    pub async fn get_text(&self, path: &str) -> Result<(StatusCode, String), PeerError> {
        self.text(Method::GET, path, Bytes::new()).await
    }

    async fn text(&self, method: Method, path: &str, body: Bytes) -> Result<(StatusCode, String), PeerError> {
        let response = self.send(method, path, body).await?;
        let (status, body) = (response.status(), Limited::new(response.into_body(), TEXT_BYTES_MAX));
        let bytes = body.collect().await.map_err(|e| self.unreachable(e))?.to_bytes();
        Ok((status, String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// What the peer answers on a path, one JSON value a line, as it comes.
    pub async fn lines<T: serde::de::DeserializeOwned + Send + 'static>(
        &self,
        path: &str,
    ) -> Result<Lines<T>, PeerError> {
        let response = self.send(Method::GET, path, Bytes::new()).await?;
        if response.status() != StatusCode::OK {
            return Err(self.protocol(response.status()));
        }
        Ok(lines(self.node.clone(), response.into_body()))
    }

    async fn send(&self, method: Method, path: &str, body: Bytes) -> Result<http::Response<Incoming>, PeerError> {
        let request = Request::builder()
            .method(method)
            .uri(format!("https://polder.invalid{path}"))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body));
        let mut request = request.map_err(|e| self.protocol(e))?;
        if let Some(trace) = telemetry::header() {
            request.headers_mut().insert("traceparent", trace);
        }
        let mut sender = self.sender().await?;
        let sent = timeout(HEAD_TIMEOUT, sender.send_request(request)).await;
        sent.map_err(|_| self.unreachable("no answer in time"))?.map_err(|e| self.unreachable(e))
    }
}

impl Peer for Remote {
    fn status(&self) -> PeerFuture<'_, Status> {
        Box::pin(async move {
            let fetched = timeout(FETCH_TIMEOUT, self.fetch("/peer/v1/status")).await;
            fetched.map_err(|_| self.unreachable("no status in time"))?
        })
    }

    fn execution<'a>(&'a self, decision: &'a str) -> PeerFuture<'a, Option<Half>> {
        Box::pin(async move {
            let path = format!("/peer/v1/executions/{decision}");
            let fetched = timeout(FETCH_TIMEOUT, self.fetch(&path)).await;
            fetched.map_err(|_| self.unreachable("no receipt in time"))?
        })
    }

    fn sealed<'a>(&'a self, decision: &'a str) -> PeerFuture<'a, Option<Sealed>> {
        Box::pin(async move {
            let path = format!("/peer/v1/sealed/{decision}");
            let fetched = timeout(FETCH_TIMEOUT, self.fetch(&path)).await;
            fetched.map_err(|_| self.unreachable("no receipt in time"))?
        })
    }

    fn run(&self, envelope: Envelope) -> PeerFuture<'_, FrameStream> {
        Box::pin(async move {
            let body = serde_json::to_vec(&envelope).map_err(|e| self.protocol(e))?;
            let response = self.send(Method::POST, "/peer/v1/run", body.into()).await?;
            if response.status() != StatusCode::OK {
                let status = response.status();
                let text = Limited::new(response.into_body(), 4096).collect().await;
                let text = text.map(|body| String::from_utf8_lossy(&body.to_bytes()).into_owned()).unwrap_or_default();
                return Err(self.protocol(format!("{status} {text}")));
            }
            Ok(lines(self.node.clone(), response.into_body()))
        })
    }
}

/// Why a message is not understood, without a word of it: it may be a part of an answer, and reasons are recorded.
fn misread(error: &serde_json::Error) -> String {
    let kind = if error.is_data() { "has other fields or types" } else { "is not JSON" };
    format!("what it sent {kind} (line {}, column {})", error.line(), error.column())
}

/// The values in a body as they come.
pub type Lines<T> = Pin<Box<dyn Stream<Item = Result<T, PeerError>> + Send>>;

/// The values in a body: one JSON value a line.
fn lines<T: serde::de::DeserializeOwned + Send + 'static>(peer: NodeId, body: Incoming) -> Lines<T> {
    let state = (peer, BodyStream::new(body), BytesMut::new());
    Box::pin(futures_util::stream::unfold(Some(state), |state| async move {
        let (peer, mut body, mut buffer) = state?;
        loop {
            if let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
                let line = buffer.split_to(end + 1);
                return match serde_json::from_slice(&line) {
                    Ok(frame) => Some((Ok(frame), Some((peer, body, buffer)))),
                    Err(e) => Some((Err(PeerError::Protocol { peer, reason: misread(&e) }), None)),
                };
            }
            let broken = |peer, reason: String| Some((Err(PeerError::Unreachable { peer, reason }), None));
            match body.next().await {
                Some(Ok(frame)) => buffer.extend_from_slice(&frame.into_data().unwrap_or_default()),
                Some(Err(e)) => return broken(peer, e.to_string()),
                None if buffer.is_empty() => return None,
                None => return broken(peer, "the answer broke off".to_owned()),
            }
            if buffer.len() > FRAME_BYTES_MAX {
                return broken(peer, "a frame is too long".to_owned());
            }
        }
    }))
}
