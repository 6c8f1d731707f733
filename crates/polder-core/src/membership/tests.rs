//! Tests of memberships: two sides or none, each signature, each time limit, and a thousand orders of loss and repetition.
#![allow(clippy::unwrap_used, clippy::panic)]

use super::*;
use crate::canonical::Digest;
use crate::ids::NodeId;
use crate::keys::{NodeCard, ROLES};
use crate::tests::{key, node};

const NOW: u64 = 1_800_000_000_000;
const HOUR: u64 = 3_600_000;

fn introduction(name: &str, seed: u8, versions: Versions) -> Introduction {
    let keys = ROLES.into_iter().zip(1..).map(|(role, place)| (role, key(seed + place).verifying_key().to_bytes()));
    let card = NodeCard::sign(node(name), &key(seed), &keys.collect()).unwrap();
    Introduction { card, address: Some("127.0.0.1:9".to_owned()), factory: true, versions }
}

fn machine(name: &str, seed: u8) -> Membership {
    Membership::new(introduction(name, seed, SPOKEN), key(seed), Vec::new(), Vec::new(), None)
}

fn invitation(inviter: &mut Membership, id: u8) -> Signed<Invitation> {
    let event = Event::Invite { id: [id; 16], offers: "eight accelerators".to_owned(), for_ms: HOUR };
    let effects = inviter.step(NOW, event).unwrap();
    effects
        .into_iter()
        .find_map(|effect| match effect {
            Effect::Invitation(made) => Some(*made),
            _ => None,
        })
        .unwrap()
}

fn identity(of: &Membership) -> [u8; 32] {
    of.own().card.identity
}

fn standing(of: &Membership, peer: &Membership) -> Option<Standing> {
    of.peer(&identity(peer)).map(|peer| peer.standing)
}

fn request(of: &Membership, to: &Membership) -> Signed<JoinRequest> {
    of.peer(&identity(to)).unwrap().request.clone().unwrap()
}

/// Two nodes, one of which has asked the other.
fn asked() -> (Membership, Membership) {
    let (mut paris, mut bank) = (machine("paris", 10), machine("bank", 20));
    let invitation = invitation(&mut paris, 1);
    bank.step(NOW, Event::Join(Box::new(invitation))).unwrap();
    paris.step(NOW, Event::Requested(Box::new(request(&bank, &paris)))).unwrap();
    (paris, bank)
}

fn answer(of: &Membership, to: &Membership) -> Signed<Answer> {
    of.peer(&identity(to)).unwrap().answer.clone().unwrap()
}

/// Two nodes that are members of each other.
fn joined() -> (Membership, Membership) {
    let (mut paris, mut bank) = asked();
    let identity = identity(&bank);
    paris.step(NOW, Event::Decide { identity, accept: true }).unwrap();
    bank.step(NOW, Event::Answered(Box::new(answer(&paris, &bank)))).unwrap();
    (paris, bank)
}

#[test]
fn a_membership_has_two_sides() {
    let (mut paris, mut bank) = asked();
    assert_eq!(standing(&paris, &bank), Some(Standing::Asks));
    assert_eq!(standing(&bank, &paris), Some(Standing::Asked));
    let effects = paris.step(NOW + 1, Event::Decide { identity: identity(&bank), accept: true }).unwrap();
    assert!(matches!(&effects[..], [Effect::KeepPeer(_, Some(Act::Accepted)), Effect::Members]), "{effects:?}");
    assert_eq!(standing(&bank, &paris), Some(Standing::Asked), "it counts there once it has heard");
    let answer = answer(&paris, &bank);
    bank.step(NOW + 2, Event::Answered(Box::new(answer.clone()))).unwrap();
    assert_eq!(standing(&bank, &paris), Some(Standing::Member));
    assert_eq!(bank.step(NOW + 3, Event::Answered(Box::new(answer))), Ok(Vec::new()), "said twice");
}

#[test]
fn who_is_refused_is_told_and_is_no_member() {
    let (mut paris, mut bank) = asked();
    paris.step(NOW, Event::Decide { identity: identity(&bank), accept: false }).unwrap();
    bank.step(NOW, Event::Answered(Box::new(answer(&paris, &bank)))).unwrap();
    assert_eq!((standing(&paris, &bank), standing(&bank, &paris)), (Some(Standing::Refused), Some(Standing::Refused)));
    let again = paris.step(NOW, Event::Decide { identity: identity(&bank), accept: true });
    assert!(matches!(again, Err(Refusal::NotWaiting(_))));
}

