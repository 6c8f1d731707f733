//! What changes around the machines: factories' offers, policies, facts and terms; and what has to be swept now and then.
//!
//! Asking factories is absent: the home's look round does that. A change is noticed because the thing itself is another one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use polder_core::ids::NodeId;
use polder_core::job::executor;
use polder_core::job::home::{self, Sheet};

use super::{Jobs, Parts, opening, statements};
use crate::clock::now_ms;
use crate::executor::local::Local;

const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Looks between two sweeps: one in a minute.
const LOOKS_A_SWEEP: u64 = 300;

/// Looks until the node ends.
pub(super) async fn run(jobs: Jobs, parts: Arc<Parts>, local: Option<Arc<Local>>) {
    let (mut sheets, mut heard): (BTreeMap<NodeId, Sheet>, BTreeSet<NodeId>) = Default::default();
    let (mut basis, mut terms) = (None, None);
    let mut looks = 0_u64;
    loop {
        if let Some(home) = &parts.home {
            for (factory, sheet) in home.view.sheets() {
                // A factory that offers nothing any more has nothing for jobs.
                let sheet = sheet.unwrap_or_default();
                if sheets.get(&factory).unwrap_or(&Sheet::default()) == &sheet {
                    continue;
                }
                if let Some(remote) = parts.reached.get(&factory)
                    && heard.insert(factory.clone())
                {
                    opening::listen(&jobs, &factory, remote);
                }
                sheets.insert(factory.clone(), sheet.clone());
                jobs.tell_home(home::Event::Sheet(factory, sheet)).await;
            }
            let now = home.view.snapshot(now_ms()).basis;
            if basis.replace(Arc::clone(&now)).is_some_and(|before| !Arc::ptr_eq(&before, &now)) {
                jobs.tell_home(home::Event::PolicyChanged).await;
            }
        }
        if let Some(factory) = parts.factory.as_ref().filter(|_| parts.executor_settings.is_some()) {
            let now = factory.terms();
            if terms.replace(Arc::clone(&now)).is_some_and(|before| !Arc::ptr_eq(&before, &now)) {
                jobs.tell_factory(executor::Event::TermsChanged).await;
            }
        }
        if looks.is_multiple_of(LOOKS_A_SWEEP) {
            sweep(&parts, local.as_deref()).await;
        }
        looks = looks.wrapping_add(1);
        tokio::time::sleep(LOOK_EVERY).await;
        if jobs.inputs.is_closed() {
            return;
        }
    }
}

async fn sweep(parts: &Arc<Parts>, local: Option<&Local>) {
    if let Err(error) = statements::look_through(parts).await {
        tracing::warn!(%error, "tickets of jobs cannot be looked through");
    }
    if let Some(local) = local {
        local.sweep().await;
    }
}
