//! A service whose requests are counted on their connection, and whose answers can be cut when the node must end.
//!
//! An answer that is cut says so: a stream by an error event, a request that has no answer yet by a 503. Everything else passes
//! unchanged, and a piece of an answer costs one look at a flag.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::service::Service;
use pin_project_lite::pin_project;
use serde_json::json;

use super::line::Line;
use crate::gateway::ApiError;

const CODE: &str = "node_stopping";
const MESSAGE: &str = "this node is being stopped: ask again";

/// A service on one connection.
pub struct Watched<S> {
    service: S,
    line: Arc<Line>,
}

impl<S> Watched<S> {
    /// The service as this connection's requests meet it.
    pub fn new(service: S, line: Arc<Line>) -> Self {
        Self { service, line }
    }
}

/// A request under way, as its connection counts it.
struct UnderWay(Arc<Line>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.finish();
    }
}

impl<S, B> Service<Request<Incoming>> for Watched<S>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    B: Body<Data = Bytes>,
{
    type Response = Response<Answer<B>>;
    type Error = Infallible;
    type Future = Answering<S::Future>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        // Chat and completions know only plain data; the other surfaces name their events.
        let named = !request.uri().path().ends_with("/completions");
        Answering::begin(self.service.call(request), named, &self.line)
    }
}

impl<F> Answering<F> {
    /// Begins to wait for the answer to a connection's request. `named` says that its events have names.
    pub fn begin(service: F, named: bool, line: &Arc<Line>) -> Self {
        line.begin();
        Self { service, named, under_way: Some(UnderWay(Arc::clone(line))) }
    }
}

pin_project! {
    /// An answer that is waited for.
    pub struct Answering<F> {
        #[pin]
        service: F,
        named: bool,
        under_way: Option<UnderWay>,
    }
}

impl<F, B> Future for Answering<F>
where
    F: Future<Output = Result<Response<B>, Infallible>>,
    B: Body<Data = Bytes>,
{
    type Output = Result<Response<Answer<B>>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let cut = this.under_way.as_ref().is_some_and(|under_way| under_way.0.is_cut());
        let answer = match this.service.poll(cx) {
            Poll::Ready(answer) => answer?,
            Poll::Pending if cut => return Poll::Ready(Ok(stopping(this.under_way.take()))),
            Poll::Pending => return Poll::Pending,
        };
        let events = (answer.headers().get(header::CONTENT_TYPE))
            .is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
        let ending = if events { Ending::Event { named: *this.named } } else { Ending::Nothing };
        let (mut head, body) = answer.into_parts();
        let Some(under_way) = this.under_way.take() else { return Poll::Pending };
        under_way.0.answer();
        if under_way.0.draining() {
            head.headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        Poll::Ready(Ok(Response::from_parts(head, Answer::Whole { body, ending, under_way })))
    }
}

/// What a request is told that has no answer when the node must end.
fn stopping<B>(under_way: Option<UnderWay>) -> Response<Answer<B>> {
    let error = ApiError::new(StatusCode::SERVICE_UNAVAILABLE, CODE, MESSAGE);
    let body = Full::new(Bytes::from(error.body().to_string()));
    if let Some(under_way) = &under_way {
        under_way.0.answer();
    }
    let mut response = Response::new(Answer::Own { body, _under_way: under_way });
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// How an answer ends that is cut.
#[derive(Debug, Clone, Copy)]
enum Ending {
    /// Short: its client sees that its length is not what was said.
    Nothing,
    /// With an error event.
    Event { named: bool },
    /// It has.
    Ended,
}

pin_project! {
    /// An answer's body, as long as it is not cut.
    #[project = AnswerParts]
    pub enum Answer<B> {
        /// The service's own.
        Whole { #[pin] body: B, ending: Ending, under_way: UnderWay },
        /// This node's word instead of it.
        Own { #[pin] body: Full<Bytes>, _under_way: Option<UnderWay> },
    }
}

impl<B: Body<Data = Bytes>> Body for Answer<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        match self.project() {
            AnswerParts::Whole { body, ending, under_way } => {
                if under_way.0.is_cut() {
                    match std::mem::replace(ending, Ending::Ended) {
                        Ending::Event { named } => return Poll::Ready(Some(Ok(Frame::data(cut_event(named))))),
                        Ending::Ended => return Poll::Ready(None),
                        Ending::Nothing => *ending = Ending::Nothing,
                    }
                }
                body.poll_frame(cx)
            }
            AnswerParts::Own { body, .. } => match ready!(body.poll_frame(cx)) {
                Some(Ok(frame)) => Poll::Ready(Some(Ok(frame))),
                Some(Err(never)) => match never {},
                None => Poll::Ready(None),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole { body, .. } => body.is_end_stream(),
            Self::Own { body, .. } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole { body, .. } => body.size_hint(),
            Self::Own { body, .. } => body.size_hint(),
        }
    }
}

/// The last event of a stream that is cut, in the shape that every surface's SDK takes for an error.
fn cut_event(named: bool) -> Bytes {
    let error = json!({"message": MESSAGE, "type": "server_error", "param": null, "code": CODE});
    Bytes::from(match named {
        false => format!("data: {}\n\n", json!({"error": error})),
        true => {
            let data = json!({"type": "error", "code": CODE, "message": MESSAGE, "param": null, "error": error});
            format!("event: error\ndata: {data}\n\n")
        }
    })
}
