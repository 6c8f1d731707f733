//! A node's jobs put together from its parts and its configuration.
//!
//! Nothing runs before the rows of an earlier process were read: the driver does that first.

use std::collections::BTreeMap;
use std::sync::Arc;

use ed25519_dalek::SigningKey;
use polder_core::ids::NodeId;
use polder_core::job::{Order, executor, home};
use tokio::sync::mpsc;

use super::channel::{Mailboxes, Posts};
use super::driver::Driver;
use super::{Jobs, channel, watch};
use crate::clock::now_ms;
use crate::config::JobsConfig;
use crate::executor::local::{Limits, Local};
use crate::executor::{Executor, Report};
use crate::factory::Factory;
use crate::home::{Home, Ticketed};
use crate::log::Log;
use crate::peers::Remote;
use crate::store::Store;

/// Inputs that may wait for the driver.
const INPUTS_WAITING: usize = 4_096;

/// What jobs need of their node.
pub struct Parts {
    /// This node.
    pub me: NodeId,
    /// Its home, where it is one.
    pub home: Option<Arc<Home>>,
    /// How that home goes about jobs.
    pub home_settings: home::Settings,
    /// Its factory, where it is one.
    pub factory: Option<Arc<Factory>>,
    /// How that factory goes about jobs, where it runs any.
    pub executor_settings: Option<executor::Settings>,
    /// The key by which the node signs for itself.
    pub authority: SigningKey,
    /// Its database.
    pub store: Store,
    /// Its log.
    pub log: Log,
    /// The factories that it reaches.
    pub reached: BTreeMap<NodeId, Arc<Remote>>,
    pub(super) executor: Option<Arc<dyn Executor>>,
    pub(super) mailboxes: Mailboxes,
    pub(super) posts: Posts,
}

impl Parts {
    /// The parts of a node; what runs jobs is added by [`open`].
    #[allow(clippy::too_many_arguments)] // Each is said once, by the node that puts its parts together.
    pub fn new(
        me: NodeId,
        (home, home_settings): (Option<Arc<Home>>, home::Settings),
        (factory, executor_settings): (Option<Arc<Factory>>, Option<executor::Settings>),
        authority: SigningKey,
        (store, log): (Store, Log),
        reached: BTreeMap<NodeId, Arc<Remote>>,
    ) -> Self {
        let (mailboxes, posts) = (Mailboxes::default(), Posts::default());
        let executor = None;
        let (store, log) = (store, log);
        Self {
            me,
            home,
            home_settings,
            factory,
            executor_settings,
            authority,
            store,
            log,
            reached,
            executor,
            mailboxes,
            posts,
        }
    }

    /// Whether a peer has the right to offer an order here.
    pub(super) fn may_offer(&self, ticketed: &Ticketed, order: &Order, from: &NodeId) -> bool {
        let Some((factory, capability)) = self.factory.as_ref().zip(ticketed.capability.as_ref()) else { return false };
        capability.value.tenant == order.request.tenant
            && ticketed.names(order, from, &self.me)
            && factory.check_capability(from, capability, now_ms()).is_ok()
    }
}

/// Starts a node's jobs. An error says what the operator has to mend.
pub fn open(mut parts: Parts, config: Option<&JobsConfig>) -> Result<Jobs, String> {
    let (reports, told) = mpsc::unbounded_channel();
    let mut local = None;
    if let Some(config) = config {
        let program = std::env::current_exe().map_err(|e| format!("this program's own file is not known: {e}"))?;
        let limits = Limits {
            output_bytes_max: config.output_bytes_max,
            grace_ms: config.grace_ms,
            keep_ms: config.keep_ms,
            allowed: config.allowed.clone(),
            user: config.user,
        };
        let opened = Local::open(config.folder.clone(), program, limits, reports);
        let opened = opened.map_err(|e| format!("the folder for jobs `{}`: {e}", config.folder.display()))?;
        local = Some(Arc::new(opened));
    }
    parts.executor = local.clone().map(|local| local as Arc<dyn Executor>);
    if parts.home.is_some() {
        parts.posts = Posts::open(&parts.reached);
    }
    let parts = Arc::new(parts);
    let (inputs, waiting) = mpsc::channel(INPUTS_WAITING);
    let jobs = Jobs { inputs, executor: parts.executor.clone(), mailboxes: parts.mailboxes.clone() };
    tokio::spawn(Driver { parts: Arc::clone(&parts), inputs: waiting, sheets: BTreeMap::new() }.run());
    tokio::spawn(pass_on(jobs.clone(), told));
    tokio::spawn(watch::run(jobs.clone(), parts, local));
    Ok(jobs)
}

/// Tells the factory's machine what its executor says.
async fn pass_on(jobs: Jobs, mut told: mpsc::UnboundedReceiver<Report>) {
    while let Some(report) = told.recv().await {
        jobs.tell_factory(match report {
            Report::Exited(run, exit) => executor::Event::Exited(run, exit),
            Report::Probed(run, probed) => executor::Event::Probed(run, probed),
        })
        .await;
    }
}

/// Listens to a factory that runs jobs.
pub(super) fn listen(jobs: &Jobs, factory: &NodeId, remote: &Arc<Remote>) {
    tokio::spawn(channel::listen(jobs.clone(), factory.clone(), Arc::clone(remote)));
}
