//! What the gateway costs: the same load through Polder, through nginx, and straight to the same mock engine.
//!
//! Every figure is a ratio within one run: target after target on the same cores, several rounds, the median of each. Behind the
//! feature `load`, because no other task needs an async runtime. Judging is absent: bounds are printed, tests assert outcomes.

mod abuse;
mod client;
mod crowd;
mod mock;
mod rounds;
mod targets;

use crate::bench::rows::Row;
use crate::failure::Failure;

/// Measures, or is the mock for whoever measures.
pub fn measure(args: &[&str]) -> Result<Vec<Row>, Failure> {
    let threads = if matches!(args.first(), Some(&("mock" | "crowd"))) { 1 } else { 2 };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build();
    let runtime = runtime.map_err(|e| Failure::new(format!("no runtime: {e}"), "run it again"))?;
    match args {
        ["mock", port, narrow @ ..] => {
            let port = port.parse().map_err(|_| Failure::usage("`mock` takes a port", "name a number"))?;
            runtime.block_on(mock::serve(port, narrow.contains(&"narrow")))?;
            Ok(Vec::new())
        }
        ["crowd", port, process, key] => {
            abuse::crowd(&runtime, port, process, key)?;
            Ok(Vec::new())
        }
        only => rounds::all(&runtime, only),
    }
}
