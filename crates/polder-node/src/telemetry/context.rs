//! Where a request stands in a trace, as W3C's `traceparent` says it (<https://www.w3.org/TR/trace-context/>).
//!
//! Only the version that is known is written, and what is not understood is as if it were not there: a trace then begins here.

use http::{HeaderMap, HeaderValue};

use super::SPANS;
use crate::clock::random;

const HEADER: &str = "traceparent";

/// A span's place: its trace, itself, and whether it is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Context {
    /// The trace; never 0.
    pub trace: u128,
    /// The span; never 0.
    pub span: u64,
    /// Whether spans of this trace are kept.
    pub sampled: bool,
}

impl Context {
    /// Reads a `traceparent`. One of a later version is read as far as this version goes, as the standard wants it.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > 512 || !text.is_ascii() {
            return None;
        }
        let mut parts = text.split('-');
        let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let lengths = (version.len(), trace.len(), span.len(), flags.len());
        let hex = |text: &str| text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let ends = version != "00" || parts.next().is_none();
        if lengths != (2, 32, 16, 2) || ![version, trace, span, flags].into_iter().all(hex) || version == "ff" || !ends
        {
            return None;
        }
        let flags = u8::from_str_radix(flags, 16).ok()?;
        let trace = u128::from_str_radix(trace, 16).ok().filter(|trace| *trace != 0)?;
        let span = u64::from_str_radix(span, 16).ok().filter(|span| *span != 0)?;
        Some(Self { trace, span, sampled: flags & 1 == 1 })
    }

    /// The `traceparent` that makes others its children.
    pub fn header(self) -> Option<HeaderValue> {
        let Self { trace, span, sampled } = self;
        HeaderValue::try_from(format!("00-{trace:032x}-{span:016x}-{:02x}", u8::from(sampled))).ok()
    }

    fn of(headers: &HeaderMap) -> Option<Self> {
        let mut all = headers.get_all(HEADER).iter();
        let first = all.next()?;
        // Two of them say nothing.
        if all.next().is_some() {
            return None;
        }
        Self::parse(first.to_str().ok()?)
    }
}

/// Where a request's trace comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// The trace.
    pub trace: u128,
    /// The span that asked, where there is one.
    pub parent: Option<u64>,
    /// Whether spans are kept.
    pub sampled: bool,
}

impl Origin {
    /// Where an application's request comes from: its own trace, or a new one where the lot falls on it. None where nothing is
    /// traced.
    pub fn of_application(headers: &HeaderMap) -> Option<Self> {
        let spans = SPANS.get()?;
        if let Some(context) = Context::of(headers) {
            return Some(Self { trace: context.trace, parent: Some(context.span), sampled: context.sampled });
        }
        let lot: u64 = random().map_or(u64::MAX, u64::from_le_bytes);
        let trace = || random().map_or(1, u128::from_le_bytes).max(1);
        (lot < spans.below).then(|| Self { trace: trace(), parent: None, sampled: true })
    }

    /// Where a peer's request comes from. It is passed on to the engine even where nothing is traced here.
    pub fn of_peer(headers: &HeaderMap) -> Option<Self> {
        let Context { trace, span, sampled } = Context::of(headers)?;
        Some(Self { trace, parent: Some(span), sampled })
    }
}
