//! Several engines that serve the same models behind one factory: which one a request goes to, and what hides a dead one.
//!
//! The decision named the factory; among its replicas nothing but load, time and prefix affinity counts. A replica that
//! fails before the first piece of its answer is hidden by the next; after it, the stream ends with the failure. One replica
//! alone is asked as it is: then the home's own breaker stands before the factory. Absent: asking two at once.

use std::future::Future;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use polder_core::breaker::{self, Pass, Standing};
use polder_core::placement::{Affinity, Inputs, Weights, distance_ppm, score};
use polder_core::retry;
use tokio::time::timeout;

use super::models::{Models, Turn};
use super::signals::Counters;
use super::{Upstream, failed};
use crate::clock::random;
use crate::config::{Offered, Upstreams};
use crate::inference::{
    ChatRequest, EmbedRequest, Embeddings, Engine, EngineError, EngineFuture, Event, EventStream, ImageRequest, Images,
    ModelInfo, Ranking, RerankRequest, Signals,
};
use crate::route::{Came, Retries, Route, affinity, pause};

/// Most replicas that one request is sent to.
const ATTEMPTS_MAX: u32 = 3;
/// Longest wait for an answer that is no stream.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(500);
/// How often a replica is asked how loaded it is, and how often one that does not tell.
const LOOK_EVERY: Duration = Duration::from_secs(2);
const LOOK_SELDOM: Duration = Duration::from_secs(30);
const BREAKER: breaker::Limits =
    breaker::Limits { failures: 3, forget_ms: 60_000, open_ms: 5_000, open_ms_max: 60_000, probe_ms: 60_000 };
const RETRIES: retry::Limits = retry::Limits { percent: 20, per_s: 10 };
/// A full replica, a queue of its own size and a second to the first token weigh the same; affinity weighs a quarter of it.
const WEIGHTS: Weights = Weights { price: 0, load: 4, latency: 0, queue: 4, first_token: 4, carbon: 0, affinity: 1 };

/// The engines of a factory.
pub struct Replicas {
    replicas: Vec<Arc<Replica>>,
    models: Models,
    /// How many requests a replica's share of the factory's places is.
    share: u64,
    first_token: Duration,
    retries: Retries,
    salt: [u8; 32],
}

/// One engine.
struct Replica {
    upstream: Arc<Upstream>,
    route: Route,
    running: AtomicU32,
    signals: RwLock<Signals>,
}

/// A request on its way at a replica. Dropping it without a word says nothing about the replica.
struct Visit {
    replica: Arc<Replica>,
    sent: Instant,
    pass: Option<Pass>,
    _turn: Option<Arc<Turn>>,
}

impl Visit {
    fn begin(replica: &Arc<Replica>, pass: Pass, turn: Option<Arc<Turn>>) -> Self {
        replica.running.fetch_add(1, Ordering::AcqRel);
        Self { replica: Arc::clone(replica), sent: Instant::now(), pass: Some(pass), _turn: turn }
    }

    fn judge(&mut self, came: Came) {
        if let Some(pass) = self.pass.take()
            && self.replica.route.judge(pass, came, &BREAKER)
        {
            self.replica.tell();
        }
    }

