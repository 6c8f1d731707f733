//! Responses that are under way without a client, or on their way into the store: found here before they are found there.
//!
//! A background response runs on in a task of its own; whoever follows it reads its events from here, from any number on. The
//! last state stays until the store has it. Surviving a crash is absent: what was under way then reads as failed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use polder_core::ids::ProjectId;
use serde_json::Value;
use tokio::sync::watch;

use super::record::Record;

/// Most responses that are under way in the background at once.
const LIVE_MAX: usize = 4_096;

/// The responses of a node that are not yet at rest.
#[derive(Clone, Default)]
pub struct Live(Arc<Mutex<ByName>>);

/// By project and id.
type ByName = BTreeMap<(ProjectId, String), Arc<Under>>;

/// One response that is not yet at rest.
pub struct Under {
    state: Mutex<State>,
    changed: watch::Sender<()>,
    cancelled: watch::Sender<bool>,
    /// Whether its events are held for whoever follows it.
    followed: bool,
}

struct State {
    record: Record,
    ended: bool,
    at_rest: bool,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Live {
    /// Enters a response; `None` where too many are under way.
    pub fn enter(&self, project: &ProjectId, record: Record, ended: bool, followed: bool) -> Option<Arc<Under>> {
        let key = (project.clone(), record.id().to_owned());
        let under = Arc::new(Under {
            state: Mutex::new(State { record, ended, at_rest: false }),
            changed: watch::channel(()).0,
            cancelled: watch::channel(false).0,
            followed,
        });
        let mut live = locked(&self.0);
        // One that has ended only waits for the disk.
        if !ended && live.len() >= LIVE_MAX {
            return None;
        }
        live.insert(key, Arc::clone(&under));
        Some(under)
    }

    /// A project's response, where it is not yet at rest.
    pub fn find(&self, project: &ProjectId, id: &str) -> Option<Arc<Under>> {
        locked(&self.0).get(&(project.clone(), id.to_owned())).cloned()
    }

    /// The store has it now, or never will.
    pub fn leave(&self, project: &ProjectId, id: &str) {
        let left = locked(&self.0).remove(&(project.clone(), id.to_owned()));
        if let Some(under) = left {
            locked(&under.state).at_rest = true;
            under.changed.send_replace(());
        }
    }
}

impl Under {
    /// Its last state.
    pub fn record(&self) -> Record {
        locked(&self.state).record.clone()
    }

    /// Whether somebody may follow its events.
    pub fn followed(&self) -> bool {
        self.followed
    }

    /// Takes in what was said, and the response as it stands.
    pub fn say(&self, events: Vec<Value>, response: Option<Value>, ended: bool) {
        let mut state = locked(&self.state);
        if self.followed {
            state.record.events.extend(events);
        }
        if let Some(response) = response {
            state.record.response = response;
        }
        state.ended |= ended;
        drop(state);
        self.changed.send_replace(());
    }

    /// The events from a number on, and whether there will be no more.
    fn events_from(&self, number: usize) -> (Vec<Value>, bool) {
        let state = locked(&self.state);
        (state.record.events.get(number..).unwrap_or_default().to_vec(), state.ended)
    }

    /// Its events from a number on, as they come.
    pub fn follow(self: Arc<Self>, from: usize) -> impl futures_util::Stream<Item = Value> + Send {
        let changed = self.changed.subscribe();
        let begin = (self, changed, from, Vec::new().into_iter());
        futures_util::stream::unfold(begin, |(under, mut changed, mut next, mut ready)| async move {
            loop {
                if let Some(event) = ready.next() {
                    return Some((event, (under, changed, next, ready)));
                }
                changed.mark_unchanged();
                let (events, ended) = under.events_from(next);
                next = next.saturating_add(events.len());
                ready = events.into_iter();
                if ready.len() == 0 && (ended || changed.changed().await.is_err()) {
                    return None;
                }
            }
        })
    }

    /// Asks it to stop.
    pub fn cancel(&self) {
        self.cancelled.send_replace(true);
    }

    /// Returns once it was asked to stop.
    pub async fn wait_for_cancel(&self) {
        let mut cancelled = self.cancelled.subscribe();
        // The sender lives as long as this.
        drop(cancelled.wait_for(|cancelled| *cancelled).await);
    }

    /// Returns its last state once it is at rest.
    pub async fn wait_for_rest(&self) -> Record {
        let mut changed = self.changed.subscribe();
        while !locked(&self.state).at_rest {
            if changed.changed().await.is_err() {
                break;
            }
        }
        self.record()
    }
}
