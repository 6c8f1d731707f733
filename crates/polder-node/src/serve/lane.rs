//! A narrow lane in front of the HTTP library for requests that are entirely ordinary: HTTP/1.1, a known path, a whole body of a
//! known and small length, nothing behind it.
//!
//! Such a request is served where its bytes lie, by the same handlers, and its answer is written in one piece: what the library
//! would add is a task's worth of channels and wake-ups for each. The framing is the strict reader's; the lane takes only what
//! stands on its list, and hands a connection over to the library, with its unread bytes, at the first request that is anything
//! else. Limits, drain and cuts are the line's and the gate's, as everywhere. Absent: what an answer is, and every clock.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::Body;
use axum::response::Response;
use http::Request;
use hyper::body::Body as _;
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio::net::TcpStream;
use tower_service::Service;

use super::framing::Framing;
use super::line::{Line, Order, Phase};
use super::refusal::Refusal;
use super::watched::{Answer, Answering};

mod answer;
mod ordinary;

use ordinary::Ordinary;

/// Most bytes that wait for the answer before them.
const AHEAD_BYTES_MAX: usize = 64 << 10;
/// Most bytes that are read at once, and most of an answer that are put together before they are written.
const PIECE_BYTES_MAX: usize = 32 << 10;

thread_local! {
    /// Where a thread reads into; what came is copied to where it belongs.
    static READ: RefCell<Vec<u8>> = RefCell::new(vec![0; PIECE_BYTES_MAX]);
}

/// What the lane serves.
#[derive(Clone)]
pub struct Express<S> {
    /// Who answers.
    pub service: S,
    /// The paths whose `POST` requests are taken.
    pub paths: &'static [&'static str],
}

/// Why a connection leaves the lane.
pub enum Left {
    /// Its next request is for the HTTP library: these bytes of it were read.
    Library(TcpStream, Vec<u8>),
    /// It is to be closed, with a last word where nothing else was said; whether the client may still be sending.
    Close(TcpStream, Option<Refusal>, bool),
    /// The client has gone, or nobody is to be told anything.
    Gone,
}

/// What the next bytes are.
#[allow(clippy::large_enum_variant)] // One at a time is held, never many.
enum Next {
    Request(Request<Body>),
    Library,
    Close(Option<Refusal>),
    Gone,
}

/// How an answer ended.
enum Ended {
    /// The next request may come.
    Whole,
    /// It was the connection's last.
    Last,
    Ordered(Order),
    Gone,
}

struct Lane {
    stream: TcpStream,
    line: Arc<Line>,
    /// Read, and not part of any request yet.
    held: Vec<u8>,
    head_bytes_max: usize,
}

/// Serves a connection for as long as its requests are ordinary.
pub async fn serve<S>(stream: TcpStream, line: &Arc<Line>, mut express: Express<S>, head_bytes_max: usize) -> Left
where
    S: Service<Request<Body>, Response = Response, Error = Infallible>,
{
    let mut lane = Lane { stream, line: Arc::clone(line), held: Vec::new(), head_bytes_max };
    loop {
        let request = match lane.next(express.paths).await {
            Next::Request(request) => request,
            Next::Library => return Left::Library(lane.stream, lane.held),
            Next::Close(refusal) => return lane.close(refusal, true),
            Next::Gone => return Left::Gone,
        };
        // Chat and completions know only plain data; the other surfaces name their events.
        let named = !request.uri().path().ends_with("/completions");
        let answering = Answering::begin(express.service.call(request), named, line);
        match lane.answer(answering).await {
            Ended::Whole => {}
            Ended::Last => {
                let sending = !lane.held.is_empty();
                return lane.close(None, sending);
            }
            Ended::Ordered(Order::Refuse(refusal)) => return lane.close(Some(refusal), true),
            Ended::Ordered(Order::End) | Ended::Gone => return Left::Gone,
        }
    }
}

impl Lane {
    fn close(self, refusal: Option<Refusal>, sending: bool) -> Left {
        Left::Close(self.stream, refusal, sending)
    }

