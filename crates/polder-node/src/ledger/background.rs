//! What the ledger does while requests go on: settles with its tables, takes new tranches, and finds out what answers used
//! that ended without a word.
//!
//! None of it stands in a request's way. What cannot be written stays in memory and is written with the next flush.

use std::sync::Arc;
use std::time::Duration;

use polder_core::ids::NodeId;
use polder_core::ledger::Flush;
use polder_core::receipt::Half;
use polder_core::statement::v1::Statement;
use polder_core::usage::day_of;

use super::meter::Uncertain;
use super::{Ledger, LedgerError, State};
use crate::clock::now_ms;
use crate::home::Home;
use crate::inference::Usage;
use crate::shutdown::Shutdown;
use crate::store::{Books, Counts, KeyUsage, OpenAnswer};

/// How often the ledger settles where nothing is short.
const FLUSH_EVERY: Duration = Duration::from_millis(250);
/// How often factories are asked about answers that ended without a word, and how long one may take to tell.
const ASK_EVERY: Duration = Duration::from_secs(1);
const TELL_TIMEOUT: Duration = Duration::from_secs(2);
/// How often a ledger that had less than was wanted is asked again, in milliseconds.
const ASK_AGAIN_MS: u64 = 1_000;
/// How long a factory may take to tell what an answer used, in milliseconds.
const TELL_MS_MAX: u64 = 30_000;
/// How long it may take where both were gone, in milliseconds.
const TELL_SILENT_MS_MAX: u64 = 600_000;
/// How many answers are asked after at a time.
const ASKED_AT_ONCE: usize = 64;

impl Ledger {
    /// Runs until shutdown. Asking the factories is a loop of its own: one that does not answer holds up no tranche.
    pub async fn run(self: Arc<Self>, home: Arc<Home>, mut shutdown: Shutdown) {
        tokio::select! {
            () = self.settle() => {}
            () = self.ask_after(&home) => {}
            () = shutdown.wait() => {}
        }
    }

    async fn settle(&self) {
        let mut tick = tokio::time::interval(FLUSH_EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.low.notified() => {}
                _ = tick.tick() => {}
            }
            self.flush_and_say(false).await;
        }
    }

    async fn ask_after(&self, home: &Home) {
        let mut lost = self.store.lost_answers(&self.boot).await.unwrap_or_else(|error| {
            tracing::error!(%error, "what was under way before the start cannot be read");
            Vec::new()
        });
        let begun_ms = now_ms();
        loop {
            tokio::time::sleep(ASK_EVERY).await;
            self.find_out(home).await;
            lost = self.find_lost(home, lost, now_ms().saturating_sub(begun_ms)).await;
        }
    }

    /// Settles everything and gives back what is not used. What is still asked after is left to the next start.
    pub async fn close(&self) {
        let left = std::mem::take(&mut self.state().uncertain);
        for mut one in left {
            one.meter.leave();
        }
        self.flush_and_say(true).await;
    }

    async fn flush_and_say(&self, closing: bool) {
        if let Err(error) = self.flush(closing).await {
            tracing::error!(%error, "the ledger could not be written; it is tried again");
        }
    }

    /// Settles with the tables.
    pub(super) async fn flush(&self, closing: bool) -> Result<(), LedgerError> {
        let _writing = self.writing.lock().await;
        let now = now_ms();
        let (flushes, books) = self.begin(now, closing);
        let written = match books.is_empty() {
            true => Ok(Vec::new()),
            false => self.store.flush(&self.boot, &books).await,
        };
        let mut state = self.state();
        match written {
            Ok(granted) => {
                flushes.iter().zip(granted).for_each(|(flush, granted)| state.purses.flushed(flush, granted))
            }
            Err(error) => {
                state.take_back(&flushes, books);
                drop(state);
                self.flushed.notify_waiters();
                return Err(error.into());
            }
        }
        drop(state);
        self.flushed.notify_waiters();
        Ok(())
    }

    /// Takes what is to be written out of the state.
    fn begin(&self, now: u64, closing: bool) -> (Vec<Flush>, Books) {
        let mut state = self.state();
        let mut flushes = Vec::new();
        state.purses.flushes(now, closing, &mut flushes);
        // A ledger that has nothing more is not asked every time, unless there is something to write anyway.
        let hasty = now / ASK_AGAIN_MS == now.saturating_sub(250) / ASK_AGAIN_MS;
        flushes.retain(|flush| !(hasty && flush.last && flush.spent == 0 && flush.unused == 0));
        flushes.iter_mut().for_each(|flush| state.purses.begin(flush));
        let day = day_of(now);
        let mut usage = Vec::new();
        let State { used, owners, .. } = &mut *state;
        for (used, (project, key)) in used.iter_mut().zip(owners).filter(|(used, _)| **used != Counts::default()) {
            let counts = std::mem::take(used);
            usage.push(KeyUsage { day, project: project.clone(), key: key.clone(), counts });
        }
        let name = |flush: &Flush| (state.names.get(flush.account.place()).cloned().unwrap_or_default(), *flush);
        let named = flushes.iter().map(name).collect();
        let (opened, closed) = (std::mem::take(&mut state.opened), std::mem::take(&mut state.closed));
        (flushes, Books { flushes: named, usage, opened, closed })
    }

    /// Asks the factories about answers that ended without word of what they used.
    async fn find_out(&self, home: &Home) {
        let some: Vec<Uncertain> = {
            let mut state = self.state();
            let count = state.uncertain.len().min(ASKED_AT_ONCE);
            state.uncertain.drain(..count).collect()
        };
        for mut one in some {
            match execution(home, &one.factory, one.decision.as_str()).await {
                Told::Used(usage) => {
                    one.meter.priced(home.view.price_of(&one.factory, now_ms()));
                    one.meter.told(usage);
                }
                _ if now_ms().saturating_sub(one.since_ms) > TELL_MS_MAX => one.meter.in_full(),
                _ => self.state().uncertain.push(one),
            }
        }
    }

    /// Asks about the answers of a process that is gone; returns those that nobody has told of yet.
    async fn find_lost(&self, home: &Home, lost: Vec<OpenAnswer>, since_ms: u64) -> Vec<OpenAnswer> {
        let mut left = Vec::new();
        for answer in lost {
            let told = match NodeId::parse(&answer.factory) {
                Ok(factory) => execution(home, &factory, &answer.decision).await,
                Err(_) => Told::Unknown,
            };
            let told = match told {
                Told::Used(usage) => Some(usage),
                Told::Unknown if since_ms > TELL_MS_MAX => None,
                Told::Silent if since_ms > TELL_SILENT_MS_MAX => None,
                _ => {
                    left.push(answer);
                    continue;
                }
            };
            let counts = told.map(|usage| Counts {
                requests: 1,
                prompt_tokens: usage.prompt_tokens,
                completion_tokens: usage.completion_tokens,
                microeur: polder_core::ledger::cost_microeur(usage.completion_tokens, answer.price),
            });
            // Where nobody tells, what was reserved counts.
            let counts = counts.unwrap_or(Counts { requests: 1, microeur: answer.reserved, ..Counts::default() });
            let (day, project, key) = (day_of(answer.at_ms), answer.project.clone(), answer.key.clone());
            let usage = KeyUsage { day, project, key, counts };
            let written = {
                let _writing = self.writing.lock().await;
                self.store.settle_lost(&answer, &usage).await
            };
            if let Err(error) = written {
                tracing::error!(%error, "a lost answer could not be settled; it is tried again");
                left.push(answer);
            }
        }
        left
    }
}

