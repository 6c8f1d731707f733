//! A line: what waits in a pool, by size, so that finding what can begin costs as much as what begins and not as much as what waits.
//!
//! Jobs of one size stand in their order under a tree of the least running times that their owners stated: the first of them that
//! would end in time is found in a few steps. Order over all sizes is that of arrival; what was put first stands before it. Absent:
//! who may pass whom; the pool knows.

use std::collections::BTreeMap;

use super::plan::Job;

/// What waits.
#[derive(Debug, Clone, Default)]
pub struct Line {
    sizes: BTreeMap<u32, Lane>,
    /// The next turn at the end, and the last that was given at the beginning.
    next: i64,
    first: i64,
    count: usize,
    units: u64,
}

/// One job's place: its size and its place among those of that size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spot {
    units: u32,
    at: usize,
    /// Its turn among all that wait: lower comes first.
    pub turn: i64,
}

/// Jobs of one size in order, under a tree of the least stated time: node `n` covers `2n` and `2n + 1`, leaves are the last half.
#[derive(Debug, Clone, Default)]
struct Lane {
    jobs: Vec<Option<(i64, Job)>>,
    least: Vec<u64>,
    /// The places in use: from, and until.
    from: usize,
    until: usize,
    count: usize,
}

/// Stands where no job is.
const NONE: u64 = u64::MAX;

impl Line {
    /// How many wait.
    #[allow(clippy::len_without_is_empty)] // Nobody asks.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Units that they ask for.
    pub fn units(&self) -> u64 {
        self.units
    }

    /// All that wait, not in their order.
    pub fn jobs(&self) -> impl Iterator<Item = &Job> {
        self.sizes.values().flat_map(|lane| lane.jobs.iter().flatten().map(|(_, job)| job))
    }

    /// Puts a job behind all others.
    pub fn push_back(&mut self, job: Job) {
        let turn = self.next;
        self.next += 1;
        self.put(job, turn, false);
    }

    /// Puts a job before all others.
    pub fn push_front(&mut self, job: Job) {
        self.first -= 1;
        self.put(job, self.first, true);
    }

    fn put(&mut self, job: Job, turn: i64, front: bool) {
        self.count += 1;
        self.units += u64::from(job.units);
        self.sizes.entry(job.units).or_default().put(job, turn, front);
    }

    /// The first of all.
    pub fn front(&self) -> Option<(Spot, Job)> {
        let firsts = self.sizes.keys().filter_map(|units| self.first_of(*units, NONE - 1));
        firsts.min_by_key(|(spot, _)| spot.turn)
    }

    /// Sizes that wait, up to one, smallest first.
    pub fn sizes(&self, most: u32) -> impl Iterator<Item = u32> {
        self.sizes.range(..=most).filter(|(_, lane)| lane.count > 0).map(|(units, _)| *units)
    }

    /// The first of a size that states no more than this time.
    pub fn first_of(&self, units: u32, stated_us_max: u64) -> Option<(Spot, Job)> {
        let lane = self.sizes.get(&units)?;
        let at = lane.first(stated_us_max, 0)?;
        lane.spot(units, at)
    }

    /// The same, behind a spot of that size.
    pub fn next_of(&self, after: &Spot, stated_us_max: u64) -> Option<(Spot, Job)> {
        let lane = self.sizes.get(&after.units)?;
        let at = lane.first(stated_us_max, after.at + 1)?;
        lane.spot(after.units, at)
    }

    /// Takes a job out.
    pub fn take(&mut self, spot: &Spot) -> Option<Job> {
        let job = self.sizes.get_mut(&spot.units)?.take(spot.at)?;
        self.count -= 1;
        self.units -= u64::from(job.units);
        Some(job)
    }

    /// Takes out all, in order.
    pub fn empty(&mut self) -> Vec<Job> {
        let lanes = std::mem::take(&mut self.sizes);
        let mut all: Vec<(i64, Job)> = lanes.into_values().flat_map(|lane| lane.jobs.into_iter().flatten()).collect();
        all.sort_by_key(|(turn, _)| *turn);
        (self.count, self.units) = (0, 0);
        all.into_iter().map(|(_, job)| job).collect()
    }
}

impl Lane {
    fn put(&mut self, job: Job, turn: i64, front: bool) {
        let full = if front { self.from == 0 } else { self.until == self.jobs.len() };
        if full {
            self.spread();
        }
        let at = if front {
            self.from -= 1;
            self.from
        } else {
            self.until += 1;
            self.until - 1
        };
        self.count += 1;
        if let Some(place) = self.jobs.get_mut(at) {
            *place = Some((turn, job));
        }
        // The longest that can be told from none.
        self.set(at, job.limit_us.min(NONE - 1));
    }

