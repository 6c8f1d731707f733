//! One node's daemon: all the input and output around the deciding core.
//!
//! What decides is absent: it lives in `polder-core` and takes its time, seed and state as arguments.

pub mod engine;
pub mod inference;
