//! `polder kill`: ends a process of the demo with SIGKILL, as a crash or a cut cable would.

use std::process::ExitCode;

use polder_core::ids::NodeId;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::Output;
use crate::address::DemoRecord;
use crate::failure::Failure;
use crate::render;

/// Kill a node of the demo, without warning, as a crash would.
///
/// Example: polder kill paris
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Arguments {
    /// The node, as `polder factories` names it.
    name: String,
    /// The demo's folder; the latest demo where absent.
    #[arg(long, value_name = "DIR")]
    dir: Option<std::path::PathBuf>,
}

/// Kills the node.
pub fn run(arguments: &Arguments, output: Output) -> Result<ExitCode, Failure> {
    let record = DemoRecord::find(arguments.dir.as_deref())?;
    let node = record.node(&arguments.name)?;
    kill(&node.node, node.pid, &record.dir)?;
    match output {
        Output::Json => render::json(&json!({"killed": node.node, "pid": node.pid}))?,
        Output::Table => render::line(&format!("killed {} (process {})", node.node, node.pid))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Kills a process of the demo, after a look that it still is what it was: process ids come round again.
pub fn kill(node: &NodeId, pid: u32, dir: &std::path::Path) -> Result<(), Failure> {
    let gone = || Failure::new(format!("`{node}` is not running")).hint("`polder status` shows which nodes are");
    let command = std::fs::read(format!("/proc/{pid}/cmdline")).map_err(|_| gone())?;
    let config = crate::demo::config_path(dir, node);
    let arguments: Vec<&[u8]> = command.split(|byte| *byte == 0).collect();
    if !arguments.contains(&config.as_os_str().as_encoded_bytes()) {
        return Err(gone());
    }
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or_else(gone)?;
    kill_process(pid, Signal::KILL).map_err(|e| Failure::new(format!("cannot kill `{node}`: {e}")))
}
