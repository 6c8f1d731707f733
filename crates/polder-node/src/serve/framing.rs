//! Where a request of HTTP/1 ends and the next begins, read strictly (RFC 9112), before the HTTP library sees a byte of it.
//!
//! A proxy and a server that disagree about this let one client speak in another's name. So whatever can be read in two ways is
//! refused: two lengths, bare line feeds, folded headers, control characters. Pure: bytes in, positions out, however they are
//! cut. Absent: what headers mean beyond framing, and every clock.

use super::refusal::Refusal;

pub mod chunks;
mod head;

use chunks::Chunks;
use head::Head;

/// How long a request's body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Length {
    /// So many bytes.
    Known(u64),
    /// In chunks.
    Chunked,
}

#[derive(Debug)]
enum At {
    Head(Head),
    Body(u64),
    Chunks(Chunks),
}

/// Follows the requests of one connection.
#[derive(Debug)]
pub struct Framing {
    at: At,
    head_bytes_max: usize,
}

impl Framing {
    /// At the beginning of a connection. No head may be larger than this, in bytes.
    pub fn new(head_bytes_max: usize) -> Self {
        Self { at: At::Head(Head::default()), head_bytes_max }
    }

    /// Whether the next byte begins a request, or goes on with a head that is not whole yet.
    pub fn between(&self) -> bool {
        matches!(self.at, At::Head(_))
    }

    /// How many of these bytes belong to the request under way; never more than to its end. A head counts once it is whole: until
    /// then the answer is 0, and the same bytes come again with more behind them.
    pub fn take(&mut self, bytes: &[u8]) -> Result<usize, Refusal> {
        let mut taken = 0;
        if let At::Head(head) = &mut self.at {
            let Some((end, length)) = head.scan(bytes, self.head_bytes_max)? else { return Ok(0) };
            taken = end;
            self.at = match length {
                Length::Known(0) => At::Head(Head::default()),
                Length::Known(length) => At::Body(length),
                Length::Chunked => At::Chunks(Chunks::default()),
            };
            if self.between() {
                return Ok(taken);
            }
        }
        let rest = bytes.get(taken..).unwrap_or_default();
        let (count, ended) = match &mut self.at {
            At::Head(_) => (0, true),
            At::Body(left) => {
                let count = usize::try_from(*left).map_or(rest.len(), |left| left.min(rest.len()));
                *left = left.saturating_sub(count as u64);
                (count, *left == 0)
            }
            At::Chunks(chunks) => chunks.take(rest, |_| {})?,
        };
        if ended {
            self.at = At::Head(Head::default());
        }
        Ok(taken + count)
    }
}

#[cfg(test)]
mod tests;
