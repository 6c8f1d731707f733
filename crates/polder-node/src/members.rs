//! The members of a node's federation as they are now: those of the members' file and those who joined, with what their keys have become.
//!
//! The pure machine (`polder_core::membership`) says what an event means; here its effects are carried out, records first. What the
//! others read of it is one [`Directory`], exchanged as a whole: pins, channels, rights and witnesses follow from it. Deciding who may join
//! is absent: that is a person's.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};

use arc_swap::ArcSwap;
use ed25519_dalek::SigningKey;
use polder_core::ids::NodeId;
use polder_core::keys::history::KeyHistory;
use polder_core::keys::{NodeCard, Role, Signed};
use polder_core::membership::{
    Answer, Departure, Effect, Event, Introduction, Invitation, JoinRequest, MemberStatement, Membership, Open, Peer,
    Refusal, SPOKEN, Standing,
};
use polder_core::statement::v1::Statement;
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, Notify, watch};

use crate::clock::{now_ms, random};
use crate::config::Member;
use crate::log::{Log, LogError};
use crate::metrics;
use crate::peers::server::Callers;
use crate::peers::tls::{Doors, Pins};
use crate::store::{Beside, MemberRow, Store, StoreError};

mod company;
mod line;
mod reach;

pub use company::keep;
pub use line::{from_line, to_line};
pub use reach::Reached;

/// Why a membership cannot be changed.
#[derive(Debug, thiserror::Error)]
pub enum MembersError {
    /// It is refused, with the cause.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The call does not fit.
    #[error("{0}")]
    Invalid(String),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The log.
    #[error(transparent)]
    Log(#[from] LogError),
}

/// A member with all its keys that count now. During an overlap there are two of a role, the one in force first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Who it is, and where it is reached.
    pub member: Member,
    /// The keys that count, by role, the one in force first.
    pub keys: BTreeMap<Role, Vec<[u8; 32]>>,
}

impl Held {
    /// The keys of a role.
    pub fn keys(&self, role: Role) -> &[[u8; 32]] {
        self.keys.get(&role).map_or(&[], Vec::as_slice)
    }

    /// The key of a role that is in force; zeros, which sign nothing, where there is none.
    pub fn key(&self, role: Role) -> [u8; 32] {
        self.keys(role).first().copied().unwrap_or_default()
    }
}

/// The members at one time.
#[derive(Debug, Default)]
pub struct Directory {
    /// Everybody but the node itself.
    pub members: Vec<Held>,
}

/// What peers tell each other of who has left, and of their keys: `GET /peer/v1/members`.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct News {
    /// Who has left, each signed by its own identity.
    #[serde(default)]
    pub departures: Vec<Signed<Departure>>,
    /// The lives of the keys of members, each signed by its own identity.
    #[serde(default)]
    pub histories: Vec<Signed<KeyHistory>>,
}

/// A record that people carry between nodes where no network does.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "record", content = "signed", rename_all = "lowercase")]
pub enum Carried {
    /// Somebody wants to join.
    Request(Box<Signed<JoinRequest>>),
    /// What became of it.
    Answer(Box<Signed<Answer>>),
    /// Somebody leaves.
    Departure(Signed<Departure>),
    /// The lives of somebody's keys, for whoever missed an overlap.
    Keys(Signed<KeyHistory>),
}

/// What a node is told that asks to join: `POST /peer/v1/join`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Told {
    /// The answer; absent while a person has not given it.
    pub answer: Option<Signed<Answer>>,
}

/// The members of a node.
pub struct Members {
    node: NodeId,
    fixed: Vec<Member>,
    machine: Mutex<Membership>,
    seen: RwLock<Seen>,
    directory: ArcSwap<Directory>,
    doors: Arc<ArcSwap<Doors>>,
    changed: watch::Sender<u64>,
    /// The channels to the members.
    pub reached: Arc<Reached>,
    /// Somebody is to be asked, or told.
    errand: Notify,
    store: Store,
    log: Log,
}

/// What is read without waiting for the machine.
#[derive(Default)]
struct Seen {
    peers: Vec<Peer>,
    open: Vec<Open>,
    departed: Option<Signed<Departure>>,
    departures: Vec<Signed<Departure>>,
    histories: BTreeMap<NodeId, Signed<KeyHistory>>,
}

