//! Messages about jobs between nodes: a home posts its own, and keeps a line open on which the factory's come.
//!
//! A home opens both, so that it needs no port of its own. What cannot be sent is lost, and what waits is bounded: the protocol sends
//! again whatever matters. Who speaks is the key of the channel. Messages are JSON, one a line; the ticket of an offer stands beside the
//! message, where readers of the message alone do not see it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::response::{IntoResponse as _, Json, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::StreamExt as _;
use http::StatusCode;
use polder_core::ids::NodeId;
use polder_core::job::message::{MESSAGE_BYTES_MAX, VERSION, Wire};
use polder_core::job::{JobId, Message, RunId};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::sync::{Notify, mpsc};

use super::Jobs;
use crate::executor::{Part, Piece};
use crate::home::Ticketed;
use crate::peers::server::Speaker;
use crate::peers::{PeerError, Remote};

/// Most messages that wait for one peer.
const WAITING_MAX: usize = 4_096;
/// Most bytes of messages in one call.
const POST_BYTES: usize = 1 << 20;
/// Most bytes that one call may bring.
const POST_BYTES_MAX: usize = 2 * (POST_BYTES + MESSAGE_BYTES_MAX);
/// How long a line is kept open, in seconds; then a new one shows that both sides are still there.
const LINE_S: u64 = 600;
/// Pauses before a line is opened again, the shortest and the longest.
const PAUSE: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// A message as it travels, with what stands beside it.
#[derive(Debug, Serialize)]
pub(super) struct Parcel {
    #[serde(flatten)]
    wire: Wire,
    #[serde(skip_serializing_if = "Option::is_none")]
    ticketed: Option<Ticketed>,
}

#[derive(Deserialize)]
struct Beside {
    #[serde(default)]
    ticketed: Option<Ticketed>,
}

impl Parcel {
    pub(super) fn new(message: Message, ticketed: Option<Ticketed>) -> Self {
        Self { wire: Wire { speaks: VERSION, must: Default::default(), message }, ticketed }
    }

    /// A line; none where it has no form, or is longer than any reader takes.
    fn line(&self) -> Option<Bytes> {
        let mut bytes = serde_json::to_vec(self).ok()?;
        bytes.push(b'\n');
        (bytes.len() <= MESSAGE_BYTES_MAX).then(|| bytes.into())
    }
}

/// Takes a line in; the reason where it is not understood.
fn take(jobs: &Jobs, from: &NodeId, line: &[u8]) -> Result<(), String> {
    let wire = Wire::decode(line).map_err(|error| error.to_string())?;
    // What stands beside a message and is not understood is as good as not there.
    let beside: Option<Beside> = serde_json::from_slice(line).ok();
    let ticketed = beside.and_then(|beside| beside.ticketed);
    if !jobs.hear(from.clone(), wire.speaks, wire.message, ticketed) {
        crate::metrics::job_refused("flood");
    }
    Ok(())
}

/// The home's end of each channel to a factory: what is posted goes in order, as long as the factory answers.
#[derive(Default)]
pub(super) struct Posts(BTreeMap<NodeId, mpsc::Sender<Bytes>>);

impl Posts {
    /// One for each factory that is reached, each with a task of its own.
    pub(super) fn open(reached: &BTreeMap<NodeId, Arc<Remote>>) -> Self {
        let one = |(node, remote): (&NodeId, &Arc<Remote>)| {
            let (sender, waiting) = mpsc::channel(WAITING_MAX);
            tokio::spawn(post_all(Arc::clone(remote), waiting));
            (node.clone(), sender)
        };
        Self(reached.iter().map(one).collect())
    }

    pub(super) fn put(&self, to: &NodeId, parcel: &Parcel) {
        let (Some(sender), Some(line)) = (self.0.get(to), parcel.line()) else { return };
        // What does not fit is lost, and sent again by whoever needs it.
        drop(sender.try_send(line));
    }
}

async fn post_all(remote: Arc<Remote>, mut waiting: mpsc::Receiver<Bytes>) {
    while let Some(first) = waiting.recv().await {
        let mut body = first.to_vec();
        while body.len() < POST_BYTES
            && let Ok(more) = waiting.try_recv()
        {
            body.extend_from_slice(&more);
        }
        if let Err(error) = remote.post_text("/peer/v1/jobs", body).await {
            tracing::debug!(%error, "messages about jobs were not sent");
        }
    }
}

/// Messages that wait for the homes of a factory.
#[derive(Clone, Default)]
pub struct Mailboxes(Arc<Mutex<BTreeMap<NodeId, Mailbox>>>);

#[derive(Default)]
struct Mailbox {
    waiting: VecDeque<Bytes>,
    filled: Arc<Notify>,
    /// Counts the lines that were opened: the last one is read.
    opened: u64,
}

impl Mailboxes {
    pub(super) fn put(&self, to: &NodeId, parcel: &Parcel) {
        let Some(line) = parcel.line() else { return };
        let mut boxes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mailbox = boxes.entry(to.clone()).or_default();
        if mailbox.waiting.len() >= WAITING_MAX {
            mailbox.waiting.pop_front();
        }
        mailbox.waiting.push_back(line);
        mailbox.filled.notify_one();
    }

