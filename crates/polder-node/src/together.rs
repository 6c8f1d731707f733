//! What is ready together goes out together: one write for what one read brought.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::Stream;
use futures_util::stream::Fuse;

/// Most bytes that are put together before they are handed on.
pub const TOGETHER_BYTES_MAX: usize = 32 << 10;

/// Puts pieces together that are ready at the same time.
pub fn together<S: Stream<Item = Bytes> + Send>(pieces: S) -> impl Stream<Item = Result<Bytes, Infallible>> + Send {
    use futures_util::StreamExt as _;
    Together { pieces: Box::pin(pieces.fuse()) }
}

struct Together<S> {
    pieces: Pin<Box<Fuse<S>>>,
}

impl<S: Stream<Item = Bytes>> Stream for Together<S> {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let first = match self.pieces.as_mut().poll_next(context) {
            Poll::Ready(Some(first)) => first,
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Pending => return Poll::Pending,
        };
        let mut whole: Option<Vec<u8>> = None;
        while whole.as_ref().map_or(first.len(), Vec::len) < TOGETHER_BYTES_MAX {
            let Poll::Ready(Some(piece)) = self.pieces.as_mut().poll_next(context) else { break };
            whole.get_or_insert_with(|| first.to_vec()).extend_from_slice(&piece);
        }
        Poll::Ready(Some(Ok(whole.map_or(first, Bytes::from))))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use futures_util::{FutureExt as _, StreamExt as _};
    use tokio::sync::mpsc;

    use super::*;

    #[test]
    fn what_is_ready_goes_out_together_and_nothing_is_waited_for() {
        let (sender, receiver) = mpsc::unbounded_channel();
        let pieces = futures_util::stream::unfold(receiver, |mut receiver| async move {
            receiver.recv().await.map(|piece: Bytes| (piece, receiver))
        });
        let mut together = Box::pin(together(pieces));
        assert!(together.next().now_or_never().is_none());
        for piece in ["a", "b", "c"] {
            sender.send(Bytes::from(piece)).unwrap();
        }
        assert_eq!(together.next().now_or_never().unwrap().unwrap().unwrap(), "abc");
        sender.send(Bytes::from(vec![b'x'; TOGETHER_BYTES_MAX])).unwrap();
        sender.send(Bytes::from("y")).unwrap();
        drop(sender);
        assert_eq!(together.next().now_or_never().unwrap().unwrap().unwrap().len(), TOGETHER_BYTES_MAX);
        assert_eq!(together.next().now_or_never().unwrap().unwrap().unwrap(), "y");
        assert!(together.next().now_or_never().unwrap().is_none());
    }
}
