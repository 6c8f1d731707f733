//! The peers' surface of a factory: `/peer/v1/*` over TLS 1.3 between pinned keys.
//!
//! The channel says who speaks; nothing in a message can claim to be someone else. What is not served here does not exist
//! for peers: homes that are no factories listen for nobody.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use futures_util::StreamExt as _;
use http::{HeaderMap, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use polder_core::ids::{ModelId, NodeId};
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::tls::{Pins, presented_key};
use super::wire::{Envelope, Status, VERSION};
use crate::clock::now_ms;
use crate::config::Limits;
use crate::factory::Factory;
use crate::serve::{self, Gate, Phase, Place, Workers};
use crate::shutdown::Shutdown;
use crate::telemetry;
use crate::together::together;

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Most connections at once; a home needs one.
const CONNECTIONS_MAX: usize = 1024;
/// Most requests of one connection at once, and largest list of headers, in bytes.
const STREAMS_MAX: u32 = 1024;
const HEADER_BYTES_MAX: u32 = 16 << 10;
/// Most streams of one connection that were taken back before they were looked at (rapid reset), and that this side had to take
/// back; whoever goes beyond either is no peer that means well, and the connection ends.
const RESETS_WAITING_MAX: usize = 20;
const RESETS_OWN_MAX: usize = 256;

/// Who is on the other end of the channel.
#[derive(Clone)]
pub struct Speaker(pub NodeId);

/// Serves a factory's peers until shutdown; also what they may ask of its log and its witness. A connection, and what runs for
/// it, stays on one of the workers.
#[allow(clippy::too_many_arguments)] // Each is said once, by the node that puts its parts together.
pub async fn serve(
    listener: TcpListener,
    config: Arc<ServerConfig>,
    pins: Pins,
    (factory, log): (Arc<Factory>, Router),
    body_bytes_max: usize,
    limits: Limits,
    workers: Arc<Workers>,
    shutdown: Shutdown,
) {
    let router = Router::new()
        .route("/peer/v1/status", get(status))
        .route("/peer/v1/run", post(run))
        .route("/peer/v1/executions/{decision}", get(execution))
        .route("/peer/v1/sealed/{decision}", get(sealed))
        .layer(DefaultBodyLimit::max(body_bytes_max.saturating_mul(2)))
        .with_state(factory)
        .merge(log);
    serve_router(listener, config, pins, router, limits, workers, shutdown).await;
}

/// Serves these routes to whoever holds a pinned key, until shutdown.
async fn serve_router(
    listener: TcpListener,
    config: Arc<ServerConfig>,
    pins: Pins,
    router: Router,
    limits: Limits,
    workers: Arc<Workers>,
    mut shutdown: Shutdown,
) {
    let acceptor = TlsAcceptor::from(config);
    let pins = Arc::new(pins);
    let gate = Gate::open(&limits, CONNECTIONS_MAX);
    let signal = shutdown.clone();
    let accepted = serve::accept(listener, &gate, &mut shutdown, |stream, place| {
        // Without a place there is nothing to say before the handshake.
        let (Ok(place), Some(worker)) = (place, workers.next()) else { return };
        let (acceptor, pins, router) = (acceptor.clone(), Arc::clone(&pins), router.clone());
        let signal = signal.clone();
        worker.spawn(async move {
            if let Err(reason) = connection(stream, place, acceptor, &pins, router, signal).await {
                tracing::debug!(reason, "a peer's connection ended");
            }
        });
    });
    if let Err(error) = accepted.await {
        tracing::error!(%error, "no peer's connection can be accepted any more");
    }
    serve::drain(&gate, limits.drain).await;
}

async fn connection(
    tcp: std::net::TcpStream,
    place: Place,
    acceptor: TlsAcceptor,
    pins: &Pins,
    router: Router,
    mut shutdown: Shutdown,
) -> Result<(), String> {
    let tcp = TcpStream::from_std(tcp).map_err(|e| e.to_string())?;
    let handshake = tokio::select! {
        handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(tcp)) => handshake,
        () = shutdown.wait() => return Err("the node stops".to_owned()),
        _ = place.line.until_ordered() => return Err("it gave way before its handshake".to_owned()),
    };
    let stream = handshake.map_err(|_| "no handshake in time")?.map_err(|e| e.to_string())?;
    let key = presented_key(stream.get_ref().1.peer_certificates()).ok_or("no key presented")?;
    let speaker = Speaker(pins.get(&key).ok_or("a key that is not pinned")?.clone());
    // Whoever holds a pinned key gives way to nobody.
    place.line.enter(Phase::Busy);
    let service = TowerToHyperService::new(router.layer(Extension(speaker)));
    let mut server = auto::Builder::new(TokioExecutor::new()).http2_only();
    server
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Some(Duration::from_secs(20)))
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEADER_BYTES_MAX)
        .max_pending_accept_reset_streams(RESETS_WAITING_MAX)
        .max_local_error_reset_streams(RESETS_OWN_MAX);
    let connection = server.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let mut ended = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        () = shutdown.wait() => None,
    };
    if ended.is_none() {
        connection.as_mut().graceful_shutdown();
        ended = tokio::select! {
            ended = connection.as_mut() => Some(ended),
            _ = place.line.until_ordered() => None,
        };
    }
    ended.unwrap_or(Ok(())).map_err(|e| e.to_string())
}

async fn status(State(factory): State<Arc<Factory>>) -> Response {
    Json(Status { now_ms: Some(now_ms()), ..factory.status() }).into_response()
}

async fn run(
    State(factory): State<Arc<Factory>>,
    Extension(Speaker(home)): Extension<Speaker>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    // The reason in the library's words may quote the request.
    let Ok(envelope) = serde_json::from_slice::<Envelope>(&body) else {
        return (StatusCode::BAD_REQUEST, "the envelope is not understood").into_response();
    };
    drop(body);
    if envelope.version != VERSION {
        let message = format!("message version {} is not spoken here, {VERSION} is", envelope.version);
        return (StatusCode::BAD_REQUEST, message).into_response();
    }
    let model = envelope.ticket.request.model.clone();
    let frames = factory.run(&home, envelope, false);
    let frames = telemetry::served(&headers, model.as_ref().map(ModelId::as_str), frames).map(|frame| {
        let mut line = serde_json::to_vec(&frame).unwrap_or_default();
        line.push(b'\n');
        Bytes::from(line)
    });
    Response::new(Body::from_stream(together(frames)))
}

/// The execution of a decision, for the home that made it; `null` where there is none.
async fn execution(
    State(factory): State<Arc<Factory>>,
    Extension(Speaker(home)): Extension<Speaker>,
    Path(decision): Path<String>,
) -> Response {
    Json(factory.execution(&home, &decision).await).into_response()
}

/// The same, signed by the factory itself.
async fn sealed(
    State(factory): State<Arc<Factory>>,
    Extension(Speaker(home)): Extension<Speaker>,
    Path(decision): Path<String>,
) -> Response {
    Json(factory.sealed(&home, &decision).await).into_response()
}

#[cfg(test)]
mod tests;
