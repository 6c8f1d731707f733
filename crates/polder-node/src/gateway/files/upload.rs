//! Receiving a file: `multipart/form-data` read as it comes, the file's bytes straight to the content store.
//!
//! The parts are read by multer, which takes in as much as it is given until it finds a part's end. It is given little at a time
//! here, and no more until that led to something, so that a form without end costs no memory. What is dropped midway leaves nothing.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use axum::body::{Body, BodyDataStream};
use bytes::Bytes;
use futures_util::Stream;
use http::{HeaderMap, StatusCode, header};
use multer::{Constraints, Field, Multipart, SizeLimit};
use polder_core::ids::ProjectId;

use super::super::body::{not_compressed, too_large};
use super::super::kept::{keep_ms, of_content};
use super::super::responses::digits;
use super::super::{ApiError, Gateway};
use super::{Note, PURPOSES};
use crate::clock::now_ms;
use crate::content::{ContentWriter, Kept, Kind, New};

/// What a form may have beside the file, in bytes: other parts, heads and boundaries.
const FORM_BYTES: usize = 64 << 10;
/// Longest text of a part that is not the file, in bytes.
const TEXT_BYTES: usize = 1 << 10;
/// Longest name of a file, in bytes.
const NAME_BYTES: usize = 512;
/// How much is given to the parser at a time, in bytes.
const PIECE_BYTES: usize = 64 << 10;
/// How much it is given without a field or a piece of one coming of it, in bytes.
const UNANSWERED_BYTES: usize = 4 * PIECE_BYTES;

/// A part's name, for the error that names it.
const FILE: &str = "file";

/// What a form said.
#[derive(Default)]
struct Form {
    purpose: Option<String>,
    anchor: Option<String>,
    seconds: Option<String>,
    file: Option<(ContentWriter, String)>,
}

/// Receives a file and keeps it.
pub async fn receive(
    gateway: &Gateway,
    project: &ProjectId,
    headers: &HeaderMap,
    body: Body,
) -> Result<(Kept, Note), ApiError> {
    let most = gateway.batches.limits().file_bytes_max;
    let boundary =
        headers.get(header::CONTENT_TYPE).and_then(|value| multer::parse_boundary(value.to_str().ok()?).ok());
    let Some(boundary) = boundary else {
        return Err(malformed("a file is sent as `multipart/form-data` with its boundary"));
    };
    not_compressed(headers)?;
    let whole = most.saturating_add(FORM_BYTES);
    let declared = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if declared.is_some_and(|length| length > whole) {
        return Err(too_large(most));
    }
    let unanswered = Arc::new(AtomicUsize::new(0));
    let pieces = Pieces::new(body, &unanswered);
    let limit = SizeLimit::new().whole_stream(u64::try_from(whole).unwrap_or(u64::MAX));
    let mut parts = Multipart::with_constraints(pieces, boundary, Constraints::new().size_limit(limit));
    let mut form = Form::default();
    while let Some(field) = parts.next_field().await.map_err(|error| of_form(&error, most))? {
        unanswered.store(0, Ordering::Relaxed);
        form.take(gateway, project, Part { field, unanswered: &unanswered, most }).await?;
    }
    form.keep().await
}

fn malformed(message: &str) -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, "invalid_multipart", message)
}

/// What is wrong with a form, without any of it.
fn of_form(error: &multer::Error, most: usize) -> ApiError {
    match error {
        multer::Error::StreamSizeExceeded { .. } | multer::Error::FieldSizeExceeded { .. } => too_large(most),
        multer::Error::StreamReadFailed(odd) if odd.is::<Endless>() => malformed("a part's head is too long"),
        multer::Error::StreamReadFailed(_) => malformed("the body broke off"),
        multer::Error::IncompleteStream
        | multer::Error::IncompleteFieldData { .. }
        | multer::Error::IncompleteHeaders => malformed("the form ends before its last boundary"),
        _ => malformed("the form's parts are not understood"),
    }
}

/// One part of a form.
struct Part<'a> {
    field: Field<'a>,
    unanswered: &'a AtomicUsize,
    most: usize,
}

impl Part<'_> {
    async fn piece(&mut self) -> Result<Option<Bytes>, ApiError> {
        let piece = self.field.chunk().await.map_err(|error| of_form(&error, self.most))?;
        self.unanswered.store(0, Ordering::Relaxed);
        Ok(piece)
    }

    async fn text(mut self, name: &str) -> Result<String, ApiError> {
        let mut text = Vec::new();
        while let Some(piece) = self.piece().await? {
            text.extend_from_slice(&piece);
            if text.len() > TEXT_BYTES {
                return Err(ApiError::parameter(name, "invalid_value", format!("`{name}` is too long")));
            }
        }
        let odd = |_| ApiError::parameter(name, "invalid_value", format!("`{name}` is not UTF-8"));
        String::from_utf8(text).map_err(odd)
    }

    /// The file's name as the part says it.
    fn file_name(&self) -> Result<String, ApiError> {
        let said = self.field.headers().get(header::CONTENT_DISPOSITION);
        if said.is_some_and(|said| std::str::from_utf8(said.as_bytes()).is_err()) {
            return Err(ApiError::parameter(FILE, "invalid_value", "the file's name is not UTF-8"));
        }
        let name = self.field.file_name().unwrap_or_default();
        match name.is_empty() || name.len() > NAME_BYTES || name.chars().any(char::is_control) {
            true => {
                let message = format!("the file needs a name of 1 to {NAME_BYTES} bytes without control characters");
                Err(ApiError::parameter(FILE, "invalid_value", message))
            }
            false => Ok(name.to_owned()),
        }
    }
}

