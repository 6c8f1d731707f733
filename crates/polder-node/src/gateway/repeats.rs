//! Repeats: a request that is sent twice runs once, and both get its answer.
//!
//! Two kinds are known. A client's `Idempotency-Key` holds for a day within its project: the same key with the same body joins
//! the run or gets its answer, with another body it is refused. An SDK's own retry names itself by `x-stainless-retry-count`;
//! within a minute it gets the answer that was lost. Kept are digests of requests, never requests, and answers for a short
//! while, in memory only. Absent: repeats across a restart, and retries of an SDK's streams.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, Method, StatusCode};
use tower::{Layer, Service};

use super::body::read_bytes;
use super::{ApiError, Gateway, key_of};
use crate::clock::now_ms;

mod run;

use run::{Carried, Joined, Run};

/// How long a client's key is known, in milliseconds: a day.
const NAMED_MS: u64 = 86_400_000;
/// How long an answer under a client's key is kept, in milliseconds.
const NAMED_ANSWER_MS: u64 = 600_000;
/// How long an SDK's request is remembered, in milliseconds.
const RETRY_MS: u64 = 60_000;
/// Most requests that are remembered; then the oldest that have ended are forgotten.
const RUNS_MAX: usize = 65_536;
/// Most runs that are remembered of one and the same request of an SDK.
const SIBLINGS_MAX: usize = 32;
/// Longest `Idempotency-Key`, in bytes.
const NAME_BYTES_MAX: usize = 255;
/// How often what is too old is dropped.
const SWEEP_EVERY: Duration = Duration::from_secs(5);

const NAME: &str = "idempotency-key";
const RETRY_COUNT: &str = "x-stainless-retry-count";

type Digest = [u8; 32];

/// What is remembered of requests.
pub struct Repeats {
    bytes_max: usize,
    /// How much the answers that are kept take now.
    bytes: Arc<AtomicUsize>,
    body_bytes_max: usize,
    gateway: Gateway,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// By project and `Idempotency-Key`.
    named: HashMap<Digest, Arc<Run>>,
    /// By key, path and body: the requests of SDKs that may be retried.
    retried: HashMap<Digest, Retried>,
}

#[derive(Default)]
struct Retried {
    runs: Vec<Arc<Run>>,
    /// Runs that ended in an error which their client has got: a retry is theirs, and runs.
    failed: usize,
    at_ms: u64,
}

/// What a request is, as far as repeats go.
struct Seen {
    name: Option<Digest>,
    body: Digest,
    is_retry: bool,
}

