//! A factory that lies: about room, about what it ran, about what that costs, and about whose work it was.
//!
//! It has its own key and nobody else's, it may remember everything that it was told, and it may say anything at any time.
//! What it ran is nobody's business here: it starts no process that others could see.

use std::sync::Arc;

use polder_core::canonical::Digest;
use polder_core::ids::NodeId;
use polder_core::job::message::DeclineWhy;
use polder_core::job::receipt::cost_microeur;
use polder_core::job::spec::Resources;
use polder_core::job::{Epoch, JobId, JobReceipt, Message, Nonce, Order, Room, RunOutcome};
use polder_core::keys::Signed;

use super::dice::Dice;
use super::plan::TROUBLE_US;
use super::site::{Kind, signature};
use super::stage::{Due, Stage};

/// What a liar keeps.
#[derive(Debug)]
pub struct Liar {
    /// What it was offered.
    known: Vec<Known>,
    /// What it has sent, to be sent again.
    said: Vec<(NodeId, Message)>,
    /// How it likes to lie.
    taste: u64,
    nonces: u64,
}

#[derive(Debug, Clone)]
struct Known {
    home: NodeId,
    job: JobId,
    epoch: Epoch,
    order: Arc<Order>,
    price: u64,
    leased: bool,
}

impl Liar {
    pub fn new(dice: &mut Dice) -> Self {
        Self { known: Vec::new(), said: Vec::new(), taste: dice.any() % 6, nonces: dice.any() }
    }

    fn nonce(&mut self) -> Nonce {
        self.nonces = self.nonces.wrapping_add(1);
        let mut bytes = [0; 16];
        bytes.iter_mut().zip(self.nonces.to_be_bytes()).for_each(|(to, from)| *to = from);
        Nonce(bytes)
    }
}

fn plenty() -> Room {
    Room { free: Resources { accelerators: 8, cores: 64, memory_mib: 0 } }
}

impl Stage<'_> {
    /// The liar is spoken to.
    pub fn tempt(&mut self, place: usize, from: &NodeId, message: Message) {
        let (roll, home) = (self.dice.any() % 100, self.place(from));
        let Some(Kind::Liar(liar)) = self.sites.get_mut(place).map(|site| &mut site.kind) else { return };
        let mut answers = Vec::new();
        match message {
            Message::Offer { job, epoch, order, price_microeur_per_hour, .. } => {
                let known =
                    Known { home: from.clone(), job, epoch, order, price: price_microeur_per_hour, leased: false };
                liar.known.push(known);
                let nonce = liar.nonce();
                if roll < 85 {
                    answers.push(Message::Want { job, epoch, nonce, room: plenty() });
                } else {
                    let why = DeclineWhy::NoRoom;
                    answers.push(Message::Decline { job, epoch, nonce: Some(nonce), why, room: plenty() });
                }
            }
            Message::Grant { job, epoch, nonce, .. } => {
                let known = liar.known.iter_mut().find(|one| one.job == job && one.epoch == epoch);
                known.into_iter().for_each(|one| one.leased = true);
                let renew = liar.nonce();
                match liar.taste {
                    // Holds on to the lease and never ends.
                    0 => answers.push(Message::Renew { job, epoch, nonce: renew, checkpoint: Some(Digest([9; 32])) }),
                    // Gives it back, or says so.
                    1 if roll < 50 => {
                        let why = DeclineWhy::Forgotten;
                        answers.push(Message::Decline { job, epoch, nonce: Some(nonce), why, room: plenty() });
                    }
                    _ => {}
                }
            }
            _ => {}
        }
        liar.said.extend(answers.iter().map(|message| (from.clone(), message.clone())));
        for message in answers {
            let Some(home) = home else { continue };
            // A flood is the channel's to stop; here the liar takes its time to renew.
            if matches!(message, Message::Renew { .. }) {
                let at_us = self.now_us + self.dice.within(300_000, 1_500_000);
                self.set(at_us, Due::Arrives(place, home, Box::new(message)));
            } else {
                self.send(place, home, message);
            }
        }
    }

    /// The liar speaks by itself.
    pub fn lie(&mut self, place: usize) {
        if self.now_us > TROUBLE_US {
            return;
        }
        let next_us = self.now_us + self.dice.within(200_000, 1_500_000);
        self.set(next_us, Due::Wake(place));
        let roll = self.dice.any() % 100;
        let Some(me) = self.sites.get(place).map(|site| site.id.clone()) else { return };
        let Some(Kind::Liar(liar)) = self.sites.get(place).map(|site| &site.kind) else { return };
        if roll < 20 {
            let chosen = self.dice.place(liar.said.len());
            if let Some((home, message)) = liar.said.get(chosen).cloned()
                && let Some(home) = self.place(&home)
            {
                self.send(place, home, message);
            }
            return;
        }
        let chosen = self.dice.place(liar.known.len());
        let Some(known) = liar.known.get(chosen).cloned() else { return };
        let receipt = self.forged(&known, &me, roll);
        let message = Message::Done { receipt: Box::new(receipt), room: plenty() };
        if let Some(home) = self.place(&known.home) {
            self.send(place, home, message.clone());
        }
        if let Some(Kind::Liar(liar)) = self.sites.get_mut(place).map(|site| &mut site.kind) {
            liar.said.push((known.home, message));
        }
    }

    /// A receipt of which something, or everything, is not true.
    fn forged(&mut self, known: &Known, me: &NodeId, roll: u64) -> Signed<JobReceipt> {
        let ran_ms = self.dice.within(0, 3_000);
        let other = self.dice.place(self.plan.factories);
        let mut said = JobReceipt {
            home: known.home.clone(),
            factory: me.clone(),
            job: known.job,
            epoch: known.epoch,
            order: known.order.digest().unwrap_or_default(),
            outcome: if roll.is_multiple_of(3) { RunOutcome::Failed(1) } else { RunOutcome::Succeeded },
            ran_ms,
            ended_after_ms: ran_ms,
            cost_microeur: cost_microeur(ran_ms, known.price),
            checkpoint: None,
        };
        match roll % 10 {
            0 => said.cost_microeur = said.cost_microeur.saturating_mul(3).saturating_add(1_000),
            1 => said.cost_microeur = u64::MAX,
            2 => said.ended_after_ms = 3_600_000,
            3 => (said.ran_ms, said.cost_microeur) = (7_200_000, cost_microeur(7_200_000, known.price)),
            4 => said.epoch = said.epoch.saturating_add(self.dice.within(1, 3)),
            5 => said.epoch = said.epoch.saturating_sub(1),
            6 => said.order = Digest([3; 32]),
            7 => {
                let name = self.sites.get(self.plan.homes + other).map(|site| site.id.clone());
                said.factory = name.unwrap_or_else(|| me.clone());
            }
            _ => {}
        }
        let mut signature = signature(&said, me, self.plan.real);
        if roll == 99 {
            signature = [7; 64];
        }
        Signed { value: said, signature }
    }
}
