//! The SEALs of one request at one factory: only the criteria that the request touches, only answers that facts give.
//!
//! Unlike in the calculator, a criterion without evidence is not left out: it counts as SEAL-0. An objective of which
//! nothing is touched shows nothing, so it is SEAL-0 too: whoever demands more is refused. A verdict is absent: an owner's
//! policy says what is enough.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{CriterionId, Evidenced, Framework, Touch, derive};
use crate::canonical::Digest;
use crate::facts::{Evidence, Profile};

/// The SEALs of one request at one factory under one framework version, for answers evidenced at least at each class.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FrameworkSeals {
    /// The framework version.
    pub framework: String,
    /// The digest of its content.
    pub digest: Digest,
    /// Every objective's SEAL, from answers of any class.
    pub declared: BTreeMap<String, u8>,
    /// Every objective's SEAL, from answers of class B or A.
    pub attested: BTreeMap<String, u8>,
    /// Every objective's SEAL, from answers of class A.
    pub measured: BTreeMap<String, u8>,
}

/// The SEALs at a factory of a request that touches these parts, one entry for each framework version.
pub fn seals(frameworks: &[Framework], profile: &Profile, touches: &BTreeSet<Touch>) -> Vec<FrameworkSeals> {
    let one = |framework: &Framework| {
        let required = framework.touched_by(touches);
        let evidenced = derive(framework, profile);
        let at_least = |class| levels(framework, &required, &evidenced, class);
        FrameworkSeals {
            framework: framework.id().to_owned(),
            digest: framework.digest(),
            declared: at_least(Evidence::C),
            attested: at_least(Evidence::B),
            measured: at_least(Evidence::A),
        }
    };
    frameworks.iter().map(one).collect()
}

/// The lowest SEAL of each objective's required criteria.
fn levels(
    framework: &Framework,
    required: &BTreeSet<CriterionId>,
    evidenced: &Evidenced,
    at_least: Evidence,
) -> BTreeMap<String, u8> {
    let mut levels: BTreeMap<String, Option<u8>> =
        framework.objectives().iter().map(|objective| (objective.id.clone(), None)).collect();
    for id in required {
        let derived = evidenced.get(id).filter(|derived| derived.evidence >= at_least);
        let answer = derived.and_then(|derived| framework.criterion(id)?.answer(derived.answer));
        let seal = answer.map_or(0, |answer| answer.seal);
        if let Some(level) = levels.get_mut(&id.objective) {
            *level = Some(level.map_or(seal, |lowest| lowest.min(seal)));
        }
    }
    levels.into_iter().map(|(objective, level)| (objective, level.unwrap_or(0))).collect()
}
