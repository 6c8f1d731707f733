//! Drills: what stops, what moves and what waits when something drops out, by decisions that were really made.
//!
//! Every decision of a log is decided again by the production `decide`: first as it was, which must come to the same, then with what drops
//! out taken away from the facts of its time. What then runs elsewhere fills that factory, so later decisions see it fuller and some
//! wait. [`loss`] says what drops out, [`book`] holds what happened, [`concentration`] on how few the work stands, [`plans`] does
//! the same to a study. Absent: how likely a loss is, and any score of how good a federation is.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use polder_core::canonical::Digest;
use polder_core::ids::{DecisionId, NodeId};
use polder_core::labels::Closed as _;
use polder_core::placement::{Change, Decision, Inputs, Outcome};
use polder_core::request::Request;
use polder_core::statement::v1::DecisionStatement;
use polder_core::tables::Tables;

pub mod book;
pub mod concentration;
pub mod loss;
mod page;
pub mod plans;
mod report;
mod rooms;
mod situation;

pub use report::{Drill, Hit, Landing, Saving, Share, Work};

use book::{Book, Run};
use concentration::Spread;
use loss::{Loss, Touch};
use rooms::Rooms;
use situation::{Situation, Situations, single_changes};

/// How long an application may be told to wait at most (`retry-after`), and so how long something waits here unless told otherwise.
pub const PATIENCE_MS: u64 = 120_000;
/// How many decisions are named that do not come out again.
const UNLIKE_MAX: usize = 10;
/// How many single changes are named.
const SAVINGS_MAX: usize = 10;

/// A drill as it runs.
pub struct Rehearsal<'a> {
    book: &'a Book,
    losses: &'a [Loss],
    patience_ms: u64,
    situations: Situations,
    rooms: Rooms,
    waiting: VecDeque<Waiting>,
    /// What a request takes where its own execution is not known: the mean of its like, else of all.
    typical: BTreeMap<&'a Request, Run>,
    typical_of_all: Run,
    /// What came out again: the same tables, policies and request give the same.
    again: BTreeMap<(Digest, &'a Request), &'a DecisionStatement>,
    changes: BTreeMap<usize, BTreeSet<(Option<NodeId>, Change)>>,
    saved: BTreeMap<(Option<NodeId>, Change), (Work, BTreeSet<String>)>,
    before: Spread,
    after: Spread,
    found: Drill,
}

/// What waits.
struct Waiting {
    at: usize,
    situation: usize,
    inputs: Vec<Inputs>,
    since_ms: u64,
    run: Run,
}

/// Decides everything again. `look` is told how many decisions are done, and ends the drill early by saying no.
pub fn rehearse(book: &Book, losses: &[Loss], patience_ms: u64, look: &mut dyn FnMut(usize) -> bool) -> Drill {
    let mut rehearsal = Rehearsal::new(book, losses, patience_ms);
    for (at, decision) in book.decisions.iter().enumerate() {
        if at % 64 == 0 && !look(at) {
            rehearsal.found.whole = false;
            break;
        }
        rehearsal.take(at, decision);
    }
    rehearsal.wait_out();
    rehearsal.close()
}

impl<'a> Rehearsal<'a> {
    fn new(book: &'a Book, losses: &'a [Loss], patience_ms: u64) -> Self {
        let (typical, typical_of_all) = typical(book);
        let places = book.places_of();
        Self {
            book,
            losses,
            patience_ms,
            situations: Situations::default(),
            rooms: Rooms::new(&places),
            waiting: VecDeque::new(),
            typical,
            typical_of_all,
            again: BTreeMap::new(),
            changes: BTreeMap::new(),
            saved: BTreeMap::new(),
            before: Spread::default(),
            after: Spread::default(),
            found: Drill { patience_ms, ..Drill::new(losses, book) },
        }
    }

