//! The peers' surface of a node: `/peer/v1/*` over TLS 1.3 between pinned keys.
//!
//! The channel says who speaks; nothing in a message can claim to be someone else. Whoever is no member and may come in all the same
//! (with an invitation, or to hear what became of a request) finds one door. A member that only connects outwards opens a channel on
//! which this side asks. What is not served here does not exist for peers.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
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
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_rustls::{TlsAcceptor, TlsStream};

use super::pace::{Pace, Paces};
use super::tls::{Doors, REVERSE, presented_key};
use super::wire::{Envelope, Status, VERSION, VERSION_LEAST};
use crate::clock::now_ms;
use crate::config::Limits;
use crate::factory::Factory;
use crate::members::Reached;
use crate::metrics;
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

/// Most connections at once of those who are no members, and how long one of them has for all that it wants.
const GUESTS_MAX: usize = 16;
const GUEST_TIME_MAX: Duration = Duration::from_secs(10);

/// Who is on the other end of the channel.
#[derive(Clone)]
pub struct Speaker(pub NodeId);

/// The transport key that was shown at the other end of the channel.
#[derive(Clone, Copy)]
pub struct Shown(pub [u8; 32]);

/// What whoever comes may ask for.
#[derive(Clone)]
pub struct Surfaces {
    /// Members.
    pub members: Router,
    /// All others.
    pub guests: Router,
}

/// Who may come, and how those are reached who come only to be asked.
#[derive(Clone)]
pub struct Callers {
    /// Who may come in now.
    pub doors: Arc<ArcSwap<Doors>>,
    /// Tells when that is somebody else.
    pub changes: watch::Receiver<u64>,
    /// The channels to the members.
    pub reached: Arc<Reached>,
}

/// What every connection needs.
struct Hall {
    acceptor: TlsAcceptor,
    callers: Callers,
    surfaces: Surfaces,
    paces: Paces,
    guests: Arc<Semaphore>,
}

/// What a factory's homes ask of it.
pub fn factory_router(factory: Arc<Factory>, body_bytes_max: usize) -> Router {
    Router::new()
        .route("/peer/v1/status", get(status))
        .route("/peer/v1/run", post(run))
        .route("/peer/v1/executions/{decision}", get(execution))
        .route("/peer/v1/sealed/{decision}", get(sealed))
        .layer(DefaultBodyLimit::max(body_bytes_max.saturating_mul(2)))
        .with_state(factory)
}

/// Serves a node's peers until shutdown. A connection, and what runs for it, stays on one of the workers.
pub async fn serve(
    listener: TcpListener,
    config: Arc<ServerConfig>,
    callers: Callers,
    surfaces: Surfaces,
    limits: Limits,
    workers: Arc<Workers>,
    mut shutdown: Shutdown,
) {
    let guests = Arc::new(Semaphore::new(GUESTS_MAX));
    let paces = Paces::new(limits.peer_requests_per_s);
    let hall = Arc::new(Hall { acceptor: TlsAcceptor::from(config), callers, surfaces, paces, guests });
    let gate = Gate::open(&limits, CONNECTIONS_MAX);
    let signal = shutdown.clone();
    let accepted = serve::accept(listener, &gate, &mut shutdown, |stream, place| {
        // Without a place there is nothing to say before the handshake.
        let (Ok(place), Some(worker)) = (place, workers.next()) else { return };
        let (hall, signal) = (Arc::clone(&hall), signal.clone());
        worker.spawn(async move {
            if let Err(reason) = connection(stream, place, &hall, signal).await {
                tracing::debug!(reason, "a peer's connection ended");
            }
        });
    });
    if let Err(error) = accepted.await {
        tracing::error!(%error, "no peer's connection can be accepted any more");
    }
    serve::drain(&gate, limits.drain).await;
}

