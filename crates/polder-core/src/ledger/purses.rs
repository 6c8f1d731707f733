//! The gateway's side: tranches in memory, rates, and what is reserved from them.
//!
//! A reservation takes from every limited account of a request or from none. In the steady state nothing here allocates and
//! no account is looked for: a request carries the places of its accounts. Absent: a lock; whoever shares it brings one.

use super::{Bucket, Budget, Limits};

/// How long a gateway keeps more than it needs, in milliseconds.
const IDLE_MS: u64 = 10_000;

/// The place of an account among the [`Purses`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Account(u32);

impl Account {
    /// Its place, counted from 0 in the order in which accounts were added.
    pub fn place(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

/// The accounts that a request is counted in: key, project, tenant.
pub type Path = [Account; 3];

type Periods = [Option<u64>; 3];

/// What is reserved for one request.
#[derive(Debug)]
#[must_use = "a reservation that is dropped is never given back"]
pub struct Hold {
    path: Path,
    /// The period in which each account pays; none for an account that had no budget when the request came.
    periods: Periods,
    tokens: u64,
    microeur: u64,
    running: bool,
}

impl Hold {
    /// What is reserved, in micro-euro.
    pub fn microeur(&self) -> u64 {
        self.microeur
    }

    /// The accounts and the periods in which they pay.
    pub fn pays(&self) -> impl Iterator<Item = (Account, u64)> {
        self.path.into_iter().zip(self.periods).filter_map(|(account, period)| Some((account, period?)))
    }
}

/// Which limit a request ran into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Short {
    /// Requests per minute: enough again in so many milliseconds.
    Requests(u64),
    /// Tokens per minute: enough again in so many milliseconds.
    Tokens(u64),
    /// Answers under way at once.
    Streams,
    /// Money. Where `last` is false the ledger may still lend: ask again after the next flush.
    Money {
        /// The ledger has nothing more to lend.
        last: bool,
    },
}

/// A request that ran into a limit; nothing was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    /// Whose limit it is: the place in the path.
    pub level: usize,
    /// Which limit.
    pub short: Short,
}

/// What a gateway and the ledger have to settle of one account and period. All in micro-euro.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flush {
    /// The account.
    pub account: Account,
    /// The period.
    pub period: u64,
    /// The budget that holds.
    pub budget: u64,
    /// Settled since the last flush.
    pub spent: u64,
    /// How much more is wanted.
    pub wanted: u64,
    /// How much of what is lent can go back.
    pub unused: u64,
    /// The ledger had less than was wanted the last time, so there is no haste to ask again.
    pub last: bool,
}

/// A tranche: what is lent for one period, and what became of it. `lent >= reserved + spent`.
#[derive(Debug, Clone, Copy, Default)]
struct Tranche {
    period: u64,
    lent: u64,
    reserved: u64,
    /// Settled here and not yet written by the ledger.
    spent: u64,
    /// Reserved since the last flush: how much the next second may need.
    flow: u64,
    /// What could not be reserved since the last flush.
    missed: u64,
    /// When something was last wanted, in Unix milliseconds.
    wanted_ms: u64,
    /// The ledger had less than was wanted.
    last: bool,
}

impl Tranche {
    fn free(&self) -> u64 {
        self.lent.saturating_sub(self.reserved.saturating_add(self.spent))
    }
}

/// Kept once an account ever had a budget: answers under way settle in the tranches that they reserved from.
#[derive(Debug)]
struct Money {
    /// None where the budget was lifted.
    budget: Option<Budget>,
    /// The period of the last look.
    current: u64,
    /// More than one only while answers of another period are under way.
    tranches: Vec<Tranche>,
}

impl Money {
    fn tranche(&mut self, period: u64) -> Option<&mut Tranche> {
        self.tranches.iter_mut().find(|one| one.period == period)
    }

