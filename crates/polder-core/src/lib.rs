//! Decides what may run where, why and at what cost, and proves it.
//!
//! Pure: time, seed and ids are arguments, every number is an integer, and the same arguments give the same value.
//! Absent: async, IO, clocks, randomness and unordered maps. `ARCHITECTURE.md` says how the modules build on each
//! other.
#![deny(missing_docs)]
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

pub mod audit;
pub mod breaker;
pub mod canonical;
pub mod chain;
pub mod check;
pub mod cose;
pub mod dsse;
pub mod export;
pub mod facts;
pub mod framework;
pub mod ids;
pub mod job;
pub mod keys;
pub mod labels;
pub mod ledger;

pub mod membership;
pub mod merkle;
pub mod monitor;
pub mod note;
pub mod placement;
pub mod policy;
pub mod receipt;
pub mod replay;
pub mod request;
pub mod retention;
pub mod retry;
pub mod statement;
pub mod tables;
pub mod ticket;
pub mod tiles;
pub mod tlog_policy;
pub mod tlog_proof;
pub mod trial;
pub mod usage;
pub mod witness;
pub mod world;

#[cfg(test)]
mod tests;
