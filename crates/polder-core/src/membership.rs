//! Who is a member of whom: the state machine of invitations, requests, acceptance and departure.
//!
//! There is no list that anybody keeps for all: each node has its own, and a membership is between two. It counts once both sides have
//! pinned each other's identity: who asks has pinned whom it asks, by the invitation, and who accepts has pinned who asked. Time, ids
//! and the node's own identity are arguments; sending, storing and channels are absent: they follow from the effects, in their order.

use std::collections::BTreeMap;

use ed25519_dalek::SigningKey;

use crate::keys::Signed;

mod peer;
mod records;

pub use peer::{Act, MemberStatement, Open, Peer, Refusal, Standing};
pub use records::{
    ADDRESS_BYTES_MAX, Answer, Departure, INVITATION_MS_MAX, Introduction, Invitation, JoinRequest, OFFERS_BYTES_MAX,
    SPOKEN, Versions,
};

/// Most invitations that are open at once.
pub const INVITATIONS_MAX: usize = 256;
/// Most peers that are remembered, whatever became of them.
pub const PEERS_MAX: usize = 4_096;
/// How long a request waits for an answer before it is forgotten, in milliseconds: 30 days.
pub const REQUEST_MS_MAX: u64 = 30 * 86_400_000;

/// What happens to a node's memberships.
#[derive(Debug, Clone)]
pub enum Event {
    /// The operator invites somebody.
    Invite {
        /// 16 random bytes.
        id: [u8; 16],
        /// What is offered, in words.
        offers: String,
        /// For how long, in milliseconds.
        for_ms: u64,
    },
    /// The operator takes an invitation back.
    Withdraw([u8; 16]),
    /// The operator wants to join whoever sent an invitation.
    Join(Box<Signed<Invitation>>),
    /// Somebody asks to join.
    Requested(Box<Signed<JoinRequest>>),
    /// The operator accepts or refuses who asked.
    Decide {
        /// The identity that asked.
        identity: [u8; 32],
        /// Whether to accept.
        accept: bool,
    },
    /// Somebody answers what this node asked.
    Answered(Box<Signed<Answer>>),
    /// The operator ends the membership with one peer.
    Remove([u8; 32]),
    /// The operator leaves all.
    Leave,
    /// Somebody says that it leaves.
    Departed(Signed<Departure>),
    /// Time has passed.
    Tick,
}

/// What follows, in this order: records first, then what others can see.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Write down how a peer stands, with this act in the log where there is one.
    KeepPeer(Box<Peer>, Option<Act>),
    /// Forget a peer that never became a member.
    DropPeer([u8; 32]),
    /// Write down an invitation.
    KeepInvitation(Box<Open>),
    /// Forget an invitation.
    DropInvitation([u8; 16]),
    /// Write down that this node left.
    KeepDeparture(Signed<Departure>),
    /// Write down that it is back.
    DropDeparture,
    /// The members are others now: pins, channels and keys follow.
    Members,
    /// Bring the request of this peer to it.
    Ask([u8; 32]),
    /// Bring the word of a departure to every member.
    Spread(Signed<Departure>),
    /// Hand this to the operator.
    Invitation(Box<Signed<Invitation>>),
}

/// The memberships of one node.
#[derive(Clone)]
pub struct Membership {
    own: Introduction,
    identity: SigningKey,
    peers: BTreeMap<[u8; 32], Peer>,
    invitations: BTreeMap<[u8; 16], Open>,
    departed: Option<Signed<Departure>>,
}

impl Membership {
    /// The memberships as they were kept. `own` is what this node says of itself now.
    pub fn new(
        own: Introduction,
        identity: SigningKey,
        peers: Vec<Peer>,
        invitations: Vec<Open>,
        departed: Option<Signed<Departure>>,
    ) -> Self {
        let peers = peers.into_iter().map(|peer| (peer.said.card.identity, peer)).collect();
        let invitations = invitations.into_iter().map(|open| (open.invitation.value.id, open)).collect();
        Self { own, identity, peers, invitations, departed }
    }

    /// This node says something else of itself from now on, such as other keys.
    pub fn set_own(&mut self, own: Introduction) {
        self.own = own;
    }

    /// What it says of itself.
    pub fn own(&self) -> &Introduction {
        &self.own
    }

    /// The peers by identity.
    pub fn peers(&self) -> impl Iterator<Item = &Peer> {
        self.peers.values()
    }

