//! Connections to an engine, kept alive, each driven by the request that uses it.
//!
//! The usual client gives every connection a task of its own, and each chunk then wakes two tasks. Here whoever waits for an
//! answer also drives its connection, so dropping the answer closes the connection at once and the engine hears that its client
//! has left. Connections stay with the thread that made them. HTTP/2 and redirects are absent.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::Full;
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tower_service::Service as _;

type Io = MaybeHttpsStream<TokioIo<TcpStream>>;
type Driver = Pin<Box<http1::Connection<Io, Full<Bytes>>>>;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Engines close idle connections; those that were idle for longer are not tried.
const IDLE_MAX: Duration = Duration::from_secs(60);
/// Most idle connections of one thread.
const IDLE_COUNT_MAX: usize = 256;
const SHARDS: usize = 32;
/// Most bytes that wait in the system, and in the HTTP library, of what one connection to an engine brought.
const SOCKET_BYTES_MAX: usize = 64 << 10;

/// The idle connections to one origin.
pub struct Pool {
    connector: HttpsConnector<HttpConnector>,
    origin: Uri,
    idle: [Mutex<Vec<Idle>>; SHARDS],
}

struct Idle {
    sender: SendRequest<Full<Bytes>>,
    driver: Driver,
    since: Instant,
}

/// A connection in use. Dropping it closes it; [`Busy::give_back`] keeps it for the next request.
pub struct Busy {
    pool: Arc<Pool>,
    sender: SendRequest<Full<Bytes>>,
    driver: Driver,
    ended: bool,
}

/// Which of the pool's parts is this thread's.
fn shard() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static SHARD: usize = NEXT.fetch_add(1, Ordering::Relaxed) % SHARDS;
    }
    SHARD.with(|shard| *shard)
}

impl Pool {
    /// No connections yet.
    pub fn new(origin: Uri) -> Arc<Self> {
        let mut http = HttpConnector::new();
        http.set_nodelay(true);
        http.set_connect_timeout(Some(CONNECT_TIMEOUT));
        http.enforce_http(false);
        // What an engine sends ahead of a slow reader waits at the engine, not here.
        http.set_recv_buffer_size(Some(SOCKET_BYTES_MAX));
        let connector =
            HttpsConnectorBuilder::new().with_webpki_roots().https_or_http().enable_http1().wrap_connector(http);
        Arc::new(Self { connector, origin, idle: Default::default() })
    }

    /// Sends a request and waits for the head of its answer. One that an engine closed under it while it was idle is sent
    /// again, once, on a new connection: nothing of it was answered.
    pub async fn send(self: &Arc<Self>, request: Request<Full<Bytes>>) -> Result<(Response<Incoming>, Busy), String> {
        if let Some(mut busy) = self.reuse() {
            let again = request.clone();
            match busy.send(request).await {
                Ok(response) => return Ok((response, busy)),
                Err(error) if error.is_canceled() || error.is_closed() || error.is_incomplete_message() => {
                    return self.send_anew(again).await;
                }
                Err(error) => return Err(chain(&error)),
            }
        }
        self.send_anew(request).await
    }

    async fn send_anew(self: &Arc<Self>, request: Request<Full<Bytes>>) -> Result<(Response<Incoming>, Busy), String> {
        let io = self.connector.clone().call(self.origin.clone()).await.map_err(|e| chain(e.as_ref()))?;
        let (sender, driver) =
            http1::Builder::new().max_buf_size(SOCKET_BYTES_MAX).handshake(io).await.map_err(|e| chain(&e))?;
        let mut busy = Busy { pool: Arc::clone(self), sender, driver: Box::pin(driver), ended: false };
        let response = busy.send(request).await.map_err(|e| chain(&e))?;
        Ok((response, busy))
    }

    /// The connection that was used last, if it still stands.
    fn reuse(self: &Arc<Self>) -> Option<Busy> {
        let idle = self.idle.get(shard())?;
        loop {
            let Idle { sender, driver, since } = idle.lock().unwrap_or_else(PoisonError::into_inner).pop()?;
            if since.elapsed() > IDLE_MAX {
                continue;
            }
            let mut busy = Busy { pool: Arc::clone(self), sender, driver, ended: false };
            // Nobody looked at it while it was idle: whether it was closed shows now.
            busy.drive(&mut Context::from_waker(Waker::noop()));
            if !busy.ended && busy.sender.is_ready() {
                return Some(busy);
            }
        }
    }
}

impl Busy {
    fn drive(&mut self, context: &mut Context<'_>) {
        if !self.ended {
            self.ended = self.driver.as_mut().poll(context).is_ready();
        }
    }

    async fn send(&mut self, request: Request<Full<Bytes>>) -> hyper::Result<Response<Incoming>> {
        let mut answer = std::pin::pin!(self.sender.send_request(request));
        let (driver, ended) = (&mut self.driver, &mut self.ended);
        std::future::poll_fn(|context| {
            if let Poll::Ready(response) = answer.as_mut().poll(context) {
                return Poll::Ready(response);
            }
            if !*ended {
                *ended = driver.as_mut().poll(context).is_ready();
            }
            answer.as_mut().poll(context)
        })
        .await
    }

    /// The next piece of a body; `None` at its end.
    pub fn poll_data(
        &mut self,
        body: &mut Incoming,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, hyper::Error>>> {
        let mut driven = false;
        loop {
            match Pin::new(&mut *body).poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => return Poll::Ready(Some(Ok(data))),
                    Err(_) => continue,
                },
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending if driven => return Poll::Pending,
                Poll::Pending => {
                    self.drive(context);
                    driven = true;
                }
            }
        }
    }

    /// Reads a whole body of at most `limit` bytes.
    pub async fn read(&mut self, mut body: Incoming, limit: usize) -> Result<Bytes, String> {
        let mut whole: Option<Vec<u8>> = None;
        let mut first = Bytes::new();
        while let Some(data) = std::future::poll_fn(|context| self.poll_data(&mut body, context)).await {
            let data = data.map_err(|e| chain(&e))?;
            let so_far = whole.as_ref().map_or(first.len(), Vec::len);
            if so_far.saturating_add(data.len()) > limit {
                return Err("the engine's answer is too long".to_owned());
            }
            match &mut whole {
                Some(whole) => whole.extend_from_slice(&data),
                // Most answers come in one piece, which need not be copied.
                None if first.is_empty() => first = data,
                None => whole = Some([first.as_ref(), data.as_ref()].concat()),
            }
        }
        Ok(whole.map_or(first, Bytes::from))
    }

    /// Keeps the connection for the next request; the body must have been read to its end.
    pub fn give_back(mut self) {
        self.drive(&mut Context::from_waker(Waker::noop()));
        if self.ended || !self.sender.is_ready() {
            return;
        }
        let Self { pool, sender, driver, .. } = self;
        if let Some(idle) = pool.idle.get(shard()) {
            let mut idle = idle.lock().unwrap_or_else(PoisonError::into_inner);
            if idle.len() < IDLE_COUNT_MAX {
                idle.push(Idle { sender, driver, since: Instant::now() });
            }
        }
    }
}

/// An error with the causes behind it: the outermost alone often says only that something failed.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    text
}
