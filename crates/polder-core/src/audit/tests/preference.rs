//! Property tests: what an owner prefers is asked after policy, and can neither open nor close a factory.

use super::*;
use crate::placement::{Affinity, Decision, Row, decide_near};

fn decided(world: &World, request: &Request, affinity: Option<u64>) -> Decision {
    let snapshot = world.snapshot();
    let row = Row::new(&snapshot.basis, request);
    decide_near(&row, &snapshot, request, &BTreeMap::new(), affinity.map(Affinity))
}

fn admitted(decision: &Decision) -> BTreeSet<NodeId> {
    decision.verdicts.iter().filter(|one| one.causes.is_empty()).map(|one| one.factory.clone()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn nobody_is_weighed_who_is_refused(world in any_world(), request in any_request(), key in any::<u64>()) {
        let (plain, near) = (decided(&world, &request, None), decided(&world, &request, Some(key)));
        prop_assert_eq!(admitted(&plain), admitted(&near), "affinity admits nobody and refuses nobody");
        prop_assert_eq!(plain.outcome, near.outcome);
        for decision in [&plain, &near] {
            prop_assert!(decision.factory.iter().all(|chosen| admitted(decision).contains(chosen)));
            for verdict in decision.verdicts.iter().filter(|verdict| !verdict.causes.is_empty()) {
                prop_assert_eq!((verdict.score, verdict.inputs.affinity_ppm), (0, 0));
            }
        }
    }

    #[test]
    fn what_a_refused_factory_offers_changes_nothing(world in any_world(), request in any_request(), key in any::<u64>()) {
        let before = decided(&world, &request, Some(key));
        let admitted = admitted(&before);
        let mut other = world.clone();
        for site in other.sites.iter_mut().filter(|site| !admitted.contains(&node(&site.name))) {
            site.inputs = Inputs::default();
        }
        let after = decided(&other, &request, Some(key));
        prop_assert_eq!(&before.factory, &after.factory);
        let scores = |decision: &Decision| decision.verdicts.iter().map(|one| one.score).collect::<Vec<_>>();
        prop_assert_eq!(scores(&before), scores(&after));
    }

    #[test]
    fn audit_agrees_where_affinity_was_weighed(world in any_world(), request in any_request(), key in any::<u64>()) {
        let near = decided(&world, &request, Some(key));
        let mut record = world.statement(&request);
        (record.statement.factory, record.verdicts, record.seals) = (near.factory, near.verdicts, near.seals);
        record.statement.tables = record.tables().digests().unwrap().digest().unwrap();
        prop_assert_eq!(disagreements(&record, &world.records()), Vec::<String>::new());
    }
}