    /// The peer of an identity.
    pub fn peer(&self, identity: &[u8; 32]) -> Option<&Peer> {
        self.peers.get(identity)
    }

    /// The invitations that were not used or have not had their time.
    pub fn invitations(&self) -> impl Iterator<Item = &Open> {
        self.invitations.values()
    }

    /// Whether anybody may come with an invitation now, or comes for an answer.
    pub fn awaits(&self, now_ms: u64) -> bool {
        let open = |open: &Open| open.used.is_none() && now_ms < open.invitation.value.until_ms;
        self.departed.is_none() && self.invitations.values().any(open)
    }

    /// The word with which this node left, where it has.
    pub fn departed(&self) -> Option<&Signed<Departure>> {
        self.departed.as_ref()
    }

    /// The next instant at which a [`Event::Tick`] changes anything, in Unix milliseconds.
    pub fn deadline(&self) -> Option<u64> {
        let invitations = self.invitations.values().map(|open| open.invitation.value.until_ms);
        let waiting = self.peers.values().filter(|peer| matches!(peer.standing, Standing::Asks | Standing::Asked));
        invitations.chain(waiting.map(|peer| peer.since_ms.saturating_add(REQUEST_MS_MAX))).min()
    }

    /// Takes in one event at an instant in Unix milliseconds.
    pub fn step(&mut self, now_ms: u64, event: Event) -> Result<Vec<Effect>, Refusal> {
        match event {
            Event::Invite { id, offers, for_ms } => self.invite(now_ms, id, offers, for_ms),
            Event::Withdraw(id) => match self.invitations.remove(&id) {
                Some(_) => Ok(vec![Effect::DropInvitation(id)]),
                None => Err(Refusal::Unknown),
            },
            Event::Join(invitation) => self.join(now_ms, &invitation),
            Event::Requested(request) => self.requested(now_ms, *request),
            Event::Decide { identity, accept } => self.decide(now_ms, &identity, accept),
            Event::Answered(answer) => self.answered(now_ms, *answer),
            Event::Remove(identity) => self.end(now_ms, &identity, Act::Removed),
            Event::Leave => self.leave(now_ms),
            Event::Departed(departure) => self.departed_peer(now_ms, &departure),
            Event::Tick => Ok(self.tick(now_ms)),
        }
    }

    fn invite(&mut self, now_ms: u64, id: [u8; 16], offers: String, for_ms: u64) -> Result<Vec<Effect>, Refusal> {
        if self.departed.is_some() {
            return Err(Refusal::Gone);
        }
        if self.invitations.len() >= INVITATIONS_MAX {
            return Err(Refusal::Full("too many invitations are open: withdraw some, or wait until they expire"));
        }
        if offers.len() > OFFERS_BYTES_MAX {
            return Err(Refusal::TooLong("offer"));
        }
        let until_ms = now_ms.saturating_add(for_ms.min(INVITATION_MS_MAX));
        let invitation = Invitation { id, from: self.own.clone(), offers, until_ms }.sign(&self.identity)?;
        let open = Open { invitation: invitation.clone(), used: None };
        self.invitations.insert(id, open.clone());
        Ok(vec![Effect::KeepInvitation(Box::new(open)), Effect::Invitation(Box::new(invitation))])
    }

    fn join(&mut self, now_ms: u64, invitation: &Signed<Invitation>) -> Result<Vec<Effect>, Refusal> {
        invitation.check()?;
        let Invitation { id, from, until_ms, .. } = &invitation.value;
        self.fits(from)?;
        if now_ms >= *until_ms {
            return Err(Refusal::Expired);
        }
        let identity = from.card.identity;
        if let Some(peer) = self.peers.get(&identity) {
            match peer.standing {
                // Asking once more changes nothing; the request goes out again.
                Standing::Asked if peer.request.as_ref().is_some_and(|one| one.value.invitation == *id) => {
                    return Ok(vec![Effect::Ask(identity)]);
                }
                Standing::Member => return Ok(Vec::new()),
                _ => {}
            }
        }
        self.room(&identity)?;
        let request = JoinRequest {
            invitation: *id,
            to: from.card.node.clone(),
            to_identity: identity,
            from: self.own.clone(),
            at_ms: now_ms,
        };
        let request = request.sign(&self.identity)?;
        let peer = Peer {
            said: from.clone(),
            standing: Standing::Asked,
            since_ms: now_ms,
            request: Some(request),
            answer: None,
        };
        let mut effects = Vec::new();
        if self.departed.take().is_some() {
            effects.push(Effect::DropDeparture);
        }
        effects.push(self.keep(peer, None));
        effects.push(Effect::Members);
        effects.push(Effect::Ask(identity));
        Ok(effects)
    }

