//! The forms of placements that were made on the snapshot of now: the same request on the same snapshot is decided in the same way.
//!
//! A snapshot is composed anew every second and whenever something in it changes, and all forms go with it. Refusals and retries
//! have none: each of them is decided and written in full.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use polder_core::ids::NodeId;
use polder_core::placement::Snapshot;
use polder_core::request::Request;
use polder_core::statement::v1::DecisionForm;

use crate::store::Object;

/// Most requests with a form; past that no more are kept until the next snapshot.
const FORMS_MAX: usize = 4096;

/// Where a request is placed, and how the decision is written.
pub struct Form {
    /// The chosen factory.
    pub factory: NodeId,
    /// The decision's bytes, but for what differs each time.
    pub form: DecisionForm,
    /// The request's canonical bytes, which stand in every ticket.
    pub request: Vec<u8>,
    /// What the decision names by digest.
    pub objects: Arc<[Object]>,
}

/// The forms of one snapshot.
#[derive(Default)]
pub struct Forms(RwLock<Kept>);

#[derive(Default)]
struct Kept {
    snapshot: Option<Snapshot>,
    forms: BTreeMap<Request, Arc<Form>>,
}

impl Forms {
    /// The form of a request, if it was placed on this very snapshot before.
    pub fn get(&self, snapshot: &Snapshot, request: &Request) -> Option<Arc<Form>> {
        let kept = self.0.read().unwrap_or_else(PoisonError::into_inner);
        kept.snapshot.as_ref().filter(|held| held.same(snapshot))?;
        kept.forms.get(request).cloned()
    }

    /// Keeps a form; those of another snapshot go.
    pub fn keep(&self, snapshot: &Snapshot, request: &Request, form: &Arc<Form>) {
        let mut kept = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if kept.snapshot.as_ref().is_none_or(|held| !held.same(snapshot)) {
            *kept = Kept { snapshot: Some(snapshot.clone()), forms: BTreeMap::new() };
        }
        if kept.forms.len() < FORMS_MAX {
            kept.forms.insert(request.clone(), Arc::clone(form));
        }
    }
}
