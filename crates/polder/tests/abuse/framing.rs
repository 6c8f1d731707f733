//! Requests that can be read in two ways, lie about their length, or hide one request in another.

use std::io::Write as _;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::{CHAT, Front, KEY, chat, to_the_end};
use crate::support::{http::Reply, process};

/// An error in OpenAI's envelope, on a connection that ends with it.
fn refused(reply: &Reply, status: u16, code: &str, what: &str) {
    assert_eq!(reply.status, status, "{what}: {}", reply.text());
    assert_eq!(reply.error().0, code, "{what}");
    assert_eq!(reply.header("content-type"), Some("application/json"), "{what}");
    assert_eq!(reply.header("connection"), Some("close"), "{what}");
    assert!(!reply.text().contains(KEY), "{what}");
}

#[test]
fn what_can_be_read_in_two_ways_is_refused() {
    let front = Front::start("");
    let body = chat("quick", false).to_string();
    let length = format!("content-length: {}\r\n", body.len());
    let chunked = "transfer-encoding: chunked\r\n";
    let head = String::from_utf8(front.endpoint.head("POST", CHAT, &[])).unwrap();
    // What a smuggler hides behind an end that only one of two readers sees.
    let hidden = String::from_utf8(front.request("quick", false)).unwrap();
    let asked = front.engine.asked();
    for (what, bytes) in [
        ("both lengths", format!("{head}{length}{chunked}\r\n0\r\n\r\n{hidden}")),
        ("both lengths, the other way", format!("{head}{chunked}{length}\r\n0\r\n\r\n{hidden}")),
        ("two lengths", format!("{head}content-length: 0\r\n{length}\r\n{hidden}")),
        ("a list of lengths", format!("{head}content-length: 0, 0\r\n\r\n{hidden}")),
        ("a length with a sign", format!("{head}content-length: +0\r\n\r\n{hidden}")),
        ("a length beyond all numbers", format!("{head}content-length: 99999999999999999999\r\n\r\n{hidden}")),
        ("another coding", format!("{head}transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n{hidden}")),
        ("a coding nearly right", format!("{head}transfer-encoding: \x0bchunked\r\n\r\n0\r\n\r\n{hidden}")),
        ("a space before the colon", format!("{head}transfer-encoding : chunked\r\n{length}\r\n0\r\n\r\n{hidden}")),
        ("a bare line feed in a header", format!("{head}x: y\n{length}\r\n{body}")),
        ("bare line feeds alone", format!("{head}{length}\r\n{body}").replace('\r', "")),
        ("a folded header", format!("{head}x: y\r\n z\r\n{length}\r\n{body}")),
        ("a folded length", format!("{head}x: y\r\n {length}\r\n{hidden}")),
        ("a NUL", format!("{head}x: a\0b\r\n{length}\r\n{body}")),
        ("a second host", format!("{head}host: elsewhere\r\n{length}\r\n{body}")),
        ("a second key", format!("{head}authorization: Bearer other\r\n{length}\r\n{body}")),
        ("a size that is none", format!("{head}{chunked}\r\n0x0\r\n\r\n{hidden}")),
        ("a chunk longer than its size", format!("{head}{chunked}\r\n1\r\nabc\r\n0\r\n\r\n{hidden}")),
        ("bare line feeds between chunks", format!("{head}{chunked}\r\n1\na\n0\n\n{hidden}")),
        ("no request at all", "GARBAGE\r\n\r\n".to_owned()),
        ("the first bytes of TLS", "\x16\x03\x01\x02\x00\x01\x00\x01".to_owned()),
        ("no host", "GET /v1/models HTTP/1.1\r\n\r\n".to_owned()),
    ] {
        let begun = Instant::now();
        refused(&front.endpoint.raw(bytes.as_bytes()), 400, "invalid_http", what);
        assert!(begun.elapsed() < Duration::from_secs(5), "{what}: {:?}", begun.elapsed());
    }
    let version = front.endpoint.raw(b"GET / HTTP/9.9\r\nhost: x\r\n\r\n");
    refused(&version, 400, "unsupported_http_version", "a version nobody speaks");
    let long = front.endpoint.call("GET", &format!("/{}", "a".repeat(20_000)), &[], b"");
    refused(&long, 414, "uri_too_long", "a long address");
    let large = front.endpoint.call("GET", "/v1/models", &[("x", &"a".repeat(40_000))], b"");
    refused(&large, 431, "headers_too_large", "a large header");
    let many: Vec<(String, String)> = (0..500).map(|index| (format!("x-{index}"), "y".to_owned())).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    refused(&front.endpoint.call("GET", "/v1/models", &many, b""), 431, "headers_too_large", "many headers");
    assert_eq!(front.engine.asked(), asked, "nothing hidden was run");
    front.is_well();
    front.running.end();
}

