//! One execution: the engine's steps as frames, and at its end the record.
//!
//! No task of its own: whoever reads the frames drives the work, so back-pressure reaches the engine and dropping the frames stops
//! it. However it ends, it is recorded once. Deciding whether it may run is absent.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_util::Stream;
use polder_core::canonical::Digest;
use polder_core::statement::v1::{ExecutionOutcome, ExecutionStatement, Statement};
use polder_core::ticket::Ticket;
use polder_core::usage::day_of;

use super::{Admitted, Factory, Place};
use crate::clock::now_ms;
use crate::inference::{Embeddings, EngineError, Event, EventStream, Images, Ranking};
use crate::log::{LogError, Pending};
use crate::peers::wire::{Frame, SentHalf, Work};
use crate::store::Used;

/// What a factory answers with. Dropping it stops the work.
pub type Frames = Pin<Box<dyn Stream<Item = Frame> + Send>>;

/// One execution under way.
pub(super) struct Run {
    factory: Arc<Factory>,
    ticket: Ticket,
    digest: Digest,
    terms: Digest,
    started_ms: u64,
    /// Whether the home is this very node.
    near: bool,
    /// Freed as soon as the engine is through.
    place: Option<Place>,
    phase: Phase,
    prompt: u64,
    generated: u64,
    outcome: ExecutionOutcome,
    recorded: bool,
}

enum Phase {
    Begin(Work),
    Steps(EventStream),
    Record,
    Covered(Pending, Statement),
    Over,
}

impl Run {
    pub(super) fn begin(factory: &Arc<Factory>, admitted: Admitted, near: bool) -> Frames {
        let Admitted { ticket, digest, work, terms, place } = admitted;
        let run = Box::new(Self {
            factory: Arc::clone(factory),
            ticket,
            digest,
            terms,
            started_ms: now_ms(),
            near,
            place: Some(place),
            phase: Phase::Begin(work),
            prompt: 0,
            generated: 0,
            // What is true if nobody reads on.
            outcome: ExecutionOutcome::Cancelled,
            recorded: false,
        });
        Box::pin(Running { run: Some(run), stage: None })
    }

    /// Goes through one stage that is not the engine's steps; the frame that came of it.
    async fn stage(&mut self) -> Option<Frame> {
        match std::mem::replace(&mut self.phase, Phase::Over) {
            Phase::Begin(work) => self.start(work).await,
            Phase::Record => match self.record().await {
                Ok(frame) => frame,
                Err(error) => {
                    self.unrecorded(&error);
                    None
                }
            },
            Phase::Covered(pending, statement) => self.receipt(pending, statement).await,
            same @ (Phase::Steps(_) | Phase::Over) => {
                self.phase = same;
                None
            }
        }
    }

    /// Hands the work to the engine. A stream has its frames later; vectors are one frame.
    async fn start(&mut self, work: Work) -> Option<Frame> {
        let factory = Arc::clone(&self.factory);
        match work {
            Work::Chat(request) => match factory.engine.chat(request).await {
                Ok(events) => {
                    self.phase = Phase::Steps(events);
                    None
                }
                Err(error) => Some(self.failed(error)),
            },
            Work::Embed(request) => {
                let answered = factory.engine.embed(request).await;
                let used = |embeddings: &Embeddings| (embeddings.prompt_tokens, 0);
                Some(self.whole(answered, used, Frame::Embeddings))
            }
            Work::Rerank(request) => {
                let answered = factory.engine.rerank(request).await;
                Some(self.whole(answered, |ranking: &Ranking| (ranking.prompt_tokens, 0), Frame::Ranking))
            }
            Work::Image(request) => {
                let answered = factory.engine.image(request).await;
                let used = |images: &Images| (images.usage.prompt_tokens, images.usage.completion_tokens);
                Some(self.whole(answered, used, Frame::Images))
            }
        }
    }

    /// An answer that is one frame, with the tokens read and generated for it.
    fn whole<T>(
        &mut self,
        answered: Result<T, EngineError>,
        used: impl FnOnce(&T) -> (u64, u64),
        frame: impl FnOnce(T) -> Frame,
    ) -> Frame {
        match answered {
            Ok(answer) => {
                (self.prompt, self.generated) = used(&answer);
                self.ended(ExecutionOutcome::Completed);
                frame(answer)
            }
            Err(error) => self.failed(error),
        }
    }

    fn count(&mut self, event: &Event) {
        match event {
            Event::Usage(usage) => {
                self.prompt = usage.prompt_tokens;
                self.generated = usage.completion_tokens;
                // The usage comes last: whoever leaves now has had everything.
                self.outcome = ExecutionOutcome::Completed;
            }
            // Until the engine's own count comes, a delta is counted as a token.
            Event::Delta(_) => self.generated = self.generated.saturating_add(1),
            Event::Finish { .. } => {}
        }
    }

