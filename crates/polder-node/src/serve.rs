//! The accept loop of the applications' and operators' surfaces: bounded connections, bounded waiting, and an end that loses
//! nothing.
//!
//! Connections are accepted in one place and served by the workers in turn. Who may stay is the gate's to say; what is no
//! request is refused before the HTTP library sees it. HTTP/1 only: that is what the SDKs speak without TLS, and what has fewest
//! ways to be abused; HTTP/2 is spoken between pinned peers alone.

use std::convert::Infallible;
use std::error::Error;
use std::io::{self, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use bytes::Bytes;
use http::{Request, Response};
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::{TcpListener, UnixListener, UnixStream};

use crate::config::Limits;
use crate::ledger::client_of;
use crate::shutdown::Shutdown;

mod connection;
pub mod framing;
mod gate;
mod guarded;
mod lane;
mod line;
mod refusal;
mod watched;
pub mod workers;

pub use gate::{Gate, Place};
pub use lane::Express;
pub use line::Phase;
pub use refusal::Refusal;
pub use workers::Workers;

/// How long the node's own socket waits for a request's head.
const SOCKET_HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long accepting pauses when the system has nothing left to give.
const PAUSE: Duration = Duration::from_millis(50);
/// How much of an answer waits in the system that the client's side has not room for, in bytes.
const UNSENT_BYTES_MAX: u32 = 64 << 10;
/// Connections that may wait to be accepted; the system may allow fewer.
const BACKLOG: u32 = 4096;
/// How often a drain looks whether it is over, and how long a cut answer may take to be sent.
const DRAIN_LOOK_EVERY: Duration = Duration::from_millis(20);
const CUT_MAX: Duration = Duration::from_secs(2);

/// Binds an address; the error says what to do when the port is taken. A shared port may be bound by another node of the same
/// user too, so that one can take over from the other.
pub fn bind(address: SocketAddr, setting: &str, share: bool) -> Result<TcpListener, String> {
    let bound = || {
        let socket = if address.is_ipv4() { tokio::net::TcpSocket::new_v4() } else { tokio::net::TcpSocket::new_v6() }?;
        socket.set_reuseaddr(true)?;
        socket.set_reuseport(share)?;
        // Connections have these from their listener: what is written goes out, and little waits that cannot.
        socket.set_nodelay(true)?;
        socket2::SockRef::from(&socket).set_tcp_notsent_lowat(UNSENT_BYTES_MAX)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    bound().map_err(|error: io::Error| match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "port {} is already taken on {}: choose another for `{setting}`, or stop what listens there",
            address.port(),
            address.ip()
        ),
        _ => format!("cannot listen on `{address}` (`{setting}`): {error}"),
    })
}

/// Binds the node's own socket, readable and writable by its owner only.
pub fn bind_socket(path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Raises the limit of open files as far as the system lets this process; how many connections that leaves room for. A quarter is
/// kept for engines, peers and files.
pub fn descriptors() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let now = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    usize::try_from(now.unwrap_or(u64::MAX)).unwrap_or(usize::MAX) / 4 * 3
}

/// Accepts connections until shutdown, each with its place or why there is none.
pub async fn accept(
    listener: TcpListener,
    gate: &Arc<Gate>,
    shutdown: &mut Shutdown,
    mut serve: impl FnMut(std::net::TcpStream, Result<Place, Refusal>),
) -> io::Result<()> {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.wait() => break,
        };
        match accepted {
            Ok((stream, peer)) => admit(stream.into_std(), peer.ip(), gate, &mut serve),
            // The client has gone again.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                tracing::warn!(%error, "no connection can be accepted");
                gate.make_free();
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    gate.drain();
    // Whoever has connected already is served: closing the listener would take these connections back.
    let listener = listener.into_std()?;
    while let Ok((stream, peer)) = listener.accept() {
        admit(stream.set_nonblocking(true).map(|()| stream), peer.ip(), gate, &mut serve);
    }
    Ok(())
}

fn admit(
    stream: io::Result<std::net::TcpStream>,
    peer: IpAddr,
    gate: &Arc<Gate>,
    serve: &mut impl FnMut(std::net::TcpStream, Result<Place, Refusal>),
) {
    if let Ok(stream) = stream {
        serve(stream, gate.enter(peer));
    }
}

/// Waits until every connection has ended; what is still under way after a while is cut.
pub async fn drain(gate: &Gate, limit: Duration) {
    let ended = async |limit: Duration| {
        let all = async {
            while gate.count() > 0 {
                tokio::time::sleep(DRAIN_LOOK_EVERY).await;
            }
        };
        tokio::time::timeout(limit, all).await.is_ok()
    };
    if ended(limit).await {
        return;
    }
    gate.cut();
    if !ended(CUT_MAX).await {
        gate.end();
        ended(CUT_MAX).await;
    }
}

/// Serves a TCP listener until shutdown, and then what is under way: ordinary requests for the paths that `express` names by its
/// service, everything else by the other.
pub async fn serve_tcp<S, B, E>(
    listener: TcpListener,
    service: S,
    express: Express<E>,
    limits: Limits,
    workers: Arc<Workers>,
    mut shutdown: Shutdown,
) where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
    E: tower_service::Service<Request<axum::body::Body>, Response = axum::response::Response, Error = Infallible>,
    E: Clone + Send + 'static,
    E::Future: Send + 'static,
{
    let gate = Gate::open(&limits, limits.connections_max.min(descriptors()));
    let head_bytes_max = limits.header_bytes_max;
    let accepted = accept(listener, &gate, &mut shutdown, |mut stream, place| match (place, workers.next()) {
        (Ok(place), Some(worker)) => {
            let client = stream.peer_addr().map_or(IpAddr::from([0, 0, 0, 0]), |peer| peer.ip());
            let served = connection::serve(stream, place, service.clone(), express.clone(), head_bytes_max);
            worker.spawn(client_of(client, served));
        }
        // There is room for it in a new connection's buffer, and if there were none, nobody would wait.
        (Err(refusal), _) => drop(stream.write(&refusal.bytes())),
        (Ok(_), None) => {}
    });
    if let Err(error) = accepted.await {
        tracing::error!(%error, "no connections can be accepted any more");
    }
    drain(&gate, limits.drain).await;
}

/// Serves the node's own socket until shutdown.
pub async fn serve_socket(listener: UnixListener, router: Router, mut shutdown: Shutdown) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.wait() => return,
        };
        match accepted {
            Ok((stream, _)) => drop(tokio::spawn(serve_own(stream, router.clone(), shutdown.clone()))),
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

async fn serve_own(stream: UnixStream, router: Router, mut shutdown: Shutdown) {
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(SOCKET_HEADER_TIMEOUT);
    let connection = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.wait() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection over the node's own socket ended");
    }
}
