//! Choices from a seed: the only source of chance in a schedule.

use rand_pcg::Pcg64Mcg;
use rand_pcg::rand_core::{Rng as _, SeedableRng as _};

/// A seeded source of choices.
#[derive(Debug, Clone)]
pub struct Dice(Pcg64Mcg);

impl Dice {
    /// The choices of a seed.
    pub fn new(seed: u64) -> Self {
        Self(Pcg64Mcg::seed_from_u64(seed))
    }

    /// Any number.
    pub fn any(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number from `least` to `most`.
    pub fn within(&mut self, least: u64, most: u64) -> u64 {
        least + self.any() % (most.saturating_sub(least) + 1)
    }

    /// A place in a list of so many.
    pub fn place(&mut self, count: usize) -> usize {
        usize::try_from(self.any() % u64::try_from(count.max(1)).unwrap_or(1)).unwrap_or(0)
    }

    /// Yes, so many times in a million.
    pub fn chance_ppm(&mut self, ppm: u64) -> bool {
        self.any() % 1_000_000 < ppm
    }

    /// Yes, so many times in a hundred.
    pub fn percent(&mut self, percent: u64) -> bool {
        self.any() % 100 < percent
    }

    /// Eight random bytes.
    pub fn bytes(&mut self) -> [u8; 8] {
        self.any().to_be_bytes()
    }

    /// Sixteen random bytes.
    pub fn bytes_16(&mut self) -> [u8; 16] {
        let mut bytes = [0; 16];
        let (first, second) = bytes.split_at_mut(8);
        first.copy_from_slice(&self.bytes());
        second.copy_from_slice(&self.bytes());
        bytes
    }
}
