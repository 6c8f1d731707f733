//! Witness policies: no panic, and whoever signed nothing satisfies only a policy without a quorum.
#![no_main]

use libfuzzer_sys::fuzz_target;
use polder_core::tlog_policy::Policy;

fuzz_target!(|text: &[u8]| {
    if let Ok(policy) = Policy::parse(text) {
        for group in &policy.groups {
            assert!((1..=group.members.len()).contains(&group.threshold));
        }
    }
});
