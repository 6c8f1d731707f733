//! Tests of receiving a file: a form is read in small pieces, and one without an end costs no memory.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use multer::Multipart;

use super::upload::Pieces;

/// A body of so many frames, and how many of them were taken.
fn frames(first: &'static str, frame: Bytes, count: usize) -> (Body, Arc<AtomicUsize>) {
    let taken = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&taken);
    let frames = std::iter::once(Bytes::from(first)).chain(std::iter::repeat_n(frame, count));
    let frames = frames.inspect(move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
    });
    (Body::from_stream(stream::iter(frames.map(Ok::<_, std::io::Error>))), taken)
}

#[tokio::test]
async fn a_part_whose_head_never_ends_is_refused_before_much_is_held() {
    for first in ["--b\r\nx: ", "no boundary at all"] {
        let (body, taken) = frames(first, Bytes::from(vec![b'a'; 8 << 10]), 100_000);
        let mut parts = Multipart::new(Pieces::new(body, &Arc::default()), "b");
        assert!(parts.next_field().await.is_err(), "{first}");
        assert!(taken.load(Ordering::SeqCst) < 64, "{taken:?}");
    }
}

#[tokio::test]
async fn a_long_file_is_taken_no_faster_than_it_is_read() {
    let head = "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\n";
    let (body, taken) = frames(head, Bytes::from(vec![b'a'; 256 << 10]), 64);
    let unanswered = Arc::default();
    let mut parts = Multipart::new(Pieces::new(body, &unanswered), "b");
    let mut field = parts.next_field().await.unwrap().unwrap();
    unanswered.store(0, Ordering::Relaxed);
    let mut read = 0;
    while read < 4 << 20 {
        let piece = field.chunk().await.unwrap().unwrap();
        assert!(piece.len() <= 128 << 10, "{}", piece.len());
        read += piece.len();
        unanswered.store(0, Ordering::Relaxed);
        assert!(taken.load(Ordering::SeqCst) <= read / (256 << 10) + 3, "{taken:?} for {read}");
    }
    // The body ends without its last boundary.
    let rest = async {
        while field.chunk().await?.is_some() {
            unanswered.store(0, Ordering::Relaxed)
        }
        Ok::<_, multer::Error>(())
    };
    assert!(rest.await.is_err());
}