    /// Reads what is there behind what is held; how much came, 0 at the end.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<usize> {
        READ.with_borrow_mut(|buffer| {
            let mut buffer = ReadBuf::new(buffer);
            // A connection that broke has ended.
            if ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer)).is_err() {
                return Poll::Ready(0);
            }
            self.held.extend_from_slice(buffer.filled());
            Poll::Ready(buffer.filled().len())
        })
    }

    /// Waits for the next request.
    async fn next(&mut self, paths: &'static [&'static str]) -> Next {
        let (mut framing, mut ordinary) = (Framing::new(self.head_bytes_max), None);
        poll_fn(|cx| {
            self.line.listen(cx.waker());
            loop {
                match self.line.ordered() {
                    Some(Order::End) => return Poll::Ready(Next::Gone),
                    Some(Order::Refuse(refusal)) => return Poll::Ready(Next::Close(Some(refusal))),
                    None => {}
                }
                if let Some(next) = self.look(&mut framing, &mut ordinary, paths) {
                    return Poll::Ready(next);
                }
                let more = self.poll_more(cx);
                self.line.set_hungry(more.is_pending());
                match ready!(more) {
                    0 => return Poll::Ready(Next::Gone),
                    count if ordinary.is_some() => self.line.add_body(count),
                    _ => {}
                }
            }
        })
        .await
    }

    /// What the bytes that are held come to; nothing where more must come first.
    fn look(
        &mut self,
        framing: &mut Framing,
        ordinary: &mut Option<Ordinary>,
        paths: &'static [&'static str],
    ) -> Option<Next> {
        if self.held.is_empty() {
            return None;
        }
        if ordinary.is_none() {
            // Strictly, before anybody believes a word of it.
            match framing.take(&self.held) {
                Err(refusal) => return Some(Next::Close(Some(refusal))),
                Ok(0) => {
                    self.line.enter(Phase::Head);
                    return None;
                }
                Ok(_) => *ordinary = Ordinary::of(&self.held, paths),
            }
        }
        let Some(found) = ordinary else { return Some(Next::Library) };
        match self.held.len().cmp(&found.bytes()) {
            std::cmp::Ordering::Less => {
                self.line.enter(Phase::Body);
                None
            }
            // What is sent ahead is the library's to keep apart.
            std::cmp::Ordering::Greater => Some(Next::Library),
            std::cmp::Ordering::Equal => {
                self.line.enter(Phase::Busy);
                Some(
                    found
                        .request(std::mem::take(&mut self.held))
                        .map_or(Next::Close(Some(Refusal::Malformed)), Next::Request),
                )
            }
        }
    }

    /// Looks whether the client has gone, while it is being answered; what it sends ahead is kept.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.held.len() < AHEAD_BYTES_MAX {
            if ready!(self.poll_more(cx)) == 0 {
                return Poll::Ready(());
            }
        }
        Poll::Pending
    }

    /// Waits for an answer and writes it.
    async fn answer<F>(&mut self, answering: Answering<F>) -> Ended
    where
        F: Future<Output = Result<Response, Infallible>>,
    {
        let mut answering = pin!(answering);
        let begun = poll_fn(|cx| {
            self.line.listen(cx.waker());
            if let Some(order) = self.line.ordered() {
                return Poll::Ready(Err(Ended::Ordered(order)));
            }
            if let Poll::Ready(answer) = answering.as_mut().poll(cx) {
                return Poll::Ready(Ok(answer.unwrap_or_else(|never| match never {})));
            }
            self.poll_gone(cx).map(|()| Err(Ended::Gone))
        });
        match begun.await {
            Ok(answer) => self.write(answer).await,
            Err(ended) => ended,
        }
    }

    async fn write(&mut self, answer: http::Response<Answer<Body>>) -> Ended {
        let (head, body) = answer.into_parts();
        let mut body = pin!(body);
        let mut form = answer::Form::of(&head, body.size_hint().exact());
        let (mut out, mut written) = (form.head(&head), 0);
        poll_fn(|cx| {
            self.line.listen(cx.waker());
            loop {
                if self.line.ordered().is_some() {
                    // No word of this node's own comes in the middle of an answer.
                    return Poll::Ready(Ended::Gone);
                }
                while !form.ended && out.len() < PIECE_BYTES_MAX {
                    match body.as_mut().poll_frame(cx) {
                        Poll::Ready(Some(Ok(frame))) => form.piece(&mut out, &frame.into_data().unwrap_or_default()),
                        Poll::Ready(None) => form.end(&mut out),
                        Poll::Ready(Some(Err(_))) => return Poll::Ready(Ended::Gone),
                        Poll::Pending => break,
                    }
                }
                if out.is_empty() && !form.ended {
                    ready!(self.poll_gone(cx));
                    return Poll::Ready(Ended::Gone);
                }
                if ready!(self.poll_write(cx, &out, &mut written)).is_err() || form.short {
                    return Poll::Ready(Ended::Gone);
                }
                if form.ended {
                    return Poll::Ready(if form.last { Ended::Last } else { Ended::Whole });
                }
                // A stream that waits for its next piece holds nothing.
                (out, written) = (Vec::new(), 0);
            }
        })
        .await
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8], written: &mut usize) -> Poll<std::io::Result<()>> {
        while let Some(rest) = bytes.get(*written..).filter(|rest| !rest.is_empty()) {
            let count = Pin::new(&mut self.stream).poll_write(cx, rest);
            self.line.set_stalled(count.is_pending());
            match ready!(count)? {
                0 => return Poll::Ready(Err(std::io::ErrorKind::WriteZero.into())),
                count => *written += count,
            }
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests;