/// What a factory tells of an answer.
enum Told {
    /// What it used.
    Used(Usage),
    /// It knows of none; it may not have written it down yet.
    Unknown,
    /// It does not answer.
    Silent,
}

/// What an execution used, by its half of the receipt, which is kept.
async fn execution(home: &Home, factory: &NodeId, decision: &str) -> Told {
    let Some(peer) = home.peer(factory) else { return Told::Unknown };
    let half: Half = match tokio::time::timeout(TELL_TIMEOUT, peer.execution(decision)).await {
        Ok(Ok(Some(half))) => half,
        Ok(Ok(None)) => return Told::Unknown,
        Ok(Err(_)) | Err(_) => return Told::Silent,
    };
    let Statement::Execution(execution) = &half.statement else { return Told::Unknown };
    if execution.decision.as_str() != decision {
        return Told::Unknown;
    }
    let usage = Usage { prompt_tokens: execution.prompt_tokens, completion_tokens: execution.completion_tokens };
    if let Err(error) = home.keep_half(decision, &half).await {
        tracing::error!(error, decision, "a receipt's half could not be kept");
    }
    Told::Used(usage)
}

impl Books {
    fn is_empty(&self) -> bool {
        self.flushes.is_empty() && self.usage.is_empty() && self.opened.is_empty() && self.closed.is_empty()
    }
}

impl State {
    /// What could not be written goes back to where it came from.
    fn take_back(&mut self, flushes: &[Flush], books: Books) {
        flushes.iter().for_each(|flush| self.purses.not_flushed(flush));
        for usage in books.usage {
            let place = self.owners.iter().position(|(_, key)| *key == usage.key);
            let Some(used) = place.and_then(|place| self.used.get_mut(place)) else { continue };
            used.requests = used.requests.saturating_add(usage.counts.requests);
            used.prompt_tokens = used.prompt_tokens.saturating_add(usage.counts.prompt_tokens);
            used.completion_tokens = used.completion_tokens.saturating_add(usage.counts.completion_tokens);
            used.microeur = used.microeur.saturating_add(usage.counts.microeur);
        }
        // A row that is written after its answer has ended is taken away by the next flush.
        self.opened.splice(0..0, books.opened);
        self.closed.splice(0..0, books.closed);
    }
}
