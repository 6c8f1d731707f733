//! The batches of a node that are not at their end: who runs them, how many lines at once, and who may ask them to stop.
//!
//! They run on the node's own runtime, not on the thread of the connection that brought them, and are taken up again after a
//! start. What one is stands in its record; this is the record in memory, with its changes written one after the other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::StatusCode;
use polder_core::ids::ProjectId;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;

use super::super::{ApiError, Gateway};
use super::journal::part_of;
use super::record::{Batch, Status};
use super::run::Runner;
use crate::clock::now_ms;
use crate::config;
use crate::content::{ContentError, ContentStore, Kind};
use crate::shutdown::Shutdown;

/// Most batches of one project that are not at their end.
const UNFINISHED_MAX: usize = 100;

/// The batches of a node that are not at their end. Clones share them.
#[derive(Clone)]
pub struct Batches(Arc<Inner>);

struct Inner {
    limits: config::Batches,
    live: Mutex<BTreeMap<(ProjectId, String), Arc<Under>>>,
    begun: mpsc::UnboundedSender<Work>,
    queue: Mutex<Option<mpsc::UnboundedReceiver<Work>>>,
    places: Arc<Semaphore>,
}

/// A batch to run, and the parts of its journal that there are.
struct Work {
    under: Arc<Under>,
    parts: Vec<(u32, u32)>,
}

/// One batch that is not at its end.
pub struct Under {
    /// Whose it is.
    pub project: ProjectId,
    batch: Mutex<Batch>,
    saving: tokio::sync::Mutex<()>,
    cancelled: watch::Sender<bool>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Batches {
    /// None yet, under these limits.
    pub fn new(limits: config::Batches) -> Self {
        let (begun, queue) = mpsc::unbounded_channel();
        let places = Arc::new(Semaphore::new(limits.lines_at_once));
        let (live, queue) = (Mutex::default(), Mutex::new(Some(queue)));
        Self(Arc::new(Inner { limits, live, begun, queue, places }))
    }

    /// The limits they hold to.
    pub fn limits(&self) -> &config::Batches {
        &self.0.limits
    }

    /// Where each line of any batch takes a place while it runs.
    pub fn places(&self) -> Arc<Semaphore> {
        Arc::clone(&self.0.places)
    }

    /// A project's batch, where it is not at its end.
    pub fn find(&self, project: &ProjectId, id: &str) -> Option<Arc<Under>> {
        locked(&self.0.live).get(&(project.clone(), id.to_owned())).cloned()
    }

    /// The id of a project's batch that reads a file.
    pub fn reading(&self, project: &ProjectId, file: &str) -> Option<String> {
        let live = locked(&self.0.live);
        let mut of_project = live.values().filter(|under| under.project == *project).map(|under| under.batch());
        of_project.find(|batch| batch.input == file).map(|batch| batch.id)
    }

    /// Enters a batch before it is kept.
    pub fn enter(&self, project: &ProjectId, batch: Batch) -> Result<Arc<Under>, ApiError> {
        let mut live = locked(&self.0.live);
        if live.keys().filter(|(one, _)| one == project).count() >= UNFINISHED_MAX {
            let message =
                format!("{UNFINISHED_MAX} batches of this project are not at their end: wait for one, or cancel one");
            return Err(ApiError::new(StatusCode::TOO_MANY_REQUESTS, "too_many_batches", message));
        }
        Ok(Self::insert(&mut live, project, batch))
    }

    fn insert(live: &mut BTreeMap<(ProjectId, String), Arc<Under>>, project: &ProjectId, batch: Batch) -> Arc<Under> {
        let key = (project.clone(), batch.id.clone());
        let under = Arc::new(Under {
            project: project.clone(),
            batch: Mutex::new(batch),
            saving: tokio::sync::Mutex::default(),
            cancelled: watch::channel(false).0,
        });
        live.insert(key, Arc::clone(&under));
        under
    }

    /// Lets a kept batch run.
    pub fn begin(&self, under: Arc<Under>, parts: Vec<(u32, u32)>) {
        // Nobody listens any more only where the node is ending; then the next start takes it up.
        drop(self.0.begun.send(Work { under, parts }));
    }

    /// It is at its end, or was never kept.
    pub fn leave(&self, under: &Under) {
        let id = under.batch().id;
        locked(&self.0.live).remove(&(under.project.clone(), id));
    }

    /// Takes up what a stop or a crash left unfinished, and forgets the journals of what is finished.
    async fn take_up(&self, content: &ContentStore) -> Result<(), ContentError> {
        let mut parts: BTreeMap<(ProjectId, String), Vec<(u32, u32)>> = BTreeMap::new();
        for part in content.every(Kind::Part).await? {
            let Some((batch, writes)) = part_of(&part.id) else { continue };
            parts.entry((part.project, batch.to_owned())).or_default().push(writes);
        }
        let mut unfinished = BTreeSet::new();
        for kept in content.every(Kind::Batch).await? {
            let Ok(batch) = Batch::of(&kept) else { continue };
            let key = (kept.project.clone(), batch.id.clone());
            // One that was just brought is there already.
            if batch.status.is_final() || self.find(&key.0, &key.1).is_some() {
                continue;
            }
            let under = Self::insert(&mut locked(&self.0.live), &kept.project, batch);
            self.begin(under, parts.get(&key).cloned().unwrap_or_default());
            unfinished.insert(key);
        }
        for (key, writes) in parts.into_iter().filter(|(key, _)| !unfinished.contains(key)) {
            super::journal::Journal::open(content.clone(), key.0, key.1, writes).await?.remove().await?;
        }
        Ok(())
    }
}

/// Runs batches until the node stops; what is under way then goes on after the next start.
pub async fn run(gateway: Gateway, mut shutdown: Shutdown) {
    let Some(mut queue) = locked(&gateway.batches.0.queue).take() else { return };
    if let Err(error) = gateway.batches.take_up(&gateway.content).await {
        tracing::error!(%error, "unfinished batches could not be taken up; the next start tries again");
    }
    let mut running = JoinSet::new();
    loop {
        tokio::select! {
            work = queue.recv() => {
                let Some(Work { under, parts }) = work else { break };
                running.spawn(Runner::new(gateway.clone(), under, shutdown.clone()).run(parts));
            }
            Some(ended) = running.join_next(), if !running.is_empty() => {
                if let Err(error) = ended {
                    tracing::error!(%error, "a batch broke off; the next start takes it up");
                }
            }
            () = shutdown.wait() => break,
        }
    }
    while running.join_next().await.is_some() {}
}

impl Under {
    /// The batch as it stands.
    pub fn batch(&self) -> Batch {
        locked(&self.batch).clone()
    }

