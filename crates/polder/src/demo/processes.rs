//! The demo's processes: started together, watched until all are ready, and ended with the demo.
//!
//! Each child holds the other end of a pipe and stops when it closes, so that none outlives the demo even where the demo itself
//! is killed.

use std::fs::File;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{Plan, config_path};
use crate::address::{DemoRecord, NodeRecord};
use crate::client::Client;
use crate::failure::{Failure, of_file};

/// Longest wait for all nodes; they are usually ready within three seconds.
const READY_MAX: Duration = Duration::from_secs(60);
const ASK_EVERY: Duration = Duration::from_millis(40);
/// How long a node may take to stop before it is killed; a little more than it gives its requests under way.
const STOP_MAX: Duration = Duration::from_secs(12);

/// The running children.
pub struct Processes {
    children: Vec<(String, Child)>,
}

impl Processes {
    /// Starts one process for each node; what it says goes to `log` in its folder.
    pub fn start(plan: &Plan) -> Result<(Self, DemoRecord), Failure> {
        let program = std::env::current_exe().map_err(|e| Failure::new(format!("cannot find this program: {e}")))?;
        let mut processes = Self { children: Vec::new() };
        let mut nodes = Vec::new();
        for (node, place) in &plan.nodes {
            let config = config_path(&plan.dir, node);
            let folder = plan.dir.join("nodes").join(node.as_str());
            let log_path = folder.join("log");
            let log = File::create(&log_path).map_err(of_file(&log_path))?;
            let errors = log.try_clone().map_err(of_file(&log_path))?;
            let mut command = Command::new(&program);
            command.args(["up", "--tether", "--config"]).arg(&config);
            // Two threads a node: twelve processes share this machine.
            command.env("RAYON_NUM_THREADS", "2").stdin(Stdio::piped()).stdout(log).stderr(errors);
            let child = command.spawn().map_err(|e| Failure::new(format!("cannot start `{node}`: {e}")))?;
            let (pid, socket) = (child.id(), folder.join("state").join("api.sock"));
            nodes.push(NodeRecord {
                node: node.clone(),
                place: place.clone(),
                factory: !place.is_empty(),
                pid,
                socket,
            });
            processes.children.push((node.to_string(), child));
        }
        Ok((
            processes,
            DemoRecord { dir: plan.dir.clone(), pid: std::process::id(), nodes, tenants: plan.tenants.clone() },
        ))
    }

    /// Waits until every home knows every factory to be up.
    pub async fn ready(&mut self, record: &DemoRecord) -> Result<(), Failure> {
        let deadline = Instant::now() + READY_MAX;
        let factories = record.nodes.iter().filter(|node| node.factory).count();
        for tenant in &record.tenants {
            let client = record.client(tenant.home.as_str())?;
            while !sees(&client, factories).await {
                self.check_alive(record)?;
                if Instant::now() > deadline {
                    return Err(Failure::new(format!("`{}` was not ready in time", tenant.home)).hint(format!(
                        "its log: {}",
                        record.dir.join("nodes").join(tenant.home.as_str()).join("log").display()
                    )));
                }
                tokio::time::sleep(ASK_EVERY).await;
            }
        }
        Ok(())
    }

    fn check_alive(&mut self, record: &DemoRecord) -> Result<(), Failure> {
        for (name, child) in &mut self.children {
            if let Ok(Some(status)) = child.try_wait() {
                let log = record.dir.join("nodes").join(&*name).join("log");
                let said = std::fs::read_to_string(&log).unwrap_or_default();
                let last =
                    said.lines().rev().take(3).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join(" / ");
                return Err(Failure::new(format!("`{name}` ended ({status}): {last}"))
                    .hint(format!("its log: {}", log.display())));
            }
        }
        Ok(())
    }

    /// Ends every process: first asked by closing its pipe, then killed.
    pub fn stop(&mut self) {
        for (_, child) in &mut self.children {
            drop(child.stdin.take());
        }
        let deadline = Instant::now() + STOP_MAX;
        for (name, child) in &mut self.children {
            while matches!(child.try_wait(), Ok(None)) && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(10));
            }
            if matches!(child.try_wait(), Ok(None)) {
                eprintln!("`{name}` did not stop in time and is killed");
                drop(child.kill());
                drop(child.wait());
            }
        }
        self.children.clear();
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        self.stop();
    }
}

async fn sees(home: &Client, factories: usize) -> bool {
    match home.get("/api/v1/status").await {
        Ok(answer) => answer.json()["home"]["factories_up"].as_u64() == Some(factories as u64),
        Err(_) => false,
    }
}
