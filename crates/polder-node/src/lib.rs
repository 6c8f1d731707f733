//! One node's daemon: all the input and output around the deciding core.
//!
//! What decides is absent: it lives in `polder-core` and takes its time, seed and state as arguments.

pub mod api;
pub mod clock;
pub mod config;
pub mod content;
pub mod engine;
pub mod executor;
pub mod factory;
pub mod frameworks;
pub mod gateway;
pub mod home;
pub mod imports;
pub mod inference;
pub mod jobs;
pub mod key_care;
pub mod keys;
pub mod ledger;
pub mod log;
pub mod log_fields;
pub mod metrics;
pub mod node;
mod patience;
pub mod peers;
pub mod pkcs11;
pub mod policies;
pub mod proof;
pub mod refusal;
pub mod retention;
pub mod route;
pub mod secret;
pub mod serve;
pub mod shutdown;
pub mod store;
pub mod telemetry;
mod together;
pub mod tokens;
pub mod upstream;
