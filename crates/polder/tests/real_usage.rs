//! The tenant's own use of chip vendors: what ran is counted, and the policy moves the next request elsewhere.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use serde_json::{Value, json};
use support::demo::Demo;
use support::until;

#[test]
fn what_ran_on_a_vendors_chips_counts_against_it() {
    let demo = Demo::start();
    let policy = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../templates/vendor-share.cedar");
    let active = demo.polder(&["policy", "activate", policy.to_str().unwrap(), "--tenant", "start-up"]);
    assert_eq!(active.code, 0, "{active:?}");
    let question = demo.around().join("request.json");
    std::fs::write(&question, json!({"project": "product", "model": "polder-toy"}).to_string()).unwrap();
    let decide = || {
        demo.polder(&["decide", "--tenant", "start-up", "--request", question.to_str().unwrap(), "-o", "json"]).json()
    };
    let share = |decision: &Value, factory: &str| {
        let verdicts = decision["verdicts"].as_array().unwrap();
        let verdict = verdicts.iter().find(|verdict| verdict["factory"] == factory).unwrap();
        verdict["inputs"]["vendor_share_percent"].as_u64().unwrap()
    };
    let before = decide();
    assert_eq!((&before["factory"], share(&before, "virginia")), (&json!("virginia"), 0));
    let asked = demo.polder(&["ask", "Hello", "--tenant", "start-up"]);
    assert!(asked.code == 0 && asked.stderr.contains("placed in virginia"), "{asked:?}");
    // Everything so far ran on that vendor's chips; what was used is counted when the factory's half arrives.
    let after = until("the use is counted", || Some(decide()).filter(|after| share(after, "virginia") == 100));
    assert_eq!(after["factory"], "kajaani", "the cheapest with another vendor's chips");
    assert_eq!((share(&after, "munich"), share(&after, "kajaani")), (100, 0));
    let refusals = after["refusals"].as_array().unwrap();
    let munich = refusals.iter().find(|one| one["factory"] == "munich").unwrap();
    assert_eq!(munich["rule"], "no-single-vendor");
}
