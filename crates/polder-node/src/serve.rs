//! The accept loop of the applications' and operators' surfaces: bounded connections, bounded waiting.
//!
//! A client that connects and says nothing, or dribbles its headers, is let go; others are not disturbed. HTTP/1.1 only: that is
//! what the SDKs speak without TLS.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;

use crate::ledger::client_of;
use crate::shutdown::Shutdown;

const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(30);
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
const CONNECTIONS_MAX: usize = 4096;
/// How long requests under way may go on after the node is told to stop.
pub const DRAIN_MAX: Duration = Duration::from_secs(10);

/// Binds an address; the error says what to do when the port is taken.
pub async fn bind(address: SocketAddr, setting: &str) -> Result<TcpListener, String> {
    TcpListener::bind(address).await.map_err(|error| match error.kind() {
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

/// Serves a TCP listener until shutdown, and then what is under way.
pub async fn serve_tcp(listener: TcpListener, router: Router, mut shutdown: Shutdown) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.wait() => break,
        };
        let (Ok((stream, address)), Ok(place)) = (accepted, Arc::clone(&places).try_acquire_owned()) else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let (router, mut shutdown) = (router.clone(), shutdown.clone());
        tokio::spawn(async move {
            let mut byte = [0];
            let first_byte = tokio::select! {
                first_byte = tokio::time::timeout(FIRST_BYTE_TIMEOUT, stream.peek(&mut byte)) => first_byte,
                // Whoever has said nothing yet has nothing to wait for.
                () = shutdown.wait() => return,
            };
            if stream.set_nodelay(true).is_ok() && matches!(first_byte, Ok(Ok(1))) {
                client_of(address.ip(), serve_connection(stream, router, shutdown)).await;
            }
            drop(place);
        });
    }
    drop(listener);
    // Every place that comes back is a connection that has ended.
    let all = u32::try_from(CONNECTIONS_MAX).unwrap_or(u32::MAX);
    drop(tokio::time::timeout(DRAIN_MAX, places.acquire_many(all)).await);
}

/// Serves the node's own socket until shutdown.
pub async fn serve_socket(listener: UnixListener, router: Router, mut shutdown: Shutdown) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.wait() => return,
        };
        match accepted {
            Ok((stream, _)) => drop(tokio::spawn(serve_connection(stream, router.clone(), shutdown.clone()))),
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn serve_connection<S>(stream: S, router: Router, mut shutdown: Shutdown)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = TowerToHyperService::new(router);
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.wait() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "an application's connection ended");
    }
}
