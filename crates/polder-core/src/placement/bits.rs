//! A set of factories by their place in the snapshot: one bit each.
//!
//! Growing is absent: a set knows how many factories there are when it is made.

/// One bit for each factory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bits {
    words: Box<[u64]>,
}

impl Bits {
    /// A set over `count` factories, with none of them in it.
    pub fn none(count: usize) -> Self {
        Self { words: vec![0; count.div_ceil(64)].into() }
    }

    /// Puts a factory in. One that is not there stays out.
    pub fn insert(&mut self, place: usize) {
        if let Some(word) = self.words.get_mut(place / 64) {
            *word |= 1 << (place % 64);
        }
    }

    /// Takes a factory out.
    pub fn remove(&mut self, place: usize) {
        if let Some(word) = self.words.get_mut(place / 64) {
            *word &= !(1 << (place % 64));
        }
    }

    /// Whether a factory is in it.
    #[inline]
    pub fn contains(&self, place: usize) -> bool {
        self.words.get(place / 64).is_some_and(|word| word >> (place % 64) & 1 == 1)
    }

    /// How many factories are in it.
    pub fn count(&self) -> u32 {
        self.words.iter().map(|word| word.count_ones()).sum()
    }

    /// The 64-bit words, the first factory in the lowest bit of the first.
    pub fn words(&self) -> &[u64] {
        &self.words
    }
}
