//! One run that several requests may wait for: its answer as far as it has come, and who still wants it.
//!
//! A whole answer is kept whole. A stream under a client's key is kept piece by piece, and whoever joins hears it from its
//! beginning; one that grows too long is handed to its first reader and kept no longer. An SDK's stream is handed over at once.

use std::future::{Future, poll_fn};
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_util::StreamExt as _;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use tokio::sync::Notify;

use crate::clock::now_ms;
use crate::gateway::ApiError;
use crate::ledger::{client, client_of};

/// Longest answer that is kept, in bytes.
const ANSWER_BYTES_MAX: usize = 4 << 20;
/// How long a run whose clients have all left waits for a retry: an SDK's first comes after half a second, and the engine is
/// to hear of the end within a second.
const GRACE: Duration = Duration::from_millis(700);

/// A run.
pub struct Run {
    /// The digest of its request.
    pub body: [u8; 32],
    /// When it began, in Unix milliseconds.
    pub begun_ms: u64,
    /// Whether its client gave it a key: then it runs to its end, whoever leaves.
    named: bool,
    answer: Mutex<Answer>,
    /// What all runs keep, in bytes.
    all_bytes: Arc<AtomicUsize>,
    changed: Arc<Notify>,
    readers: AtomicUsize,
    /// A reader has left.
    left: Notify,
    /// A retry has it already.
    taken: AtomicBool,
    /// Its answer was read to its end.
    told: AtomicBool,
    ended_ms: AtomicU64,
}

#[derive(Default)]
struct Answer {
    head: Option<(StatusCode, HeaderMap)>,
    pieces: Vec<Bytes>,
    bytes: usize,
    /// No piece more will come.
    ended: bool,
    /// What is left of an answer that is not kept, for whoever comes first.
    rest: Option<Body>,
    /// The pieces are no longer kept, or never were.
    gone: bool,
}

impl Run {
    /// A run that is about to begin.
    pub fn new(body: [u8; 32], begun_ms: u64, named: bool, all_bytes: &Arc<AtomicUsize>) -> Arc<Self> {
        Arc::new(Self {
            body,
            begun_ms,
            named,
            answer: Mutex::default(),
            all_bytes: Arc::clone(all_bytes),
            changed: Arc::default(),
            readers: AtomicUsize::new(0),
            left: Notify::new(),
            taken: AtomicBool::new(false),
            told: AtomicBool::new(false),
            ended_ms: AtomicU64::new(0),
        })
    }

    fn answer(&self) -> MutexGuard<'_, Answer> {
        self.answer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is something to tell whoever waits.
    fn has_begun(&self) -> bool {
        let answer = self.answer();
        answer.head.is_some() || answer.ended
    }

    fn change(&self, change: impl FnOnce(&mut Answer)) {
        change(&mut self.answer());
        self.changed.notify_waiters();
    }

    /// Whether its answer can no longer be had.
    pub fn is_gone(&self) -> bool {
        self.answer().gone
    }

    /// Whether a retry may want it: it runs without a client, or its answer is there and no retry has had it.
    pub fn may_be_lost(&self) -> bool {
        !self.taken.load(Ordering::Acquire) && !self.is_gone() && (self.has_ended() || self.is_left())
    }

    /// Whether no client waits for it and none has read it to its end.
    pub fn is_left(&self) -> bool {
        self.readers.load(Ordering::Acquire) == 0 && !self.is_told()
    }

    /// Whether a client has read its answer to the end.
    pub fn is_told(&self) -> bool {
        self.told.load(Ordering::Acquire)
    }

    /// Takes it for a retry; false where another one was quicker.
    pub fn take(&self) -> bool {
        !self.taken.swap(true, Ordering::AcqRel)
    }

    /// Whether it has ended.
    pub fn has_ended(&self) -> bool {
        self.ended_ms.load(Ordering::Acquire) > 0
    }