    /// The period that counts now, with a tranche to reserve from.
    fn enter(&mut self, budget: Budget, now_ms: u64) -> u64 {
        let period = budget.window.period(now_ms);
        self.current = period;
        if self.tranche(period).is_none() {
            self.tranches.push(Tranche { period, ..Tranche::default() });
        }
        period
    }

    fn has(&mut self, period: u64, microeur: u64) -> Result<(), Short> {
        let Some(tranche) = self.tranche(period) else { return Err(Short::Money { last: true }) };
        if tranche.free() >= microeur {
            return Ok(());
        }
        tranche.missed = tranche.missed.saturating_add(microeur);
        Err(Short::Money { last: tranche.last })
    }

    fn reserve(&mut self, period: u64, microeur: u64) {
        if let Some(tranche) = self.tranche(period) {
            tranche.reserved = tranche.reserved.saturating_add(microeur);
            tranche.flow = tranche.flow.saturating_add(microeur);
        }
    }
}

#[derive(Debug, Default)]
struct Purse {
    requests: Option<Bucket>,
    tokens: Option<Bucket>,
    streams: Option<u32>,
    running: u32,
    money: Option<Money>,
}

/// Every account of a gateway.
#[derive(Debug, Default)]
pub struct Purses {
    purses: Vec<Purse>,
    /// The accounts that have, or had, a budget.
    paying: Vec<Account>,
}

impl Purses {
    /// Adds an account.
    pub fn add(&mut self, limits: &Limits, now_ms: u64) -> Account {
        let account = Account(u32::try_from(self.purses.len()).unwrap_or(u32::MAX));
        self.purses.push(Purse::default());
        self.set(account, limits, now_ms);
        account
    }

    /// Changes what an account may do. What was used and what is reserved stay as they are.
    pub fn set(&mut self, account: Account, limits: &Limits, now_ms: u64) {
        let Some(purse) = self.purse(account) else { return };
        let bucket = |before: Option<Bucket>, rate: Option<u64>| {
            let rate = rate?;
            Some(before.map_or_else(|| Bucket::new(rate, now_ms), |before| before.at_rate(rate, now_ms)))
        };
        purse.requests = bucket(purse.requests, limits.requests_per_minute);
        purse.tokens = bucket(purse.tokens, limits.tokens_per_minute);
        purse.streams = limits.streams;
        match (&mut purse.money, limits.budget) {
            (Some(money), budget) => {
                money.budget = budget;
                money.tranches.iter_mut().for_each(|tranche| tranche.last = false);
            }
            (None, Some(_)) => {
                purse.money = Some(Money { budget: limits.budget, current: 0, tranches: Vec::with_capacity(2) });
                self.paying.push(account);
            }
            (None, None) => {}
        }
    }

    /// Every account, in the order in which they were added.
    pub fn accounts(&self) -> impl Iterator<Item = Account> {
        (0..u32::try_from(self.purses.len()).unwrap_or(u32::MAX)).map(Account)
    }

    fn purse(&mut self, account: Account) -> Option<&mut Purse> {
        self.purses.get_mut(account.place())
    }

    /// Whether any account of a path has a budget.
    pub fn pays(&self, path: &Path) -> bool {
        path.iter().any(|account| {
            let purse = self.purses.get(account.place());
            purse.and_then(|purse| purse.money.as_ref()).is_some_and(|money| money.budget.is_some())
        })
    }

    /// The rates of a path's accounts that leave the least: requests, then tokens.
    pub fn rates(&mut self, path: &Path, now_ms: u64) -> [Option<Bucket>; 2] {
        let mut least: [Option<Bucket>; 2] = [None, None];
        for account in path {
            let Some(purse) = self.purse(*account) else { continue };
            for (least, bucket) in least.iter_mut().zip([purse.requests, purse.tokens]) {
                let Some(mut bucket) = bucket else { continue };
                if least.is_none_or(|mut least| bucket.left(now_ms) < least.left(now_ms)) {
                    *least = Some(bucket);
                }
            }
        }
        least
    }

