//! Connections to an engine, kept alive, each driven by the request that uses it.
//!
//! HTTP/1.1 without a library's tasks and channels: a request is one write, and whoever waits for an answer reads it, so that
//! dropping the answer closes the connection at once and the engine hears that its client has left. What was read is looked at
//! where it lies; a stream that waits holds no buffer. Connections stay with the thread that made them. HTTP/2 and redirects are
//! absent.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Uri;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tower_service::Service as _;

use super::wire::{self, Body, Head};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Engines close idle connections; those that were idle for longer are not tried.
const IDLE_MAX: Duration = Duration::from_secs(60);
/// Most idle connections of one thread.
const IDLE_COUNT_MAX: usize = 256;
const SHARDS: usize = 32;
/// Most bytes that wait in the system of what one connection to an engine brought, and most that are read at once.
const SOCKET_BYTES_MAX: usize = 64 << 10;
/// Most interim answers before the real one.
const INTERIM_MAX: usize = 8;

thread_local! {
    /// Where a thread reads into. What of it is not used at once is copied.
    static READ: RefCell<Vec<u8>> = RefCell::new(vec![0; SOCKET_BYTES_MAX]);
}

/// A connection's bytes.
enum Io {
    Plain(TcpStream),
    Tls(Box<TokioIo<MaybeHttpsStream<TokioIo<TcpStream>>>>),
}

impl Io {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(buffer);
        let read = match self {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, &mut buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, &mut buffer),
        };
        read.map_ok(|()| buffer.filled().len())
    }

    /// Writes what is left of some bytes; `sent` says how far it came.
    fn poll_send(&mut self, cx: &mut Context<'_>, bytes: &[u8], sent: &mut usize) -> Poll<io::Result<()>> {
        while let Some(rest) = bytes.get(*sent..).filter(|rest| !rest.is_empty()) {
            let count = ready!(match self {
                Self::Plain(stream) => Pin::new(stream).poll_write(cx, rest),
                Self::Tls(stream) => Pin::new(stream).poll_write(cx, rest),
            })?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            *sent += count;
        }
        match self {
            Self::Plain(_) => Poll::Ready(Ok(())),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }
}

/// The idle connections to one origin.
pub struct Pool {
    connector: HttpsConnector<HttpConnector>,
    origin: Uri,
    idle: [Mutex<Vec<Idle>>; SHARDS],
}

struct Idle {
    io: Io,
    since: Instant,
}

/// A connection in use. Dropping it closes it; [`Busy::give_back`] keeps it for the next request.
pub struct Busy {
    pool: Arc<Pool>,
    io: Io,
    /// Read, and not looked at yet.
    unread: Vec<u8>,
    body: Body,
    keeps: bool,
}

/// Why there is no answer.
struct Broken {
    reason: String,
    /// Whether something of an answer had come.
    heard: bool,
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

    /// Sends a request, head and body, and waits for the head of its answer. One that an engine closed under it while the
    /// connection was idle is sent again, once, on a new one: nothing of it was answered.
    pub async fn send(self: &Arc<Self>, request: &[u8]) -> Result<(Head, Busy), String> {
        if let Some(mut busy) = self.reuse() {
            match busy.exchange(request).await {
                Ok(head) => return Ok((head, busy)),
                Err(broken) if broken.heard => return Err(broken.reason),
                Err(_) => {}
            }
        }
        let io = self.connector.clone().call(self.origin.clone()).await.map_err(|e| chain(e.as_ref()))?;
        let mut busy = self.busy(match io {
            MaybeHttpsStream::Http(stream) => Io::Plain(stream.into_inner()),
            tls => Io::Tls(Box::new(TokioIo::new(tls))),
        });
        let head = busy.exchange(request).await.map_err(|broken| broken.reason)?;
        Ok((head, busy))
    }

    fn busy(self: &Arc<Self>, io: Io) -> Busy {
        Busy { pool: Arc::clone(self), io, unread: Vec::new(), body: Body::Known(0), keeps: false }
    }

    /// The connection that was used last, if it still stands.
    fn reuse(self: &Arc<Self>) -> Option<Busy> {
        let idle = self.idle.get(shard())?;
        loop {
            let Idle { mut io, since } = idle.lock().unwrap_or_else(PoisonError::into_inner).pop()?;
            if since.elapsed() > IDLE_MAX {
                continue;
            }
            // Nobody looked at it while it was idle: whether it was closed, or brought what nobody asked for, shows now.
            let mut byte = [0];
            if io.poll_read(&mut Context::from_waker(Waker::noop()), &mut byte).is_pending() {
                return Some(self.busy(io));
            }
        }
    }
}

