//! A connection's bytes on their way to and from the HTTP library: only what is framed well comes through.
//!
//! Whole heads only, so that a head that dribbles in costs its bytes and nothing else; one request at a time, so that the end of
//! the connection is seen while an answer is under way, whatever a client sent ahead. Usual requests are read where the library
//! reads them, without a copy.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::framing::Framing;
use super::line::{Line, Order, Phase};
use super::refusal::Refusal;

/// Most bytes that wait for the answer before them.
const AHEAD_BYTES_MAX: usize = 64 << 10;
/// How much is read at once of what cannot be handed over yet.
const STEP_BYTES: usize = 2 << 10;

/// A connection between the system and the HTTP library.
pub struct Guarded<T> {
    stream: T,
    line: Arc<Line>,
    framing: Framing,
    /// Read and not looked at, or a head that is not whole yet.
    held: Vec<u8>,
    /// Looked at and good; handed over from `handed` on.
    good: Vec<u8>,
    handed: usize,
    refused: bool,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Guarded<T> {
    /// Guards a stream at the beginning of a request, of which these bytes were read.
    pub fn new(stream: T, line: Arc<Line>, head_bytes_max: usize, held: Vec<u8>) -> Self {
        let framing = Framing::new(head_bytes_max);
        Self { stream, line, framing, held, good: Vec::new(), handed: 0, refused: false }
    }

    /// The stream, and whether the client may still be sending.
    pub fn into_stream(self) -> (T, bool) {
        (self.stream, self.refused || !self.framing.between() || !self.held.is_empty())
    }

    /// Looks at bytes that begin where the framing stands; how many may be handed over.
    fn look(&mut self, bytes: &[u8]) -> Result<usize, Refusal> {
        let in_body = !self.framing.between();
        let count = self.framing.take(bytes)?;
        match (count, self.framing.between()) {
            (0, _) => self.line.enter(Phase::Head),
            // A body that nobody waited for: it was answered before its end.
            (_, true) if in_body && !self.line.busy() => self.line.enter(Phase::Idle),
            (_, true) => self.line.enter(Phase::Busy),
            (_, false) => {
                self.line.enter(Phase::Body);
                self.line.add_body(count);
            }
        }
        Ok(count)
    }

    fn refuse(&mut self, refusal: Refusal) -> Poll<io::Result<()>> {
        self.refused = true;
        self.line.order(Order::Refuse(refusal));
        // The order has woken whoever serves this connection; the library is asked nothing more.
        Poll::Pending
    }

    /// Hands over what was looked at.
    fn hand_over(&mut self, buf: &mut ReadBuf<'_>) {
        let rest = self.good.get(self.handed..).unwrap_or_default();
        let count = rest.len().min(buf.remaining());
        buf.put_slice(rest.get(..count).unwrap_or_default());
        self.handed += count;
        if self.handed == self.good.len() {
            (self.good, self.handed) = (Vec::new(), 0);
        }
    }

    /// Reads more of what cannot be handed over yet; how much came.
    fn read_ahead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let before = self.held.len();
        self.held.resize(before + STEP_BYTES, 0);
        let mut buf = ReadBuf::new(self.held.get_mut(before..).unwrap_or_default());
        let read = Pin::new(&mut self.stream).poll_read(cx, &mut buf);
        let count = buf.filled().len();
        self.held.truncate(before + count);
        read.map_ok(|()| count)
    }

    /// Reads straight into the library's buffer; whether that was the end, or something to hand over came.
    fn read_through(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<Result<bool, Refusal>>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        let new = buf.filled().get(before..).unwrap_or_default();
        if new.is_empty() {
            return Poll::Ready(Ok(Ok(true)));
        }
        let count = match self.look(new) {
            Ok(count) => count,
            Err(refusal) => {
                buf.set_filled(before);
                return Poll::Ready(Ok(Err(refusal)));
            }
        };
        self.held.extend_from_slice(new.get(count..).unwrap_or_default());
        buf.set_filled(before + count);
        Poll::Ready(Ok(Ok(count > 0)))
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncRead for Guarded<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if this.refused {
                return Poll::Pending;
            }
            if !this.good.is_empty() {
                this.hand_over(buf);
                return Poll::Ready(Ok(()));
            }
            // What comes after a whole request waits for its answer.
            let waits = this.framing.between() && this.line.busy();
            if !this.held.is_empty() && !waits {
                let held = std::mem::take(&mut this.held);
                match this.look(&held) {
                    Ok(0) => this.held = held,
                    Ok(count) => {
                        this.held = held.get(count..).unwrap_or_default().to_vec();
                        this.good = held;
                        this.good.truncate(count);
                        continue;
                    }
                    Err(refusal) => return this.refuse(refusal),
                }
            }
            let read = if waits || !this.held.is_empty() {
                if waits && !this.held.is_empty() {
                    this.line.wait();
                }
                if this.held.len() >= AHEAD_BYTES_MAX {
                    return Poll::Pending;
                }
                this.read_ahead(cx).map_ok(|count| if count == 0 { Ok(true) } else { Ok(false) })
            } else {
                this.read_through(cx, buf)
            };
            this.line.set_hungry(read.is_pending());
            match ready!(read)? {
                Ok(true) => return Poll::Ready(Ok(())),
                Ok(false) => {}
                Err(refusal) => return this.refuse(refusal),
            }
        }
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Guarded<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(cx, bytes);
        this.line.set_stalled(written.is_pending());
        written
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write_vectored(cx, slices);
        this.line.set_stalled(written.is_pending());
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
