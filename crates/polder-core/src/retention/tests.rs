//! Tests of retention: what goes when, what a hold keeps, and which words keep nothing.
#![allow(clippy::unwrap_used)]

use super::*;

const DAY: u64 = 86_400_000;

fn item(place: u64, project: Option<&str>) -> Item {
    let project = project.map(|name| ProjectId::parse(name).unwrap());
    Item { place, at_ms: 1_000, tenant: TenantId::parse("bank").unwrap(), project }
}

fn rules() -> Rules {
    let class = |name: &str, days| Class { name: name.to_owned(), days };
    let projects = [(ProjectId::parse("letters").unwrap(), class("long", 3_650))].into();
    Rules { by_age: true, projects, executions: Some(class("short", 200)), ..Rules::default() }
}

#[test]
fn each_class_has_its_day_and_not_a_millisecond_less() {
    let rules = rules();
    for (item, class, days) in [
        (item(1, Some("letters")), "long", 3_650),
        (item(2, Some("website")), DEFAULT_CLASS, u64::from(LOG_DUTY_DAYS)),
        (item(3, None), "short", 200),
    ] {
        let at = 1_000 + days * DAY;
        for ground in [Ground::Age, Ground::Word] {
            let early = due(&rules, &[], &item, ground, at - 1).unwrap_err();
            assert!(matches!(&early, Stays::Young { class: named, until_ms, .. } if named == class && *until_ms == at));
            assert_eq!(due(&rules, &[], &item, ground, at).unwrap().name, class);
        }
        assert_eq!(due(&rules, &[], &item, Ground::Erasure, 1_000).unwrap().name, class);
    }
    assert_eq!(rules.days_min(), LOG_DUTY_DAYS);
}

#[test]
fn a_hold_keeps_what_it_names_from_every_ground_and_nothing_else() {
    let hold = |scope| [Hold { id: "hold-1".to_owned(), scope }];
    let (letters, ran, rules) = (item(7, Some("letters")), item(8, None), rules());
    let scopes = [
        (HoldScope::Tenant(TenantId::parse("bank").unwrap()), true, true),
        (HoldScope::Tenant(TenantId::parse("other").unwrap()), false, false),
        (HoldScope::Project(ProjectId::parse("letters").unwrap()), true, false),
        (HoldScope::Leaves([8].into()), false, true),
    ];
    for (scope, holds_letters, holds_ran) in scopes {
        let holds = hold(scope);
        for ground in [Ground::Age, Ground::Word, Ground::Erasure] {
            for (item, held) in [(&letters, holds_letters), (&ran, holds_ran)] {
                let answer = due(&rules, &holds, item, ground, u64::MAX);
                assert_eq!(answer == Err(Stays::Held("hold-1".to_owned())), held, "{item:?} {holds:?}");
                assert_eq!(answer.is_ok(), !held);
            }
        }
    }
}

#[test]
fn places_become_ranges() {
    assert_eq!(ranges(vec![]), []);
    assert_eq!(ranges(vec![4, 2, 3, 9, 3, u64::MAX]), [(2, 4), (9, 9), (u64::MAX, u64::MAX)]);
}