impl Busy {
    async fn exchange(&mut self, request: &[u8]) -> Result<Head, Broken> {
        let (mut sent, mut interim) = (0, 0);
        poll_fn(|cx| self.poll_head(cx, request, &mut sent, &mut interim)).await
    }

    /// Sends what is left of a request and looks for the head of its answer, which may come before all was sent.
    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        request: &[u8],
        sent: &mut usize,
        interim: &mut usize,
    ) -> Poll<Result<Head, Broken>> {
        // An engine that has closed may have said why.
        let unsent = match self.io.poll_send(cx, request, sent) {
            Poll::Ready(Err(error)) => Some(error),
            Poll::Ready(Ok(())) | Poll::Pending => None,
        };
        loop {
            let broken = |heard: bool, reason: &dyn ToString| Broken { reason: reason.to_string(), heard };
            match wire::head(&self.unread).map_err(|reason| broken(true, &reason))? {
                Some((length, head)) if head.status.is_informational() => {
                    *interim += 1;
                    if *interim > INTERIM_MAX || head.status == http::StatusCode::SWITCHING_PROTOCOLS {
                        return Poll::Ready(Err(broken(true, &"its answer has no end of beginnings")));
                    }
                    self.unread.drain(..length);
                }
                Some((length, mut head)) => {
                    self.unread.drain(..length);
                    self.keeps = head.keeps && *sent == request.len();
                    self.body = std::mem::replace(&mut head.body, Body::Known(0));
                    return Poll::Ready(Ok(head));
                }
                None => {
                    let heard = !self.unread.is_empty() || *interim > 0;
                    let read = ready!(self.poll_fill(cx)).map_err(|error| broken(heard, &error))?;
                    if read == 0 {
                        let reason =
                            unsent.map_or_else(|| "it closed the connection".to_owned(), |error| error.to_string());
                        return Poll::Ready(Err(broken(heard, &reason)));
                    }
                }
            }
        }
    }

    /// Reads more into `unread`; how much came, 0 at the end.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        READ.with_borrow_mut(|buffer| {
            let count = ready!(self.io.poll_read(cx, buffer))?;
            self.unread.extend_from_slice(buffer.get(..count).unwrap_or_default());
            Poll::Ready(Ok(count))
        })
    }

    /// Appends what comes next of the body to `out`. False at its end.
    pub fn poll_body(&mut self, cx: &mut Context<'_>, out: &mut Vec<u8>) -> Poll<Result<bool, String>> {
        let before = out.len();
        if !self.unread.is_empty() {
            let unread = std::mem::take(&mut self.unread);
            self.take(&unread, out)?;
        }
        while out.len() == before && !self.body.has_ended() {
            let read = READ.with_borrow_mut(|buffer| {
                let count = ready!(self.io.poll_read(cx, buffer)).map_err(|e| e.to_string())?;
                self.take(buffer.get(..count).unwrap_or_default(), out)?;
                Poll::Ready(Ok::<usize, String>(count))
            });
            if ready!(read)? == 0 {
                let whole = matches!(self.body, Body::ToEnd);
                self.body = Body::Known(0);
                return Poll::Ready(if whole { Ok(false) } else { Err("its answer broke off".to_owned()) });
            }
        }
        Poll::Ready(Ok(out.len() > before))
    }

    fn take(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), &'static str> {
        let taken = self.body.take(bytes, out)?;
        // Nobody asked for what comes behind an answer.
        self.keeps &= taken == bytes.len();
        Ok(())
    }

    /// Reads a whole body of at most `limit` bytes.
    pub async fn read(&mut self, limit: usize) -> Result<Bytes, String> {
        let mut whole = Vec::new();
        while poll_fn(|cx| self.poll_body(cx, &mut whole)).await? {
            if whole.len() > limit {
                return Err("the engine's answer is too long".to_owned());
            }
        }
        Ok(whole.into())
    }

    /// Keeps the connection for the next request, where its answer was read to the end.
    pub fn give_back(self) {
        let Self { pool, io, unread, body, keeps } = self;
        if !keeps || !body.has_ended() || !unread.is_empty() {
            return;
        }
        if let Some(idle) = pool.idle.get(shard()) {
            let mut idle = idle.lock().unwrap_or_else(PoisonError::into_inner);
            if idle.len() < IDLE_COUNT_MAX {
                idle.push(Idle { io, since: Instant::now() });
            }
        }
    }
}

/// An error with the causes behind it: the outermost alone often says only that something failed.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    text
}
