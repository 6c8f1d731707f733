//! A situation: what a decision was made by, put together again, and the same with what drops out taken away.
//!
//! Decisions about the same request by the same policies and facts share one, so that the policies are asked once and not for every
//! receipt. Load and price change with every decision and are no part of it. Nothing here decides: `polder_core` does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use polder_core::canonical::Digest;
use polder_core::ids::NodeId;
use polder_core::monitor::named;
use polder_core::placement::{Basis, Change, Decision, Factory, Ground, Inputs, Row, Snapshot, decide_by};
use polder_core::policy::{Cause, Column};
use polder_core::replay::{Then, then};
use polder_core::request::Request;
use polder_core::statement::v1::{DecisionRecord, DecisionStatement};
use polder_core::tables::Tables;

use super::book::{Book, Unread};
use super::concentration::{DIMENSIONS, behind};
use super::loss::{Loss, Touch, touched};

/// What policies said and facts were, and what is left of it.
#[derive(Debug)]
pub struct Situation {
    then: Then,
    /// From when until when the facts stand as they do here, in Unix milliseconds.
    span_ms: (u64, u64),
    /// What each factory suffers, in the order of the basis.
    pub touches: Vec<Touch>,
    after: Arc<Basis>,
    after_row: Row,
    /// The places of what is left among all factories.
    kept: Vec<usize>,
    /// Who stands behind each factory.
    pub behind: Vec<[Vec<(String, u64)>; DIMENSIONS.len()]>,
    /// Once known: what is decided where no factory is left that may, whatever the load.
    refused: std::cell::OnceCell<Decision>,
}

/// Situations by what makes them the same.
#[derive(Debug, Default)]
pub struct Situations {
    all: Vec<Situation>,
    by: BTreeMap<(Request, [Digest; 5]), Vec<usize>>,
    checked: BTreeSet<Digest>,
}

impl Situations {
    /// The situation of a decision, by its number, with the inputs of its scores.
    pub fn of(
        &mut self,
        book: &Book,
        decision: &DecisionStatement,
        losses: &[Loss],
    ) -> Result<(usize, Tables), Unread> {
        let (tables, digests) = book.tables(decision)?;
        if !self.checked.contains(&decision.tables) {
            if tables.digests().and_then(|found| found.digest()) != Ok(decision.tables) || !tables.is_ordered() {
                return Err(Unread::Broken("set of tables"));
            }
            self.checked.insert(decision.tables);
        }
        let policies = &decision.policies;
        let digests = [policies.baseline, policies.owner, policies.schema, policies.trust, digests.verdicts];
        let key = (decision.request.clone(), digests);
        let known = self.by.get(&key).into_iter().flatten().copied();
        let fits = |number: &usize| {
            let span = self.all.get(*number).map(|one| one.span_ms);
            span.is_some_and(|(from, until)| from <= decision.at_ms && decision.at_ms < until)
        };
        if let Some(number) = known.into_iter().find(fits) {
            return Ok((number, tables));
        }
        let (_, sources) = named(decision, &book.objects)?;
        if sources.trust.digest().ok() != Some(decision.policies.trust) {
            return Err(Unread::Broken("trust"));
        }
        let record = DecisionRecord::joined(decision.clone(), &tables).ok_or(Unread::Broken("set of tables"))?;
        let then = then(&record, &sources).map_err(|e| Unread::Replay(e.to_string()))?;
        let made = Situation::new(then, decision, losses).map_err(Unread::Replay)?;
        self.by.entry(key).or_default().push(self.all.len());
        self.all.push(made);
        Ok((self.all.len() - 1, tables))
    }

    /// A situation by its number.
    pub fn get(&self, number: usize) -> Option<&Situation> {
        self.all.get(number)
    }
}

impl Situation {
    fn new(then: Then, decision: &DecisionStatement, losses: &[Loss]) -> Result<Self, String> {
        let basis = &then.snapshot.basis;
        let profile = |ground: &Ground| ground.column.profile().valid_until_ms;
        let until_ms = basis.grounds.iter().map(profile).min().unwrap_or(u64::MAX);
        let (touches, kept, after) = less(basis, losses, &decision.home)?;
        Ok(Self {
            span_ms: (decision.at_ms, until_ms),
            behind: basis.grounds.iter().map(|ground| behind(&ground.id, ground.column.profile())).collect(),
            after_row: then.row.renew(&after),
            after,
            kept,
            touches,
            then,
            refused: std::cell::OnceCell::new(),
        })
    }

    /// The factories, in the order in which everything here counts them.
    pub fn factories(&self) -> impl Iterator<Item = &NodeId> {
        self.then.snapshot.basis.grounds.iter().map(|ground| &ground.id)
    }

