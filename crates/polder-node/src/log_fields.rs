//! The names of the fields that a log line may have. A field with another name is dropped where lines are written, and the house
//! rules refuse it where it is written in the code.
//!
//! Each is a name, a count, or why something failed, in this project's own words. What a request or an answer says, and every key,
//! is deliberately absent.

/// The names, sorted.
pub const LOG_FIELDS: &[&str] = &[
    "decision", "digest", "engine", "error", "factory", "from", "held", "kind", "leaves", "log", "lost", "model",
    "number", "problem", "reason", "rest_ms", "size", "tile", "witness",
];
