//! Tests of rights: handed on they only narrow, count in one channel, and end early when they are taken back.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::ids::TenantId;
use crate::labels::{DataClass, Purpose};
use crate::tests::{key, node, public, request};

const FROM: u64 = 1_000_000;
const UNTIL: u64 = FROM + super::super::CAPABILITY_MS_MAX;

/// A factory that knows a home, two brokers and what was revoked. The authority keys are 1, 2 and 3, those of the channels 11, 12, 13.
#[derive(Default)]
struct Known(Vec<[u8; 16]>);

impl Issuers for Known {
    fn authorities(&self, node: &NodeId) -> Vec<VerifyingKey> {
        let number = match node.as_str() {
            "home" => 1,
            "broker" => 2,
            "second" => 3,
            _ => return Vec::new(),
        };
        vec![key(number).verifying_key()]
    }

    fn is_revoked(&self, id: &[u8; 16]) -> bool {
        self.0.contains(id)
    }
}

fn models(names: &[&str]) -> Option<BTreeSet<ModelId>> {
    Some(names.iter().map(|name| ModelId::parse(name).unwrap()).collect())
}

fn capability(limits: Limits) -> Signed<Capability> {
    let tenant = TenantId::parse("bank").unwrap();
    let bound = Some(Bound { id: [1; 16], key: public(11), limits });
    let (home, factory) = (node("home"), node("paris"));
    Capability { home, factory, tenant, from_ms: FROM, until_ms: UNTIL, bound }.sign(&key(1)).unwrap()
}

fn link(
    capability: &Signed<Capability>,
    links: &[Signed<Link>],
    (by, holder, channel): (u8, &str, u8),
    until_ms: u64,
    limits: Limits,
) -> Signed<Link> {
    let parent = Link::parent_of(capability, links).unwrap();
    let id = [u8::try_from(links.len()).unwrap() + 2; 16];
    Link { parent, id, holder: node(holder), key: public(channel), until_ms, limits }.sign(&key(by)).unwrap()
}

fn check(
    capability: &Signed<Capability>,
    links: &[Signed<Link>],
    speaker: (&str, u8),
    known: &Known,
) -> Result<Limits, TicketError> {
    let (name, shown, factory) = (node(speaker.0), public(speaker.1), node("paris"));
    let presented = Presented { speaker: &name, key: Some(&shown), factory: &factory, now_ms: FROM, version: 2 };
    check_right(capability, links, &presented, known)
}

#[test]
fn a_right_is_narrowed_at_each_hop() {
    let wide = capability(Limits { models: models(&["a", "b"]), ..Limits::default() });
    let known = Known::default();
    assert_eq!(check(&wide, &[], ("home", 11), &known).unwrap().models, models(&["a", "b"]));
    let narrow = Limits { models: models(&["a"]), tokens_max: Some(10), ..Limits::default() };
    let first = link(&wide, &[], (1, "broker", 12), UNTIL - 1_000, narrow.clone());
    assert_eq!(check(&wide, std::slice::from_ref(&first), ("broker", 12), &known), Ok(narrow.clone()));
    let narrower = Limits { tokens_max: Some(5), ..narrow };
    let second = link(&wide, std::slice::from_ref(&first), (2, "second", 13), UNTIL - 2_000, narrower.clone());
    assert_eq!(check(&wide, &[first, second], ("second", 13), &known), Ok(narrower));
}

#[test]
fn a_right_that_was_widened_is_refused() {
    let narrow = Limits { models: models(&["a"]), tokens_max: Some(10), ..Limits::default() };
    let given = capability(narrow.clone());
    let all = [
        Limits { models: models(&["a", "b"]), ..narrow.clone() },
        Limits { models: None, ..narrow.clone() },
        Limits { tokens_max: Some(11), ..narrow.clone() },
        Limits { tokens_max: None, ..narrow.clone() },
        Limits::default(),
    ];
    for limits in all {
        let wide = link(&given, &[], (1, "broker", 12), UNTIL, limits);
        assert_eq!(check(&given, &[wide], ("broker", 12), &Known::default()), Err(TicketError::Widened));
    }
    let longer = link(&given, &[], (1, "broker", 12), UNTIL + 1, narrow.clone());
    assert_eq!(check(&given, &[longer], ("broker", 12), &Known::default()), Err(TicketError::Widened));
    // Whoever leaves a link out is not the one that the right was given to.
    let first = link(&given, &[], (1, "broker", 12), UNTIL, narrow.clone());
    let second = link(&given, std::slice::from_ref(&first), (2, "second", 13), UNTIL, narrow);
    assert_eq!(
        check(&given, std::slice::from_ref(&second), ("second", 13), &Known::default()),
        Err(TicketError::Signature)
    );
    assert_eq!(check(&given, &[], ("second", 13), &Known::default()), Err(TicketError::Wrong("home")));
    assert_eq!(check(&given, &[first], ("second", 13), &Known::default()), Err(TicketError::Wrong("home")));
}

