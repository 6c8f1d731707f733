//! What a node does with clients that mean harm, or do not know better: real sockets against a real node, in front of an engine of
//! a few lines, because all of it is about connections and none of it about models.
//!
//! Each test bounds its time and what it sends. Only what a client, the engine or the system can see is looked at.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod abuse;
mod support;