    fn requested(&mut self, now_ms: u64, request: Signed<JoinRequest>) -> Result<Vec<Effect>, Refusal> {
        request.check()?;
        let JoinRequest { invitation, to, to_identity, from, .. } = &request.value;
        if *to != self.own.card.node || *to_identity != self.own.card.identity {
            return Err(Refusal::Misdirected);
        }
        if self.departed.is_some() {
            return Err(Refusal::Gone);
        }
        self.fits(from)?;
        let (identity, digest) = (from.card.identity, request.digest());
        let open = self.invitations.get(invitation).ok_or(Refusal::Unknown)?;
        match open.used {
            // The very same request again: whoever sent it did not hear what became of it.
            Some(used) if used == digest => return Ok(Vec::new()),
            Some(_) => return Err(Refusal::Used),
            None if now_ms >= open.invitation.value.until_ms => return Err(Refusal::Expired),
            None => {}
        }
        if self.peers.get(&identity).is_some_and(|peer| peer.standing == Standing::Member) {
            return Err(Refusal::Used);
        }
        self.room(&identity)?;
        let open = Open { used: Some(digest), ..open.clone() };
        self.invitations.insert(*invitation, open.clone());
        let peer = Peer {
            said: from.clone(),
            standing: Standing::Asks,
            since_ms: now_ms,
            request: Some(request.clone()),
            answer: None,
        };
        Ok(vec![Effect::KeepInvitation(Box::new(open)), self.keep(peer, None), Effect::Members])
    }

    fn decide(&mut self, now_ms: u64, identity: &[u8; 32], accept: bool) -> Result<Vec<Effect>, Refusal> {
        let waiting = self.peers.get(identity).filter(|peer| peer.standing == Standing::Asks);
        let found = waiting.and_then(|peer| Some((peer.clone(), peer.request.as_ref()?.digest())));
        let (peer, request) = found.ok_or_else(|| self.not_waiting(identity))?;
        let answer =
            Answer { request, from: self.own.clone(), to_identity: *identity, accepted: accept, at_ms: now_ms };
        let answer = answer.sign(&self.identity)?;
        let (standing, act) = match accept {
            true => (Standing::Member, Act::Accepted),
            false => (Standing::Refused, Act::Refused),
        };
        let peer = Peer { standing, since_ms: now_ms, answer: Some(answer), ..peer };
        Ok(vec![self.keep(peer, Some(act)), Effect::Members])
    }

    fn answered(&mut self, now_ms: u64, answer: Signed<Answer>) -> Result<Vec<Effect>, Refusal> {
        answer.check()?;
        let identity = answer.value.from.card.identity;
        if answer.value.to_identity != self.own.card.identity {
            return Err(Refusal::Misdirected);
        }
        let Some(peer) = self.peers.get(&identity) else { return Err(self.not_waiting(&identity)) };
        let of_this = peer.request.as_ref().is_some_and(|request| request.digest() == answer.value.request);
        if peer.answer.as_ref() == Some(&answer) {
            return Ok(Vec::new());
        }
        if peer.standing != Standing::Asked || !of_this {
            return Err(self.not_waiting(&identity));
        }
        self.fits(&answer.value.from)?;
        let (standing, act) = match answer.value.accepted {
            true => (Standing::Member, Act::Joined),
            false => (Standing::Refused, Act::Declined),
        };
        let said = answer.value.from.clone();
        let peer = Peer { said, standing, since_ms: now_ms, answer: Some(answer), ..peer.clone() };
        Ok(vec![self.keep(peer, Some(act)), Effect::Members])
    }

    fn end(&mut self, now_ms: u64, identity: &[u8; 32], act: Act) -> Result<Vec<Effect>, Refusal> {
        let living = |peer: &&Peer| matches!(peer.standing, Standing::Member | Standing::Asked);
        let peer = self.peers.get(identity).filter(living).cloned();
        let peer = peer.ok_or_else(|| self.not_waiting(identity))?;
        let peer = Peer { standing: Standing::Left, since_ms: now_ms, ..peer };
        Ok(vec![self.keep(peer, Some(act)), Effect::Members])
    }

