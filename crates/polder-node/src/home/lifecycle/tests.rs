//! Tests of a policy's life without a running home: what comes into force, in which order it is written, and what it says.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::collections::BTreeMap;
use std::path::Path;

use polder_core::ids::TenantId;
use polder_core::keys::Role;
use polder_core::placement::Weights;
use polder_core::statement::v1::{ProofVerdict, Statement};
use polder_core::usage::Window;

use super::*;
use crate::keys::NodeKeys;

const OPEN: &str = "permit (principal, action, resource);\n";
const NOT_MUNICH: &str = "@id(\"not-munich\")\n@reason(\"it is being rebuilt\")\nforbid (principal, action, resource)\n\
                          when { resource == Factory::\"munich\" };\n";
/// What no policy of these tests says.
const CLAIM: &str = "name = \"in-the-eu\"\nsays = \"Everything stays in the EU.\"\npolicies = [\"mine\"]\n\
                     permitted_only_when = 'resource has site && resource.site.in_eu'\n";

fn narrower() -> String {
    format!("{OPEN}{NOT_MUNICH}")
}

/// A home's lifecycle and view on a folder of its own.
struct Bench {
    folder: PathBuf,
    config: HomeConfig,
}

impl Drop for Bench {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.folder));
    }
}

impl Bench {
    fn new(name: &str, guardrails: &[&str]) -> Self {
        let folder = std::env::temp_dir().join(format!("polder-lifecycle-{}-{name}", std::process::id()));
        drop(std::fs::remove_dir_all(&folder));
        std::fs::create_dir_all(&folder).unwrap();
        let config = HomeConfig {
            jobs: crate::config::HomeJobs::default().check(&|message| panic!("{message}")).unwrap(),
            tenant: TenantId::parse("bank").unwrap(),
            baseline: folder.join("baseline.cedar"),
            policy: folder.join("policy.cedar"),
            trust: Vec::new(),
            weights: Weights { price: 1, load: 0, latency: 0, ..Weights::default() },
            routing: crate::config::Routing::default(),
            projects: BTreeMap::new(),
            strict: Default::default(),
            keys: Vec::new(),
            guardrails: guardrails.iter().map(|text| Guardrail::parse("claim.toml", text).unwrap()).collect(),
            // Never asked where a change is narrower; where it is asked, it is not there.
            solver: Some(folder.join("no-solver")),
            frameworks: Vec::new(),
            admission: Default::default(),
            batches: Default::default(),
            content: crate::content::ContentLimits { bytes_max: 1 << 20, days: 1 },
        };
        let bench = Self { folder, config };
        bench.write("baseline.cedar", OPEN);
        bench.write("policy.cedar", OPEN);
        bench
    }

    fn write(&self, file: &str, text: &str) {
        std::fs::write(self.folder.join(file), text).unwrap();
    }

    fn path(&self) -> &Path {
        &self.folder
    }

    /// Starts: what a node does with its home.
    async fn start(&self) -> Result<(Lifecycle, View, Log), ConfigError> {
        let home = NodeId::parse("bank-home").unwrap();
        let keys = NodeKeys::open_or_create(&self.path().join("keys"), &home).unwrap();
        let store = Store::open(&self.path().join("node.db")).await.unwrap();
        let key = keys.key(Role::Log).unwrap().clone();
        let log = Log::open(store.clone(), key, Arc::new(keys.card.clone())).await.unwrap();
        let schema = Arc::new(PolicySchema::shipped().unwrap());
        let lifecycle = {
            let imports = Arc::new(Imports::open(home.clone(), log.clone(), &store).await.unwrap());
            Lifecycle::new(home, &self.config, Arc::clone(&schema), store, log.clone(), imports)
        };
        let state = lifecycle.open().await?;
        let view = View::new(&[], schema, Vec::new(), self.config.weights, state, Window::default(), 0).unwrap();
        Ok((lifecycle, view, log))
    }
}

fn run(work: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work);
}