#[test]
fn an_invitation_is_for_one_and_for_a_while() {
    let (mut paris, bank) = asked();
    let mut thief = machine("thief", 40);
    let stolen = paris.invitations().next().unwrap().invitation.clone();
    thief.step(NOW, Event::Join(Box::new(stolen))).unwrap();
    let used = paris.step(NOW, Event::Requested(Box::new(request(&thief, &paris))));
    assert_eq!(used, Err(Refusal::Used));
    // The one who used it may ask what came of it, as often as it likes.
    assert_eq!(paris.step(NOW, Event::Requested(Box::new(request(&bank, &paris)))), Ok(Vec::new()));

    let late = invitation(&mut paris, 2);
    assert_eq!(thief.step(NOW + HOUR, Event::Join(Box::new(late.clone()))), Err(Refusal::Expired));
    let mut early = machine("early", 60);
    early.step(NOW, Event::Join(Box::new(late))).unwrap();
    let asked = Event::Requested(Box::new(request(&early, &paris)));
    assert_eq!(paris.step(NOW + HOUR, asked.clone()), Err(Refusal::Expired));
    paris.step(NOW + 1, Event::Withdraw([2; 16])).unwrap();
    assert_eq!(paris.step(NOW + 2, asked), Err(Refusal::Unknown));
}

#[test]
fn what_is_forged_or_meant_for_others_changes_nothing() {
    let (mut paris, mut bank) = asked();
    let mut other = machine("other", 80);
    let good = request(&bank, &paris);
    let misdirected = other.step(NOW, Event::Requested(Box::new(good.clone())));
    assert_eq!(misdirected, Err(Refusal::Misdirected));
    let mut spoiled = good.clone();
    spoiled.value.from.factory = false;
    assert_eq!(paris.step(NOW, Event::Requested(Box::new(spoiled))).unwrap_err().cause(), "forged");
    let mut widened = invitation(&mut paris, 3);
    widened.value.until_ms += HOUR;
    assert_eq!(other.step(NOW, Event::Join(Box::new(widened))).unwrap_err().cause(), "forged");
    // A card whose keys another identity signed.
    let mut foreign = invitation(&mut paris, 4);
    foreign.value.from.card.keys = other.own().card.keys.clone();
    let foreign = foreign.value.sign(&key(10)).unwrap();
    assert_eq!(bank.step(NOW, Event::Join(Box::new(foreign))).unwrap_err().cause(), "forged");
    // An answer to somebody else's request.
    paris.step(NOW, Event::Decide { identity: identity(&bank), accept: true }).unwrap();
    let mut crossed = answer(&paris, &bank).value;
    crossed.request = Digest([7; 32]);
    let crossed = crossed.sign(&key(10)).unwrap();
    assert_eq!(bank.step(NOW, Event::Answered(Box::new(crossed))).unwrap_err().cause(), "unknown");
    assert_eq!(standing(&bank, &paris), Some(Standing::Asked));
}

#[test]
fn versions_meet_or_refuse() {
    let versions = |least, most| Versions { least, most };
    for (own, other, newest) in [
        (versions(1, 2), versions(1, 2), Some(2)),
        (versions(1, 2), versions(2, 3), Some(2)),
        (versions(2, 3), versions(1, 2), Some(2)),
        (versions(1, 2), versions(3, 4), None),
        (versions(1, 2), versions(2, 1), None),
        (versions(0, u32::MAX), versions(7, 7), Some(7)),
    ] {
        assert_eq!((own.newest_with(other), other.newest_with(own)), (newest, newest), "{own} and {other}");
    }
    let mut paris = machine("paris", 10);
    let invitation = invitation(&mut paris, 1);
    let mut future = Membership::new(introduction("future", 20, versions(3, 4)), key(20), Vec::new(), Vec::new(), None);
    let refused = future.step(NOW, Event::Join(Box::new(invitation))).unwrap_err();
    assert_eq!(refused, Refusal::Version { own: versions(3, 4), other: SPOKEN });
}

#[test]
fn a_name_belongs_to_one_identity() {
    let (mut paris, _) = joined();
    let mut twin = machine("bank", 60);
    let invitation = invitation(&mut paris, 2);
    twin.step(NOW, Event::Join(Box::new(invitation))).unwrap();
    let refused = paris.step(NOW, Event::Requested(Box::new(request(&twin, &paris))));
    assert_eq!(refused, Err(Refusal::Name(NodeId::parse("bank").unwrap())));
    let own = self::invitation(&mut paris, 3);
    assert_eq!(paris.step(NOW, Event::Join(Box::new(own))), Err(Refusal::Oneself));
}

#[test]
fn who_leaves_is_gone_everywhere_and_may_come_back() {
    let (mut paris, mut bank) = joined();
    let effects = bank.step(NOW + 10, Event::Leave).unwrap();
    let spread = effects.iter().position(|effect| matches!(effect, Effect::Spread(_))).unwrap();
    let members = effects.iter().position(|effect| *effect == Effect::Members).unwrap();
    assert!(matches!(effects[0], Effect::KeepDeparture(_)) && spread < members, "{effects:?}");
    let departure = bank.departed().unwrap().clone();
    let effects = paris.step(NOW + 11, Event::Departed(departure.clone())).unwrap();
    assert!(effects.contains(&Effect::Spread(departure.clone())), "who hears of it passes it on");
    assert_eq!(standing(&paris, &bank), Some(Standing::Left));
    assert_eq!(paris.step(NOW + 12, Event::Departed(departure.clone())), Ok(Vec::new()), "and only once");
    assert_eq!(bank.step(NOW + 12, Event::Leave), Err(Refusal::Gone));
    let mut forged = departure.clone();
    forged.value.at_ms += HOUR;
    assert_eq!(paris.step(NOW + 13, Event::Departed(forged)).unwrap_err().cause(), "forged");

    let invitation = invitation(&mut paris, 9);
    bank.step(NOW + 20, Event::Join(Box::new(invitation))).unwrap();
    assert!(bank.departed().is_none());
    paris.step(NOW + 21, Event::Requested(Box::new(request(&bank, &paris)))).unwrap();
    paris.step(NOW + 22, Event::Decide { identity: identity(&bank), accept: true }).unwrap();
    assert_eq!(
        paris.step(NOW + 23, Event::Departed(departure)),
        Err(Refusal::Stale),
        "the word of before ends nothing"
    );
    assert_eq!(standing(&paris, &bank), Some(Standing::Member));
}

