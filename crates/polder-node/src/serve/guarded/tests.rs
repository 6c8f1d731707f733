//! Tests of what comes through to the HTTP library, over a pipe in memory.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use super::super::gate::{Gate, Place};
use super::*;
use crate::config::raw::Serve;

const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";
const POST: &[u8] = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhello";

fn pair() -> (DuplexStream, Guarded<DuplexStream>, Place) {
    let limits = Serve::default().check(&|message| panic!("{message}")).unwrap();
    let place = Gate::open(&limits, 8).enter(IpAddr::V4(Ipv4Addr::LOCALHOST)).map_err(drop).unwrap();
    let (client, server) = tokio::io::duplex(1 << 16);
    (client, Guarded::new(server, Arc::clone(&place.line), 4096, Vec::new()), place)
}

/// What comes through within a moment.
async fn comes(guarded: &mut Guarded<DuplexStream>) -> Vec<u8> {
    let mut bytes = vec![0; 1 << 16];
    match tokio::time::timeout(Duration::from_millis(50), guarded.read(&mut bytes)).await {
        Ok(count) => {
            bytes.truncate(count.unwrap());
            bytes
        }
        Err(_) => Vec::new(),
    }
}

#[tokio::test]
async fn heads_come_whole_and_bodies_as_they_are() {
    let (mut client, mut guarded, place) = pair();
    for byte in &POST[..POST.len() - 5] {
        assert_eq!(comes(&mut guarded).await, b"");
        client.write_all(&[*byte]).await.unwrap();
    }
    assert_eq!(place.line.phase(), Phase::Head);
    assert_eq!(comes(&mut guarded).await, &POST[..POST.len() - 5]);
    assert_eq!(place.line.phase(), Phase::Body);
    client.write_all(b"hel").await.unwrap();
    assert_eq!(comes(&mut guarded).await, b"hel");
    place.line.begin();
    client.write_all(b"lo").await.unwrap();
    assert_eq!(comes(&mut guarded).await, b"lo");
    assert_eq!(place.line.phase(), Phase::Busy);
    place.line.finish();
    assert_eq!(place.line.phase(), Phase::Idle);
}

#[tokio::test]
async fn one_request_at_a_time_and_an_end_that_is_seen() {
    let (mut client, mut guarded, place) = pair();
    client.write_all(&[GET, POST, GET].concat()).await.unwrap();
    assert_eq!(comes(&mut guarded).await, GET);
    place.line.begin();
    assert_eq!(comes(&mut guarded).await, b"", "the second waits for the first one's answer");
    place.line.finish();
    assert_eq!(comes(&mut guarded).await, POST);
    place.line.begin();
    drop(client);
    let mut byte = [0];
    assert_eq!(guarded.read(&mut byte).await.unwrap(), 0, "the client is gone, whatever it sent ahead");
}

#[tokio::test]
async fn nothing_of_a_refused_request_comes_through() {
    let (mut client, mut guarded, place) = pair();
    client.write_all(GET).await.unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nhost: y\r\n\r\n").await.unwrap();
    assert_eq!(comes(&mut guarded).await, GET);
    assert_eq!(comes(&mut guarded).await, b"");
    assert_eq!(place.line.ordered(), Some(Order::Refuse(Refusal::Duplicate)));
    client.write_all(GET).await.unwrap();
    assert_eq!(comes(&mut guarded).await, b"", "nor anything after it");
}