    /// When it ended, in Unix milliseconds.
    pub fn ended_ms(&self) -> u64 {
        self.ended_ms.load(Ordering::Acquire)
    }

    /// The decision that placed it, where that is known.
    pub fn decision(&self) -> Option<String> {
        let answer = self.answer();
        let (_, headers) = answer.head.as_ref()?;
        Some(headers.get("polder-decision")?.to_str().ok()?.to_owned())
    }

    /// Lets go of the answer; that it ran is still known.
    pub fn forget_answer(&self) {
        let mut answer = self.answer();
        // Whoever reads still has a share in the pieces; the next is told.
        if self.readers.load(Ordering::Acquire) == 0 {
            answer.pieces = Vec::new();
            answer.gone = true;
            self.all_bytes.fetch_sub(std::mem::take(&mut answer.bytes), Ordering::Relaxed);
        }
    }

    /// Carries the run to its end. True where its answer is kept, or was given away: false where it may run again.
    pub async fn carry(&self, work: impl Future<Output = Response>) -> bool {
        let kept = tokio::select! {
            kept = self.collect(work) => kept,
            () = self.abandoned() => false,
        };
        self.ended_ms.store(now_ms().max(1), Ordering::Release);
        self.change(|answer| answer.ended = true);
        kept
    }

    async fn collect(&self, work: impl Future<Output = Response>) -> bool {
        let (parts, body) = work.await.into_parts();
        let streams = parts
            .headers
            .get(header::CONTENT_TYPE)
            .is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
        let (success, head) = (parts.status.is_success(), (parts.status, parts.headers));
        if streams && !self.named {
            self.change(|answer| (answer.head, answer.rest, answer.gone) = (Some(head), Some(body), true));
            // Its reader stops it by leaving; nobody else can join.
            return false;
        }
        let mut pieces = body.into_data_stream();
        let mut head = Some(head);
        if streams {
            self.change(|answer| answer.head = head.take());
        }
        while let Some(Ok(piece)) = pieces.next().await {
            self.all_bytes.fetch_add(piece.len(), Ordering::Relaxed);
            let mut answer = self.answer();
            answer.bytes = answer.bytes.saturating_add(piece.len());
            answer.pieces.push(piece);
            let too_long = answer.bytes > ANSWER_BYTES_MAX;
            drop(answer);
            if too_long {
                self.change(|answer| {
                    answer.head = head.take().or(answer.head.take());
                    (answer.rest, answer.gone) = (Some(Body::new(pieces)), true);
                });
                return true;
            }
            if streams {
                self.changed.notify_waiters();
            }
        }
        self.change(|answer| {
            answer.head = head.take().or(answer.head.take());
            answer.ended = true;
        });
        success
    }

    /// Returns when every client has left and none has come back for a while; never for a run with a key.
    async fn abandoned(&self) {
        if self.named {
            return std::future::pending().await;
        }
        loop {
            let left = self.left.notified();
            if self.readers.load(Ordering::Acquire) > 0 {
                left.await;
                continue;
            }
            tokio::time::sleep(GRACE).await;
            if self.readers.load(Ordering::Acquire) == 0 {
                return;
            }
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.all_bytes.fetch_sub(self.answer().bytes, Ordering::Relaxed);
    }
}

/// A client that wants a run's answer. Dropping it says that it has left.
pub struct Joined(Arc<Run>);

impl Joined {
    /// Joins a run; none where its answer can no longer be had.
    pub fn new(run: &Arc<Run>) -> Option<Self> {
        let answer = run.answer();
        if answer.gone {
            return None;
        }
        run.readers.fetch_add(1, Ordering::AcqRel);
        drop(answer);
        Some(Self(Arc::clone(run)))
    }