async fn leaf(log: &Log, version: &PolicyVersion) -> ActivationStatement {
    let half = log.half_at(version.leaf).await.unwrap().unwrap();
    assert_eq!(half.index, version.leaf);
    match half.statement {
        Statement::Activation(activation) => activation,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_first_start_takes_the_file_and_later_ones_only_another_text() {
    let bench = Bench::new("start", &[]);
    run(async {
        let (_, view, log) = bench.start().await.unwrap();
        let first = Arc::clone(&view.policies().version);
        assert_eq!((first.number, first.how, first.leaf, log.size()), (1, How::Start, 0, 1));
        let said = leaf(&log, &first).await;
        assert_eq!((said.previous, said.digest, said.narrower), (None, first.digest, false));
        let (lifecycle, view, log) = bench.start().await.unwrap();
        assert_eq!((view.policies().version.number, log.size()), (1, 1), "nothing new");
        lifecycle.activate(&view, "other.cedar", narrower()).await.unwrap();
        let (_, view, log) = bench.start().await.unwrap();
        let version = Arc::clone(&view.policies().version);
        assert_eq!((version.number, version.how, log.size()), (2, How::Activate, 2), "the newest, not the file");
        assert_eq!(leaf(&log, &version).await.previous, Some(first.digest));
        bench.write("policy.cedar", &format!("{OPEN}// another text\n"));
        let (_, view, log) = bench.start().await.unwrap();
        assert_eq!((view.policies().version.number, log.size()), (3, 3));
        assert!(view.policies().owner.rules().next().is_none());
    });
}

#[test]
fn a_text_that_was_activated_is_still_taken_from_the_file_once() {
    let bench = Bench::new("taken", &[]);
    run(async {
        let (lifecycle, view, log) = bench.start().await.unwrap();
        lifecycle.activate(&view, "policy.cedar", narrower()).await.unwrap();
        bench.write("policy.cedar", &narrower());
        assert_eq!(lifecycle.reload(&view).await, Vec::<String>::new());
        assert_eq!((view.policies().version.number, view.policies().version.how), (3, How::Reload));
        lifecycle.activate(&view, "policy.cedar", OPEN.to_owned()).await.unwrap();
        for _ in 0..2 {
            assert_eq!(lifecycle.reload(&view).await, Vec::<String>::new());
        }
        assert_eq!((view.policies().version.number, log.size()), (4, 4), "the file has nothing new to say");
    });
}

#[test]
fn a_broken_file_leaves_in_force_what_was_and_says_why() {
    let bench = Bench::new("broken", &[]);
    run(async {
        let (lifecycle, view, log) = bench.start().await.unwrap();
        for broken in ["forbid (principal action", "permit (principal, action, resource) when { true };"] {
            bench.write("policy.cedar", broken);
            let problems = lifecycle.reload(&view).await;
            assert!(problems[0].contains("policy.cedar:1:") && problems[0].contains("stays in force"), "{problems:?}");
        }
        std::fs::remove_file(bench.path().join("policy.cedar")).unwrap();
        assert!(lifecycle.reload(&view).await[0].contains("cannot read"));
        let (_, view, _) = bench.start().await.unwrap();
        assert!(view.policies().refused()[0].contains("cannot read"));
        assert_eq!((view.policies().version.number, log.size()), (1, 1));
        bench.write("policy.cedar", &"(".repeat(10 << 20));
        assert!(lifecycle.reload(&view).await[0].contains("larger than a policy may be"));
        bench.write("policy.cedar", OPEN);
        assert_eq!(lifecycle.reload(&view).await, Vec::<String>::new());
    });
    let never = Bench::new("never", &[]);
    run(async {
        never.write("policy.cedar", "forbid");
        assert!(never.start().await.map(drop).unwrap_err().to_string().contains("policy.cedar:1:"));
    });
}

#[test]
fn without_a_solver_only_what_forbids_more_passes_a_guardrail() {
    let bench = Bench::new("guardrail", &[]);
    run(async {
        drop(bench.start().await.unwrap());
    });
    let mut bench = bench;
    bench.config.guardrails = vec![Guardrail::parse("claim.toml", CLAIM).unwrap()];
    run(async {
        let (lifecycle, view, log) = bench.start().await.unwrap();
        let narrow = lifecycle.activate(&view, "n.cedar", narrower()).await.unwrap();
        assert!(narrow.changed && narrow.version.narrower);
        assert_eq!(leaf(&log, &narrow.version).await.proofs, Vec::<ProofResult>::new());
        let wide = lifecycle.activate(&view, "w.cedar", OPEN.to_owned()).await.unwrap_err();
        assert!(matches!(&wide, ActivationError::Unproven(unproven) if unproven.proofs.is_empty()), "{wide}");
        assert!(wide.to_string().contains("no solver") && wide.to_string().contains("`solver` in `[home]`"), "{wide}");
        // Neither a rollback nor the file is a way round.
        for wide in [lifecycle.rollback(&view, None).await, lifecycle.rollback(&view, Some("1")).await] {
            assert!(matches!(wide, Err(ActivationError::Unproven(_))), "{wide:?}");
        }
        bench.write("policy.cedar", &format!("{OPEN}// wide again\n"));
        assert!(lifecycle.reload(&view).await[0].contains("no solver"));
        let (_, view, log) = bench.start().await.unwrap();
        assert!(view.policies().refused()[0].contains("no solver"));
        assert_eq!((view.policies().version.number, log.size()), (2, 2));
    });
}

#[test]
fn a_node_that_never_had_a_policy_does_not_start_past_a_guardrail() {
    let bench = Bench::new("first", &[CLAIM]);
    run(async {
        let error = bench.start().await.map(drop).unwrap_err().to_string();
        assert!(error.contains("policy.cedar") && error.contains("guardrails"), "{error}");
    });
}

/// Whether the solver is there. Where it is not, the command's tests count that as skipped.
fn has_solver() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join("cvc5").is_file())
}