    fn leave(&mut self, now_ms: u64) -> Result<Vec<Effect>, Refusal> {
        if self.departed.is_some() {
            return Err(Refusal::Gone);
        }
        let card = &self.own.card;
        let departure = Departure { node: card.node.clone(), identity: card.identity, at_ms: now_ms };
        let departure = departure.sign(&self.identity)?;
        let mut effects = vec![Effect::KeepDeparture(departure.clone())];
        let ids: Vec<[u8; 16]> = self.invitations.keys().copied().collect();
        self.invitations.clear();
        effects.extend(ids.into_iter().map(Effect::DropInvitation));
        self.departed = Some(departure.clone());
        // Those who are told are told while their keys are still pinned; afterwards they count no more.
        effects.push(Effect::Spread(departure));
        let living: Vec<Peer> = self.peers.values().filter(|peer| peer.standing == Standing::Member).cloned().collect();
        for peer in living {
            let peer = Peer { standing: Standing::Left, since_ms: now_ms, ..peer };
            effects.push(self.keep(peer, Some(Act::Left)));
        }
        effects.push(Effect::Members);
        Ok(effects)
    }

    fn departed_peer(&mut self, now_ms: u64, departure: &Signed<Departure>) -> Result<Vec<Effect>, Refusal> {
        departure.check()?;
        let Departure { identity, at_ms, .. } = &departure.value;
        let Some(peer) = self.peers.get(identity) else { return Err(self.not_waiting(identity)) };
        if peer.standing == Standing::Left {
            return Ok(Vec::new());
        }
        // A departure of before, brought again after the node came back, ends nothing.
        if peer.request.as_ref().is_some_and(|request| *at_ms < request.value.at_ms) {
            return Err(Refusal::Stale);
        }
        let mut effects = self.end(now_ms, identity, Act::Departed)?;
        // Others may not have heard: who knows passes it on, and whoever knew already passes nothing on.
        effects.push(Effect::Spread(departure.clone()));
        Ok(effects)
    }

    fn tick(&mut self, now_ms: u64) -> Vec<Effect> {
        let over = |(id, open): (&[u8; 16], &Open)| (open.invitation.value.until_ms <= now_ms).then_some(*id);
        let invitations: Vec<[u8; 16]> = self.invitations.iter().filter_map(over).collect();
        let waited = |(identity, peer): (&[u8; 32], &Peer)| {
            let waits = matches!(peer.standing, Standing::Asks | Standing::Asked);
            (waits && peer.since_ms.saturating_add(REQUEST_MS_MAX) <= now_ms).then_some(*identity)
        };
        let peers: Vec<[u8; 32]> = self.peers.iter().filter_map(waited).collect();
        let mut effects = Vec::new();
        for id in invitations {
            self.invitations.remove(&id);
            effects.push(Effect::DropInvitation(id));
        }
        for identity in peers {
            self.peers.remove(&identity);
            effects.push(Effect::DropPeer(identity));
            effects.push(Effect::Members);
        }
        effects
    }

    /// Whether somebody can be a member at all: another than this node, with a name of its own, in a version that both speak.
    fn fits(&self, other: &Introduction) -> Result<(), Refusal> {
        let (card, own) = (&other.card, &self.own);
        if card.identity == own.card.identity {
            return Err(Refusal::Oneself);
        }
        let same_name = |peer: &&Peer| {
            let counts = matches!(peer.standing, Standing::Member | Standing::Asks | Standing::Asked);
            counts && peer.said.card.node == card.node && peer.said.card.identity != card.identity
        };
        if card.node == own.card.node || self.peers.values().any(|peer| same_name(&peer)) {
            return Err(Refusal::Name(card.node.clone()));
        }
        match own.versions.newest_with(other.versions) {
            Some(_) => Ok(()),
            None => Err(Refusal::Version { own: own.versions, other: other.versions }),
        }
    }

    fn room(&self, identity: &[u8; 32]) -> Result<(), Refusal> {
        match self.peers.len() < PEERS_MAX || self.peers.contains_key(identity) {
            true => Ok(()),
            false => Err(Refusal::Full("too many peers are known here: no further one can ask")),
        }
    }

    fn not_waiting(&self, identity: &[u8; 32]) -> Refusal {
        let name = self.peers.get(identity).map(|peer| peer.said.card.node.to_string());
        Refusal::NotWaiting(name.unwrap_or_else(|| hex::encode(identity)))
    }

    fn keep(&mut self, peer: Peer, act: Option<Act>) -> Effect {
        self.peers.insert(peer.said.card.identity, peer.clone());
        Effect::KeepPeer(Box::new(peer), act)
    }
}

#[cfg(test)]
mod tests;