    fn failed(&mut self, error: EngineError) -> Frame {
        self.ended(ExecutionOutcome::Failed);
        Frame::Failed(error)
    }

    fn ended(&mut self, outcome: ExecutionOutcome) {
        self.place = None;
        self.outcome = outcome;
        self.phase = Phase::Record;
    }

    /// Records what happened. A home at this very node hears what was used; another one waits for the receipt.
    async fn record(&mut self) -> Result<Option<Frame>, LogError> {
        let statement = self.statement();
        let (log, decision) = (&self.factory.log, self.ticket.decision.as_str());
        if self.near {
            let used = self.used();
            drop(log.append(decision, &statement, Some(used.clone())).await?);
            self.recorded = true;
            return Ok(Some(Frame::Recorded(used)));
        }
        let pending = log.append(decision, &statement, None).await?;
        self.phase = Phase::Covered(pending, statement);
        self.recorded = true;
        Ok(None)
    }

    async fn receipt(&mut self, pending: Pending, statement: Statement) -> Option<Frame> {
        match self.factory.log.half_of(pending, statement).await {
            Ok(half) => SentHalf::new(&half?).map(Frame::Receipt).ok(),
            Err(error) => {
                self.unrecorded(&error);
                None
            }
        }
    }

    fn unrecorded(&self, error: &LogError) {
        tracing::error!(%error, decision = %self.ticket.decision, "an execution could not be recorded");
    }

    fn used(&self) -> Used {
        let tokens = self.prompt.saturating_add(self.generated);
        Used { day: day_of(now_ms()), factory: self.factory.node.clone(), tokens }
    }

    fn statement(&self) -> Statement {
        let model = self.ticket.request.model.clone();
        let mut digest = [0; 32];
        let known = model.as_ref().and_then(|model| self.factory.engine.digest(model.as_str()));
        let known = known.is_some_and(|known| hex::decode_to_slice(&known, &mut digest).is_ok());
        Statement::Execution(ExecutionStatement {
            factory: self.factory.node.clone(),
            home: self.ticket.home.clone(),
            tenant: self.ticket.request.tenant.clone(),
            decision: self.ticket.decision.clone(),
            ticket: self.digest,
            body: self.ticket.body,
            terms: self.terms,
            model,
            model_digest: known.then_some(Digest(digest)),
            backend: self.factory.engine.backend(),
            prompt_tokens: self.prompt,
            completion_tokens: self.generated,
            started_ms: self.started_ms,
            ended_ms: now_ms(),
            outcome: self.outcome,
        })
    }
}

/// A stage under way, which gives the run back with the frame that came of it.
type Stage = Pin<Box<dyn Future<Output = (Option<Frame>, Box<Run>)> + Send>>;

/// The frames of a run. The engine's steps, of which there are many, pass without a future of their own.
struct Running {
    /// Nothing while a stage is under way.
    run: Option<Box<Run>>,
    stage: Option<Stage>,
}

impl Stream for Running {
    type Item = Frame;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Frame>> {
        let this = self.get_mut();
        loop {
            if let Some(stage) = &mut this.stage {
                let (frame, run) = ready!(stage.as_mut().poll(cx));
                (this.stage, this.run) = (None, Some(run));
                if frame.is_some() {
                    return Poll::Ready(frame);
                }
            }
            let Some(run) = &mut this.run else { return Poll::Ready(None) };
            match &mut run.phase {
                Phase::Over => return Poll::Ready(None),
                Phase::Steps(events) => match ready!(events.as_mut().poll_next(cx)) {
                    Some(Ok(event)) => {
                        run.count(&event);
                        return Poll::Ready(Some(Frame::Event(event)));
                    }
                    Some(Err(error)) => return Poll::Ready(Some(run.failed(error))),
                    None => run.ended(ExecutionOutcome::Completed),
                },
                Phase::Begin(_) | Phase::Record | Phase::Covered(..) => {
                    let Some(mut run) = this.run.take() else { return Poll::Ready(None) };
                    this.stage = Some(Box::pin(async move { (run.stage().await, run) }));
                }
            }
        }
    }
}

impl Drop for Run {
    /// Whoever read has gone: what happened until then is recorded all the same.
    fn drop(&mut self) {
        if self.recorded {
            return;
        }
        let used = self.near.then(|| self.used());
        let (log, decision) = (&self.factory.log, self.ticket.decision.as_str());
        let recorded = log.append_detached(decision, &self.statement(), used);
        if let Err(error) = recorded {
            self.unrecorded(&error);
        }
    }
}
