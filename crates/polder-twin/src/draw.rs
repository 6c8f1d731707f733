//! Chance, the same on every machine: seeded draws and the few curves that a study needs, in whole numbers only.
//!
//! The generator is PCG's (O'Neill 2014), from `rand_pcg`. Logarithms and powers are taken in fixed point with 32 places after
//! the point, because the last bits of a processor's or library's own are nobody's promise. Absent: clocks and the system's
//! randomness; every stream begins with a seed and a number.

use rand_pcg::Pcg64Mcg;
use rand_pcg::rand_core::Rng as _;

/// Places after the point in logarithms.
const POINT: u32 = 32;
/// The natural logarithm of 2, in fixed point.
const LN_2: u64 = 2_977_044_472;
/// Steps of the table of logarithms, a power of two.
const STEPS: usize = 1 << 11;

/// A stream of draws. A copy draws the same from then on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draws(Pcg64Mcg);

impl Draws {
    /// The stream of that number under that seed.
    pub fn new(seed: u64, stream: u64) -> Self {
        // Two numbers that differ in one bit become states that have nothing in common (SplitMix64's last step).
        let mixed = |mut word: u64| {
            word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            word ^ (word >> 31)
        };
        let high = mixed(seed.wrapping_add(0x9e37_79b9_7f4a_7c15));
        let low = mixed(high ^ stream.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(1));
        Self(Pcg64Mcg::new(u128::from(high) << 64 | u128::from(low)))
    }

    /// Any number.
    #[inline]
    pub fn word(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number below `bound`, 0 where that is 0. Not corrected for the remainder, which is below one in 2^32 for every bound
    /// that occurs here.
    #[inline]
    pub fn below(&mut self, bound: u64) -> u64 {
        high(self.word(), bound)
    }

    /// A number with an exponential distribution around `mean`, at least 1.
    #[inline]
    pub fn exponential(&mut self, mean: u64) -> u64 {
        let nats = negative_ln(self.word());
        let value = (u128::from(mean) * u128::from(nats)) >> POINT;
        u64::try_from(value).unwrap_or(u64::MAX).max(1)
    }
}

/// The upper half of a product.
#[inline]
fn high(one: u64, other: u64) -> u64 {
    ((u128::from(one) * u128::from(other)) >> 64) as u64
}

/// log2 of 1 + i/STEPS, in fixed point.
static LOGARITHMS: [u64; STEPS + 1] = logarithms();

#[allow(clippy::indexing_slicing)] // At compile time, where an index out of bounds is an error of the build.
const fn logarithms() -> [u64; STEPS + 1] {
    let mut table = [0; STEPS + 1];
    let mut step = 0;
    while step < STEPS {
        // A number from 1 to 2 with 62 places after the point, squared again and again: each doubling is a bit.
        let mut number: u128 = ((STEPS + step) as u128) << (62 - 11);
        let (mut bits, mut place) = (0_u64, 0);
        while place < POINT {
            number = (number * number) >> 62;
            bits <<= 1;
            if number >> 63 != 0 {
                number >>= 1;
                bits |= 1;
            }
            place += 1;
        }
        table[step] = bits;
        step += 1;
    }
    table[STEPS] = 1 << POINT;
    table
}

/// log2 of a number of at least 1, in fixed point.
fn log2(number: u64) -> u64 {
    let whole = 63 - number.max(1).leading_zeros();
    // The bits after the leading one, at the top.
    let rest = number.max(1) << (63 - whole) << 1;
    let step = (rest >> 53) as usize;
    let within = (rest << 11) >> 32;
    let from = LOGARITHMS.get(step).copied().unwrap_or(0);
    let to = LOGARITHMS.get(step + 1).copied().unwrap_or(1 << POINT);
    (u64::from(whole) << POINT) + from + (((to - from) * within) >> 32)
}

/// -ln of a word taken as a fraction of 2^64, in fixed point.
#[inline]
fn negative_ln(word: u64) -> u64 {
    let below = (64 << POINT) - log2(word.max(1));
    ((u128::from(below) * u128::from(LN_2)) >> POINT) as u64
}

/// 2 to the power of a fixed-point number, in millionths, at most `u64::MAX`.
fn exp2_ppm(power: u64) -> u64 {
    let whole = power >> POINT;
    // 2^(1/2), 2^(1/4), … with 62 places after the point, each the root of the one before.
    let (mut root, mut factor) = (2_u128 << 62, 1_u128 << 62);
    for place in (0..POINT).rev() {
        root = (root << 62).isqrt();
        if power >> place & 1 == 1 {
            factor = (factor * root) >> 62;
        }
    }
    let ppm = (factor * 1_000_000) >> 62;
    u64::try_from(ppm).ok().and_then(|ppm| ppm.checked_shl(u32::try_from(whole).ok()?)).unwrap_or(u64::MAX)
}

/// What growth of `percent_per_year`, compound, makes of a million after `days`.
pub fn growth_ppm(percent_per_year: u32, days: u64) -> u64 {
    // A year is 365 days here, so that a year's study ends with a year's growth.
    let yearly = log2((100 + u64::from(percent_per_year)) << 20) - log2(100 << 20);
    let power = u128::from(yearly) * u128::from(days) / 365;
    exp2_ppm(u64::try_from(power).unwrap_or(u64::MAX))
}

/// A wave between -1,000 and 1,000: the cosine of a part of the whole round, by Bhaskara's approximation (7th century), which is
/// off by 2 in 1,000 at most.
pub fn wave(part: u64, whole: u64) -> i64 {
    let whole = whole.max(1);
    // In tenths of a degree from the crest.
    let angle = i64::try_from(part % whole * 3_600 / whole).unwrap_or(0);
    // cos(a) = sin(a + 90°); the sine of the second half is that of the first, turned over.
    let angle = (angle + 900) % 3_600;
    let (angle, sign) = if angle < 1_800 { (angle, 1) } else { (angle - 1_800, -1) };
    let product = angle * (1_800 - angle);
    sign * 4_000 * product / (4_050_000 - product)
}

#[cfg(test)]
mod tests;
