//! The durable side of a budget: what an account has spent in one period, and what is lent to gateways.
//!
//! Where it is kept is absent. Whoever keeps it must change it in one transaction with the books of what was settled.

/// How an account stands in one period, in micro-euro.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Standing {
    /// Settled.
    pub spent: u64,
    /// In tranches that gateways hold or that were lost with one.
    pub lent: u64,
}

impl Standing {
    /// What can still be lent under a budget.
    pub fn available(&self, budget: u64) -> u64 {
        budget.saturating_sub(self.spent.saturating_add(self.lent))
    }

    /// Lends up to `wanted`; what was really lent.
    pub fn lend(&mut self, wanted: u64, budget: u64) -> u64 {
        let granted = wanted.min(self.available(budget));
        self.lent = self.lent.saturating_add(granted);
        granted
    }

    /// Turns a part of what is lent into what is spent.
    pub fn settle(&mut self, spent: u64) {
        self.lent = self.lent.saturating_sub(spent);
        self.spent = self.spent.saturating_add(spent);
    }

    /// Takes back what was lent and not used.
    pub fn take_back(&mut self, unused: u64) {
        self.lent = self.lent.saturating_sub(unused);
    }
}