    /// The answer, from its beginning. `again` says that it stands for another request's.
    pub async fn answer(self, again: bool) -> Response {
        let (status, mut headers) = loop {
            let changed = self.0.changed.notified();
            {
                let answer = self.0.answer();
                if let Some(head) = &answer.head {
                    break head.clone();
                }
                if answer.ended {
                    // The run was abandoned a moment before this request joined it.
                    let message = "the first request with this content ended without an answer: try again";
                    return ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "run_ended", message).into_response();
                }
            }
            changed.await;
        };
        if again {
            headers.insert("idempotency-replayed", HeaderValue::from_static("true"));
        }
        let (whole, rest) = {
            let mut answer = self.0.answer();
            // What was handed over has ended for those who might join, and goes on for its reader.
            let kept = answer.ended && !answer.gone && answer.pieces.len() <= 1;
            let whole = kept.then(|| answer.pieces.first().cloned().unwrap_or_default());
            (whole, if answer.pieces.is_empty() { answer.rest.take() } else { None })
        };
        let body = match (whole, rest) {
            (Some(whole), _) => {
                self.0.told.store(true, Ordering::Release);
                Body::from(whole)
            }
            // Nothing was kept of it: there is nothing to add.
            (None, Some(rest)) => rest,
            (None, None) => Body::from_stream(self.pieces()),
        };
        (status, headers, body).into_response()
    }

    fn pieces(self) -> impl futures_util::Stream<Item = Result<Bytes, axum::Error>> + Send {
        futures_util::stream::unfold((self, 0, None::<BodyDataStream>), |(joined, place, rest)| async move {
            let mut rest = rest;
            loop {
                if let Some(stream) = &mut rest {
                    return stream.next().await.map(|piece| (piece, (joined, place, rest)));
                }
                let changed = Arc::clone(&joined.0.changed).notified_owned();
                {
                    let mut answer = joined.0.answer();
                    if let Some(piece) = answer.pieces.get(place).cloned() {
                        drop(answer);
                        return Some((Ok(piece), (joined, place + 1, rest)));
                    }
                    rest = answer.rest.take().map(Body::into_data_stream);
                    if rest.is_none() && answer.gone {
                        let broken = axum::Error::new(std::io::Error::other("this answer is not kept"));
                        drop(answer);
                        return (place < usize::MAX).then_some((Err(broken), (joined, usize::MAX, None)));
                    }
                    if rest.is_none() && answer.ended {
                        joined.0.told.store(true, Ordering::Release);
                        return None;
                    }
                }
                if rest.is_none() {
                    changed.await;
                }
            }
        })
    }
}

impl Drop for Joined {
    fn drop(&mut self) {
        self.0.readers.fetch_sub(1, Ordering::AcqRel);
        self.0.left.notify_waiters();
    }
}

/// A run on its way, driven by its first client: it costs no task of its own while that client is there. When the client leaves, or
/// has its answer before the run is over, a task takes it over.
pub struct Carried {
    work: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    /// Where its first client is.
    from: Option<IpAddr>,
}

impl Carried {
    /// A run that is about to begin.
    pub fn new(work: impl Future<Output = ()> + Send + 'static) -> Self {
        Self { work: Some(Box::pin(work)), from: client() }
    }

    /// The answer for the client that drives it.
    pub async fn answer(mut self, run: &Run, joined: Joined) -> Response {
        let mut answer = std::pin::pin!(joined.answer(false));
        poll_fn(|cx| {
            if self.work.as_mut().is_some_and(|work| work.as_mut().poll(cx).is_ready()) {
                self.work = None;
            }
            // Before that there is nothing to wait for but the run itself.
            if run.has_begun() { answer.as_mut().poll(cx) } else { Poll::Pending }
        })
        .await
    }
}

impl Drop for Carried {
    fn drop(&mut self) {
        let Some(work) = self.work.take() else { return };
        // Without a runtime the process is ending, and the run with it.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        match self.from {
            Some(from) => drop(runtime.spawn(client_of(from, work))),
            None => drop(runtime.spawn(work)),
        }
    }
}
