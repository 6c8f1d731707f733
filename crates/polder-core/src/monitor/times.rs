//! Instants: a leaf cannot be older than what stands before it, nor younger than the checkpoint that covers it.
//!
//! Clocks jump, and batches take a moment, so a minute either way is no finding. Whose clock was wrong is absent.

use serde::{Deserialize, Serialize};

use super::Kind;
use crate::statement::v1::Statement;

/// How far an instant may be off, in milliseconds.
pub const TOLERANCE_MS: u64 = 60_000;
/// Most sizes that are remembered with the instants at which they were seen.
const MARKS_MAX: usize = 512;

/// What is known of when leaves were written.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Times {
    /// The latest instant of the leaves so far.
    latest_ms: u64,
    /// Sizes with the instants at which a witness, or the monitor itself, saw them; growing.
    marks: Vec<(u64, u64)>,
}

impl Times {
    pub(super) fn latest_ms(&self) -> u64 {
        self.latest_ms
    }

    /// A size was seen at an instant: whatever has a higher place came later.
    pub(super) fn mark(&mut self, size: u64, at_ms: u64) {
        if self.marks.last().is_none_or(|(last, at)| size > *last && at_ms >= *at) {
            self.marks.push((size, at_ms));
        }
        if self.marks.len() > MARKS_MAX {
            // Every other one of the older half: what is long past needs less.
            let mut place = 0;
            self.marks.retain(|_| {
                place += 1;
                place > MARKS_MAX / 2 || place % 2 == 0
            });
        }
    }

    pub(super) fn check(&mut self, index: u64, statement: &Statement, now_ms: u64) -> Option<(Kind, String)> {
        let at_ms = instant(statement);
        if at_ms > now_ms.saturating_add(TOLERANCE_MS) {
            return Some((Kind::Postdated, format!("it is of {at_ms} ms, and it is {now_ms} ms now")));
        }
        let seen = self.marks.iter().rev().find(|(size, _)| *size <= index);
        let floor = self.latest_ms.max(seen.map_or(0, |(_, at_ms)| *at_ms));
        self.latest_ms = self.latest_ms.max(at_ms);
        (at_ms.saturating_add(TOLERANCE_MS) < floor).then(|| {
            let before = if floor == self.latest_ms { "a leaf before it is of" } else { "it was not there yet at" };
            (Kind::Backdated, format!("it is of {at_ms} ms, and {before} {floor} ms"))
        })
    }
}

/// When a statement says that it was made, in Unix milliseconds.
pub(super) fn instant(statement: &Statement) -> u64 {
    match statement {
        Statement::Decision(one) => one.at_ms,
        Statement::Execution(one) => one.ended_ms,
        Statement::Activation(one) => one.at_ms,
        Statement::Import(one) => one.at_ms,
        Statement::View(one) => one.at_ms,
        Statement::Deletion(one) => one.at_ms,
        Statement::Hold(one) => one.at_ms,
        Statement::Key(one) => one.change.at_ms,
        Statement::Member(one) => one.at_ms,
        Statement::Link(one) => one.at_ms,
        Statement::Day(one) => one.until_ms,
    }
}
