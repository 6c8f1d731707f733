//! Tests of framing: what is refused and why, and that it is the same however the bytes are cut.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use proptest::prelude::*;

use super::*;

const HEAD_MAX: usize = 4096;

/// Feeds bytes in pieces as a connection would: the end of each request, or the refusal.
fn requests(pieces: &[&[u8]]) -> Result<Vec<usize>, Refusal> {
    let mut framing = Framing::new(HEAD_MAX);
    let (mut held, mut place, mut ends) = (Vec::new(), 0, Vec::new());
    for piece in pieces {
        held.extend_from_slice(piece);
        loop {
            let count = framing.take(&held)?;
            held.drain(..count);
            place += count;
            if count > 0 && framing.between() {
                ends.push(place);
            }
            if count == 0 || held.is_empty() {
                break;
            }
        }
    }
    Ok(ends)
}

fn whole(text: &str) -> Result<Vec<usize>, Refusal> {
    requests(&[text.as_bytes()])
}

#[test]
fn requests_end_where_their_framing_says() {
    let get = "GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n";
    let post = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello";
    let chunks = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5;a=\"b\"\r\nhello\r\nA\r\n0123456789\r\n0\r\nx: y\r\n\r\n";
    for text in [get, post, chunks] {
        assert_eq!(whole(text), Ok(vec![text.len()]), "{text}");
    }
    assert_eq!(whole(&format!("{post}\r\n{get}")), Ok(vec![post.len(), post.len() + 2 + get.len()]));
    assert_eq!(whole("GET / HTTP/1.0\r\n\r\n").map(|ends| ends.len()), Ok(1), "HTTP/1.0 needs no host");
    assert_eq!(whole("OPTIONS * HTTP/1.1\r\nhost: x\r\n\r\n").map(|ends| ends.len()), Ok(1));
    assert_eq!(whole(&get[..get.len() - 1]), Ok(vec![]), "not whole yet");
}

#[test]
fn what_can_be_read_in_two_ways_is_refused() {
    let with = |headers: &str| whole(&format!("POST / HTTP/1.1\r\nhost: x\r\n{headers}\r\nhello"));
    for (headers, refusal) in [
        ("content-length: 5\r\ntransfer-encoding: chunked\r\n", Refusal::BothLengths),
        ("transfer-encoding: chunked\r\ncontent-length: 5\r\n", Refusal::BothLengths),
        ("Transfer-Encoding: xchunked\r\nContent-Length: 5\r\n", Refusal::TransferEncoding),
        ("transfer-encoding: gzip, chunked\r\n", Refusal::TransferEncoding),
        ("transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n", Refusal::Duplicate),
        ("transfer-encoding : chunked\r\n", Refusal::Malformed),
        ("content-length: 5\r\ncontent-length: 6\r\n", Refusal::Duplicate),
        ("content-length: 5\r\ncontent-length: 5\r\n", Refusal::Duplicate),
        ("content-length: 5, 5\r\n", Refusal::Length),
        ("content-length: +5\r\n", Refusal::Length),
        ("content-length: 0x5\r\n", Refusal::Length),
        ("content-length: -1\r\n", Refusal::Length),
        ("content-length: \r\n", Refusal::Length),
        ("content-length: 99999999999999999999\r\n", Refusal::Length),
        ("host: y\r\n", Refusal::Duplicate),
        ("authorization: a\r\nAuthorization: b\r\n", Refusal::Duplicate),
        ("x: y\n", Refusal::LineEnd),
        ("x: y\rz\r\n", Refusal::LineEnd),
        ("x: y\r\n z\r\n", Refusal::Folded),
        ("x: y\r\n\tcontent-length: 5\r\n", Refusal::Folded),
        ("x: a\0b\r\n", Refusal::Control),
        ("x\0y: a\r\n", Refusal::Control),
        ("x: \x7f\r\n", Refusal::Control),
        ("no colon\r\n", Refusal::Malformed),
        (": no name\r\n", Refusal::Malformed),
    ] {
        assert_eq!(with(headers), Err(refusal), "{headers:?}");
    }
    for (text, refusal) in [
        ("GET / HTTP/1.1\r\n\r\n", Refusal::NoHost),
        ("GET / HTTP/1.1\nhost: x\n\n", Refusal::LineEnd),
        ("GET / HTTP/9.9\r\n", Refusal::Version),
        ("GET  / HTTP/1.1\r\n", Refusal::Malformed),
        ("GET / x HTTP/1.1\r\n", Refusal::Malformed),
        ("GET\r\n", Refusal::Malformed),
        ("CONNECT a:443 HTTP/1.1\r\n", Refusal::Malformed),
        ("\x16\x03\x01", Refusal::Malformed),
        ("\r\n\r\n\r\nGET / HTTP/1.1\r\n", Refusal::Malformed),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Refusal::Http2),
        ("POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n", Refusal::TransferEncoding),
    ] {
        assert_eq!(whole(text), Err(refusal), "{text:?}");
    }
}

