//! This node as a witness of the other members' logs (C2SP `tlog-witness`): `POST /witness/add-checkpoint`.
//!
//! What is cosigned is on disk before the cosignature is made, in one step with the look at what was there. Anyone may submit: a
//! submission counts by the log's signature alone. Only what a log's own node brings can raise an alarm that is not proved.

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Extension, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use http::{StatusCode, header};
use polder_core::ids::NodeId;
use polder_core::note::{Checkpoint, MlDsaSigner, Note, SignatureLine, Signs, VerifierKey, witness_name};
use polder_core::witness::{Judgement, SUBMISSION_BYTES_MAX, Submission, judge};

use super::alarms::{Alarms, Kind};
use crate::clock::now_ms;
use crate::peers::server::Speaker;
use crate::store::{Seen, Store, StoreError};

/// How long a submission may be on its way: one that comes after a later one within this time is merely late.
const LATE_MS: u64 = 15_000;
/// How often a submission is judged again because another came between.
const TRIES: u32 = 3;

/// A witness.
pub struct Witness {
    name: String,
    key: Arc<dyn Signs>,
    ml_dsa: Option<MlDsaSigner>,
    /// The keys as verifiers write them, a line each.
    keys: String,
    own: String,
    store: Store,
    alarms: Alarms,
}

/// What a witness answers.
enum Answer {
    Cosigned(String),
    Conflict(u64),
    Refused(StatusCode, String),
}

impl Witness {
    /// The witness of a node. Its own log it does not cosign.
    pub fn new(
        node: &NodeId,
        (key, ml_dsa): (Arc<dyn Signs>, Option<MlDsaSigner>),
        store: Store,
        alarms: Alarms,
    ) -> Self {
        let own = polder_core::note::origin(node);
        let mut keys = format!("{}\n", VerifierKey::of_witness(node, key.public()));
        if let Some(ml_dsa) = &ml_dsa {
            keys.push_str(&format!("{}\n", VerifierKey::of_ml_dsa_witness(node, ml_dsa.public())));
        }
        Self { name: witness_name(node), key, ml_dsa, keys, own, store, alarms }
    }

    async fn answer(&self, body: &[u8], speaker: Option<&NodeId>) -> Result<Answer, StoreError> {
        let refused = |status, says: &dyn std::fmt::Display| Ok(Answer::Refused(status, format!("{says}\n")));
        let submission = match std::str::from_utf8(body).map(Submission::parse) {
            Ok(Ok(submission)) => submission,
            Ok(Err(error)) => return refused(StatusCode::BAD_REQUEST, &error),
            Err(_) => return refused(StatusCode::BAD_REQUEST, &"not a submission: it is not UTF-8"),
        };
        let origin = submission.note.text.lines().next().unwrap_or_default().to_owned();
        let Some(log) = self.alarms.key(&origin, &submission.note).filter(|_| origin != self.own) else {
            return refused(StatusCode::NOT_FOUND, &"this log is not known here");
        };
        let brings = speaker.is_some_and(|node| polder_core::note::origin(node) == origin);
        for _ in 0..TRIES {
            let last = self.store.seen_last(&origin).await?;
            let known = last.as_ref().map(|seen| (Checkpoint::new(&*origin, seen.size, seen.root), seen.note.as_str()));
            match judge(&submission, &log, known.as_ref().map(|(checkpoint, note)| (checkpoint, *note))) {
                Judgement::Cosign(checkpoint) => {
                    if let Some(line) = self.cosign(&submission, &checkpoint).await? {
                        return Ok(Answer::Cosigned(line));
                    }
                }
                Judgement::Unsigned(error) => return refused(StatusCode::FORBIDDEN, &error),
                Judgement::Backwards => return refused(StatusCode::BAD_REQUEST, &"the old size is above the new one"),
                Judgement::Conflict(size, evidence) => {
                    if let Some(evidence) = evidence {
                        self.alarms.fork(&evidence, &self.node()).await?;
                    } else if let Some(last) = last.filter(|_| brings) {
                        self.look_for_loss(&origin, &submission.note, &last).await?;
                    }
                    return Ok(Answer::Conflict(size));
                }
                Judgement::Unproven(evidence) => {
                    match (evidence, last) {
                        (Some(evidence), _) => self.alarms.fork(&evidence, &self.node()).await?,
                        (None, Some(last)) if brings => {
                            let note = submission.note.to_string();
                            self.alarms.saw(Kind::Unproven, &origin, &last.note, &note).await?;
                        }
                        _ => {}
                    }
                    let says = "the proof does not lead from what was cosigned last";
                    return refused(StatusCode::UNPROCESSABLE_ENTITY, &says);
                }
            }
        }
        let size = self.store.seen_last(&origin).await?.map_or(0, |seen| seen.size);
        Ok(Answer::Conflict(size))
    }