#[test]
fn a_right_counts_in_the_channel_of_its_key() {
    let given = capability(Limits::default());
    assert_eq!(check(&given, &[], ("home", 12), &Known::default()), Err(TicketError::Key));
    let first = link(&given, &[], (1, "broker", 12), UNTIL, Limits::default());
    assert_eq!(check(&given, &[first], ("broker", 11), &Known::default()), Err(TicketError::Key));
}

#[test]
fn a_forged_link_is_refused() {
    let given = capability(Limits::default());
    let by_another = link(&given, &[], (3, "broker", 12), UNTIL, Limits::default());
    assert_eq!(check(&given, &[by_another], ("broker", 12), &Known::default()), Err(TicketError::Signature));
    let mut changed = link(&given, &[], (1, "broker", 12), UNTIL - 5_000, Limits::default());
    changed.value.until_ms = UNTIL;
    assert_eq!(check(&given, &[changed], ("broker", 12), &Known::default()), Err(TicketError::Signature));
    let of_another = link(
        &capability(Limits { tokens_max: Some(1), ..Limits::default() }),
        &[],
        (1, "broker", 12),
        UNTIL,
        Limits::default(),
    );
    assert_eq!(check(&given, &[of_another], ("broker", 12), &Known::default()), Err(TicketError::Signature));
}

#[test]
fn what_is_revoked_or_expired_or_too_large_is_refused() {
    let given = capability(Limits::default());
    let first = link(&given, &[], (1, "broker", 12), FROM, Limits::default());
    let links = std::slice::from_ref(&first);
    for id in [[1; 16], [2; 16]] {
        assert_eq!(check(&given, links, ("broker", 12), &Known(vec![id])), Err(TicketError::Revoked));
    }
    assert!(
        check(&given, &[], ("home", 11), &Known(vec![[2; 16]])).is_ok(),
        "what was handed on, not what it came from"
    );
    // A link may end earlier than the capability.
    let (broker, shown, factory) = (node("broker"), public(12), node("paris"));
    let late = FROM + CLOCK_SKEW_MS_MAX;
    let presented = Presented { speaker: &broker, key: Some(&shown), factory: &factory, now_ms: late, version: 2 };
    assert_eq!(check_right(&given, links, &presented, &Known::default()), Err(TicketError::Time));
    let many = vec![first; LINKS_MAX + 1];
    assert_eq!(check(&given, &many, ("broker", 12), &Known::default()), Err(TicketError::Oversized));
    let names: Vec<String> = (0..65).map(|number| format!("m{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let large = capability(Limits { models: models(&names), ..Limits::default() });
    assert_eq!(check(&large, &[], ("home", 11), &Known::default()), Err(TicketError::Oversized));
}

#[test]
fn a_version_without_keys_counts_only_where_it_is_spoken() {
    let tenant = TenantId::parse("bank").unwrap();
    let (home, factory) = (node("home"), node("paris"));
    let plain = Capability {
        home: home.clone(),
        factory: factory.clone(),
        tenant,
        from_ms: FROM,
        until_ms: UNTIL,
        bound: None,
    };
    let plain = plain.sign(&key(1)).unwrap();
    let shown = public(11);
    for (version, expected) in [(1, Ok(Limits::default())), (2, Err(TicketError::Unbound))] {
        let presented = Presented { speaker: &home, key: Some(&shown), factory: &factory, now_ms: FROM, version };
        assert_eq!(check_right(&plain, &[], &presented, &Known::default()), expected);
    }
    // Its bytes are those of before: an older factory reads it.
    let text = serde_json::to_string(&plain).unwrap();
    assert!(!text.contains("bound"), "{text}");
}

#[test]
fn requests_outside_of_the_limits_are_refused() {
    let mut asked = request(DataClass::Public, &[Purpose::Finance]);
    asked.model = Some(ModelId::parse("a").unwrap());
    let limits = |limits: Limits| limits.admit(&asked, 8);
    assert!(limits(Limits::default()));
    assert!(limits(Limits { models: models(&["a"]), ..Limits::default() }));
    assert!(!limits(Limits { models: models(&["b"]), ..Limits::default() }));
    assert!(!limits(Limits { tokens_max: Some(7), ..Limits::default() }));
    assert!(!limits(Limits { actions: Some(BTreeSet::new()), ..Limits::default() }));
    assert!(!limits(Limits { projects: Some(BTreeSet::new()), ..Limits::default() }));
    asked.model = None;
    assert!(!Limits { models: models(&["a"]), ..Limits::default() }.admit(&asked, 8));
}

#[test]
fn a_revocation_is_the_homes_own() {
    let ids = BTreeSet::from([hex::encode([1; 16])]);
    let signed = Revoked { home: node("home"), ids, at_ms: FROM }.sign(&key(1)).unwrap();
    assert_eq!(signed.check(&[key(1).verifying_key()]), Ok(vec![[1; 16]]));
    assert_eq!(signed.check(&[key(2).verifying_key()]), Err(TicketError::Signature));
    assert_eq!(signed.check(&[]), Err(TicketError::Signature));
    let ids = BTreeSet::from(["zz".to_owned()]);
    let odd = Revoked { home: node("home"), ids, at_ms: FROM }.sign(&key(1)).unwrap();
    assert_eq!(odd.check(&[key(1).verifying_key()]), Err(TicketError::Signature));
}
