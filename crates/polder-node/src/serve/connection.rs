//! One connection of an application, from its first byte to its end.
//!
//! Ordinary requests are served in a lane of their own (`lane.rs`); the first that is anything else, and all after it, by the HTTP
//! library. This file listens to the gate beside it and closes in a way that the client sees its last answer.

use std::convert::Infallible;
use std::error::Error;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::gate::Place;
use super::guarded::Guarded;
use super::lane::{self, Express, Left};
use super::line::{Order, Phase};
use super::refusal::Refusal;
use super::watched::Watched;

/// Most bytes that the HTTP library holds of one answer, and of one request, before it waits.
const BUFFER_BYTES_MAX: usize = 64 << 10;
/// Most bytes that are read and thrown away at the end.
const ENDING_BYTES_MAX: usize = 4 << 20;

/// Serves one connection to its end. Its place is given back with it.
pub async fn serve<S, B, E>(
    stream: std::net::TcpStream,
    place: Place,
    service: S,
    express: Express<E>,
    head_bytes_max: usize,
) where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    B: Body<Data = Bytes> + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
    E: tower_service::Service<Request<axum::body::Body>, Response = axum::response::Response, Error = Infallible>,
{
    let Ok(stream) = TcpStream::from_std(stream) else { return };
    // Whoever says nothing costs nothing but this wait.
    tokio::select! {
        ready = stream.readable() => if ready.is_err() { return },
        _ = place.line.until_ordered() => return,
    }
    // In pieces of their own: a connection that is in one of them has no room for the other.
    let left = Box::pin(lane::serve(stream, &place.line, express, head_bytes_max)).await;
    match left {
        Left::Library(stream, held) => Box::pin(speak(stream, held, place, service, head_bytes_max)).await,
        Left::Close(stream, refusal, sending) => {
            place.line.enter(Phase::Ending);
            if sending || refusal.is_some() {
                Box::pin(end(stream, refusal, &place)).await;
            }
        }
        Left::Gone => {}
    }
}

async fn speak<S, B>(stream: TcpStream, held: Vec<u8>, place: Place, service: S, head_bytes_max: usize)
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    B: Body<Data = Bytes> + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let line = Arc::clone(&place.line);
    let guarded = TokioIo::new(Guarded::new(stream, Arc::clone(&line), head_bytes_max, held));
    let mut builder = http1::Builder::new();
    builder.header_read_timeout(None).max_buf_size(BUFFER_BYTES_MAX);
    let mut http = builder.serve_connection(guarded, Watched::new(service, Arc::clone(&line)));
    let ended = std::future::poll_fn(|cx| {
        line.listen(cx.waker());
        if let Poll::Ready(ended) = Pin::new(&mut http).poll(cx) {
            return Poll::Ready(Ok(ended));
        }
        line.ordered().map_or(Poll::Pending, |order| Poll::Ready(Err(order)))
    })
    .await;
    let answered = line.in_answer();
    // From here on nobody waits for an answer: the request under way goes with the library's parts.
    let (stream, sending) = http.into_parts().io.into_inner().into_stream();
    line.enter(Phase::Ending);
    match ended {
        Ok(Ok(())) if sending => end(stream, None, &place).await,
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "an application's connection ended"),
        Err(Order::Refuse(refusal)) if !answered => end(stream, Some(refusal), &place).await,
        Err(_) => {}
    }
}

/// Says the last word, and waits a little for the client to have read it: closing with bytes unread would take it back.
async fn end(mut stream: TcpStream, refusal: Option<Refusal>, place: &Place) {
    let farewell = async {
        if let Some(refusal) = refusal {
            stream.write_all(&refusal.bytes()).await?;
        }
        stream.shutdown().await?;
        let mut rest = vec![0; 8 << 10];
        let mut left = ENDING_BYTES_MAX;
        while left > 0 {
            match stream.read(&mut rest).await? {
                0 => break,
                count => left = left.saturating_sub(count),
            }
        }
        std::io::Result::Ok(())
    };
    tokio::select! {
        said = farewell => drop(said),
        () = place.line.until_ended() => {}
    }
}