    /// The factories that are left.
    pub fn left(&self) -> impl Iterator<Item = (usize, &NodeId)> {
        self.kept.iter().copied().zip(self.after.grounds.iter().map(|ground| &ground.id))
    }

    /// Decides again as it was.
    pub fn again(&self, statement: &DecisionStatement, inputs: &[Inputs]) -> Decision {
        let factories = inputs.iter().map(|inputs| Factory { unavailable: Vec::new(), inputs: *inputs }).collect();
        let basis = Arc::clone(&self.then.snapshot.basis);
        let snapshot = Snapshot::new(statement.at_ms, basis, statement.facts, statement.weights, factories);
        decide_by(&self.then.row, &snapshot, &statement.request, &self.then.excluded)
    }

    /// Decides with what is left. `now` gives, for the place of a factory among all, why it has no room, and its inputs.
    pub fn after(&self, statement: &DecisionStatement, now: &dyn Fn(usize) -> (Option<Cause>, Inputs)) -> Decision {
        if let Some(refused) = self.refused.get() {
            return refused.clone();
        }
        let factory = |place: &usize| {
            let (full, inputs) = now(*place);
            Factory { unavailable: full.into_iter().collect(), inputs }
        };
        let factories: Vec<Factory> = self.kept.iter().map(factory).collect();
        let basis = Arc::clone(&self.after);
        let snapshot = Snapshot::new(statement.at_ms, basis, statement.facts, statement.weights, factories);
        let decision = decide_by(&self.after_row, &snapshot, &statement.request, &self.then.excluded);
        // Load changes nothing where none may run it.
        let open = |(place, ground): (usize, &Ground)| {
            self.after_row.causes(place).is_empty() && !self.then.excluded.contains_key(&ground.id)
        };
        if decision.factory.is_none() && !self.after.grounds.iter().enumerate().any(open) {
            return self.refused.get_or_init(|| decision).clone();
        }
        decision
    }
}

/// Single changes that would each place a refused request: rules that alone refuse it somewhere, and facts among the nearest
/// relaxations.
pub fn single_changes(decision: &Decision) -> BTreeSet<(Option<NodeId>, Change)> {
    let mut found = BTreeSet::new();
    let mut add = |factory: &NodeId, change: Change| {
        let whose = change.is_the_factorys().then(|| factory.clone());
        found.insert((whose, change));
    };
    for verdict in &decision.verdicts {
        let rules: BTreeSet<Change> = verdict.causes.iter().map(rule).collect();
        if let (Some(only), 1) = (rules.first(), rules.len()) {
            add(&verdict.factory, only.clone());
        }
    }
    for near in &decision.nearest {
        if let [only] = near.changes.as_slice() {
            add(&near.factory, only.clone());
        }
    }
    found
}

/// What each factory suffers, the places of those that are left, and what is left.
type Left = (Vec<Touch>, Vec<usize>, Arc<Basis>);

/// A basis less what drops out: what each factory suffers, the places of those that are left, and what is left.
pub(super) fn less(basis: &Basis, losses: &[Loss], home: &NodeId) -> Result<Left, String> {
    let touch = |ground: &Ground| touched(losses, home, &ground.id, ground.column.profile());
    let touches: Vec<Touch> = basis.grounds.iter().map(touch).collect();
    let (mut grounds, mut kept) = (Vec::new(), Vec::new());
    for (place, (ground, touch)) in basis.grounds.iter().zip(&touches).enumerate() {
        match touch {
            Touch::Goes | Touch::Assumed => continue,
            Touch::Stays => grounds.push(ground.clone()),
            Touch::Shrinks(_) => grounds.push(without_chips(ground, losses, basis)?),
        }
        kept.push(place);
    }
    Ok((touches, kept, Arc::new(Basis { grounds, ..basis.clone() })))
}

fn rule(cause: &Cause) -> Change {
    Change::Rule { layer: cause.layer, rule: cause.rule.clone() }
}

/// A factory that loses some of its chips: their facts are gone.
fn without_chips(ground: &Ground, losses: &[Loss], basis: &Basis) -> Result<Ground, String> {
    use polder_core::facts::Claim;
    let mut profile = ground.column.profile().clone();
    let lost = |claim: &Claim| matches!(claim, Claim::Chip { vendor, .. } if losses.contains(&Loss::Vendor(*vendor)));
    profile.facts.retain(|_, held| !lost(&held.fact.claim));
    profile.contested.retain(|_, held| !held.iter().any(|held| lost(&held.fact.claim)));
    let column = Column::new(&ground.id, profile, ground.column.usage(), &basis.schema)?;
    Ok(Ground { column: Arc::new(column), ..ground.clone() })
}
