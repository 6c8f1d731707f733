//! A job's money: reserved before it is acknowledged, settled once for each epoch, released when it is over; and slices of
//! awards between nodes.
//!
//! Every move is an entry of the books, written down with the rows that it belongs to. Prices are absent: a factory's sheet
//! says them, and the offer carries them.

use super::{Answer, Home};
use crate::ids::{AwardId, NodeId};
use crate::job::message::Message;
use crate::job::receipt::{JobReceipt, Verdict};
use crate::job::row::v1::{Row, SliceRow};
use crate::job::{Epoch, JobId, Nonce, Now, Order};
use crate::ledger::books::{Account, BooksError, Entry, EntryId};

impl Home {
    /// Posts an entry, and writes it down where it is new.
    fn post(&mut self, entry: Entry) -> Result<(), BooksError> {
        if self.books.post(&entry)? {
            self.rows.push(Row::Entry(entry));
        }
        Ok(())
    }

    /// Moves a sum within a job's award; nothing where it is 0.
    fn transfer(
        &mut self,
        id: EntryId,
        award: &AwardId,
        from: Account,
        to: Account,
        sum: u64,
    ) -> Result<(), BooksError> {
        if sum == 0 {
            return Ok(());
        }
        self.post(Entry::transfer(id, award.clone(), from, to, sum)?)
    }

    /// Reserves what one attempt of a new job may cost.
    pub(super) fn reserve(&mut self, id: JobId, order: &Order) -> Result<(), BooksError> {
        let sum = order.spec.cost_microeur_max;
        self.transfer(EntryId::Reserved(id, 0), &order.award, project_of(order), Account::Held(id), sum)
    }

    /// Reserves again what the last attempt has cost; false where the project cannot.
    pub(super) fn top_up(&mut self, id: JobId) -> bool {
        let Some(job) = self.jobs.get(&id) else { return false };
        let (order, epoch) = (job.row.order.clone(), job.row.leased.as_ref().map_or(0, |lease| lease.epoch));
        let held = u64::try_from(self.books.balance(&order.award, &Account::Held(id))).unwrap_or(0);
        let lacking = order.spec.cost_microeur_max.saturating_sub(held);
        let entry = EntryId::Reserved(id, epoch);
        self.transfer(entry, &order.award, project_of(&order), Account::Held(id), lacking).is_ok()
    }

    /// Pays what a believed receipt says.
    pub(super) fn pay(&mut self, id: JobId, said: &JobReceipt) {
        let Some(job) = self.jobs.get(&id) else { return };
        let (order, factory) = (job.row.order.clone(), Account::Factory(said.factory.clone()));
        let sum = said.cost_microeur.min(order.spec.cost_microeur_max);
        let entry = EntryId::Settled(id, said.epoch);
        // What is held covers one attempt, so this cannot be short.
        drop(self.transfer(entry, &order.award, Account::Held(id), factory, sum));
    }

    /// Gives back what is held for a job that is over.
    pub(super) fn release(&mut self, id: JobId) {
        let Some(job) = self.jobs.get(&id) else { return };
        let order = job.row.order.clone();
        let held = u64::try_from(self.books.balance(&order.award, &Account::Held(id))).unwrap_or(0);
        drop(self.transfer(EntryId::Released(id), &order.award, Account::Held(id), project_of(&order), held));
    }

    /// A person grants something for a disputed receipt.
    pub(super) fn resolve(&mut self, call: u64, id: JobId, epoch: Epoch, microeur: u64) {
        let disputed = |job: &super::Job| {
            let known = job.row.receipts.get(&epoch)?;
            let open = matches!(known.verdict, Verdict::Disputed(_)) && known.resolved_microeur.is_none();
            open.then(|| (job.row.order.clone(), known.receipt.value.factory.clone()))
        };
        let Some((order, factory)) = self.jobs.get(&id).and_then(disputed) else {
            return self.reply(call, Answer::Unknown);
        };
        let sum = microeur.min(order.spec.cost_microeur_max);
        let entry = EntryId::Resolved(id, epoch);
        let posted = self.transfer(entry, &order.award, project_of(&order), Account::Factory(factory), sum);
        if let Err(error) = posted {
            return self.reply(call, Answer::Books(error));
        }
        if let Some(known) = self.jobs.get_mut(&id).and_then(|job| job.row.receipts.get_mut(&epoch)) {
            known.resolved_microeur = Some(sum);
        }
        self.dirty.insert(id);
        self.reply(call, Answer::Done);
    }