impl Members {
    /// Opens the memberships of a node as they were kept, beside those of its members' file.
    pub async fn open(
        (card, identity): (&NodeCard, SigningKey),
        (address, factory): (Option<SocketAddr>, bool),
        fixed: &[Member],
        store: Store,
        log: Log,
    ) -> Result<Self, MembersError> {
        let own = Introduction {
            card: card.clone(),
            address: address.map(|address| address.to_string()),
            factory,
            versions: SPOKEN,
        };
        let fixed: Vec<Member> = fixed.iter().filter(|member| member.card.node != card.node).cloned().collect();
        let (mut peers, mut open, mut departed, mut departures) = (Vec::new(), Vec::new(), None, Vec::new());
        for row in store.members().await? {
            match row {
                MemberRow::Peer(peer) => peers.push(*peer),
                MemberRow::Invitation(one) => open.push(*one),
                MemberRow::Departure(one) if one.value.identity == card.identity => departed = Some(one),
                MemberRow::Departure(one) => departures.push(one),
            }
        }
        let known: BTreeSet<[u8; 32]> = peers.iter().map(|peer: &Peer| peer.said.card.identity).collect();
        let written = fixed.iter().filter(|member| !known.contains(&member.card.identity)).map(of_file);
        peers.extend(written);
        let mut histories = BTreeMap::new();
        for peer in &peers {
            let node = peer.said.card.node.clone();
            let kept = store.key_history(node.as_str()).await?;
            let history = kept.and_then(|bytes| serde_json::from_slice::<Signed<KeyHistory>>(&bytes).ok());
            histories.extend(history.map(|history| (node, history)));
        }
        let machine = Membership::new(own, identity, peers, open, departed);
        let members = Self {
            node: card.node.clone(),
            fixed,
            machine: Mutex::new(machine.clone()),
            seen: RwLock::new(Seen { departures, histories, ..Seen::default() }),
            directory: ArcSwap::default(),
            doors: Arc::default(),
            changed: watch::channel(0).0,
            reached: Arc::default(),
            errand: Notify::new(),
            store,
            log,
        };
        members.see(&machine);
        members.rebuild();
        Ok(members)
    }

    /// The members now.
    pub fn directory(&self) -> Arc<Directory> {
        self.directory.load_full()
    }

    /// Who may come in, for the listener of peers.
    pub fn doors(&self) -> Arc<ArcSwap<Doors>> {
        Arc::clone(&self.doors)
    }

    /// What the listener of peers needs of it.
    pub fn callers(&self) -> Callers {
        Callers { doors: self.doors(), changes: self.changes(), reached: Arc::clone(&self.reached) }
    }

    /// Tells when the directory is another one.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Every peer that is known, whatever became of it; whether the members' file names it.
    pub fn peers(&self) -> Vec<(Peer, bool)> {
        let seen = self.seen.read().unwrap_or_else(PoisonError::into_inner);
        let in_file = |peer: &Peer| self.fixed.iter().any(|member| member.card.identity == peer.said.card.identity);
        seen.peers.iter().map(|peer| (peer.clone(), in_file(peer))).collect()
    }

    /// The invitations that are kept.
    pub fn invitations(&self) -> Vec<Open> {
        self.seen.read().unwrap_or_else(PoisonError::into_inner).open.clone()
    }

    /// The word with which this node left, where it has.
    pub fn departed(&self) -> Option<Signed<Departure>> {
        self.seen.read().unwrap_or_else(PoisonError::into_inner).departed.clone()
    }

    /// What this node tells its peers.
    pub fn news(&self) -> News {
        let seen = self.seen.read().unwrap_or_else(PoisonError::into_inner);
        let departures = seen.departures.iter().chain(&seen.departed).cloned().collect();
        News { departures, histories: seen.histories.values().cloned().collect() }
    }

    /// Makes an invitation.
    pub async fn invite(&self, offers: String, for_ms: u64) -> Result<Signed<Invitation>, MembersError> {
        let id = random().map_err(|error| MembersError::Invalid(format!("no randomness: {error}")))?;
        let made = self.step(Event::Invite { id, offers, for_ms }).await?.into_iter().find_map(|effect| match effect {
            Effect::Invitation(made) => Some(*made),
            _ => None,
        });
        made.ok_or_else(|| MembersError::Invalid("no invitation was made".to_owned()))
    }