    fn take(&mut self, at: usize, decision: &'a DecisionStatement) {
        let (number, tables) = match self.situations.of(self.book, decision, self.losses) {
            Ok(found) => found,
            Err(unread) => return self.found.unread(&decision.id, unread.to_string()),
        };
        let inputs = inputs_of(&tables);
        let Some(situation) = self.situations.get(number) else { return };
        let known = self.again.get(&(decision.tables, &decision.request));
        if !known.is_some_and(|known| says_the_same(known, decision)) {
            if is_same(decision, &tables, &situation.again(decision, &inputs)) {
                self.again.insert((decision.tables, &decision.request), decision);
            } else {
                self.found.unlike(&decision.id, UNLIKE_MAX);
            }
        }
        self.found.decided_again += 1;
        self.found.dropped(situation.factories().zip(&situation.touches));
        for (factory, inputs) in situation.factories().zip(&inputs) {
            self.rooms.record(factory, inputs.load_ppm);
        }
        self.pass_time(decision.at_ms);
        let Some(situation) = self.situations.get(number) else { return };
        let (tenant, class) = (decision.request.tenant.to_string(), decision.request.labels.class.as_str());
        let share = self.found.share(&tenant, class);
        let Some(before) = decision.factory.as_ref().filter(|_| decision.outcome == Outcome::Placed) else {
            share.refused_before += 1;
            return;
        };
        let known = self.book.runs.get(&decision.id);
        share.without_execution += u64::from(known.is_none());
        let typical = || self.typical.get(&decision.request).copied().unwrap_or(self.typical_of_all);
        let run = known.copied().unwrap_or_else(typical);
        share.before.add(&run);
        let place = situation.factories().position(|factory| factory == before);
        let Some(place) = place else { return };
        if let Some(behind) = situation.behind.get(place) {
            self.before.add(behind, weight(&run));
        }
        self.found.share(&tenant, class).cost_before_pico += cost(&inputs, place, &run);
        let waiting = Waiting { at, situation: number, inputs, since_ms: decision.at_ms, run };
        if let Some(waiting) = self.place(waiting, decision.at_ms) {
            self.leave(&waiting);
            self.waiting.push_back(waiting);
        }
    }

    /// Decides with what is left; gives back what finds no room.
    fn place(&mut self, one: Waiting, now_ms: u64) -> Option<Waiting> {
        let statement = self.book.decisions.get(one.at)?;
        let situation = self.situations.get(one.situation)?;
        let decision = self.decide(situation, statement, &one.inputs);
        match (&decision.factory, decision.outcome) {
            (Some(factory), _) => {
                let (factory, waited_ms) = (factory.clone(), now_ms - one.since_ms);
                self.landed(&one, statement, &factory, waited_ms);
                None
            }
            (None, Outcome::NoCapacity) if now_ms - one.since_ms < self.patience_ms => Some(one),
            (None, outcome) => {
                if one.since_ms == now_ms {
                    self.leave(&one);
                }
                self.stopped(&one, statement, &decision, outcome);
                None
            }
        }
    }

    fn decide(&self, situation: &Situation, statement: &DecisionStatement, inputs: &[Inputs]) -> Decision {
        let factories: Vec<&NodeId> = situation.factories().collect();
        situation.after(statement, &|place| {
            let then = inputs.get(place).copied().unwrap_or_default();
            let left_ppm = match situation.touches.get(place) {
                Some(Touch::Shrinks(ppm)) => *ppm,
                _ => 1_000_000,
            };
            factories.get(place).map_or((None, then), |factory| self.rooms.now(factory, left_ppm, &then))
        })
    }