#[test]
fn lengths_that_lie_end_their_own_connection_only() {
    let front = Front::start("body_grace_s = 1\nbody_bytes_per_s_min = 1000");
    let asked = front.engine.asked();
    let mut short = front.connect();
    let head = String::from_utf8(front.endpoint.head("POST", CHAT, &[])).unwrap();
    short.write_all(format!("{head}content-length: 1000\r\n\r\n{{\"model\"").as_bytes()).unwrap();
    short.shutdown(std::net::Shutdown::Write).unwrap();
    let (text, _) = to_the_end(&mut short);
    assert!(text.is_empty() || text.starts_with("HTTP/1.1 400"), "{text}");
    let mut waiting = front.connect();
    waiting.write_all(format!("{head}content-length: 1000\r\n\r\n{{\"model\"").as_bytes()).unwrap();
    let (text, took) = to_the_end(&mut waiting);
    assert!(text.starts_with("HTTP/1.1 408") && took < Duration::from_secs(6), "{took:?} {text}");
    // Longer than it says: what is left over is no request.
    let mut long = front.connect();
    long.write_all(format!("{head}content-length: 2\r\n\r\n{{}}rest of a body\r\n\r\n").as_bytes()).unwrap();
    let (text, _) = to_the_end(&mut long);
    assert!(text.starts_with("HTTP/1.1 400"), "{text}");
    assert_eq!(front.engine.asked(), asked);
    front.is_well();
    front.running.end();
}

#[test]
fn bombs_do_not_go_off() {
    let front = Front::start("");
    front.is_well();
    let before = process::resident_bytes(front.running.pid());
    let head = front.endpoint.head("POST", CHAT, &[("transfer-encoding", "chunked")]);
    let bomb = |piece: &[u8], count: usize| {
        let mut stream = front.connect();
        stream.write_all(&[&head[..], b"\r\n"].concat()).unwrap();
        let sent = (0..count).take_while(|_| stream.write_all(piece).is_ok()).count() * piece.len();
        (to_the_end(&mut stream).0, sent)
    };
    let (text, sent) = bomb(&b"1\r\n \r\n".repeat(10_000), 500);
    assert!(text.is_empty() || text.starts_with("HTTP/1.1 400"), "{text}");
    assert!(sent < 20 << 20, "five million chunks of one byte: {sent} bytes were taken");
    let (text, sent) = bomb(&[&b"1;"[..], &[b'e'; 64 << 10]].concat(), 200);
    assert!(text.is_empty() || text.starts_with("HTTP/1.1 400"), "{text}");
    assert!(sent < 12 << 20, "an extension without end: {sent} bytes were taken");
    let (text, _) = bomb(&[&b"10000\r\n"[..], &[b' '; 0x10000], b"\r\n"].concat(), 400);
    assert!(text.is_empty() || text.starts_with("HTTP/1.1 413"), "{text}");
    // A few bytes that would be gigabytes if anyone unpacked them: nobody does.
    let zipped = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0xed, 0xc1, 1, 13, 0, 0, 0, 0xc2, 0xa0];
    for coding in ["gzip", "deflate", "br", "zstd", "gzip, gzip"] {
        let reply = front.endpoint.call("POST", CHAT, &[("content-encoding", coding)], &zipped);
        refused(&reply, 415, "unsupported_content_encoding", coding);
    }
    let plain = chat("quick", false).to_string();
    let reply = front.endpoint.call("POST", CHAT, &[("content-encoding", "identity")], plain.as_bytes());
    assert_eq!(reply.status, 200, "{}", reply.text());
    let grown = process::resident_bytes(front.running.pid()).saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes more than before");
    front.is_well();
    front.running.end();
}