    /// The one peer of a name, or of the beginning of an identity.
    pub fn find(&self, name: &str, wanted: &[Standing]) -> Result<Peer, MembersError> {
        let seen = self.seen.read().unwrap_or_else(PoisonError::into_inner);
        let named = |peer: &&Peer| {
            let card = &peer.said.card;
            let begins = name.len() >= 8 && hex::encode(card.identity).starts_with(name);
            card.node.as_str() == name || begins
        };
        let found: Vec<&Peer> =
            seen.peers.iter().filter(named).filter(|peer| wanted.contains(&peer.standing)).collect();
        match found.as_slice() {
            [peer] => Ok((*peer).clone()),
            [] => Err(Refusal::NotWaiting(name.to_owned()).into()),
            _ => Err(MembersError::Invalid(format!(
                "`{name}` is more than one: give the first digits of its identity instead"
            ))),
        }
    }

    /// Takes in what a peer asked, and says what became of it.
    pub async fn asked(&self, request: Signed<JoinRequest>) -> Result<Told, MembersError> {
        let identity = request.value.from.card.identity;
        let digest = request.digest();
        self.step(Event::Requested(Box::new(request))).await?;
        let machine = self.machine.lock().await;
        let of_this = |answer: &Signed<Answer>| answer.value.request == digest;
        Ok(Told { answer: machine.peer(&identity).and_then(|peer| peer.answer.clone()).filter(of_this) })
    }

    /// Takes in a record that somebody carried here.
    pub async fn carried(&self, record: Carried) -> Result<Vec<Effect>, MembersError> {
        let event = match record {
            Carried::Request(request) => Event::Requested(request),
            Carried::Answer(answer) => Event::Answered(answer),
            // Whoever takes in records takes keys to where they are learned.
            Carried::Keys(_) => return Ok(Vec::new()),
            Carried::Departure(departure) => return self.heard(departure).await.map(|()| Vec::new()),
        };
        self.step(event).await
    }

    /// Whether a departure ends anything here, as far as can be seen without the machine.
    pub(crate) fn concerns(&self, departure: &Departure) -> bool {
        let seen = self.seen.read().unwrap_or_else(PoisonError::into_inner);
        let peer = seen.peers.iter().find(|peer| peer.said.card.identity == departure.identity);
        peer.is_some_and(|peer| {
            let since_ms = peer.request.as_ref().map_or(0, |request| request.value.at_ms);
            peer.standing == Standing::Member && since_ms <= departure.at_ms
        })
    }

    /// Takes in that somebody leaves, and remembers its word for those who ask.
    pub async fn heard(&self, departure: Signed<Departure>) -> Result<(), MembersError> {
        let known = {
            let seen = self.seen.read().unwrap_or_else(PoisonError::into_inner);
            seen.departures.contains(&departure) || seen.departed.as_ref() == Some(&departure)
        };
        if known {
            return Ok(());
        }
        let effects = self.step(Event::Departed(departure.clone())).await?;
        if !effects.is_empty() {
            self.store.keep_member(&MemberRow::Departure(departure.clone())).await?;
            self.seen.write().unwrap_or_else(PoisonError::into_inner).departures.push(departure);
        }
        Ok(())
    }

    /// A member's keys have changed: what its history says counts from now on.
    pub fn follow(&self, node: &NodeId, history: Signed<KeyHistory>) {
        self.seen.write().unwrap_or_else(PoisonError::into_inner).histories.insert(node.clone(), history);
        self.rebuild();
    }

    /// This node's own card is another one, or time has ended an overlap.
    pub async fn renew(&self, card: Option<NodeCard>) {
        if let Some(card) = card {
            let mut machine = self.machine.lock().await;
            let own = Introduction { card, ..machine.own().clone() };
            machine.set_own(own);
        }
        self.rebuild();
    }