    /// What runs, where and after how long.
    fn landed(&mut self, one: &Waiting, statement: &DecisionStatement, factory: &NodeId, waited_ms: u64) {
        let moved = statement.factory.as_ref() != Some(factory);
        let now_ms = one.since_ms + waited_ms;
        if moved || waited_ms > 0 {
            if waited_ms == 0 {
                self.leave(one);
            }
            self.rooms.comes(factory, now_ms, one.run.ms);
        }
        let Some(situation) = self.situations.get(one.situation) else { return };
        let Some((place, _)) = situation.left().find(|(_, left)| *left == factory) else { return };
        if let Some(behind) = situation.behind.get(place) {
            self.after.add(behind, weight(&one.run));
        }
        let share = self.found.share(statement.request.tenant.as_str(), statement.request.labels.class.as_str());
        if moved {
            share.elsewhere.add(&one.run)
        } else {
            share.same.add(&one.run)
        }
        if waited_ms > 0 {
            share.waited.add(&one.run);
            share.waits.add(waited_ms * 1_000);
        }
        share.cost_after_pico += cost(&one.inputs, place, &one.run);
        // What stops costs nothing, so only what goes on can be compared.
        let old = situation.factories().position(|factory| Some(factory) == statement.factory.as_ref());
        share.cost_before_of_rest_pico += old.map_or(0, |old| cost(&one.inputs, old, &one.run));
    }

    /// What had run at its old factory does not run there now.
    fn leave(&mut self, one: &Waiting) {
        let statement = self.book.decisions.get(one.at);
        if let Some(factory) = statement.and_then(|statement| statement.factory.as_ref()) {
            self.rooms.goes(factory, one.since_ms, one.run.ms);
        }
    }

    fn stopped(&mut self, one: &Waiting, statement: &DecisionStatement, decision: &Decision, outcome: Outcome) {
        let (tenant, class) = (statement.request.tenant.as_str(), statement.request.labels.class.as_str());
        let share = self.found.share(tenant, class);
        let full = outcome == Outcome::NoCapacity;
        if full {
            share.stopped_full.add(&one.run)
        } else {
            share.stopped.add(&one.run)
        }
        let fresh;
        let changes = if full {
            fresh = single_changes(decision);
            &fresh
        } else {
            self.changes.entry(one.situation).or_insert_with(|| single_changes(decision))
        };
        for change in changes {
            let (work, tenants) = self.saved.entry(change.clone()).or_default();
            work.add(&one.run);
            if !tenants.contains(tenant) {
                tenants.insert(tenant.to_owned());
            }
        }
    }

    /// Lets time pass: runs end, and what waits is decided again, in the order in which it came.
    fn pass_time(&mut self, until_ms: u64) {
        while !self.waiting.is_empty() {
            let patience = self.waiting.front().map_or(u64::MAX, |one| one.since_ms.saturating_add(self.patience_ms));
            let next_ms = self.rooms.next_end_ms().min(patience);
            if next_ms > until_ms {
                break;
            }
            self.rooms.end_until(next_ms);
            self.retry(next_ms);
        }
        self.rooms.end_until(until_ms);
        if !self.waiting.is_empty() {
            self.retry(until_ms);
        }
    }

    fn retry(&mut self, now_ms: u64) {
        let mut in_vain = BTreeSet::new();
        let waiting = std::mem::take(&mut self.waiting);
        for one in waiting {
            let late = now_ms - one.since_ms >= self.patience_ms;
            // What one of a kind does not find, the next does not find either.
            if !late && in_vain.contains(&one.situation) {
                self.waiting.push_back(one);
                continue;
            }
            let situation = one.situation;
            if let Some(one) = self.place(one, now_ms) {
                in_vain.insert(situation);
                self.waiting.push_back(one);
            }
        }
    }

    fn wait_out(&mut self) {
        while let Some(front) = self.waiting.front() {
            let patience_ms = front.since_ms.saturating_add(self.patience_ms);
            self.pass_time(self.rooms.next_end_ms().min(patience_ms));
        }
    }