    /// Makes room on both sides, and closes gaps.
    fn spread(&mut self) {
        let jobs: Vec<(i64, Job)> = self.jobs.drain(..).flatten().collect();
        let width = (jobs.len() * 4).next_power_of_two().max(16);
        self.from = (width - jobs.len()) / 4;
        self.until = self.from + jobs.len();
        self.jobs.resize(width, None);
        self.least.clear();
        self.least.resize(width * 2, NONE);
        for (at, (turn, job)) in (self.from..).zip(jobs) {
            if let (Some(place), Some(least)) = (self.jobs.get_mut(at), self.least.get_mut(width + at)) {
                (*place, *least) = (Some((turn, job)), job.limit_us.min(NONE - 1));
            }
        }
        for node in (1..width).rev() {
            let least = self.of(node * 2).min(self.of(node * 2 + 1));
            if let Some(place) = self.least.get_mut(node) {
                *place = least;
            }
        }
    }

    fn of(&self, node: usize) -> u64 {
        self.least.get(node).copied().unwrap_or(NONE)
    }

    fn set(&mut self, at: usize, stated_us: u64) {
        let mut node = self.jobs.len() + at;
        let mut least = stated_us;
        loop {
            match self.least.get_mut(node) {
                // Above here nothing changes.
                Some(place) if *place == least => return,
                Some(place) => *place = least,
                None => return,
            }
            if node <= 1 {
                return;
            }
            least = least.min(self.of(node ^ 1));
            node /= 2;
        }
    }

    /// The first place from one on whose job states no more than this.
    fn first(&self, most_us: u64, from: usize) -> Option<usize> {
        let width = self.jobs.len();
        let from = from.max(self.from);
        if from >= width || self.count == 0 {
            return None;
        }
        let mut node = width + from;
        // Up, until a node holds one; each step to the right covers what is not looked at yet.
        while self.of(node) > most_us {
            while node & 1 == 1 {
                node /= 2;
                if node <= 1 {
                    return None;
                }
            }
            node += 1;
        }
        while node < width {
            node *= 2;
            if self.of(node) > most_us {
                node += 1;
            }
        }
        Some(node - width)
    }

    fn spot(&self, units: u32, at: usize) -> Option<(Spot, Job)> {
        let (turn, job) = self.jobs.get(at).copied().flatten()?;
        Some((Spot { units, at, turn }, job))
    }

    fn take(&mut self, at: usize) -> Option<Job> {
        let (_, job) = self.jobs.get_mut(at)?.take()?;
        self.count -= 1;
        self.set(at, NONE);
        if self.count == 0 {
            // Nothing is left: begin in the middle again, without moving anything.
            (self.from, self.until) = (self.jobs.len() / 4, self.jobs.len() / 4);
        }
        Some(job)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::draw::Draws;

    fn job(units: u32, limit_us: u64, mark: u32) -> Job {
        Job { at_us: 0, demand: 0, begun: 0, units, run_us: 1, limit_us, prompt: mark, generated: 0 }
    }

    /// Against a plain list, with everything that a pool does.
    #[test]
    fn a_line_is_a_list() {
        let mut draws = Draws::new(3, 1);
        let (mut line, mut list): (Line, Vec<Job>) = (Line::default(), Vec::new());
        for mark in 0..40_000 {
            let one = job(1 << draws.below(4), draws.below(1_000), mark);
            match draws.below(if mark % 4_000 < 2_000 { 5 } else { 9 }) {
                0 => {
                    line.push_front(one);
                    list.insert(0, one);
                }
                1 | 2 => {
                    line.push_back(one);
                    list.push(one);
                }
                3 | 4 => {
                    let found = line.front();
                    assert_eq!(found.map(|(_, job)| job), list.first().copied());
                    if let Some((spot, _)) = found {
                        assert_eq!(line.take(&spot), Some(list.remove(0)));
                    }
                }
                _ => {
                    let (units, most) = (1 << draws.below(4), draws.below(1_000));
                    let fits = |job: &Job| job.units == units && job.limit_us <= most;
                    let place = list.iter().position(fits);
                    let found = line.first_of(units, most);
                    assert_eq!(found.map(|(_, job)| job), place.and_then(|place| list.get(place)).copied());
                    if let (Some((spot, _)), Some(place)) = (found, place) {
                        let later = list.iter().skip(place + 1).find(|job| fits(job));
                        assert_eq!(line.next_of(&spot, most).map(|(_, job)| job), later.copied());
                        line.take(&spot).unwrap();
                        list.remove(place);
                    }
                }
            }
            assert_eq!(line.len(), list.len());
            assert_eq!(line.units(), list.iter().map(|job| u64::from(job.units)).sum::<u64>());
        }
        list.push(job(1, 1, 1));
        line.push_back(job(1, 1, 1));
        assert_eq!(line.empty(), list);
        assert!(line.len() == 0 && line.front().is_none());
    }
}
