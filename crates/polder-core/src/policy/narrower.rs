//! Whether a new policy can only forbid more than the old one, seen from its text alone.
//!
//! Such a change needs no proof before it is put in force: nothing that was refused is permitted afterwards. The answer is
//! on the safe side: `false` means that it cannot be seen, not that the new policy is wider. Solvers are absent.

use cedar_policy::Effect;
use serde_json::Value;

use super::Layer;

/// Whether every `forbid` of the old layer still stands in the new one, word for word save its annotations, and every
/// `permit` of the new one stood in the old one.
pub fn is_only_narrower(old: &Layer, new: &Layer) -> bool {
    let of = |layer, effect| meanings(layer, effect);
    let (Some(before), Some(after)) = (of(old, Effect::Forbid), of(new, Effect::Forbid)) else { return false };
    let (Some(permits), Some(permitted)) = (of(new, Effect::Permit), of(old, Effect::Permit)) else { return false };
    before.iter().all(|forbid| after.contains(forbid)) && permits.iter().all(|permit| permitted.contains(permit))
}

/// The policies of one effect in Cedar's JSON form, without their annotations; nothing where one has no such form.
fn meanings(layer: &Layer, effect: Effect) -> Option<Vec<Value>> {
    let policies = layer.policies().policies().filter(|policy| policy.effect() == effect);
    policies
        .map(|policy| {
            let mut json = policy.to_json().ok()?;
            json.as_object_mut()?.remove("annotations");
            Some(json)
        })
        .collect()
}

#[cfg(test)]
mod tests;