async fn connection(tcp: std::net::TcpStream, place: Place, hall: &Hall, mut shutdown: Shutdown) -> Result<(), String> {
    let tcp = TcpStream::from_std(tcp).map_err(|e| e.to_string())?;
    let handshake = tokio::select! {
        handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, hall.acceptor.accept(tcp)) => handshake,
        () = shutdown.wait() => return Err("the node stops".to_owned()),
        _ = place.line.until_ordered() => return Err("it gave way before its handshake".to_owned()),
    };
    let stream = handshake.map_err(|_| "no handshake in time")?.map_err(|e| e.to_string())?;
    let key = presented_key(stream.get_ref().1.peer_certificates()).ok_or("no key presented")?;
    let reverse = stream.get_ref().1.alpn_protocol() == Some(REVERSE);
    let speaker = hall.callers.doors.load().pins.get(&key).cloned();
    let Some(speaker) = speaker else {
        let Ok(_place) = hall.guests.try_acquire() else {
            metrics::peer_refused("flood");
            return Err("too many are here who are no members".to_owned());
        };
        let router = hall.surfaces.guests.clone().layer(Extension(Shown(key)));
        let served = speak(stream, router, &place, shutdown, std::future::pending());
        return tokio::time::timeout(GUEST_TIME_MAX, served).await.unwrap_or(Ok(()));
    };
    // Whoever holds a pinned key gives way to nobody.
    place.line.enter(Phase::Busy);
    if reverse {
        return hall.reverse(stream.into(), &speaker, key, shutdown).await;
    }
    let pace = Extension(hall.paces.of(&speaker));
    let router = hall.surfaces.members.clone().layer(Extension(Shown(key))).layer(pace);
    let router = router.layer(Extension(speaker.clone())).layer(Extension(Speaker(speaker.clone())));
    speak(stream, router, &place, shutdown, gone(hall, &speaker, key)).await
}

/// Returns once the key of a channel is no member's any more.
async fn gone(hall: &Hall, speaker: &NodeId, key: [u8; 32]) {
    let Callers { doors, mut changes, .. } = hall.callers.clone();
    while doors.load().pins.get(&key) == Some(speaker) {
        if changes.changed().await.is_err() {
            return;
        }
    }
}

/// Speaks HTTP/2 over a channel as the side that answers, until it ends, the node stops, or whoever speaks is no member any more.
pub(crate) async fn speak(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Router,
    place: &Place,
    mut shutdown: Shutdown,
    gone: impl Future<Output = ()>,
) -> Result<(), String> {
    let mut server = auto::Builder::new(TokioExecutor::new()).http2_only();
    server
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Some(Duration::from_secs(20)))
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEADER_BYTES_MAX)
        .max_pending_accept_reset_streams(RESETS_WAITING_MAX)
        .max_local_error_reset_streams(RESETS_OWN_MAX);
    let connection = server.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    tokio::pin!(connection);
    let mut ended = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        () = shutdown.wait() => None,
        () = gone => return Err("whoever spoke is no member any more".to_owned()),
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

impl Hall {
    /// A member that only connects outwards has opened a channel: this side asks over it, until one of them ends it.
    async fn reverse(
        &self,
        stream: TlsStream<TcpStream>,
        speaker: &NodeId,
        key: [u8; 32],
        mut shutdown: Shutdown,
    ) -> Result<(), String> {
        let remotes = self.callers.reached.all();
        let remote = remotes.get(speaker).ok_or("nothing is asked of this member")?;
        let mut ended = remote.offer(stream).await.map_err(|error| error.to_string())?;
        tracing::info!(from = %speaker, "a member opened a channel to be asked over");
        tokio::select! {
            () = ended.wait() => Ok(()),
            () = shutdown.wait() => Ok(()),
            () = gone(self, speaker, key) => Err("whoever opened it is no member any more".to_owned()),
        }
    }
}

async fn status(State(factory): State<Arc<Factory>>) -> Response {
    Json(Status { now_ms: Some(now_ms()), ..factory.status() }).into_response()
}

async fn run(
    State(factory): State<Arc<Factory>>,
    Extension(Speaker(home)): Extension<Speaker>,
    Extension(Shown(key)): Extension<Shown>,
    Extension(pace): Extension<Arc<Pace>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if !pace.allows() {
        metrics::peer_refused("flood");
        let message = "more requests a second than this factory takes from one member";
        return (StatusCode::TOO_MANY_REQUESTS, message).into_response();
    }
    // The reason in the library's words may quote the request.
    let Ok(envelope) = serde_json::from_slice::<Envelope>(&body) else {
        return (StatusCode::BAD_REQUEST, "the envelope is not understood").into_response();
    };
    drop(body);
    if !(VERSION_LEAST..=VERSION).contains(&envelope.version) {
        metrics::peer_refused("version");
        let (asked, least) = (envelope.version, VERSION_LEAST);
        let message = format!("message version {asked} is not spoken here, {least} to {VERSION} are");
        return (StatusCode::BAD_REQUEST, message).into_response();
    }
    let model = envelope.ticket.request.model.clone();
    let frames = factory.run((&home, Some(&key)), envelope, false);
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