impl Repeats {
    /// Nothing is remembered yet. `bytes_max` bounds the answers that are kept.
    pub fn new(gateway: Gateway, bytes_max: usize) -> Arc<Self> {
        let body_bytes_max = gateway.body_bytes_max;
        let (bytes, known) = (Arc::default(), Mutex::default());
        let repeats = Arc::new(Self { bytes_max, bytes, body_bytes_max, gateway, known });
        let weak = Arc::downgrade(&repeats);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(SWEEP_EVERY).await;
                let Some(repeats) = weak.upgrade() else { return };
                repeats.sweep(now_ms());
            }
        });
        repeats
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a request, or joins the run that it repeats.
    async fn handle<S>(self: Arc<Self>, mut inner: S, request: Request) -> Response
    where
        S: Service<Request, Response = Response, Error = Infallible> + Send + 'static,
        S::Future: Send + 'static,
    {
        let whole = |ended: Result<Response, Infallible>| ended.unwrap_or_else(|never| match never {});
        let (parts, body) = request.into_parts();
        let key = key_of(&parts.headers).and_then(|key| self.gateway.ledger.find(key, now_ms()));
        // Who has no key gets no further than its refusal.
        let Some(key) = key else { return whole(inner.call(Request::from_parts(parts, body)).await) };
        let bytes = match read_bytes(&parts.headers, body, self.body_bytes_max).await {
            Ok(bytes) => bytes,
            Err(error) => return error.into_response(),
        };
        let (path, headers) = (parts.uri.path(), &parts.headers);
        let seen = match see(headers, key.project.as_str(), &key.id, path, &bytes) {
            Ok(seen) => seen,
            Err(error) => return error.into_response(),
        };
        let (run, new) = match self.run_of(&seen, now_ms()) {
            Ok(found) => found,
            Err(error) => return error.into_response(),
        };
        let Some(joined) = Joined::new(&run) else { return ran_already(None).into_response() };
        if !new {
            return joined.answer(true).await;
        }
        let answer = inner.call(Request::from_parts(parts, Body::from(bytes)));
        let (repeats, running) = (Arc::clone(&self), Arc::clone(&run));
        let carried = Carried::new(async move {
            let kept = running.carry(async move { whole(answer.await) }).await;
            repeats.ended(&seen, &running, kept);
        });
        carried.answer(&run, joined).await
    }

    /// The run that a request belongs to, and whether it is new.
    fn run_of(&self, seen: &Seen, now: u64) -> Result<(Arc<Run>, bool), ApiError> {
        let mut known = self.known();
        if let Some(name) = seen.name {
            if let Some(run) = known.named.get(&name) {
                if run.body != seen.body {
                    let message =
                        "this `Idempotency-Key` was used for another request: take a new one for each request";
                    return Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "idempotency_key_reused", message));
                }
                if run.is_gone() {
                    return Err(ran_already(run.decision()));
                }
                return Ok((Arc::clone(run), false));
            }
            let run = Run::new(seen.body, now, true, &self.bytes);
            make_room(&mut known, now);
            known.named.insert(name, Arc::clone(&run));
            return Ok((run, true));
        }
        make_room(&mut known, now);
        let retried = known.retried.entry(seen.body).or_default();
        retried.at_ms = now;
        if seen.is_retry && retried.failed > 0 {
            retried.failed -= 1;
        } else if seen.is_retry {
            let mut fit = retried.runs.iter().filter(|run| run.may_be_lost());
            // Rather one whose client is known to have left.
            let lost = fit.clone().find(|run| run.is_left());
            if let Some(run) = lost.or_else(|| fit.next()).filter(|run| run.take()) {
                return Ok((Arc::clone(run), false));
            }
        }
        let run = Run::new(seen.body, now, false, &self.bytes);
        if retried.runs.len() >= SIBLINGS_MAX {
            retried.runs.remove(0);
        }
        retried.runs.push(Arc::clone(&run));
        Ok((run, true))
    }

    /// A run has ended: an answer is kept, an error may be tried again.
    fn ended(&self, seen: &Seen, run: &Arc<Run>, kept: bool) {
        if kept {
            if self.bytes.load(Ordering::Relaxed) > self.bytes_max {
                self.sweep(now_ms());
            }
            return;
        }
        let mut known = self.known();
        match seen.name {
            Some(name) => drop(known.named.remove(&name)),
            None => {
                if let Some(retried) = known.retried.get_mut(&seen.body) {
                    retried.runs.retain(|one| !Arc::ptr_eq(one, run));
                    retried.failed += usize::from(!run.is_left());
                }
            }
        }
    }

    /// Drops what is too old or too much.
    fn sweep(&self, now: u64) {
        let mut known = self.known();
        known.forget(now);
        let mut ended: Vec<Arc<Run>> = known.runs().filter(|run| run.has_ended()).cloned().collect();
        drop(known);
        ended.sort_by_key(|run| run.begun_ms);
        // Down to well below the bound, so that not every answer asks for a sweep.
        let full = self.bytes.load(Ordering::Relaxed) > self.bytes_max;
        for run in ended {
            let old = now.saturating_sub(run.ended_ms()) > NAMED_ANSWER_MS;
            if old || (full && self.bytes.load(Ordering::Relaxed) > self.bytes_max / 4 * 3) {
                run.forget_answer();
            }
        }
    }
}