#[test]
fn what_waits_is_forgotten_at_its_deadline() {
    let (mut paris, bank) = asked();
    assert_eq!(paris.deadline(), Some(NOW + HOUR));
    let effects = paris.step(NOW + HOUR, Event::Tick).unwrap();
    assert_eq!(effects, [Effect::DropInvitation([1; 16])]);
    assert_eq!(paris.deadline(), Some(NOW + REQUEST_MS_MAX));
    let effects = paris.step(NOW + REQUEST_MS_MAX, Event::Tick).unwrap();
    assert_eq!(effects, [Effect::DropPeer(identity(&bank)), Effect::Members]);
    assert_eq!(paris.deadline(), None);
}

#[test]
fn invitations_are_bounded() {
    let mut paris = machine("paris", 10);
    for number in 0..u64::try_from(INVITATIONS_MAX).unwrap() {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&number.to_be_bytes());
        paris.step(NOW, Event::Invite { id, offers: String::new(), for_ms: HOUR }).unwrap();
    }
    let more = Event::Invite { id: [9; 16], offers: String::new(), for_ms: HOUR };
    assert_eq!(paris.step(NOW, more).unwrap_err().cause(), "flood");
    let long = Event::Invite { id: [9; 16], offers: "x".repeat(OFFERS_BYTES_MAX + 1), for_ms: HOUR };
    assert_eq!(machine("bank", 20).step(NOW, long), Err(Refusal::TooLong("offer")));
}

/// The machine again from what it kept: what a crash leaves.
fn restarted(before: &Membership, seed: u8) -> Membership {
    let (peers, open) = (before.peers().cloned().collect(), before.invitations().cloned().collect());
    Membership::new(before.own().clone(), key(seed), peers, open, before.departed().cloned())
}

#[test]
fn no_order_of_loss_and_repetition_makes_a_one_sided_member() {
    use rand_pcg::Pcg64Mcg;
    use rand_pcg::rand_core::{Rng as _, SeedableRng as _};
    for seed in 0..200 {
        let mut chance = Pcg64Mcg::seed_from_u64(seed);
        let (mut paris, mut bank) = (machine("paris", 10), machine("bank", 20));
        let mut wire: Vec<Event> = Vec::new();
        let (mut now, mut id) = (NOW, 0u8);
        for _ in 0..60 {
            now += u64::from(chance.next_u32() % 5);
            let old = (!wire.is_empty()).then(|| wire[chance.next_u32() as usize % wire.len().max(1)].clone());
            match chance.next_u32() % 8 {
                0 if id < 200 => {
                    id += 1;
                    if let Ok(effects) =
                        paris.step(now, Event::Invite { id: [id; 16], offers: String::new(), for_ms: HOUR })
                    {
                        wire.extend(effects.into_iter().find_map(|effect| match effect {
                            Effect::Invitation(made) => Some(Event::Join(made)),
                            _ => None,
                        }));
                    }
                }
                1 => drop(paris.step(now, Event::Decide { identity: identity(&bank), accept: true })),
                2 => drop(
                    bank.step(now, Event::Leave).map(|_| wire.extend(bank.departed().cloned().map(Event::Departed))),
                ),
                3 => (paris, bank) = (restarted(&paris, 10), restarted(&bank, 20)),
                _ => match old {
                    Some(event @ (Event::Join(_) | Event::Answered(_))) => drop(bank.step(now, event)),
                    Some(event) => drop(paris.step(now, event)),
                    None => {}
                },
            }
            let sent = bank.peer(&identity(&paris)).and_then(|peer| peer.request.clone());
            wire.extend(sent.map(|request| Event::Requested(Box::new(request))));
            let said = paris.peer(&identity(&bank)).and_then(|peer| peer.answer.clone());
            wire.extend(said.map(|answer| Event::Answered(Box::new(answer))));
            // Who counts somebody as a member holds that one's own signature under it.
            for (one, other) in [(&paris, &bank), (&bank, &paris)] {
                let Some(peer) = one.peer(&identity(other)) else { continue };
                if peer.standing == Standing::Member {
                    let request = peer.request.as_ref().unwrap();
                    request.check().unwrap();
                    let answer = peer.answer.as_ref().unwrap();
                    answer.check().unwrap();
                    assert!(answer.value.accepted && answer.value.request == request.digest(), "seed {seed}");
                }
            }
        }
    }
}