    /// Reserves for one request: `tokens` of the rates, `microeur` of the budgets, a place among the streams.
    pub fn reserve(&mut self, path: Path, tokens: u64, microeur: u64, now_ms: u64) -> Result<Hold, Refused> {
        let mut periods: Periods = [None; 3];
        for (level, (account, period)) in path.iter().zip(&mut periods).enumerate() {
            let Some(purse) = self.purse(*account) else { continue };
            purse.look(tokens, microeur, now_ms, period).map_err(|short| Refused { level, short })?;
        }
        for (account, period) in path.iter().zip(periods) {
            let Some(purse) = self.purse(*account) else { continue };
            purse.running = purse.running.saturating_add(1);
            purse.requests.iter_mut().for_each(|bucket| bucket.take(1));
            purse.tokens.iter_mut().for_each(|bucket| bucket.take(tokens));
            if let (Some(money), Some(period)) = (&mut purse.money, period) {
                money.reserve(period, microeur);
            }
        }
        Ok(Hold { path, periods, tokens, microeur, running: true })
    }

    /// Reserves more for an answer that grows. Rates are owed to rather than end an answer; budgets are not.
    pub fn extend(&mut self, hold: &mut Hold, tokens: u64, microeur: u64) -> Result<(), Refused> {
        for (level, (account, period)) in hold.path.iter().zip(hold.periods).enumerate() {
            let money = self.purse(*account).and_then(|purse| purse.money.as_mut());
            let (Some(money), Some(period)) = (money, period) else { continue };
            money.has(period, microeur).map_err(|short| Refused { level, short })?;
        }
        for (account, period) in hold.path.iter().zip(hold.periods) {
            let Some(purse) = self.purse(*account) else { continue };
            purse.tokens.iter_mut().for_each(|bucket| bucket.take(tokens));
            if let (Some(money), Some(period)) = (&mut purse.money, period) {
                money.reserve(period, microeur);
            }
        }
        hold.tokens = hold.tokens.saturating_add(tokens);
        hold.microeur = hold.microeur.saturating_add(microeur);
        Ok(())
    }

    /// An answer has ended; what it used may not be known yet.
    pub fn ended(&mut self, hold: &mut Hold) {
        if !std::mem::take(&mut hold.running) {
            return;
        }
        for account in hold.path {
            if let Some(purse) = self.purse(account) {
                purse.running = purse.running.saturating_sub(1);
            }
        }
    }

    /// Settles a request with what it really used. Money beyond what was reserved is taken where every account still has it,
    /// and is otherwise not asked of the tenant; what was paid.
    pub fn settle(&mut self, mut hold: Hold, tokens: u64, microeur: u64) -> u64 {
        self.ended(&mut hold);
        let beyond = microeur.saturating_sub(hold.microeur);
        if beyond > 0 {
            // Refused or not: the reservation is what can be paid.
            let _ = self.extend(&mut hold, 0, beyond);
        }
        let paid = microeur.min(hold.microeur);
        for (account, period) in hold.path.iter().zip(hold.periods) {
            let Some(purse) = self.purse(*account) else { continue };
            if let Some(bucket) = &mut purse.tokens {
                bucket.give(hold.tokens);
                bucket.take(tokens);
            }
            let tranche = purse.money.as_mut().zip(period).and_then(|(money, period)| money.tranche(period));
            if let Some(tranche) = tranche {
                tranche.reserved = tranche.reserved.saturating_sub(hold.microeur);
                tranche.spent = tranche.spent.saturating_add(paid);
            }
        }
        paid
    }