#[test]
fn what_a_guardrail_says_of_the_baseline_is_proved_with_the_one_in_force() {
    if !has_solver() {
        return;
    }
    let eu = "@id(\"eu\")\n@reason(\"the EU\")\nforbid (principal, action, resource)\nunless { resource has site && resource.site.in_eu };\n";
    for (policies, holds) in [("\"baseline\", \"mine\"", true), ("\"mine\"", false)] {
        let claim = CLAIM.replace("\"mine\"", policies);
        let mut bench = Bench::new(&format!("baseline-{holds}"), &[&claim]);
        bench.config.solver = None;
        bench.write("baseline.cedar", &format!("{OPEN}{eu}"));
        run(async {
            let started = bench.start().await;
            assert_eq!(started.is_ok(), holds);
            match started {
                Ok((_, view, log)) => {
                    let version = Arc::clone(&view.policies().version);
                    assert_eq!(version.proofs[0].verdict, ProofVerdict::Proven);
                    assert_eq!(leaf(&log, &version).await.proofs, version.proofs);
                }
                Err(error) => assert!(error.to_string().contains("`in-the-eu` would not hold"), "{error}"),
            }
        });
    }
}

#[test]
fn a_proof_that_took_too_long_does_not_undo_what_was_forbidden_meanwhile() {
    if !has_solver() {
        return;
    }
    use std::os::unix::fs::PermissionsExt as _;
    let claim = "name = \"open\"\nsays = \"-\"\npolicies = [\"mine\"]\n\
                 can_permit = 'context.class == Class::\"public\"'\n";
    let mut bench = Bench::new("overtaken", &[claim]);
    let slow = bench.path().join("slow");
    std::fs::write(&slow, "#!/bin/sh\nsleep 1\nexec cvc5 \"$@\"\n").unwrap();
    std::fs::set_permissions(&slow, std::fs::Permissions::from_mode(0o755)).unwrap();
    bench.config.solver = Some(slow);
    run(async {
        let (lifecycle, view, log) = bench.start().await.unwrap();
        lifecycle.activate(&view, "a.cedar", narrower()).await.unwrap();
        // The one has to be proved; the other shuts a door while it is.
        let quick = async {
            while lifecycle.proving.try_lock().is_ok() {
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
            lifecycle.activate(&view, "quick.cedar", narrower() + &NOT_MUNICH.replace("munich", "paris")).await
        };
        let slow = lifecycle.activate(&view, "slow.cedar", OPEN.to_owned());
        let (slow, quick) = futures_util::future::join(slow, quick).await;
        let quick = quick.unwrap().version;
        assert!(matches!(slow, Err(ActivationError::Overtaken(number)) if number == quick.number), "{slow:?}");
        assert_eq!(view.policies().version.number, quick.number);
        assert_eq!(log.size(), 3);
    });
}

#[test]
fn versions_are_found_by_number_and_by_digest() {
    let bench = Bench::new("found", &[]);
    run(async {
        let (lifecycle, view, _) = bench.start().await.unwrap();
        let first = Arc::clone(&view.policies().version);
        let nothing = lifecycle.rollback(&view, None).await.unwrap_err().to_string();
        assert!(nothing.contains("no other policy before version 1"), "{nothing}");
        let second = lifecycle.activate(&view, "b.cedar", narrower()).await.unwrap().version;
        assert!(!lifecycle.activate(&view, "c.cedar", narrower()).await.unwrap().changed);
        assert_eq!(lifecycle.rollback(&view, None).await.unwrap().version.digest, first.digest);
        let hex = second.digest.to_hex();
        for name in [hex.as_str(), &hex[..8], &hex[..20].to_uppercase(), "2"] {
            assert_eq!(lifecycle.version(name).await.unwrap().digest, second.digest, "{name}");
        }
        let third = lifecycle.rollback(&view, Some(&hex[..12])).await.unwrap().version;
        assert_eq!((third.number, third.how, third.file.as_str()), (4, How::Rollback, "b.cedar"));
        for name in ["", "9", &hex[..7], "zzzzzzzz", "00000000", "%", "' OR 1"] {
            assert!(matches!(lifecycle.version(name).await, Err(ActivationError::Unknown(_))), "{name}");
        }
        for name in ["", "a/b", "a\nb", &"x".repeat(300)] {
            let odd = lifecycle.activate(&view, name, OPEN.to_owned()).await;
            assert!(matches!(odd, Err(ActivationError::Name(_))), "{name}");
        }
    });
}

#[test]
fn a_text_at_the_limits_is_proved_on_a_workers_stack() {
    if !has_solver() {
        return;
    }
    let mut bench = Bench::new("deep", &[CLAIM]);
    bench.config.guardrails.clear();
    run(async { drop(bench.start().await.unwrap()) });
    bench.config.guardrails = vec![Guardrail::parse("claim.toml", CLAIM).unwrap()];
    bench.config.solver = None;
    let of = |condition: String| {
        format!("{OPEN}@id(\"a\")\n@reason(\"b\")\nforbid (principal, action, resource) when {{ {condition} }};\n")
    };
    let class = "context.class == Class::\"public\"";
    let nested = format!("{}{class}{}", format!("{class} && (").repeat(22), ")".repeat(22));
    let chain = format!("{class}{}", format!(" || {class}").repeat(120));
    let choice = format!("{}false", format!("if {class} then true else ").repeat(120));
    // A worker of tokio has 2 MiB.
    let thread = std::thread::Builder::new().stack_size(2 << 20).spawn(move || {
        run(async {
            let (lifecycle, view, _) = bench.start().await.unwrap();
            lifecycle.activate(&view, "n.cedar", narrower()).await.unwrap();
            for condition in [nested, chain, choice] {
                let wide = lifecycle.activate(&view, "deep.cedar", of(condition)).await;
                assert!(matches!(wide, Err(ActivationError::Unproven(_))), "{wide:?}");
            }
            assert_eq!(view.policies().version.number, 2);
        });
    });
    thread.unwrap().join().unwrap();
}
