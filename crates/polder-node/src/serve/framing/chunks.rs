//! A body in chunks (RFC 9112, 7.1): sizes, extensions and trailers, each bounded.
//!
//! Extensions and trailers mean nothing here; they are followed so that the end of the body is the end for every reader.

use super::head::is_control;
use crate::serve::refusal::Refusal;

/// Most digits of a chunk's size: below 2^32 bytes.
const SIZE_DIGITS_MAX: u32 = 8;
/// Most bytes of extensions in one body, and of trailers.
const EXTENSION_BYTES_MAX: u64 = 4 << 10;
const TRAILER_BYTES_MAX: u64 = 4 << 10;
/// Framing that every body may have, in bytes; beyond it, at most twice the contents.
const OVERHEAD_BYTES_FREE: u64 = 64 << 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// In a size: its value so far and its digits.
    Size(u64, u32),
    Extension(u64),
    /// A line feed is due after a size; then come so many bytes, or the trailers.
    SizeEnd(u64),
    Data(u64),
    DataReturn,
    DataEnd,
    TrailerBegin,
    Trailer,
    TrailerEnd,
    LastEnd,
}

/// A body in chunks, as far as it was read.
#[derive(Debug)]
pub struct Chunks {
    at: At,
    data: u64,
    overhead: u64,
    overhead_free: u64,
    extensions: u64,
    trailers: u64,
}

impl Default for Chunks {
    fn default() -> Self {
        let (data, overhead, overhead_free) = (0, 0, OVERHEAD_BYTES_FREE);
        Self { at: At::Size(0, 0), data, overhead, overhead_free, extensions: 0, trailers: 0 }
    }
}

impl Chunks {
    /// Those of an engine's answer, which may send each token in a chunk of its own.
    pub fn of_answer() -> Self {
        Self { overhead_free: u64::MAX, ..Self::default() }
    }

    /// How many of these bytes belong to the body, and whether it has ended with them. `contents` is handed what the chunks hold.
    pub fn take(&mut self, bytes: &[u8], mut contents: impl FnMut(&[u8])) -> Result<(usize, bool), Refusal> {
        let mut place = 0;
        while let Some(byte) = bytes.get(place) {
            if let At::Data(left) = &mut self.at {
                let here = bytes.len() - place;
                let count = usize::try_from(*left).map_or(here, |left| left.min(here));
                *left -= count as u64;
                self.data += count as u64;
                contents(bytes.get(place..place + count).unwrap_or_default());
                place += count;
                if *left == 0 {
                    self.at = At::DataReturn;
                }
                continue;
            }
            place += 1;
            self.overhead += 1;
            if self.step(*byte)? {
                return Ok((place, true));
            }
            if self.overhead > self.overhead_free.saturating_add(self.data.saturating_mul(2)) {
                return Err(Refusal::ChunkOverhead);
            }
        }
        Ok((place, false))
    }

    /// One byte of framing; whether it was the last.
    fn step(&mut self, byte: u8) -> Result<bool, Refusal> {
        self.at = match (self.at, byte) {
            (At::Size(_, 0), b'\r' | b';') => return Err(Refusal::Chunk),
            (At::Size(size, _), b'\r') => At::SizeEnd(size),
            (At::Size(size, _), b';') => At::Extension(size),
            (At::Size(size, digits), byte) => match char::from(byte).to_digit(16) {
                Some(digit) if digits < SIZE_DIGITS_MAX => At::Size(size * 16 + u64::from(digit), digits + 1),
                _ => return Err(Refusal::Chunk),
            },
            (At::Extension(size), b'\r') => At::SizeEnd(size),
            (At::Extension(size), byte) if !is_control(byte) => {
                self.extensions += 1;
                if self.extensions > EXTENSION_BYTES_MAX {
                    return Err(Refusal::ChunkOverhead);
                }
                At::Extension(size)
            }
            (At::SizeEnd(0), b'\n') => At::TrailerBegin,
            (At::SizeEnd(size), b'\n') => At::Data(size),
            (At::DataReturn, b'\r') => At::DataEnd,
            (At::DataEnd, b'\n') => At::Size(0, 0),
            (At::TrailerBegin, b'\r') => At::LastEnd,
            (At::TrailerBegin, b' ' | b'\t') => return Err(Refusal::Folded),
            (At::TrailerBegin | At::Trailer, byte) if !is_control(byte) => {
                self.trailers += 1;
                if self.trailers > TRAILER_BYTES_MAX {
                    return Err(Refusal::HeadTooLarge);
                }
                At::Trailer
            }
            (At::Trailer, b'\r') => At::TrailerEnd,
            (At::TrailerEnd, b'\n') => At::TrailerBegin,
            (At::LastEnd, b'\n') => return Ok(true),
            _ => return Err(Refusal::Chunk),
        };
        Ok(false)
    }
}
