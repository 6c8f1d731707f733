//! Money, added up again from what was written: every entry comes to zero, nobody gives what they have not, nothing is paid
//! twice, and a slice leaves one node before it arrives at another.

use std::collections::BTreeMap;

use polder_core::ids::{AwardId, NodeId};
use polder_core::job::{Epoch, JobId, Nonce};
use polder_core::ledger::books::{Account, Entry, EntryId};

/// What every node's accounts come to.
pub struct Money {
    /// By node.
    balances: Vec<BTreeMap<(AwardId, Account), i64>>,
    seen: BTreeMap<(usize, EntryId), Entry>,
    /// What was paid for each epoch, and to whom.
    pub paid: BTreeMap<(JobId, Epoch), (NodeId, i64)>,
    /// What each slice was given as, by its accountant.
    slices: BTreeMap<Nonce, i64>,
}

impl Money {
    pub fn new(homes: usize) -> Self {
        Self {
            balances: vec![BTreeMap::new(); homes],
            seen: BTreeMap::new(),
            paid: BTreeMap::new(),
            slices: BTreeMap::new(),
        }
    }

    /// Adds an entry; what is wrong with it.
    pub fn post(&mut self, site: usize, entry: &Entry) -> Vec<String> {
        let mut wrong = Vec::new();
        let what = format!("{:?}", entry.id);
        if self.seen.insert((site, entry.id), entry.clone()).is_some() {
            wrong.push(format!("{what} was posted twice"));
        }
        if entry.postings.iter().map(|one| i128::from(one.microeur)).sum::<i128>() != 0 {
            wrong.push(format!("{what} does not come to zero"));
        }
        let Some(balances) = self.balances.get_mut(site) else { return wrong };
        for one in &entry.postings {
            let held = balances.entry((entry.award.clone(), one.account.clone())).or_default();
            *held += one.microeur;
            if *held < 0 && one.account != Account::Outside {
                wrong.push(format!("{what} leaves {:?} below zero", one.account));
            }
        }
        match entry.id {
            EntryId::Settled(job, epoch) => {
                for one in &entry.postings {
                    if let Account::Factory(factory) = &one.account
                        && self.paid.insert((job, epoch), (factory.clone(), one.microeur)).is_some()
                    {
                        wrong.push(format!("epoch {epoch} of {job} was paid twice"));
                    }
                }
            }
            EntryId::Slice(ask) => {
                let given = entry.postings.iter().find(|one| matches!(one.account, Account::Slice(_)));
                let taken = entry.postings.iter().find(|one| one.account == Account::Award && one.microeur > 0);
                if let Some(given) = given {
                    self.slices.insert(ask, given.microeur);
                } else if taken.map(|one| one.microeur) != self.slices.get(&ask).copied() {
                    wrong.push("a slice arrived that was not given, or not so".to_owned());
                }
            }
            _ => {}
        }
        wrong
    }

    /// Whether a slice was escrowed at a node.
    pub fn gave(&self, site: usize, ask: Nonce, microeur: u64) -> bool {
        let entry = self.seen.get(&(site, EntryId::Slice(ask)));
        entry.is_some_and(|entry| entry.postings.iter().any(|one| u64::try_from(one.microeur) == Ok(microeur)))
    }

    /// What is held for a job at a node.
    pub fn held(&self, site: usize, job: JobId) -> i64 {
        let balances = self.balances.get(site).into_iter().flatten();
        balances.filter(|((_, account), _)| *account == Account::Held(job)).map(|(_, held)| *held).sum()
    }

    /// What everything at every node comes to.
    pub fn sum(&self) -> i128 {
        self.balances.iter().flatten().map(|(_, held)| i128::from(*held)).sum()
    }
}
