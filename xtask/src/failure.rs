//! Why a task failed and what to do next: two sentences, always both.
//!
//! One type for all tasks, because nobody catches these errors; they are read by people. A chain of
//! causes is absent: the text names the cause.

use std::fmt;

/// A task's failure: the cause and the next step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    cause: String,
    next: String,
    usage: bool,
}

impl Failure {
    /// Something went wrong.
    pub fn new(cause: impl Into<String>, next: impl Into<String>) -> Self {
        Self { cause: cause.into(), next: next.into(), usage: false }
    }

    /// The command line was not understood.
    pub fn usage(cause: impl Into<String>, next: impl Into<String>) -> Self {
        Self { usage: true, ..Self::new(cause, next) }
    }

    /// 2 for a wrong command line, 1 for everything else.
    pub fn exit_code(&self) -> u8 {
        if self.usage { 2 } else { 1 }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}\n next: {}", self.cause, self.next)
    }
}