impl Form {
    async fn take(&mut self, gateway: &Gateway, project: &ProjectId, part: Part<'_>) -> Result<(), ApiError> {
        let name = part.field.name().unwrap_or_default().to_owned();
        let place = match name.as_str() {
            FILE if self.file.is_some() => return Err(twice(&name)),
            FILE => {
                self.file = Some(stored(gateway, project, part).await?);
                return Ok(());
            }
            "purpose" => &mut self.purpose,
            "expires_after[anchor]" => &mut self.anchor,
            "expires_after[seconds]" => &mut self.seconds,
            _ => {
                let message = "a form for a file has the parts `file`, `purpose` and `expires_after`, and no other";
                return Err(ApiError::new(StatusCode::BAD_REQUEST, "unsupported_parameter", message));
            }
        };
        match place {
            Some(_) => Err(twice(&name)),
            None => {
                *place = Some(part.text(&name).await?);
                Ok(())
            }
        }
    }

    async fn keep(self) -> Result<(Kept, Note), ApiError> {
        let missing =
            |name: &str| ApiError::parameter(name, "missing_required_parameter", format!("`{name}` is missing"));
        let (mut writer, filename) = self.file.ok_or_else(|| missing(FILE))?;
        let purpose = self.purpose.ok_or_else(|| missing("purpose"))?;
        if !PURPOSES.contains(&purpose.as_str()) {
            let message = format!("`purpose` must be one of {}", PURPOSES.join(", "));
            return Err(ApiError::parameter("purpose", "invalid_value", message));
        }
        let seconds = self.seconds.map(|text| text.parse().unwrap_or(0));
        if let Some(keep_ms) = keep_ms("expires_after", self.anchor.as_deref(), seconds)? {
            writer.keep_for(keep_ms);
        }
        if writer.bytes() == 0 {
            return Err(ApiError::parameter(FILE, "empty_file", "the file is empty"));
        }
        let note = Note { filename, purpose };
        writer.set_note(note.to_bytes());
        let kept = writer.finish().await.map_err(|error| of_content(&error))?;
        Ok((kept, note))
    }
}

fn twice(name: &str) -> ApiError {
    ApiError::parameter(name, "invalid_value", format!("`{name}` is there twice"))
}

/// Brings a file's bytes to the store. They are kept once the form has ended well.
async fn stored(
    gateway: &Gateway,
    project: &ProjectId,
    mut part: Part<'_>,
) -> Result<(ContentWriter, String), ApiError> {
    let (name, id) = (part.file_name()?, format!("file-{}", digits()?));
    let new = New { kind: Kind::File, project: project.clone(), id, note: Vec::new(), keep_ms: None };
    let mut writer = gateway.content.writer(new, now_ms()).await.map_err(|error| of_content(&error))?;
    let most = u64::try_from(part.most).unwrap_or(u64::MAX);
    while let Some(piece) = part.piece().await? {
        if writer.bytes().saturating_add(u64::try_from(piece.len()).unwrap_or(u64::MAX)) > most {
            return Err(too_large(part.most));
        }
        writer.write(&piece).await.map_err(|error| of_content(&error))?;
    }
    Ok((writer, name))
}

/// The parser was given much, and nothing came of it.
#[derive(Debug, thiserror::Error)]
#[error("a form without parts")]
struct Endless;

/// A body in small pieces, one each time that it is asked.
pub(super) struct Pieces {
    body: BodyDataStream,
    rest: Bytes,
    given: bool,
    unanswered: Arc<AtomicUsize>,
}

impl Pieces {
    pub(super) fn new(body: Body, unanswered: &Arc<AtomicUsize>) -> Self {
        Self { body: body.into_data_stream(), rest: Bytes::new(), given: false, unanswered: Arc::clone(unanswered) }
    }
}

impl Stream for Pieces {
    type Item = Result<Bytes, Box<dyn std::error::Error + Send + Sync>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if std::mem::take(&mut self.given) {
            // Whoever asks again at once has not looked at what it was given: later.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if self.rest.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_next(cx)) {
                Some(Ok(bytes)) => self.rest = bytes,
                Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                None => return Poll::Ready(None),
            }
        }
        let length = self.rest.len().min(PIECE_BYTES);
        let piece = self.rest.split_to(length);
        if self.unanswered.fetch_add(length, Ordering::Relaxed).saturating_add(length) > UNANSWERED_BYTES {
            return Poll::Ready(Some(Err(Endless.into())));
        }
        self.given = true;
        Poll::Ready(Some(Ok(piece)))
    }
}
