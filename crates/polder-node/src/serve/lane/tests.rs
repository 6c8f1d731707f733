//! Tests of the lane over real sockets: what it takes, what it hands over untouched, and how its answers are framed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use axum::response::IntoResponse as _;
use futures_util::StreamExt as _;
use http_body_util::BodyExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::super::gate::{Gate, Place};
use super::*;
use crate::config::raw::Serve;

const PATH: &str = "/v1/chat/completions";
const BODY: &str = "{\"a\":1}";

/// Answers with what it was asked: its headers, and its body; in pieces where the body says so.
#[derive(Clone)]
struct Echo;

impl Service<Request<Body>> for Echo {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(async move {
            let named = request.headers().get("x-name").cloned();
            let body = request.into_body().collect().await.unwrap().to_bytes();
            if body.starts_with(b"wait") {
                std::future::pending::<()>().await;
            }
            let mut response = match body.starts_with(b"pieces") {
                true => {
                    let pieces = futures_util::stream::iter(["one", "", "two two two two two"]);
                    Body::from_stream(pieces.map(Ok::<_, Infallible>)).into_response()
                }
                false => Body::from(body).into_response(),
            };
            named.into_iter().for_each(|name| drop(response.headers_mut().insert("x-name", name)));
            Ok(response)
        })
    }
}

/// A client's end, and what becomes of the other.
async fn lane() -> (TcpStream, tokio::task::JoinHandle<(Left, Place)>) {
    let limits = Serve::default().check(&|message| panic!("{message}")).unwrap();
    let place = Gate::open(&limits, 8).enter(IpAddr::V4(Ipv4Addr::LOCALHOST)).map_err(drop).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (server, _) = listener.accept().await.unwrap();
    let express = Express { service: Echo, paths: &[PATH] };
    let served = tokio::spawn(async move { (serve(server, &place.line, express, 4096).await, place) });
    (client, served)
}

fn post(headers: &str, body: &str) -> String {
    format!("POST {PATH} HTTP/1.1\r\nhost: x\r\n{headers}content-length: {}\r\n\r\n{body}", body.len())
}

/// Reads until a text ends so.
async fn until(client: &mut TcpStream, end: &str) -> String {
    let mut text = Vec::new();
    while !text.ends_with(end.as_bytes()) {
        let read = tokio::time::timeout(Duration::from_secs(5), client.read_buf(&mut text)).await;
        assert!(read.is_ok_and(|read| read.unwrap() > 0), "{}", String::from_utf8_lossy(&text));
    }
    String::from_utf8(text).unwrap()
}

#[tokio::test]
async fn ordinary_requests_are_answered_one_after_the_other_however_they_are_cut() {
    let (mut client, served) = lane().await;
    let request = post("X-Name: Value\r\nConnection: keep-alive\r\n", BODY);
    for size in [request.len(), 7, 1, request.len()] {
        for piece in request.as_bytes().chunks(size) {
            client.write_all(piece).await.unwrap();
            tokio::task::yield_now().await;
        }
        let text = until(&mut client, BODY).await;
        assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
        assert!(text.contains("\r\nx-name: Value\r\n") && text.contains("\r\ncontent-length: 7\r\n"), "{text}");
        assert!(text.contains("\r\ndate: ") && text.contains(" GMT\r\n"), "{text}");
    }
    client.write_all(post("", "pieces").as_bytes()).await.unwrap();
    let text = until(&mut client, "0\r\n\r\n").await;
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("\r\ntransfer-encoding: chunked") && !head.contains("content-length"), "{head}");
    assert_eq!(body, "3\r\none\r\n13\r\ntwo two two two two\r\n0\r\n\r\n");
    drop(client);
    assert!(matches!(served.await.unwrap().0, Left::Gone));
}

#[tokio::test]
async fn whatever_is_not_ordinary_goes_to_the_library_with_every_byte() {
    let long = "x".repeat(70_000);
    let requests = [
        "GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n".to_owned(),
        post("", BODY).replace(PATH, "/v1/embeddings"),
        post("", BODY).replace(PATH, "/v1/chat/completions?x=1"),
        post("", BODY).replace("POST", "PUT"),
        post("", BODY).replace("HTTP/1.1", "HTTP/1.0"),
        post("Connection: close\r\n", BODY),
        post("Connection: Upgrade\r\nUpgrade: h2c\r\n", BODY),
        post("Expect: 100-continue\r\n", BODY),
        post("TE: trailers\r\n", BODY),
        post("", ""),
        post("", &long),
        format!("POST {PATH} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"),
        [post("", BODY), post("", BODY)].concat(),
        ["\r\n", &post("", BODY), "GET"].concat(),
    ];
    for request in requests {
        let (mut client, served) = lane().await;
        client.write_all(post("", BODY).as_bytes()).await.unwrap();
        until(&mut client, BODY).await;
        client.write_all(request.as_bytes()).await.unwrap();
        let (left, _place) = served.await.unwrap();
        let Left::Library(mut stream, mut held) = left else { panic!("{request}") };
        while held.len() < request.len() {
            assert!(stream.read_buf(&mut held).await.unwrap() > 0);
        }
        assert!(held == request.as_bytes(), "{request}");
    }
}

#[tokio::test]
async fn what_can_be_read_in_two_ways_is_refused_before_anybody_reads_it() {
    for (headers, refusal) in [
        ("Content-Length: 7\r\n", Refusal::Duplicate),
        ("Transfer-Encoding: chunked\r\n", Refusal::BothLengths),
        ("x: y\n", Refusal::LineEnd),
        (" folded\r\n", Refusal::Folded),
        ("x : y\r\n", Refusal::Malformed),
        ("Authorization: a\r\nAuthorization: b\r\n", Refusal::Duplicate),
    ] {
        let (mut client, served) = lane().await;
        client.write_all(post(headers, BODY).as_bytes()).await.unwrap();
        let (left, _place) = served.await.unwrap();
        assert!(matches!(left, Left::Close(_, Some(found), true) if found == refusal), "{headers}");
    }
}

#[tokio::test]
async fn who_leaves_is_noticed_and_orders_are_heard() {
    let (mut client, served) = lane().await;
    client.write_all(post("", "wait").as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!served.is_finished());
    drop(client);
    assert!(matches!(served.await.unwrap().0, Left::Gone));

    let (mut client, served) = lane().await;
    client.write_all(b"POST /v1/chat").await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!served.is_finished(), "a head that is not whole is waited for");
    drop(client);
    assert!(matches!(served.await.unwrap().0, Left::Gone));
}
