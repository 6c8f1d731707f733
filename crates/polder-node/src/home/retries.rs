//! How a home goes about attempts: within a time, past each factory's breaker, and again only out of a budget.
//!
//! Every attempt is a decision of its own; here is only whether there is another. When there is none, whoever was not asked
//! counts as full for this request, so that the last decision says what happened. Absent: asking two factories at once.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use polder_core::breaker::Pass;
use polder_core::ids::NodeId;
use polder_core::placement::{Affinity, CIRCUIT_OPEN, NO_CAPACITY, UNREACHABLE};
use polder_core::policy::{Cause, LayerKind};

use super::{Attempt, Digested, Home};
use crate::metrics;
use crate::patience::within;
use crate::peers::FrameStream;
use crate::peers::wire::{Frame, Sealed, Work};
use crate::route::{Came, affinity, pause};
use crate::telemetry;

/// The rule of a factory whose engine failed.
pub const ENGINE_FAILED: &str = "engine-failed";
/// The rule of a factory that answered what is not understood.
pub const NOT_UNDERSTOOD: &str = "not-understood";
/// The rule of a factory that did not begin an answer in time.
pub const NO_ANSWER: &str = "no-answer-in-time";

/// What is known of a request's way before its first attempt.
pub struct Course {
    begun: Instant,
    /// Whether the answer is wanted piece by piece.
    streamed: bool,
    /// Where its conversation's beginning falls, where the owner weighs that.
    pub near: Option<Affinity>,
}

/// One attempt's leave to pass; dropped without a word, because the client left, it says nothing about the factory.
struct Leave<'a> {
    home: &'a Home,
    factory: &'a NodeId,
    pass: Option<Pass>,
    came: Came,
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.home.view.judge(self.factory, self.pass, self.came, &self.home.routing.breaker());
    }
}

impl Home {
    /// Sets out with a request.
    pub(super) fn set_out(&self, work: &Work) -> Course {
        self.retries.begin();
        let weighed = self.view.weights().affinity > 0;
        let (streamed, near) = match work {
            Work::Chat(chat) => (chat.stream, weighed.then(|| affinity(&self.salt, self.tenant.as_str(), chat))),
            Work::Embed(_) | Work::Rerank(_) | Work::Image(_) => (false, None),
        };
        Course { begun: Instant::now(), streamed, near }
    }

    /// One attempt, within its time and past the factory's breaker.
    pub(super) async fn guarded(
        &self,
        ticket: Digested,
        salt: [u8; 32],
        work: Sealed,
        course: &Course,
    ) -> Result<(Frame, FrameStream), Attempt> {
        let factory = ticket.ticket.factory.clone();
        let limits = self.routing.breaker();
        let pass = self.view.enter(&factory, &limits).map_err(|cause| Attempt::Excluded(vec![cause]))?;
        let mut child = telemetry::attempt(&factory);
        let mut leave = Leave { home: self, factory: &factory, pass, came: Came::Undecided };
        let (sent, wait) = (Instant::now(), self.wait(course));
        let late = || Err(Attempt::out(NO_ANSWER, &format!("no answer began within {} ms", wait.as_millis())));
        let result = within(wait, self.attempt(ticket, salt, work)).await.unwrap_or_else(late);
        leave.came = came(&result);
        metrics::attempted(&factory, leave.came);
        if result.is_err() {
            child.failed(if leave.came == Came::Failed { "factory_failed" } else { "refused" });
        }
        if let Ok((first, _)) = &result {
            match first {
                Frame::Event(_) if course.streamed => self.view.measure(&factory, sent.elapsed()),
                Frame::Embeddings(_) | Frame::Ranking(_) | Frame::Images(_) => self.view.ended(&factory, true, &limits),
                _ => {}
            }
        }
        result
    }

    /// How long to wait for an answer's beginning: a stream's comes at once, another's with its end.
    fn wait(&self, course: &Course) -> Duration {
        let deadline = Duration::from_millis(self.routing.deadline_ms).saturating_sub(course.begun.elapsed());
        match course.streamed {
            true => Duration::from_millis(self.routing.first_token_ms).min(deadline),
            false => Duration::from_millis(self.routing.answer_ms),
        }
    }

    /// After a factory was excluded: waits for a moment before another attempt. Where there is none, nobody is left to be asked.
    pub(super) async fn before_retry(
        &self,
        factory: &NodeId,
        course: &Course,
        excluded: &mut BTreeMap<NodeId, Vec<Cause>>,
    ) {
        let was_sent = |causes: &Vec<Cause>| !causes.iter().any(|cause| cause.rule == CIRCUIT_OPEN);
        // Where another request is the probe nothing was sent, and there is nothing to wait for.
        if !excluded.get(factory).is_none_or(was_sent)
            || self.peers.load().keys().all(|node| excluded.contains_key(node))
        {
            return;
        }
        let sent = excluded.values().filter(|causes| was_sent(causes)).count();
        let tried = u32::try_from(sent).unwrap_or(u32::MAX);
        let reason = if tried >= self.routing.attempts {
            format!("not asked: {tried} attempts were made, which is as many as one request has")
        } else if course.begun.elapsed() >= Duration::from_millis(self.routing.deadline_ms) {
            format!("not asked: no attempt begins later than {} ms after the request", self.routing.deadline_ms)
        } else if !self.retries.take() {
            "not asked: this home's budget for retries is spent".to_owned()
        } else {
            metrics::retried();
            tokio::time::sleep(pause(tried)).await;
            return telemetry::deciding_again();
        };
        for node in self.peers.load().keys() {
            let cause = || vec![Cause::built_in(LayerKind::Availability, NO_CAPACITY, reason.clone())];
            excluded.entry(node.clone()).or_insert_with(cause);
        }
    }

    /// Notes how an answer that had begun ended: whole, or broken off by the factory.
    pub fn ended(&self, factory: &NodeId, whole: bool) {
        self.view.ended(factory, whole, &self.routing.breaker());
    }
}

/// What an attempt says of its factory.
fn came(result: &Result<(Frame, FrameStream), Attempt>) -> Came {
    let fault = |cause: &Cause| {
        cause.layer == LayerKind::Availability
            && [UNREACHABLE, ENGINE_FAILED, NOT_UNDERSTOOD, NO_ANSWER].contains(&cause.rule.as_str())
    };
    match result {
        Ok(_) | Err(Attempt::Request(_)) => Came::Answered,
        Err(Attempt::Excluded(causes)) if causes.iter().any(fault) => Came::Failed,
        Err(Attempt::Excluded(_)) => Came::Undecided,
    }
}
