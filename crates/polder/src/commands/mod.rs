//! The subcommands, one file each: its options, its help with an example, and what it prints.

pub mod ask;
pub mod audit;
pub mod budget;
pub mod completions;
pub mod decide;
pub mod demo;
pub mod doctor;
pub mod drill;
pub mod explain;
pub mod factories;
pub mod facts;
pub mod framework;
pub mod hold;
pub mod job_logs;
pub mod jobs;
pub mod key;
pub mod kill;
pub mod log;
pub mod node_key;
pub mod policy;
pub mod receipt;
pub mod replay;
pub mod run;
pub mod status;
pub mod token;
pub mod twin;
pub mod up;
pub mod usage;
pub mod verify;
pub mod why;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A flag that is set once somebody presses Ctrl-C.
fn interrupted() -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&stop);
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            asked.store(true, Ordering::Relaxed);
        }
    });
    stop
}