#[test]
fn good_requests_of_every_framing_are_answered() {
    let front = Front::start("");
    let body = chat("quick", false).to_string();
    let mut expecting = front.connect();
    let head = String::from_utf8(front.endpoint.head("POST", CHAT, &[("expect", "100-continue")])).unwrap();
    expecting.write_all(format!("{head}content-length: {}\r\n\r\n", body.len()).as_bytes()).unwrap();
    super::read_until(&mut expecting, "HTTP/1.1 100 Continue\r\n\r\n");
    expecting.write_all(body.as_bytes()).unwrap();
    assert!(to_the_end(&mut expecting).0.starts_with("HTTP/1.1 200"));
    // Byte by byte, in chunks of each size, with an extension and a trailer.
    let mut pieces = front.connect();
    let head = String::from_utf8(front.endpoint.head("POST", CHAT, &[("transfer-encoding", "chunked")])).unwrap();
    for byte in format!("\r\n{head}\r\n").bytes() {
        pieces.write_all(&[byte]).unwrap();
    }
    for piece in body.as_bytes().chunks(7) {
        pieces.write_all(&[format!("{:X};a=b\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat()).unwrap();
    }
    pieces.write_all(b"0\r\nx: y\r\n\r\n").unwrap();
    assert!(to_the_end(&mut pieces).0.starts_with("HTTP/1.1 200"));
    // Three at once on one connection are answered in turn.
    let mut ahead = front.connect();
    ahead
        .write_all(&[front.kept("quick", false), front.kept("quick", true), front.request("quick", false)].concat())
        .unwrap();
    let (text, _) = to_the_end(&mut ahead);
    assert_eq!(text.matches("HTTP/1.1 200 OK").count(), 3, "{text}");
    front.running.end();
}

#[test]
fn http2_is_turned_away_cleanly() {
    let front = Front::start("");
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";
    // What would come next of each abuse: none of it is read as HTTP/2.
    let upper = b"\x00\x00\x09\x01\x05\x00\x00\x00\x01\x82\x84\x86\x00\x01X\x01y\x00";
    let reset: Vec<u8> = (0..2000u32)
        .flat_map(|id| [&b"\x00\x00\x03\x01\x05"[..], &(id * 2 + 1).to_be_bytes(), b"\x82\x84\x86"].concat())
        .collect();
    let flood: Vec<u8> = b"\x00\x00\x01\x09\x00\x00\x00\x00\x01\x82".repeat(5000);
    for more in [&b""[..], upper, &reset, &flood] {
        let mut stream = front.connect();
        drop(stream.write_all(&[&preface[..], more].concat()));
        let begun = Instant::now();
        let reply = front_bytes(&mut stream);
        assert!(begun.elapsed() < Duration::from_secs(5));
        assert_eq!(reply, b"\0\0\0\x04\0\0\0\0\0\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\x0d", "SETTINGS, then GOAWAY");
    }
    front.is_well();
    process::signal(front.running.pid(), Signal::HUP);
    front.is_well();
    front.running.end();
}

fn front_bytes(stream: &mut std::net::TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(stream, &mut bytes).unwrap();
    bytes
}
