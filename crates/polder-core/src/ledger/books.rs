//! Books by double entry: who holds the money of an award, and every move of it.
//!
//! Money enters an award from outside, goes to a tenant, to a project, is held for a job and ends with a factory. Every entry
//! moves it from some accounts to others, so the sum over all accounts of an award is always zero, and no account but the
//! outside is ever below zero. An entry has an id that says what it is for, and one id is posted once: whoever repeats
//! itself, or comes twice, changes nothing. Each award has one accountant, the node whose books it began in; other nodes
//! hold slices, which are gone from the accountant's award before they are anybody else's, so that no partition lets two
//! nodes spend the same money.
//!
//! Numbers are whole micro-euro. Absent: storage, and what anything costs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::{AwardId, NodeId, ProjectId, TenantId};
use crate::job::{Epoch, JobId, Nonce};

/// Who holds money of an award.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Account {
    /// Where money comes from; the only account that goes below zero.
    Outside,
    /// Granted and not yet given to a tenant.
    Award,
    /// Given to another node to spend; there it comes from outside.
    Slice(NodeId),
    /// A tenant's, not yet given to a project.
    Tenant(TenantId),
    /// A project's.
    Project(TenantId, ProjectId),
    /// Reserved for a job.
    Held(JobId),
    /// Earned by a factory.
    Factory(NodeId),
}

/// What an entry is for. One id is posted once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EntryId {
    /// An operator's move: money that comes, or is given to a tenant or a project.
    Moved(Nonce),
    /// A slice for another node, or the same slice as it arrives there.
    Slice(Nonce),
    /// Reserved for a job, from the epoch that began then.
    Reserved(JobId, Epoch),
    /// What an epoch of a job cost.
    Settled(JobId, Epoch),
    /// What was left when a job was over.
    Released(JobId),
    /// What a person granted in a dispute over an epoch.
    Resolved(JobId, Epoch),
}

/// One account's part of an entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Posting {
    /// The account.
    pub account: Account,
    /// What it gains, in micro-euro; below zero, what it gives.
    pub microeur: i64,
}

/// One move of money within an award.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// What it is for.
    pub id: EntryId,
    /// Whose money.
    pub award: AwardId,
    /// Who gives and who gains.
    pub postings: Vec<Posting>,
}

/// Why an entry is not posted. Nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BooksError {
    /// What is given is not what is gained.
    #[error("the entry gives and gains different sums")]
    Unbalanced,
    /// An account has less than it is to give.
    #[error("an account lacks {0} micro-euro: give it more of the award, or ask for less")]
    Short(i64),
    /// The id was posted before with other postings.
    #[error("an entry of this id was posted before and says something else")]
    Changed,
    /// A sum is beyond what a number holds.
    #[error("the sum is too large")]
    Overflow,
}

/// All accounts that a node keeps.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Books {
    accounts: BTreeMap<AwardId, BTreeMap<Account, i64>>,
    posted: BTreeMap<EntryId, Entry>,
}

impl Entry {
    /// A move of one sum from one account to another.
    pub fn transfer(
        id: EntryId,
        award: AwardId,
        from: Account,
        to: Account,
        microeur: u64,
    ) -> Result<Self, BooksError> {
        let microeur = i64::try_from(microeur).map_err(|_| BooksError::Overflow)?;
        let postings = vec![Posting { account: from, microeur: -microeur }, Posting { account: to, microeur }];
        Ok(Self { id, award, postings })
    }
}

impl Books {
    /// Posts an entry; false where the very same one was posted before.
    pub fn post(&mut self, entry: &Entry) -> Result<bool, BooksError> {
        if let Some(before) = self.posted.get(&entry.id) {
            return if before == entry { Ok(false) } else { Err(BooksError::Changed) };
        }
        let changed = self.changed(entry)?;
        let accounts = self.accounts.entry(entry.award.clone()).or_default();
        accounts.extend(changed);
        self.posted.insert(entry.id, entry.clone());
        Ok(true)
    }

    /// The books that entries make, in whatever order they were kept: only what they come to must hold.
    pub fn load(entries: impl IntoIterator<Item = Entry>) -> Result<Self, BooksError> {
        let mut books = Self::default();
        for entry in entries {
            if entry.postings.iter().map(|posting| i128::from(posting.microeur)).sum::<i128>() != 0 {
                return Err(BooksError::Unbalanced);
            }
            match books.posted.get(&entry.id) {
                Some(before) if *before == entry => continue,
                Some(_) => return Err(BooksError::Changed),
                None => {}
            }
            let accounts = books.accounts.entry(entry.award.clone()).or_default();
            for posting in &entry.postings {
                let held = accounts.entry(posting.account.clone()).or_default();
                *held = held.checked_add(posting.microeur).ok_or(BooksError::Overflow)?;
            }
            books.posted.insert(entry.id, entry);
        }
        let lacking = books.accounts().find(|(_, account, held)| **account != Account::Outside && *held < 0);
        match lacking.map(|(_, _, held)| held) {
            Some(held) => Err(BooksError::Short(-held)),
            None => Ok(books),
        }
    }

    /// Whether an entry could be posted now.
    pub fn check(&self, entry: &Entry) -> Result<(), BooksError> {
        match self.posted.get(&entry.id) {
            Some(before) if before == entry => Ok(()),
            Some(_) => Err(BooksError::Changed),
            None => self.changed(entry).map(drop),
        }
    }

    /// The balances that an entry would leave.
    fn changed(&self, entry: &Entry) -> Result<BTreeMap<Account, i64>, BooksError> {
        let sum: i128 = entry.postings.iter().map(|posting| i128::from(posting.microeur)).sum();
        if sum != 0 {
            return Err(BooksError::Unbalanced);
        }
        let mut changed: BTreeMap<Account, i64> = BTreeMap::new();
        for posting in &entry.postings {
            let known = changed.get(&posting.account).copied();
            let before = known.unwrap_or_else(|| self.balance(&entry.award, &posting.account));
            let after = before.checked_add(posting.microeur).ok_or(BooksError::Overflow)?;
            changed.insert(posting.account.clone(), after);
        }
        let lacks =
            |(account, after): (&Account, &i64)| (*account != Account::Outside && *after < 0).then_some(-*after);
        match changed.iter().find_map(lacks) {
            Some(lacking) => Err(BooksError::Short(lacking)),
            None => Ok(changed),
        }
    }

    /// What an account of an award holds, in micro-euro.
    pub fn balance(&self, award: &AwardId, account: &Account) -> i64 {
        self.accounts.get(award).and_then(|accounts| accounts.get(account)).copied().unwrap_or(0)
    }

    /// Whether an id was posted, and how.
    pub fn posted(&self, id: EntryId) -> Option<&Entry> {
        self.posted.get(&id)
    }

    /// Every entry, by id.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.posted.values()
    }

    /// Every account with its award and balance.
    pub fn accounts(&self) -> impl Iterator<Item = (&AwardId, &Account, i64)> {
        self.accounts.iter().flat_map(|(award, all)| all.iter().map(move |(account, held)| (award, account, *held)))
    }

    /// The sum over all accounts: always zero.
    pub fn sum(&self) -> i128 {
        self.accounts().map(|(_, _, held)| i128::from(held)).sum()
    }
}

#[cfg(test)]
mod tests;