    /// The messages for a home, as they come, until it opens another line.
    fn lines(&self, home: NodeId) -> impl futures_util::Stream<Item = Result<Bytes, std::convert::Infallible>> + use<> {
        let opened = {
            let mut boxes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let mailbox = boxes.entry(home.clone()).or_default();
            mailbox.opened = mailbox.opened.wrapping_add(1);
            mailbox.filled.notify_one();
            mailbox.opened
        };
        futures_util::stream::unfold((self.clone(), home), move |(boxes, home)| async move {
            loop {
                let filled = match boxes.take(&home, opened)? {
                    Ok(bytes) => return Some((Ok(bytes), (boxes, home))),
                    Err(filled) => filled,
                };
                filled.notified().await;
            }
        })
    }

    /// Everything that waits for a home, or what to wait for; none where it has opened another line.
    fn take(&self, home: &NodeId, opened: u64) -> Option<Result<Bytes, Arc<Notify>>> {
        let mut boxes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mailbox = boxes.get_mut(home)?;
        if mailbox.opened != opened {
            // The new line may have to be woken by what woke this one.
            mailbox.filled.notify_one();
            return None;
        }
        if mailbox.waiting.is_empty() {
            return Some(Err(Arc::clone(&mailbox.filled)));
        }
        let all: Vec<u8> = mailbox.waiting.drain(..).flatten().collect();
        Some(Ok(all.into()))
    }
}

/// Listens to a factory for as long as the node lives.
pub(super) async fn listen(jobs: Jobs, factory: NodeId, remote: Arc<Remote>) {
    let mut pause = PAUSE;
    loop {
        match remote.lines::<Box<RawValue>>(&format!("/peer/v1/jobs/line?for_s={LINE_S}")).await {
            Ok(mut lines) => {
                pause = PAUSE;
                while let Some(Ok(line)) = lines.next().await {
                    if let Err(reason) = take(&jobs, &factory, line.get().as_bytes()) {
                        crate::metrics::job_refused("message");
                        tracing::warn!(%factory, reason, "a message about a job is not understood");
                    }
                }
            }
            Err(error) => tracing::debug!(%error, "a factory does not tell of jobs"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// What homes may ask of a factory about their jobs.
pub fn peer_router(jobs: Jobs) -> Router {
    Router::new()
        .route("/peer/v1/jobs", post(messages))
        .route("/peer/v1/jobs/line", get(line))
        .route("/peer/v1/jobs/{run}/{part}", get(piece))
        .layer(DefaultBodyLimit::max(POST_BYTES_MAX))
        .with_state(jobs)
}

/// `POST /peer/v1/jobs`: messages, one a line.
async fn messages(State(jobs): State<Jobs>, Extension(Speaker(from)): Extension<Speaker>, body: Bytes) -> Response {
    for line in body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        if let Err(reason) = take(&jobs, &from, line) {
            crate::metrics::job_refused("message");
            return (StatusCode::BAD_REQUEST, reason).into_response();
        }
    }
    StatusCode::NO_CONTENT.into_response()
}

#[derive(Deserialize)]
struct For {
    #[serde(default)]
    for_s: u64,
}

/// `GET /peer/v1/jobs/line`: what this factory has to say, as it comes, for so many seconds.
async fn line(
    State(jobs): State<Jobs>,
    Extension(Speaker(home)): Extension<Speaker>,
    Query(For { for_s }): Query<For>,
) -> Response {
    let over = tokio::time::sleep(Duration::from_secs(for_s.min(LINE_S)));
    Response::new(Body::from_stream(jobs.mailboxes.lines(home).take_until(over)))
}

#[derive(Deserialize)]
struct From {
    #[serde(default)]
    from: u64,
}

/// A piece of what a run wrote, as it travels.
#[derive(Debug, Serialize, Deserialize)]
struct SentPiece {
    base64: String,
    next: u64,
    ended: bool,
}

/// `GET /peer/v1/jobs/{run}/{part}`: a piece of what a run of the speaker's own wrote; `run` is the job, a dot and the epoch.
async fn piece(
    State(jobs): State<Jobs>,
    Extension(Speaker(home)): Extension<Speaker>,
    Path((run, part)): Path<(String, String)>,
    Query(From { from }): Query<From>,
) -> Response {
    let unknown = || (StatusCode::NOT_FOUND, "nothing is kept of such a run").into_response();
    let run = run
        .split_once('.')
        .and_then(|(job, epoch)| Some(RunId { home, job: JobId::parse(job)?, epoch: epoch.parse().ok()? }));
    let (Some(run), Some(part)) = (run, Part::of(&part)) else { return unknown() };
    match jobs.piece(&run, part, from).await {
        Ok(Piece { bytes, next, ended }) => {
            Json(SentPiece { base64: STANDARD.encode(bytes), next, ended }).into_response()
        }
        Err(_) => unknown(),
    }
}

/// Asks a factory for a piece of what a run wrote there.
pub(super) async fn fetch_piece(remote: &Remote, run: &RunId, part: Part, from: u64) -> Result<Piece, PeerError> {
    let path = format!("/peer/v1/jobs/{}.{}/{}?from={from}", run.job, run.epoch, part.as_str());
    let SentPiece { base64, next, ended } = remote.fetch(&path).await?;
    let bytes = STANDARD.decode(base64).unwrap_or_default();
    Ok(Piece { bytes, next, ended })
}
