//! The peers' surface of a factory: `/peer/v1/*` over TLS 1.3 between pinned keys.
//!
//! The channel says who speaks; nothing in a message can claim to be someone else. What is not served here does not exist
//! for peers: homes that are no factories listen for nobody.

use std::convert::Infallible;
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
use http::StatusCode;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use polder_core::ids::NodeId;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::tls::{Pins, presented_key};
use super::wire::{Envelope, Status, VERSION};
use crate::clock::now_ms;
use crate::factory::Factory;
use crate::serve::DRAIN_MAX;
use crate::shutdown::Shutdown;

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Most connections at once; a home needs one.
const CONNECTIONS_MAX: usize = 1024;

/// Who is on the other end of the channel.
#[derive(Clone)]
struct Speaker(NodeId);

/// Serves a factory's peers until shutdown.
pub async fn serve(
    listener: TcpListener,
    config: Arc<ServerConfig>,
    pins: Pins,
    factory: Arc<Factory>,
    body_bytes_max: usize,
    mut shutdown: Shutdown,
) {
    let acceptor = TlsAcceptor::from(config);
    let pins = Arc::new(pins);
    let places = Arc::new(tokio::sync::Semaphore::new(CONNECTIONS_MAX));
    let router = Router::new()
        .route("/peer/v1/status", get(status))
        .route("/peer/v1/run", post(run))
        .route("/peer/v1/executions/{decision}", get(execution))
        .layer(DefaultBodyLimit::max(body_bytes_max.saturating_mul(2)))
        .with_state(factory);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.wait() => break,
        };
        let (Ok((tcp, _)), Ok(place)) = (accepted, Arc::clone(&places).try_acquire_owned()) else {
            // Out of descriptors or of places: pause rather than spin.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let (acceptor, pins, router) = (acceptor.clone(), Arc::clone(&pins), router.clone());
        let shutdown = shutdown.clone();
        tokio::spawn(async move {
            if let Err(reason) = connection(tcp, acceptor, &pins, router, shutdown).await {
                tracing::debug!(reason, "a peer's connection ended");
            }
            drop(place);
        });
    }
    drop(listener);
    // Every place that comes back is a connection that has ended: answers under way are written to their end.
    let all = u32::try_from(CONNECTIONS_MAX).unwrap_or(u32::MAX);
    drop(tokio::time::timeout(DRAIN_MAX, places.acquire_many(all)).await);
}

async fn connection(
    tcp: TcpStream,
    acceptor: TlsAcceptor,
    pins: &Pins,
    router: Router,
    mut shutdown: Shutdown,
) -> Result<(), String> {
    tcp.set_nodelay(true).map_err(|e| e.to_string())?;
    let handshake = tokio::select! {
        handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(tcp)) => handshake,
        () = shutdown.wait() => return Err("the node stops".to_owned()),
    };
    let stream = handshake.map_err(|_| "no handshake in time")?.map_err(|e| e.to_string())?;
    let key = presented_key(stream.get_ref().1.peer_certificates()).ok_or("no key presented")?;
    let speaker = Speaker(pins.get(&key).ok_or("a key that is not pinned")?.clone());
    let service = TowerToHyperService::new(router.layer(Extension(speaker)));
    let mut server = auto::Builder::new(TokioExecutor::new()).http2_only();
    server
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Some(Duration::from_secs(20)))
        .max_concurrent_streams(1024);
    let connection = server.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.wait() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    ended.map_err(|e| e.to_string())
}

async fn status(State(factory): State<Arc<Factory>>) -> Response {
    Json(Status { now_ms: Some(now_ms()), ..factory.status() }).into_response()
}

async fn run(
    State(factory): State<Arc<Factory>>,
    Extension(Speaker(home)): Extension<Speaker>,
    Json(envelope): Json<Envelope>,
) -> Response {
    if envelope.version != VERSION {
        let message = format!("message version {} is not spoken here, {VERSION} is", envelope.version);
        return (StatusCode::BAD_REQUEST, message).into_response();
    }
    let frames = factory.run(&home, envelope, false).map(|frame| {
        let mut line = serde_json::to_vec(&frame).unwrap_or_default();
        line.push(b'\n');
        Ok::<_, Infallible>(Bytes::from(line))
    });
    Response::new(Body::from_stream(frames))
}

/// The execution of a decision, for the home that made it; `null` where there is none.
async fn execution(
    State(factory): State<Arc<Factory>>,
    Extension(Speaker(home)): Extension<Speaker>,
    Path(decision): Path<String>,
) -> Response {
    Json(factory.execution(&home, &decision).await).into_response()
}
