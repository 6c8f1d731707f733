//! Failed keys, counted by address, so that keys cannot be tried at leisure.
//!
//! The table has a fixed size whatever comes: an address has four places it may stand in, and takes that of the one with the
//! fewest failures. IPv6 is counted by its /64, which is what one household or machine has. Behind a proxy everybody has the
//! proxy's address; what a proxy says of its clients is not read.

use std::future::Future;
use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use polder_core::ledger::Bucket;

use crate::config::Admission;

const SETS: usize = 1024;
const WAYS: usize = 4;

tokio::task_local! {
    static CLIENT: IpAddr;
}

/// Runs what a connection asks for, with its address at hand.
pub async fn client_of<F: Future>(address: IpAddr, connection: F) -> F::Output {
    CLIENT.scope(address, connection).await
}

/// The address of the connection that this task serves.
pub fn client() -> Option<IpAddr> {
    CLIENT.try_with(|address| *address).ok()
}

#[derive(Clone, Copy)]
struct Place {
    tag: u64,
    bucket: Bucket,
}

/// Failed keys by address.
pub struct Guesses {
    per_minute: u64,
    random: RandomState,
    sets: Mutex<Vec<[Option<Place>; WAYS]>>,
}

impl Default for Guesses {
    /// A table for a node that has no setting for it.
    fn default() -> Self {
        Self::new(Admission::default().failed_keys_per_minute)
    }
}

impl Guesses {
    /// A table that lets so many failed keys through per address and minute.
    pub fn new(per_minute: u64) -> Self {
        Self { per_minute, random: RandomState::new(), sets: Mutex::new(vec![[None; WAYS]; SETS]) }
    }

    /// An address as the table knows it: keyed by this process, never 0.
    pub(crate) fn tag(&self, address: IpAddr) -> u64 {
        let network = match address {
            IpAddr::V4(v4) => u64::from(u32::from(v4)),
            IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
                Some(v4) => u64::from(u32::from(v4)),
                None => u64::try_from(u128::from(v6) >> 64).unwrap_or_default(),
            },
        };
        self.random.hash_one((address.is_ipv4(), network)).max(1)
    }

    /// Counts a failed key; an error once too many came, with the wait in milliseconds.
    pub(crate) fn failed(&self, tag: u64, now_ms: u64) -> Result<(), u64> {
        self.at(tag, |set| {
            let known = set.iter().position(|place| place.is_some_and(|place| place.tag == tag));
            // Empty places first, then the address that has failed least.
            let least = |place: &Option<Place>| place.map_or(u64::MAX, |mut place| place.bucket.left(now_ms));
            let way = known.or_else(|| (0..WAYS).max_by_key(|way| set.get(*way).map_or(0, least)));
            let Some(place) = way.and_then(|way| set.get_mut(way)) else { return Ok(()) };
            if known.is_none() {
                *place = Some(Place { tag, bucket: Bucket::new(self.per_minute, now_ms) });
            }
            let Some(place) = place else { return Ok(()) };
            place.bucket.can(1, now_ms)?;
            place.bucket.take(1);
            Ok(())
        })
    }

    /// Whether an address may try; if not, the wait in milliseconds.
    pub(crate) fn look(&self, tag: u64, now_ms: u64) -> Result<(), u64> {
        self.at(tag, |set| match set.iter_mut().flatten().find(|place| place.tag == tag) {
            Some(place) => place.bucket.can(1, now_ms),
            None => Ok(()),
        })
    }

    fn at<T>(&self, tag: u64, look: impl FnOnce(&mut [Option<Place>; WAYS]) -> Result<T, u64>) -> Result<T, u64>
    where
        T: Default,
    {
        let mut sets = self.sets.lock().unwrap_or_else(PoisonError::into_inner);
        let set = usize::try_from(tag).unwrap_or_default() % SETS;
        sets.get_mut(set).map_or_else(|| Ok(T::default()), look)
    }
}
