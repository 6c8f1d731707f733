//! Chains as a reader sees them: every leaf has one number, every number one leaf, and every day says so.
//!
//! A link is checked against the public entries that it names, so a leaf that was changed, left out or put in shows. Whose chain it
//! is comes from the statements. Blinded names are not opened here.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Kind;
use super::times::instant;
use crate::canonical::Digest;
use crate::chain::v1::{DayStatement, LinkStatement};
use crate::chain::{ChainName, head};
use crate::statement::v1::Statement;
use crate::usage::day_of;

/// How much later than a leaf others may come before its link, or its day's statement, is overdue; by the log's own instants.
const OVERDUE_MS: u64 = 600_000;

/// What the links and days said so far.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Chains {
    seen: BTreeMap<Digest, Seen>,
    /// Leaves without a number yet, by their places.
    open: BTreeMap<u64, Open>,
    /// What came since the last day's statement.
    kinds: BTreeMap<String, u64>,
    /// Whether something came that nobody was shown, so that kinds cannot be counted.
    unknown: bool,
    from_leaf: u64,
    since_ms: Option<u64>,
    /// The place and the day of the last day's statement.
    stated: Option<(u64, u64)>,
}

/// One chain so far.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Seen {
    last: u64,
    head: Digest,
    name: Option<ChainName>,
    /// The last number that a day's statement gave.
    day_last: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Open {
    entry: Digest,
    name: Option<ChainName>,
    at_ms: u64,
}

/// What is wrong, where, and what was claimed.
type Found = (Kind, Option<u64>, String);

impl Chains {
    pub(super) fn check(
        &mut self,
        index: u64,
        entry: Digest,
        statement: Option<&Statement>,
        name: Option<ChainName>,
    ) -> Vec<Found> {
        let at_ms = statement.map_or(0, instant);
        let found = match statement {
            Some(Statement::Link(link)) => self.link(index, link),
            Some(Statement::Day(day)) => self.day(index, day),
            _ => {
                self.open.insert(index, Open { entry, name, at_ms });
                Vec::new()
            }
        };
        match statement {
            Some(statement) => {
                let count = self.kinds.entry(statement.kind().to_owned()).or_default();
                *count = count.saturating_add(1);
                self.since_ms.get_or_insert(at_ms);
            }
            None => self.unknown = true,
        }
        found
    }

    fn link(&mut self, index: u64, link: &LinkStatement) -> Vec<Found> {
        let mut seen = self.seen.remove(&link.chain).unwrap_or_else(|| Seen { head: link.chain, ..Seen::default() });
        let mut found = Vec::new();
        let next = seen.last.saturating_add(1);
        let wrong = |kind, says: String| (kind, Some(index), says);
        if link.from < next {
            found.push(wrong(
                Kind::DoubleNumber,
                format!("its numbers begin at {}, and {} was given", link.from, seen.last),
            ));
        } else if link.from > next {
            let last = link.from.saturating_sub(1);
            found.push(wrong(
                Kind::Gap,
                format!("the numbers {next} to {last} of the chain {} are missing", link.chain),
            ));
        } else if link.before != seen.head {
            found.push(wrong(Kind::Gap, format!("the link does not go on from the one before, at number {next}")));
        }
        let (numbers, hash) = self.take_places(link, &mut seen, &mut found, index);
        if Some(link.to) != link.from.checked_add(numbers).and_then(|next| next.checked_sub(1)) || numbers == 0 {
            let says = format!("it gives the numbers {} to {}, and names {numbers} leaves", link.from, link.to);
            found.push(wrong(Kind::Gap, says));
        } else if hash != link.head {
            let says =
                format!("the running hash over the numbers {} to {} is not that of the entries", link.from, link.to);
            found.push(wrong(Kind::Gap, says));
        }
        if let (Some(name), Some([_, last])) = (&seen.name, link.places.last()) {
            // What is of this chain, stands before what has a number, and has none.
            let left = self.open.range(..*last).filter(|(_, open)| open.name.as_ref() == Some(name));
            let left: Vec<u64> = left.map(|(place, _)| *place).collect();
            for place in left {
                self.open.remove(&place);
                found.push((Kind::LeftOut, Some(place), format!("the link at {index} passes it over")));
            }
            if self.seen.values().any(|other| other.name.as_ref() == Some(name)) {
                found.push(wrong(
                    Kind::DoubleNumber,
                    "the same tenant's leaves are numbered in another chain, too".to_owned(),
                ));
            }
        }
        (seen.last, seen.head) = (seen.last.max(link.to), link.head);
        self.seen.insert(link.chain, seen);
        found
    }