    fn close(mut self) -> Drill {
        let mut savings: Vec<Saving> = std::mem::take(&mut self.saved)
            .into_iter()
            .map(|((factory, change), (saves, tenants))| Saving {
                factory: factory.map(|factory| factory.to_string()),
                change,
                saves,
                tenants: tenants.into_iter().collect(),
            })
            .collect();
        savings.sort_by_key(|one| std::cmp::Reverse((one.saves.tokens, one.saves.requests)));
        savings.truncate(SAVINGS_MAX);
        self.found.savings = savings;
        self.found.concentration = [self.before.indices(), self.after.indices()];
        self.found.landings = self.rooms.came().map(Landing::new).collect();
        self.found
    }
}

/// What executions of each request took on average, and all of them.
fn typical(book: &Book) -> (BTreeMap<&Request, Run>, Run) {
    let mut sums: BTreeMap<&Request, (Run, u64)> = BTreeMap::new();
    let mut all = (Run::default(), 0);
    for decision in &book.decisions {
        let Some(run) = book.runs.get(&decision.id) else { continue };
        for (sum, count) in [sums.entry(&decision.request).or_default(), &mut all] {
            sum.prompt_tokens += run.prompt_tokens;
            sum.completion_tokens += run.completion_tokens;
            sum.ms += run.ms;
            *count += 1;
        }
    }
    let mean = |(sum, count): (Run, u64)| Run {
        prompt_tokens: sum.prompt_tokens.checked_div(count).unwrap_or(0),
        completion_tokens: sum.completion_tokens.checked_div(count).unwrap_or(0),
        ms: sum.ms.checked_div(count).unwrap_or(0),
    };
    (sums.into_iter().map(|(request, sum)| (request, mean(sum))).collect(), mean(all))
}

fn inputs_of(tables: &Tables) -> Vec<Inputs> {
    tables.join().unwrap_or_default().into_iter().map(|verdict| verdict.inputs).collect()
}

/// Whether a decision came out as it stands in the log.
fn is_same(said: &DecisionStatement, tables: &Tables, again: &Decision) -> bool {
    let verdicts = tables.join().unwrap_or_default();
    said.outcome == again.outcome
        && said.factory == again.factory
        && verdicts == again.verdicts
        && said.nearest == again.nearest
        && tables.seals == again.seals
}

/// Whether two statements with the same tables and request must come out alike.
fn says_the_same(one: &DecisionStatement, other: &DecisionStatement) -> bool {
    (one.outcome, &one.factory, one.weights, one.policies, one.facts, &one.nearest)
        == (other.outcome, &other.factory, other.weights, other.policies, other.facts, &other.nearest)
}

/// Work for shares: tokens, or one for each request where nobody told tokens.
fn weight(run: &Run) -> u128 {
    u128::from((run.prompt_tokens + run.completion_tokens).max(1))
}

/// What generated tokens cost at a factory, in millionths of a micro-euro.
fn cost(inputs: &[Inputs], place: usize, run: &Run) -> u128 {
    let price = inputs.get(place).map_or(0, |inputs| inputs.price_microeur_per_mtok);
    u128::from(price) * u128::from(run.completion_tokens)
}

impl Drill {
    fn unread(&mut self, id: &DecisionId, why: String) {
        self.unread += 1;
        if self.first_unread.is_none() {
            self.first_unread = Some(format!("{id}: {why}"));
        }
    }

    fn unlike(&mut self, id: &DecisionId, most: usize) {
        self.unlike_count += 1;
        if self.unlike.len() < most {
            self.unlike.push(id.to_string());
        }
    }

    fn share(&mut self, tenant: &str, class: &'static str) -> &mut Share {
        let key = (tenant.to_owned(), class);
        self.shares.entry(key).or_default()
    }

    fn dropped<'t>(&mut self, touches: impl Iterator<Item = (&'t NodeId, &'t Touch)>) {
        for (factory, touch) in touches.filter(|(_, touch)| **touch != Touch::Stays) {
            if !self.drops.iter().any(|drop| drop.factory == factory.as_str() && drop.touch == *touch) {
                self.drops.push(Hit { factory: factory.to_string(), touch: *touch });
            }
        }
    }
}

#[cfg(test)]
mod tests;