impl Known {
    fn runs(&self) -> impl Iterator<Item = &Arc<Run>> {
        self.named.values().chain(self.retried.values().flat_map(|retried| &retried.runs))
    }

    fn forget(&mut self, now: u64) {
        self.named.retain(|_, run| !run.has_ended() || now.saturating_sub(run.begun_ms) <= NAMED_MS);
        self.retried.retain(|_, retried| {
            retried.runs.retain(|run| !run.has_ended() || now.saturating_sub(run.ended_ms()) <= RETRY_MS);
            !retried.runs.is_empty() || now.saturating_sub(retried.at_ms) <= RETRY_MS
        });
    }
}

/// Forgets the oldest runs that have ended where too many are remembered.
fn make_room(known: &mut Known, now: u64) {
    if known.named.len() + known.retried.len() < RUNS_MAX {
        return;
    }
    known.forget(now);
    while known.named.len() + known.retried.len() >= RUNS_MAX {
        known.retried.clear();
        let oldest = known.named.iter().filter(|(_, run)| run.has_ended()).min_by_key(|(_, run)| run.begun_ms);
        let Some(oldest) = oldest.map(|(name, _)| *name) else { return };
        known.named.remove(&oldest);
    }
}

fn ran_already(decision: Option<String>) -> ApiError {
    let place = decision.map_or_else(String::new, |decision| format!(" as {decision}; its receipt can be read"));
    let message = format!(
        "this request ran already under its `Idempotency-Key`{place}; its answer is no longer kept: take a new key to run it again"
    );
    ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "idempotency_key_used", message)
}

fn digest<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Digest {
    use sha2::Digest as _;
    let mut sha256 = sha2::Sha256::new();
    for part in parts {
        // Lengths keep one part from running into the next.
        sha256.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        sha256.update(part);
    }
    sha256.finalize().into()
}

fn see(headers: &HeaderMap, project: &str, key: &str, path: &str, body: &[u8]) -> Result<Seen, ApiError> {
    let is_retry = headers.get(RETRY_COUNT).is_some_and(|count| count.as_bytes() != b"0");
    let Some(name) = headers.get(NAME) else {
        let body = digest([key.as_bytes(), path.as_bytes(), body]);
        return Ok(Seen { name: None, body, is_retry });
    };
    let fits = !name.is_empty() && name.len() <= NAME_BYTES_MAX && headers.get_all(NAME).iter().count() == 1;
    if !fits {
        let message = format!("`Idempotency-Key` must stand there once, with 1 to {NAME_BYTES_MAX} characters");
        return Err(ApiError::new(StatusCode::BAD_REQUEST, "invalid_idempotency_key", message));
    }
    let name = digest([project.as_bytes(), name.as_bytes()]);
    Ok(Seen { name: Some(name), body: digest([path.as_bytes(), body]), is_retry })
}

/// Puts repeats in front of routes.
#[derive(Clone)]
pub struct RepeatsLayer(pub Arc<Repeats>);

impl<S> Layer<S> for RepeatsLayer {
    type Service = Once<S>;

    fn layer(&self, inner: S) -> Once<S> {
        Once { repeats: Arc::clone(&self.0), inner }
    }
}

/// A route in front of which repeats are found. Requests that cannot be repeats pass through untouched.
#[derive(Clone)]
pub struct Once<S> {
    repeats: Arc<Repeats>,
    inner: S,
}

impl<S> Service<Request> for Once<S>
where
    S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let headers = request.headers();
        let named = headers.contains_key(NAME) || headers.contains_key(RETRY_COUNT);
        if !named || request.method() != Method::POST {
            return Box::pin(self.inner.call(request));
        }
        // The service that is ready is the one to call; its clone takes its place.
        let inner = self.inner.clone();
        let inner = std::mem::replace(&mut self.inner, inner);
        let repeats = Arc::clone(&self.repeats);
        Box::pin(async move { Ok(repeats.handle(inner, request).await) })
    }
}