    /// What is to be settled with the ledger now, into a list that the caller keeps. With `closing`, everything that is not
    /// reserved goes back.
    pub fn flushes(&mut self, now_ms: u64, closing: bool, list: &mut Vec<Flush>) {
        for account in &self.paying {
            let money = self.purses.get_mut(account.place()).and_then(|purse| purse.money.as_mut());
            let Some(money) = money else { continue };
            let budget = money.budget.filter(|_| !closing);
            let current = budget.map(|budget| money.enter(budget, now_ms));
            let most = budget.map_or(0, |budget| budget.microeur);
            for tranche in &mut money.tranches {
                // A 64th of the budget, or twice what the last interval needed.
                let target = match Some(tranche.period) == current {
                    true => (most / 64).max(1).max(tranche.flow.saturating_mul(2)),
                    false => 0,
                };
                let (free, missed) = (tranche.free(), if budget.is_some() { tranche.missed } else { 0 });
                // With half the target left there is time until the next flush.
                let wanted = match free >= target.div_ceil(2) && missed == 0 {
                    true => 0,
                    false => target.saturating_add(missed).saturating_sub(free),
                };
                if wanted > 0 {
                    tranche.wanted_ms = now_ms;
                }
                // What was just lent is waited for: only what lies idle goes back.
                let idle =
                    closing || now_ms.saturating_sub(tranche.wanted_ms) >= IDLE_MS || Some(tranche.period) != current;
                let unused = if idle && free > target.saturating_mul(4) { free - target } else { 0 };
                if tranche.spent > 0 || wanted > 0 || unused > 0 {
                    let (account, period, spent) = (*account, tranche.period, tranche.spent);
                    let budget = most;
                    list.push(Flush { account, period, budget, spent, wanted, unused, last: tranche.last });
                }
                tranche.flow = 0;
            }
        }
    }

    /// What can go back is taken out of the purse before the ledger hears of it, so that nobody reserves from it meanwhile.
    pub fn begin(&mut self, flush: &mut Flush) {
        let Some(tranche) = self.tranche_of(flush) else { return };
        flush.unused = flush.unused.min(tranche.free());
        tranche.lent = tranche.lent.saturating_sub(flush.unused);
        // From now on the ledger has something to lend.
        tranche.last &= flush.unused == 0;
    }

    /// The ledger has written a flush and lent so much more.
    pub fn flushed(&mut self, flush: &Flush, granted: u64) {
        let Some(tranche) = self.tranche_of(flush) else { return };
        tranche.spent = tranche.spent.saturating_sub(flush.spent);
        tranche.lent = tranche.lent.saturating_sub(flush.spent).saturating_add(granted);
        tranche.last = granted < flush.wanted;
        tranche.missed = 0;
        let Some(money) = self.purse(flush.account).and_then(|purse| purse.money.as_mut()) else { return };
        // A period that is over and settled is forgotten; not one that a later flush of the same round lends to.
        let current = money.current;
        let open = |one: &Tranche| one.lent > 0 || one.reserved > 0 || one.spent > 0 || one.missed > 0;
        money.tranches.retain(|one| one.period == current || open(one));
    }

    /// The ledger could not write a flush: what was to go back stays here.
    pub fn not_flushed(&mut self, flush: &Flush) {
        if let Some(tranche) = self.tranche_of(flush) {
            tranche.lent = tranche.lent.saturating_add(flush.unused);
        }
    }

    fn tranche_of(&mut self, flush: &Flush) -> Option<&mut Tranche> {
        let money = self.purse(flush.account)?.money.as_mut()?;
        money.tranches.iter_mut().find(|one| one.period == flush.period)
    }
}

impl Purse {
    fn look(&mut self, tokens: u64, microeur: u64, now_ms: u64, period: &mut Option<u64>) -> Result<(), Short> {
        if self.streams.is_some_and(|most| self.running >= most) {
            return Err(Short::Streams);
        }
        if let Some(bucket) = &mut self.requests {
            bucket.can(1, now_ms).map_err(Short::Requests)?;
        }
        if let Some(bucket) = &mut self.tokens {
            bucket.can(tokens, now_ms).map_err(Short::Tokens)?;
        }
        if let Some((money, budget)) = self.money.as_mut().and_then(|money| money.budget.map(|budget| (money, budget)))
        {
            let now = money.enter(budget, now_ms);
            money.has(now, microeur)?;
            *period = Some(now);
        }
        Ok(())
    }
}