    fn ended(&self, whole: bool) {
        if self.replica.route.ended(whole, &BREAKER) {
            self.replica.tell();
        }
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.judge(Came::Undecided);
        self.replica.running.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Replica {
    /// Says in the log how the breaker stands; the URL is the operator's own.
    fn tell(&self) {
        let engine = self.upstream.base.as_str();
        match self.route.standing() {
            Standing::Closed => tracing::info!(engine, "the engine answers again"),
            Standing::Open { .. } => {
                tracing::warn!(engine, "the engine failed several times in a row: left alone for a while")
            }
            Standing::HalfOpen | Standing::Probing { .. } => {}
        }
    }

    fn serves(&self, model: &str) -> bool {
        let served = self.upstream.served.read().unwrap_or_else(PoisonError::into_inner);
        served.models.iter().any(|info| info.id == model)
    }

    fn is_down(&self) -> bool {
        self.upstream.served.read().unwrap_or_else(PoisonError::into_inner).failure.is_some()
    }

    fn signals(&self) -> Signals {
        *self.signals.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn inputs(&self, share: u64) -> Inputs {
        let signals = self.signals();
        let own = u64::from(self.running.load(Ordering::Acquire));
        let running = own.max(signals.running.unwrap_or(0));
        let of_share = |count: u64| count.saturating_mul(1_000_000).checked_div(share).unwrap_or(0);
        let kv = signals.kv_used_permille.unwrap_or(0).saturating_mul(1_000);
        let told = signals.ttft_ms.unwrap_or(0).saturating_mul(1_000);
        let measured = Some(self.route.first_token_us()).filter(|us| *us > 0);
        Inputs {
            load_ppm: of_share(running).max(kv),
            queue_ppm: of_share(signals.waiting.unwrap_or(0)),
            first_token_us: measured.unwrap_or(told),
            ..Inputs::default()
        }
    }
}

impl Replicas {
    /// Connects to each engine, and asks each every few seconds how loaded it is. `places` is how many requests the factory runs
    /// at once.
    pub async fn connect(config: &Upstreams, places: usize) -> Result<Arc<Self>, String> {
        let mut replicas = Vec::new();
        for one in &config.replicas {
            let upstream = Upstream::connect(one).await?;
            let replica =
                Replica { upstream, route: Route::default(), running: AtomicU32::new(0), signals: RwLock::default() };
            replicas.push(Arc::new(replica));
        }
        replicas.iter().for_each(watch);
        let share = places.checked_div(replicas.len()).unwrap_or(0).max(1);
        Ok(Arc::new(Self {
            models: Models::new(&config.models),
            share: u64::try_from(share).unwrap_or(u64::MAX),
            first_token: Duration::from_millis(config.first_token_ms),
            retries: Retries::new(RETRIES),
            salt: random().map_err(|e| e.to_string())?,
            replicas,
        }))
    }

    /// The replicas that may be asked for a model, best first: those that answer before those that do not.
    fn in_order(&self, model: &str, near: Affinity) -> Vec<&Arc<Replica>> {
        let mut able: Vec<&Arc<Replica>> = self.replicas.iter().filter(|one| one.serves(model)).collect();
        able.sort_by_cached_key(|one| std::cmp::Reverse(near.falls_on_name(&one.upstream.base)));
        let weighed = |(place, one): (usize, &Arc<Replica>)| {
            let inputs = Inputs { affinity_ppm: distance_ppm(place), ..one.inputs(self.share) };
            (one.is_down(), score(&inputs, &WEIGHTS), one.upstream.base.clone())
        };
        let keys: Vec<_> = able.iter().copied().enumerate().map(weighed).collect();
        let mut order: Vec<_> = keys.into_iter().zip(able).collect();
        order.sort_by(|(one, _), (other, _)| one.cmp(other));
        order.into_iter().map(|(_, one)| one).collect()
    }

    /// Sends a request to one replica after the other until one answers. `model` is the engine's name for it.
    async fn first_that_answers<'a, T, F>(
        &'a self,
        model: &str,
        near: Affinity,
        wait: Duration,
        turn: Option<Turn>,
        send: impl Fn(&'a Upstream) -> F,
    ) -> Result<(Visit, T), EngineError>
    where
        F: Future<Output = Result<T, EngineError>> + Send,
    {
        self.retries.begin();
        let turn = turn.map(Arc::new);
        let mut last = None;
        let mut tried = 0;
        for replica in self.in_order(model, near) {
            if tried > 0 {
                if tried >= ATTEMPTS_MAX || !self.retries.take() {
                    break;
                }
                tokio::time::sleep(pause(tried)).await;
            }
            let Ok((pass, _)) = replica.route.enter(&BREAKER) else { continue };
            tried += 1;
            let mut visit = Visit::begin(replica, pass, turn.clone());
            let sent = timeout(wait, send(&replica.upstream)).await;
            match sent.unwrap_or_else(|_| Err(failed(format!("nothing came within {} ms", wait.as_millis())))) {
                Ok(answer) => {
                    visit.judge(Came::Answered);
                    return Ok((visit, answer));
                }
                Err(error) => match &error {
                    EngineError::Failed { .. } | EngineError::ModelFile { .. } => {
                        visit.judge(Came::Failed);
                        last = Some(error);
                    }
                    // Another may have a place, or the model.
                    EngineError::Busy { .. } | EngineError::UnknownModel { .. } => last = Some(error),
                    // What one says of a request, the others would say too.
                    _ => {
                        visit.judge(Came::Answered);
                        return Err(error);
                    }
                },
            }
        }
        Err(last.unwrap_or_else(|| match self.replicas.iter().any(|one| one.serves(model)) {
            true => failed(
                "every engine that serves this model failed several times in a row and is left alone for a while",
            ),
            false => EngineError::UnknownModel { model: model.to_owned() },
        }))
    }

    /// The replica, where there is but one.
    fn only(&self) -> Option<&Upstream> {
        match self.replicas.as_slice() {
            [only] => Some(&only.upstream),
            _ => None,
        }
    }

    /// Has something done that is answered in one piece.
    async fn whole<'a, R: Clone + Send + Sync, T>(
        &'a self,
        what: Offered,
        mut request: R,
        model: impl Fn(&mut R) -> &mut String,
        send: impl Fn(&'a Upstream, R) -> EngineFuture<'a, T>,
    ) -> Result<T, EngineError> {
        let named = std::mem::take(model(&mut request));
        self.models.must_do(&named, what)?;
        let turn = self.models.turn(&named)?;
        let name = self.models.engines_name(&named)?.to_owned();
        model(&mut request).clone_from(&name);
        if let Some(only) = self.only() {
            return send(only, request).await;
        }
        let send = |upstream| send(upstream, request.clone());
        let (visit, answer) = self.first_that_answers(&name, Affinity(0), ANSWER_TIMEOUT, turn, send).await?;
        visit.ended(true);
        Ok(answer)
    }

    async fn converse(&self, mut request: ChatRequest) -> Result<EventStream, EngineError> {
        let named = request.model.clone();
        self.models.must_do(&request.model, Offered::Chat)?;
        let turn = self.models.admit(&mut request)?;
        // The engine's own name for it is not ours to tell.
        let ours = |error| match error {
            EngineError::UnknownModel { .. } => EngineError::UnknownModel { model: named.clone() },
            other => other,
        };
        if let Some(only) = self.only() {
            let events = only.chat(request).await.map_err(ours)?;
            return Ok(match turn {
                None => events,
                Some(turn) => Box::pin(events.map(move |event| {
                    let _held = &turn;
                    event
                })),
            });
        }
        let wait = if request.stream { self.first_token } else { ANSWER_TIMEOUT };
        let near = affinity(&self.salt, "", &request);
        let (model, streamed) = (request.model.clone(), request.stream);
        let request = &request;
        let send = |upstream| first_event(Upstream::chat(upstream, request.clone()));
        let answered = self.first_that_answers(&model, near, wait, turn, send).await;
        let (visit, (first, rest)) = answered.map_err(ours)?;
        if streamed {
            visit.replica.route.measure(visit.sent.elapsed());
        }
        Ok(watched(visit, first, rest))
    }
}

/// The first event of an answer, and the others; an answer without one has failed.
async fn first_event(asked: EngineFuture<'_, EventStream>) -> Result<(Event, EventStream), EngineError> {
    let mut events = asked.await?;
    match events.next().await {
        Some(Ok(first)) => Ok((first, events)),
        Some(Err(error)) => Err(error),
        None => Err(failed("the engine's answer was empty")),
    }
}

/// An answer whose end is remembered of its replica.
fn watched(visit: Visit, first: Event, rest: EventStream) -> EventStream {
    let whole = matches!(first, Event::Usage(_));
    let begun = futures_util::stream::iter([Ok(first)]);
    if whole {
        visit.ended(true);
    }
    let rest = rest.inspect(move |event| match event {
        Ok(Event::Usage(_)) => visit.ended(true),
        Ok(_) => {}
        Err(_) => visit.ended(false),
    });
    Box::pin(begun.chain(rest))
}

/// Asks a replica how loaded it is, for as long as it is there.
fn watch(replica: &Arc<Replica>) {
    let watched = Arc::downgrade(replica);
    tokio::spawn(async move {
        let mut counters = Counters::default();
        loop {
            let Some(replica) = watched.upgrade() else { return };
            let signals = replica.upstream.signals(&mut counters).await;
            *replica.signals.write().unwrap_or_else(PoisonError::into_inner) = signals.unwrap_or_default();
            drop(replica);
            tokio::time::sleep(if signals.is_some() { LOOK_EVERY } else { LOOK_SELDOM }).await;
        }
    });
}

impl Engine for Replicas {
    fn backend(&self) -> String {
        "upstream".to_owned()
    }

    fn models(&self) -> Vec<ModelInfo> {
        if let (Some(only), true) = (self.only(), self.models.lists_none()) {
            return only.models();
        }
        self.models.offered(self.replicas.iter().flat_map(|one| one.upstream.models()).collect())
    }

    fn failures(&self) -> Vec<(String, EngineError)> {
        let of_replica = |one: &Arc<Replica>| {
            let open = matches!(one.route.standing(), Standing::Open { .. } | Standing::Probing { .. });
            let reason = "it failed several times in a row and is left alone for a while";
            let circuit = open.then(|| (one.upstream.base.clone(), failed(reason)));
            one.upstream.failures().into_iter().chain(circuit)
        };
        self.replicas.iter().flat_map(of_replica).collect()
    }

    fn signals(&self) -> Signals {
        self.replicas.iter().map(|one| one.signals()).fold(Signals::default(), together)
    }

    fn chat(&self, request: ChatRequest) -> EngineFuture<'_, EventStream> {
        Box::pin(self.converse(request))
    }

    fn embed(&self, request: EmbedRequest) -> EngineFuture<'_, Embeddings> {
        Box::pin(self.whole(Offered::Embed, request, |request| &mut request.model, Upstream::embed))
    }

    fn rerank(&self, request: RerankRequest) -> EngineFuture<'_, Ranking> {
        Box::pin(self.whole(Offered::Rerank, request, |request| &mut request.model, Upstream::rerank))
    }

    fn image(&self, request: ImageRequest) -> EngineFuture<'_, Images> {
        Box::pin(self.whole(Offered::Image, request, |request| &mut request.model, Upstream::image))
    }
}

/// The signals of several engines as those of one: counts are added, of shares and times the largest counts.
fn together(one: Signals, other: Signals) -> Signals {
    let both = |a: Option<u64>, b: Option<u64>, put: fn(u64, u64) -> u64| match (a, b) {
        (Some(a), Some(b)) => Some(put(a, b)),
        (a, b) => a.or(b),
    };
    Signals {
        running: both(one.running, other.running, u64::saturating_add),
        waiting: both(one.waiting, other.waiting, u64::saturating_add),
        kv_used_permille: both(one.kv_used_permille, other.kv_used_permille, u64::max),
        prefix_hit_permille: both(one.prefix_hit_permille, other.prefix_hit_permille, u64::max),
        prefill_backlog_ms: both(one.prefill_backlog_ms, other.prefill_backlog_ms, u64::max),
        ttft_ms: both(one.ttft_ms, other.ttft_ms, u64::max),
    }
}