    /// Changes it in memory.
    pub fn change(&self, change: impl FnOnce(&mut Batch)) {
        change(&mut locked(&self.batch));
    }

    /// Brings it to disk as it stands.
    pub async fn save(&self, content: &ContentStore) -> Result<(), ContentError> {
        let _one_at_a_time = self.saving.lock().await;
        let batch = self.batch();
        batch.save(content, &self.project).await
    }

    /// Asks it to stop; whether it still can.
    pub fn cancel(&self) -> bool {
        let mut batch = locked(&self.batch);
        match batch.status {
            Status::Validating | Status::InProgress => batch.come_to(Status::Cancelling),
            Status::Cancelling => {}
            _ => return false,
        }
        drop(batch);
        self.cancelled.send_replace(true);
        true
    }

    /// Returns once it was asked to stop.
    pub async fn wait_for_cancel(&self) {
        let mut cancelled = self.cancelled.subscribe();
        // The sender lives as long as this.
        drop(cancelled.wait_for(|cancelled| *cancelled).await);
    }

    /// Returns when its time ends.
    pub async fn wait_for_expiry(&self) {
        let expires_ms = self.batch().expires_ms;
        // In steps, because a clock may be set.
        loop {
            let left_ms = expires_ms.saturating_sub(now_ms());
            if left_ms == 0 {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(left_ms.min(60_000))).await;
        }
    }
}