    /// The places that a link names, taken from those that are open: how many, and the running hash over them.
    fn take_places(
        &mut self,
        link: &LinkStatement,
        seen: &mut Seen,
        found: &mut Vec<Found>,
        index: u64,
    ) -> (u64, Digest) {
        let (mut number, mut hash, mut before) = (link.from, link.before, None);
        for place in link.places.iter().flat_map(|[first, last]| *first..=*last) {
            if before.is_some_and(|before| place <= before) {
                found.push((Kind::DoubleNumber, Some(index), format!("place {place} is named out of order")));
                break;
            }
            let Some(open) = self.open.remove(&place) else {
                let says = format!("place {place} has a number already, or cannot have one");
                found.push((Kind::DoubleNumber, Some(index), says));
                break;
            };
            match (&seen.name, &open.name) {
                (Some(one), Some(other)) if one != other => {
                    found.push((Kind::Gap, Some(place), "it has a number of another tenant's chain".to_owned()));
                }
                (None, Some(_)) => seen.name.clone_from(&open.name),
                _ => {}
            }
            hash = head(&hash, number, place, &open.entry);
            (number, before) = (number.saturating_add(1), Some(place));
        }
        (number.saturating_sub(link.from), hash)
    }

    fn day(&mut self, index: u64, day: &DayStatement) -> Vec<Found> {
        let mut wrong = Vec::new();
        if (day.from_leaf, day.until_leaf) != (self.from_leaf, index) {
            let (from, until) = (day.from_leaf, day.until_leaf);
            wrong.push(format!(
                "it is about the leaves {from} to {until}, and {} to {index} were written",
                self.from_leaf
            ));
        }
        let sum: u128 = day.kinds.values().map(|count| u128::from(*count)).sum();
        if sum != u128::from(day.until_leaf.saturating_sub(day.from_leaf)) || (!self.unknown && day.kinds != self.kinds)
        {
            wrong.push(format!("it counts {:?}, and there are {:?}", day.kinds, self.kinds));
        }
        if day.previous != self.stated.map(|(place, _)| place) {
            wrong.push("it does not follow the statement before".to_owned());
        }
        for one in &day.chains {
            let held = self.seen.get(&one.chain).map(|seen| (seen.day_last.saturating_add(1), seen.last, seen.head));
            if held != Some((one.from, one.to, one.head)) {
                wrong.push(format!("it says that the chain {} has come to {}, and it has not", one.chain, one.to));
            }
        }
        let listed = |chain: &Digest| day.chains.iter().any(|one| one.chain == *chain);
        for (chain, seen) in &mut self.seen {
            if seen.last > seen.day_last && !listed(chain) {
                wrong.push(format!("it does not speak of the chain {chain}"));
            }
            seen.day_last = seen.last;
        }
        (self.from_leaf, self.stated, self.unknown) = (index, Some((index, day.day)), false);
        (self.kinds, self.since_ms) = (BTreeMap::new(), None);
        let mut found: Vec<Found> = wrong.into_iter().map(|says| (Kind::Day, Some(index), says)).collect();
        for (place, open) in std::mem::take(&mut self.open) {
            if open.name.is_some() {
                found.push((Kind::LeftOut, Some(place), format!("the day's statement at {index} passes it over")));
            }
        }
        found
    }

    /// What is overdue by the log's own instants: a node that stands still owes nothing.
    pub(super) fn overdue(&self, latest_ms: u64, now_ms: u64) -> Vec<Found> {
        let by_ms = latest_ms.min(now_ms).saturating_sub(OVERDUE_MS);
        let left = self.open.iter().filter(|(_, open)| open.name.is_some() && open.at_ms < by_ms);
        let mut found: Vec<Found> =
            left.map(|(place, _)| (Kind::LeftOut, Some(*place), "no link has come for it".to_owned())).collect();
        if let Some(since_ms) = self.since_ms.filter(|since_ms| day_of(*since_ms) < day_of(by_ms)) {
            let says = format!("day {} since the epoch has no statement", day_of(since_ms));
            found.push((Kind::Day, None, says));
        }
        found
    }
}
