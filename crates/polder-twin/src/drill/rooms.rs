//! Rooms: how full factories would be, given how full they were and what came or went since something dropped out.
//!
//! A factory's recorded load stands; on top of it comes what a drill sends there, and what it sends elsewhere goes. Everything runs as
//! long elsewhere as it did. Absent: the factory's own queue and scheduler, which a study has.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use polder_core::ids::NodeId;
use polder_core::placement::{Inputs, NO_CAPACITY};
use polder_core::policy::{Cause, LayerKind};

/// A factory's room.
#[derive(Debug, Clone, Default)]
struct Room {
    /// Places that are left; `None` where nobody knows.
    places: Option<u64>,
    /// What runs here now and did not then, less what ran here then and does not now.
    more: i64,
    /// The load that was recorded last.
    load_ppm: u64,
    /// How much came that had been elsewhere.
    came: u64,
    /// The highest load so far.
    peak_ppm: u64,
}

/// All factories' rooms.
#[derive(Debug, Default)]
pub struct Rooms {
    rooms: BTreeMap<NodeId, Room>,
    /// What ends when, and where: `more` changes by that much then.
    ends: BinaryHeap<Reverse<(u64, NodeId, i64)>>,
}

impl Rooms {
    /// Rooms with these places.
    pub fn new(places: &BTreeMap<NodeId, u64>) -> Self {
        let room =
            |(factory, places): (&NodeId, &u64)| (factory.clone(), Room { places: Some(*places), ..Room::default() });
        Self { rooms: places.iter().map(room).collect(), ends: BinaryHeap::new() }
    }

    /// The load that a home recorded.
    pub fn record(&mut self, factory: &NodeId, load_ppm: u64) {
        match self.rooms.get_mut(factory) {
            Some(room) => room.load_ppm = load_ppm,
            None => drop(self.rooms.insert(factory.clone(), Room { load_ppm, ..Room::default() })),
        }
    }

    /// Why there is no room at a factory with so much of it left, and what its score is made of now.
    pub fn now(&self, factory: &NodeId, left_ppm: u64, then: &Inputs) -> (Option<Cause>, Inputs) {
        let Some(room) = self.rooms.get(factory) else { return (None, *then) };
        if room.more == 0 && left_ppm == 1_000_000 {
            return (None, *then);
        }
        let load_ppm = room.load(left_ppm);
        let full = load_ppm >= 1_000_000 && room.places.is_some() && (room.more > 0 || left_ppm < 1_000_000);
        let cause = full.then(|| {
            Cause::built_in(LayerKind::Availability, NO_CAPACITY, "every place would be taken by what moves here")
        });
        (cause, Inputs { load_ppm, ..*then })
    }

    /// Something runs here for so long that had been elsewhere.
    pub fn comes(&mut self, factory: &NodeId, at_ms: u64, for_ms: u64) {
        let room = self.rooms.entry(factory.clone()).or_default();
        room.more += 1;
        room.came += 1;
        room.peak_ppm = room.peak_ppm.max(room.load(1_000_000));
        self.ends.push(Reverse((at_ms.saturating_add(for_ms), factory.clone(), -1)));
    }

    /// Something that had been here for so long is not.
    pub fn goes(&mut self, factory: &NodeId, at_ms: u64, for_ms: u64) {
        self.rooms.entry(factory.clone()).or_default().more -= 1;
        self.ends.push(Reverse((at_ms.saturating_add(for_ms), factory.clone(), 1)));
    }

    /// The next end.
    pub fn next_end_ms(&self) -> u64 {
        self.ends.peek().map_or(u64::MAX, |Reverse((at_ms, ..))| *at_ms)
    }

    /// Ends what ends at an instant or before; whether any did.
    pub fn end_until(&mut self, at_ms: u64) -> bool {
        let mut any = false;
        while self.next_end_ms() <= at_ms {
            let Some(Reverse((_, factory, change))) = self.ends.pop() else { break };
            if let Some(room) = self.rooms.get_mut(&factory) {
                room.more += change;
            }
            any = true;
        }
        any
    }

    /// For each factory that something came to: how much, the highest load in millionths of its places, and its places.
    pub fn came(&self) -> impl Iterator<Item = (&NodeId, u64, u64, Option<u64>)> {
        let came = self.rooms.iter().filter(|(_, room)| room.came > 0);
        came.map(|(factory, room)| (factory, room.came, room.peak_ppm, room.places))
    }
}

impl Room {
    fn load(&self, left_ppm: u64) -> u64 {
        // Without places nothing can be said of how much one more is.
        let one_ppm = self
            .places
            .map_or(0, |places| 1_000_000_i64.checked_div(places.try_into().unwrap_or(i64::MAX)).unwrap_or(0));
        let load = i64::try_from(self.load_ppm).unwrap_or(i64::MAX).saturating_add(self.more.saturating_mul(one_ppm));
        let load = u64::try_from(load).unwrap_or(0);
        load.saturating_mul(1_000_000).checked_div(left_ppm).unwrap_or(u64::MAX)
    }
}