    /// An operator moves money that is no job's and no slice's.
    pub(super) fn move_money(&mut self, call: u64, entry: Entry) {
        let plain = |account: &Account| !matches!(account, Account::Held(_) | Account::Slice(_));
        let allowed = matches!(entry.id, EntryId::Moved(_)) && entry.postings.iter().all(|one| plain(&one.account));
        let answer = match allowed.then(|| self.post(entry)) {
            Some(Ok(())) => Answer::Done,
            Some(Err(error)) => Answer::Books(error),
            None => Answer::Unknown,
        };
        self.reply(call, answer);
    }

    /// Asks an award's accountant for a slice.
    pub(super) fn ask_slice(&mut self, now: Now, call: u64, award: AwardId, accountant: NodeId, microeur: u64) {
        let row = SliceRow { award, accountant, microeur, given_microeur: None };
        let ask = self.nonces.draw();
        self.rows.push(Row::Slice(ask, row.clone()));
        self.slices.insert(ask, row);
        self.slices_at = Some(now.mono_ms);
        self.reply(call, Answer::Done);
    }

    /// Asks, and asks again, for every slice that was not answered.
    pub(super) fn send_asks(&mut self, now: Now) {
        let open: Vec<(Nonce, SliceRow)> = self
            .slices
            .iter()
            .filter(|(_, row)| row.given_microeur.is_none())
            .map(|(ask, row)| (*ask, row.clone()))
            .collect();
        self.slices_at = (!open.is_empty()).then(|| now.mono_ms.saturating_add(self.settings.resend_ms.max(1)));
        for (ask, row) in open {
            self.send(&row.accountant, Message::SliceAsk { award: row.award, ask, microeur: row.microeur });
        }
    }

    /// Another node asks for a slice: it is escrowed for that node before anybody hears of it.
    pub(super) fn give_slice(&mut self, from: &NodeId, award: AwardId, ask: Nonce, microeur: u64) {
        let id = EntryId::Slice(ask);
        let to = Account::Slice(from.clone());
        if let Some(before) = self.books.posted(id) {
            let gained = before.postings.iter().find(|posting| posting.account == to);
            // Asked again: the same answer. Asked by another: none.
            if let Some(given) = gained.and_then(|posting| u64::try_from(posting.microeur).ok()) {
                self.send(from, Message::SliceGiven { award, ask, microeur: given });
            }
            return;
        }
        let given = self.transfer(id, &award, Account::Award, to, microeur).map_or(0, |()| microeur);
        self.send(from, Message::SliceGiven { award, ask, microeur: given });
    }

    /// The accountant answers.
    pub(super) fn take_slice(&mut self, now: Now, from: &NodeId, award: &AwardId, ask: Nonce, microeur: u64) {
        let open = |row: &&mut SliceRow| {
            row.accountant == *from && row.award == *award && row.given_microeur.is_none() && microeur <= row.microeur
        };
        let Some(row) = self.slices.get_mut(&ask).filter(open) else { return };
        row.given_microeur = Some(microeur);
        let row = row.clone();
        self.rows.push(Row::Slice(ask, row));
        drop(self.transfer(EntryId::Slice(ask), award, Account::Outside, Account::Award, microeur));
        if self.slices.values().all(|row| row.given_microeur.is_some()) {
            self.slices_at = None;
        }
        self.pass_at = self.pass_at.or(Some(now.mono_ms));
    }
}

fn project_of(order: &Order) -> Account {
    Account::Project(order.request.tenant.clone(), order.request.project.clone())
}