    /// Takes in an event: its records are on disk, and its leaf is in the log, before anything follows from it.
    pub async fn step(&self, event: Event) -> Result<Vec<Effect>, MembersError> {
        let leaves = matches!(event, Event::Leave);
        let mut machine = self.machine.lock().await;
        let mut next = machine.clone();
        let now = now_ms();
        let effects = next.step(now, event).inspect_err(|refusal| metrics::peer_refused(refusal.cause()))?;
        let mut members = false;
        for effect in &effects {
            match effect {
                Effect::KeepPeer(peer, act) => {
                    let row = MemberRow::Peer(peer.clone());
                    match act {
                        Some(act) => {
                            let statement = Statement::Member(MemberStatement::of(&self.node, now, *act, peer));
                            self.log.append_beside(&statement, Beside::Member(row)).await?.covered().await?;
                            tracing::warn!(number = act.name(), from = %peer.said.card.node, "a membership has changed");
                        }
                        None => self.store.keep_member(&row).await?,
                    }
                }
                Effect::DropPeer(identity) => self.store.drop_member("peer", identity).await?,
                Effect::KeepInvitation(open) => self.store.keep_member(&MemberRow::Invitation(open.clone())).await?,
                Effect::DropInvitation(id) => self.store.drop_member("invitation", id).await?,
                Effect::KeepDeparture(one) => self.store.keep_member(&MemberRow::Departure(one.clone())).await?,
                Effect::DropDeparture => {
                    self.store.drop_member("departure", &next.own().card.identity).await?;
                }
                Effect::Members => members = true,
                Effect::Ask(_) => self.errand.notify_one(),
                Effect::Spread(_) | Effect::Invitation(_) => {}
            }
        }
        *machine = next;
        self.see(&machine);
        drop(machine);
        let word = effects.iter().find_map(|effect| match effect {
            Effect::Spread(departure) => Some(departure.clone()),
            _ => None,
        });
        // Who leaves tells the others while their channels are still there; they hear it from each other too.
        if let Some(departure) = word.as_ref().filter(|_| leaves) {
            self.spread(departure).await;
        }
        self.open_doors();
        if members {
            self.rebuild();
        }
        if let Some(departure) = word.as_ref().filter(|_| !leaves) {
            self.spread(departure).await;
        }
        Ok(effects)
    }

    fn see(&self, machine: &Membership) {
        let mut seen = self.seen.write().unwrap_or_else(PoisonError::into_inner);
        seen.peers = machine.peers().cloned().collect();
        seen.open = machine.invitations().cloned().collect();
        seen.departed = machine.departed().cloned();
    }

    /// Puts the directory together again.
    fn rebuild(&self) {
        let now = now_ms();
        let members = {
            let seen = self.seen.read().unwrap_or_else(PoisonError::into_inner);
            let counts = |peer: &&Peer| peer.standing == Standing::Member && seen.departed.is_none();
            let held = |peer: &Peer| {
                let card = &peer.said.card;
                // The members' file is the operator's own word of where somebody is.
                let written = self.fixed.iter().find(|member| member.card.identity == card.identity);
                let address = peer.said.address.as_ref().and_then(|address| address.parse().ok());
                let member = written.cloned().unwrap_or_else(|| Member {
                    card: card.clone(),
                    address,
                    factory: peer.said.factory,
                });
                held(member, seen.histories.get(&card.node), now)
            };
            seen.peers.iter().filter(counts).map(held).collect()
        };
        if self.directory.load().members != members {
            self.directory.store(Arc::new(Directory { members }));
            self.open_doors();
            self.changed.send_modify(|number| *number = number.wrapping_add(1));
        }
    }

    fn open_doors(&self) {
        let directory = self.directory.load();
        let seen = self.seen.read().unwrap_or_else(PoisonError::into_inner);
        let pin = |held: &Held| {
            let node = held.member.card.node.clone();
            held.keys(Role::Transport).iter().map(move |key| (*key, node.clone())).collect::<Vec<_>>()
        };
        let pins: Pins = directory.members.iter().flat_map(pin).collect();
        let key = |peer: &Peer| peer.said.card.keys.get(&Role::Transport).map(|held| held.key);
        let guests = seen.peers.iter().filter_map(key).filter(|key| !pins.contains_key(key)).collect();
        let unused = seen.open.iter().filter(|open| open.used.is_none() && seen.departed.is_none());
        let open_until_ms = unused.map(|open| open.invitation.value.until_ms).max().unwrap_or(0);
        self.doors.store(Arc::new(Doors { pins, guests, open_until_ms }));
    }
}

/// A peer that the members' file names.
fn of_file(member: &Member) -> Peer {
    let said = Introduction {
        card: member.card.clone(),
        address: member.address.map(|address| address.to_string()),
        factory: member.factory,
        versions: SPOKEN,
    };
    Peer { said, standing: Standing::Member, since_ms: 0, request: None, answer: None }
}

/// A member with the keys that count at an instant: those of its history where it has one, else those of its card.
fn held(member: Member, history: Option<&Signed<KeyHistory>>, now_ms: u64) -> Held {
    let of_card = member.card.keys.iter().map(|(role, held)| (*role, vec![held.key]));
    let mut keys: BTreeMap<Role, Vec<[u8; 32]>> = of_card.collect();
    if let Some(history) = history {
        for (role, held) in &mut keys {
            let counts = history.value.in_force(*role, now_ms);
            if !counts.is_empty() {
                *held = counts;
            }
        }
    }
    Held { member, keys }
}
