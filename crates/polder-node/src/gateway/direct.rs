//! The way of an ordinary conversation past the router: the same handler, behind the same search for repeats.
//!
//! Absent: every other route, which few requests take.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use tower::{Layer as _, Service};

use super::repeats::{Once, RepeatsLayer};
use super::{ApiError, Gateway, chat};
use crate::serve::Express;

/// The route that is reached so.
const CONVERSATIONS: &str = "/v1/chat/completions";

/// An answer on its way.
type Answering = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

/// What ordinary requests reach; nothing on a node that is no home.
#[derive(Clone)]
pub struct Direct(Option<Once<Conversations>>);

/// The handler of conversations as a service.
#[derive(Clone)]
pub struct Conversations(Gateway);

/// What a home serves so.
pub fn express(gateway: Gateway, repeats: &RepeatsLayer) -> Express<Direct> {
    Express { service: Direct(Some(repeats.layer(Conversations(gateway)))), paths: &[CONVERSATIONS] }
}

/// What a node serves so that is no home.
pub fn nothing() -> Express<Direct> {
    Express { service: Direct(None), paths: &[] }
}

impl Service<Request> for Direct {
    type Response = Response;
    type Error = Infallible;
    type Future = Answering;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Answering {
        match &mut self.0 {
            Some(conversations) => conversations.call(request),
            // No path leads here.
            None => Box::pin(async { Ok(StatusCode::NOT_FOUND.into_response()) }),
        }
    }
}

impl Service<Request> for Conversations {
    type Response = Response;
    type Error = Infallible;
    type Future = Answering;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Answering {
        let answer = chat::complete(State(self.0.clone()), request);
        Box::pin(async { Ok(answer.await.unwrap_or_else(ApiError::into_response)) })
    }
}