    fn node(&self) -> NodeId {
        self.alarms.own().clone()
    }

    /// The cosignatures, once what it covers is the latest on disk; `None` where something else came there first.
    async fn cosign(&self, submission: &Submission, checkpoint: &Checkpoint) -> Result<Option<String>, StoreError> {
        let (size, root, at_ms) = (checkpoint.size, checkpoint.root, now_ms());
        let seen = Seen { size, root, at_ms, note: submission.note.to_string() };
        if !self.store.see(&checkpoint.origin, submission.old, &seen).await? {
            return Ok(None);
        }
        let (text, at_s) = (&submission.note.text, at_ms / 1_000);
        let line = SignatureLine::cosign_by(text, &self.name, self.key.as_ref(), at_s);
        let mut lines = format!("{}\n", line.map_err(|reason| StoreError::unsigned(&reason))?);
        let more = self.ml_dsa.as_ref().and_then(|key| SignatureLine::cosign_by_ml_dsa(text, &self.name, key, at_s));
        if let Some(line) = more {
            lines.push_str(&format!("{line}\n"));
        }
        Ok(Some(lines))
    }

    /// A log's own node that brings fewer leaves than it has shown has lost some, unless the submission is an old one that came late.
    async fn look_for_loss(&self, origin: &str, note: &Note, last: &Seen) -> Result<(), StoreError> {
        let Ok(brought) = Checkpoint::parse(&note.text) else { return Ok(()) };
        if brought.size < last.size && now_ms().saturating_sub(last.at_ms) > LATE_MS {
            self.alarms.saw(Kind::Shrunk, origin, &last.note, &note.to_string()).await?;
        }
        Ok(())
    }
}

/// The routes, for strangers and peers alike.
pub fn router(witness: Arc<Witness>) -> Router {
    Router::new()
        .route("/witness/add-checkpoint", post(add_checkpoint))
        .route("/witness/keys", get(|State(witness): State<Arc<Witness>>| async move { witness.keys.clone() }))
        .layer(DefaultBodyLimit::max(SUBMISSION_BYTES_MAX))
        .with_state(witness)
}

async fn add_checkpoint(
    State(witness): State<Arc<Witness>>,
    speaker: Option<Extension<Speaker>>,
    body: bytes::Bytes,
) -> Response {
    let speaker = speaker.map(|Extension(Speaker(node))| node);
    match witness.answer(&body, speaker.as_ref()).await {
        Ok(Answer::Cosigned(lines)) => ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], lines).into_response(),
        Ok(Answer::Conflict(size)) => {
            (StatusCode::CONFLICT, [(header::CONTENT_TYPE, "text/x.tlog.size")], format!("{size}\n")).into_response()
        }
        Ok(Answer::Refused(status, says)) => (status, says).into_response(),
        Err(error) => {
            tracing::error!(%error, "a checkpoint could not be looked at");
            (StatusCode::SERVICE_UNAVAILABLE, "this witness cannot remember now\n").into_response()
        }
    }
}