#[test]
fn heads_and_chunks_are_bounded() {
    let long = "a".repeat(9 << 10);
    assert_eq!(whole(&format!("GET /{long} HTTP/1.1\r\n")), Err(Refusal::UriTooLong));
    let mut framing = Framing::new(48 << 10);
    assert_eq!(framing.take(format!("GET /{long}").as_bytes()), Err(Refusal::UriTooLong), "before its line ends");
    let many: String = (0..200).map(|index| format!("x{index}: y\r\n")).collect();
    assert_eq!(whole(&format!("GET / HTTP/1.1\r\nhost: x\r\n{many}\r\n")), Err(Refusal::HeadTooLarge));
    assert_eq!(whole(&format!("GET / HTTP/1.1\r\nx: {long}")), Err(Refusal::HeadTooLarge));
    let chunked =
        |body: &str| whole(&format!("POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n{body}"));
    for (body, refusal) in [
        ("123456789\r\n", Refusal::Chunk),
        ("\r\n", Refusal::Chunk),
        ("5 \r\nhello\r\n", Refusal::Chunk),
        ("5\nhello\n", Refusal::Chunk),
        ("5\r\nhello5\r\n", Refusal::Chunk),
        ("-5\r\n", Refusal::Chunk),
        ("0x5\r\n", Refusal::Chunk),
        ("5;a=\0\r\n", Refusal::Chunk),
        ("0\r\nx: y\n\r\n", Refusal::Chunk),
        ("0\r\n folded\r\n", Refusal::Folded),
    ] {
        assert_eq!(chunked(body), Err(refusal), "{body:?}");
    }
    assert_eq!(chunked(&format!("5;{}", "e".repeat(5 << 10))), Err(Refusal::ChunkOverhead));
    assert_eq!(chunked(&format!("0\r\nx: {}", "t".repeat(5 << 10))), Err(Refusal::HeadTooLarge));
    assert_eq!(chunked(&"1\r\nx\r\n".repeat(30_000)), Err(Refusal::ChunkOverhead), "a million chunks of a byte");
    let fine = "64\r\n".to_owned() + &"y".repeat(100) + "\r\n";
    assert!(chunked(&(fine.repeat(3000) + "0\r\n\r\n")).is_ok());
}

/// Lines that a request may be made of, good and bad.
fn line() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "GET / HTTP/1.1\r\n",
        "POST /v1/x HTTP/1.1\r\n",
        "host: x\r\n",
        "content-length: 3\r\n",
        "transfer-encoding: chunked\r\n",
        "x: y\r\n",
        " z\r\n",
        "x: y\n",
        "\r\n",
        "\r\n",
        "abc",
        "3\r\nabc\r\n",
        "0\r\n",
        "1;q\r\n",
    ])
}

proptest! {
    /// However the bytes are cut, the requests end in the same places, or are refused for the same reason.
    #[test]
    fn cuts_change_nothing(lines in prop::collection::vec(line(), 0..24), cuts in prop::collection::vec(1usize..9, 1..64)) {
        let text = lines.concat();
        let (mut pieces, mut rest) = (Vec::new(), text.as_bytes());
        for cut in cuts.iter().cycle() {
            if rest.is_empty() { break }
            let (piece, more) = rest.split_at((*cut).min(rest.len()));
            pieces.push(piece);
            rest = more;
        }
        prop_assert_eq!(requests(&pieces), whole(&text));
    }

    /// No bytes make it panic, and what it takes is never more than what there is.
    #[test]
    fn any_bytes_are_borne(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        let mut framing = Framing::new(HEAD_MAX);
        if let Ok(count) = framing.take(&bytes) {
            prop_assert!(count <= bytes.len());
        }
    }
}
