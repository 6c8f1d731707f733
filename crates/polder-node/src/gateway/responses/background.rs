//! Responses that run on without a client: queued, decided when they run, kept when they end.
//!
//! That it was asked for is on disk before the answer says so. While every factory that may run it is full it stays queued and is
//! decided again; any other refusal ends it. Taking it up again after a crash is absent: it then reads as failed, with the reason,
//! because nobody knows how far it came.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt as _;
use http::{HeaderMap, StatusCode};
use polder_core::ids::ProjectId;
use polder_core::labels::Labels;
use serde_json::Value;
use tokio::time::Instant;

use super::super::answer::{Answer, ask, check_model};
use super::super::{ApiError, Caller, Gateway, sse};
use super::items::digits;
use super::live::Under;
use super::record::{Note, Record, of_content};
use super::request::{Asked, in_own_words};
use super::writing::{Said, Writing};
use crate::clock::now_ms;
use crate::content::Kind;
use crate::inference::ChatRequest;

/// How long a response waits for a factory that has room.
const QUEUED_MAX: Duration = Duration::from_secs(300);
/// How long it waits between two decisions, at first and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(15));

/// Begins a response that runs on without its client.
pub async fn start(
    gateway: Gateway,
    caller: Caller,
    labels: Labels,
    asked: Asked,
    request: ChatRequest,
) -> Result<Response, ApiError> {
    check_model(&gateway, &request.model)?;
    let mut writing = Writing::new(&format!("resp_{}", digits()?), now_ms() / 1000, asked.echo);
    let begun = vec![writing.whole("response.created", Some("queued")), writing.whole("response.queued", None)];
    let events = if asked.stream { begun } else { Vec::new() };
    let record = Record { response: writing.object(), input: asked.input, events };
    let project = caller.project.clone();
    let Some(under) = gateway.live.enter(&project, record.clone(), false, asked.stream) else {
        let message = "too many responses are under way in the background: try again when some have ended";
        return Err(ApiError::new(StatusCode::TOO_MANY_REQUESTS, "no_capacity", message));
    };
    if let Err(error) = record.keep(&gateway.content, &project, true).await {
        gateway.live.leave(&project, record.id());
        return Err(of_content(&error));
    }
    let running = Running { gateway, under: Arc::clone(&under), project, writing };
    tokio::spawn(running.run(caller, labels, request));
    Ok(match asked.stream {
        true => follow(under, 0),
        false => axum::Json(record.response).into_response(),
    })
}

/// A response's events from a number on, as they come. Its end does not end with whoever reads them.
pub fn follow(under: Arc<Under>, from: usize) -> Response {
    let events = under.follow(from).map(|event| Ok::<_, Infallible>(sse::typed(&[event])));
    (sse::head(HeaderMap::new()), Body::from_stream(events)).into_response()
}

/// One response that runs on without a client.
struct Running {
    gateway: Gateway,
    under: Arc<Under>,
    project: ProjectId,
    writing: Writing,
}

impl Running {
    async fn run(mut self, caller: Caller, labels: Labels, request: ChatRequest) {
        let under = Arc::clone(&self.under);
        let said = tokio::select! {
            said = self.work(&caller, labels, request) => Some(said),
            () = under.wait_for_cancel() => None,
        };
        let said = said.unwrap_or_else(|| self.writing.cancel());
        self.finish(said).await;
    }

    /// Everything up to the last events, which it returns. Dropping it stops the work.
    async fn work(&mut self, caller: &Caller, labels: Labels, request: ChatRequest) -> Vec<Said> {
        let answer = match self.placed(caller, labels, request).await {
            Ok(answer) => answer,
            Err(error) => return self.writing.failed(&in_own_words(error)),
        };
        self.writing.set("polder", super::proof(&answer.decision, &answer.factory));
        let said = self.writing.whole("response.in_progress", Some("in_progress"));
        self.under.say(vec![said], Some(self.writing.object()), false);
        let mut events = answer.events;
        while let Some(event) = events.next().await {
            let said = match event {
                Ok(event) => self.writing.take(event),
                Err(error) => self.writing.failed(&in_own_words(ApiError::of_engine(&error))),
            };
            if self.writing.ended() {
                return said;
            }
            self.under.say(said, None, false);
        }
        self.writing.failed(&ApiError::internal("an answer ended without its usage"))
    }

    /// Decides until a factory has room.
    async fn placed(&self, caller: &Caller, labels: Labels, request: ChatRequest) -> Result<Answer, ApiError> {
        let (until, mut pause) = (Instant::now() + QUEUED_MAX, PAUSE.0);
        loop {
            match ask(&self.gateway, caller, labels.clone(), request.clone()).await {
                Err(error) if error.code() == "no_capacity" && Instant::now() < until => {
                    tokio::time::sleep(pause).await;
                    pause = pause.saturating_mul(2).min(PAUSE.1);
                }
                answer => return answer,
            }
        }
    }

    /// Keeps the response as it ended.
    async fn finish(self, said: Vec<Value>) {
        let Self { gateway, under, project, writing } = self;
        under.say(said, Some(writing.object()), true);
        let record = under.record();
        if let Err(error) = record.keep(&gateway.content, &project, false).await {
            tracing::error!(%error, "a background response could not be kept");
            let lost = Some("its answer could not be kept: the node's log says why".to_owned());
            let note = serde_json::to_vec(&Note { open: true, lost }).unwrap_or_default();
            let noted = gateway.content.set_note(&project, Kind::Response, record.id(), &note, now_ms()).await;
            if let Err(error) = noted {
                tracing::error!(%error, "nor could it be said that it was not kept");
            }
        }
        gateway.live.leave(&project, record.id());
    }
}
