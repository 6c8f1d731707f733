//! Tests of answers' framing: the contents are the same however the bytes are cut, and what is ambiguous is not kept.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::*;

/// Reads an answer in pieces of a size: its head, its contents, and what is left over behind it.
fn read(text: &[u8], size: usize) -> Result<(Head, Vec<u8>, usize), &'static str> {
    let (mut held, mut pieces) = (Vec::new(), text.chunks(size));
    let (length, mut head) = loop {
        if let Some(found) = super::head(&held)? {
            break found;
        }
        held.extend_from_slice(pieces.next().ok_or("no head")?);
    };
    held.drain(..length);
    let mut out = Vec::new();
    loop {
        let taken = head.body.take(&held, &mut out)?;
        held.drain(..taken);
        match pieces.next() {
            Some(piece) => held.extend_from_slice(piece),
            None => return Ok((head, out, held.len())),
        }
    }
}

#[test]
fn contents_are_the_same_however_they_are_cut() {
    let known = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 5\r\n\r\nhello".as_slice();
    let chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-type: text/event-stream; charset=utf-8\r\n\r\n2;a=b\r\nhe\r\n3\r\nllo\r\n0\r\nx: y\r\n\r\n".as_slice();
    let to_end = b"HTTP/1.1 200 OK\r\n\r\nhello".as_slice();
    for (text, events, keeps, ends) in
        [(known, false, true, true), (chunked, true, true, true), (to_end, false, false, false)]
    {
        for size in 1..=text.len() {
            let (head, out, left) = read(text, size).unwrap();
            assert_eq!((head.status, head.events, head.keeps), (StatusCode::OK, events, keeps), "{size}");
            assert_eq!((out.as_slice(), left, head.body.has_ended()), (b"hello".as_slice(), 0, ends), "{size}");
        }
    }
}

#[test]
fn what_comes_behind_an_answer_is_not_its_own() {
    let text = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n";
    let (head, out, left) = read(text, text.len()).unwrap();
    assert_eq!((out.as_slice(), left, head.body.has_ended()), (b"ok".as_slice(), 17, true));
    let none = read(b"HTTP/1.1 204 No Content\r\ncontent-length: 7\r\n\r\n", 9).unwrap();
    assert!(none.0.body.has_ended() && none.0.keeps);
    let interim = super::head(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n").unwrap().unwrap();
    assert_eq!((interim.0, interim.1.status, interim.1.body.has_ended()), (25, StatusCode::CONTINUE, true));
}

#[test]
fn a_connection_is_not_kept_after_what_can_be_read_in_two_ways() {
    let head = |lines: &str| super::head(format!("HTTP/1.1 200 OK\r\n{lines}\r\n").as_bytes());
    for lines in [
        "content-length: 5\r\ntransfer-encoding: chunked\r\n",
        "connection: Close\r\ncontent-length: 5\r\n",
        "connection: keep-alive, close\r\ncontent-length: 5\r\n",
    ] {
        assert!(!head(lines).unwrap().unwrap().1.keeps, "{lines}");
    }
    assert!(!super::head(b"HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap().unwrap().1.keeps);
    for lines in [
        "content-length: 5\r\ncontent-length: 6\r\n",
        "content-length: -5\r\n",
        "content-length: +5\r\n",
        "content-length: \r\n",
        "transfer-encoding: gzip, chunked\r\n",
        "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
        "no colon\r\n",
    ] {
        assert!(head(lines).is_err(), "{lines}");
    }
    assert!(super::head(&[b"HTTP/1.1 200 OK\r\nx: ".as_slice(), &vec![b'x'; HEAD_BYTES_MAX]].concat()).is_err());
    assert!(super::head(b"SSH-2.0-OpenSSH_9.9\r\n").is_err());
    let chunks = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n";
    assert!(read(chunks, chunks.len()).is_err());
}
