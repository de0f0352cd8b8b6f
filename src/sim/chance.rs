//! Random numbers from a seed: every decision of a simulated kernel.
//!
//! SplitMix64: each number is a hash of how many came before it. A stream for each concern, so that
//! one more decision of one kind does not change all those of the others.

use std::time::Duration;

/// A stream of random numbers.
#[derive(Debug, Clone)]
pub(super) struct Chance(u64);

impl Chance {
    /// The stream that `seed` and the number of a concern name.
    pub(super) fn new(seed: u64, concern: u64) -> Self {
        let mut chance = Self(seed.wrapping_mul(0xd134_2543_de82_ef95) ^ concern.rotate_left(32));
        chance.next();
        chance
    }

    /// The next number.
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// One of the numbers below `count`, which is not 0.
    pub(super) fn below(&mut self, count: u64) -> u64 {
        self.next() % count
    }

    /// One of the numbers below `count`, which is not 0.
    pub(super) fn index(&mut self, count: usize) -> usize {
        usize::try_from(self.below(count as u64)).expect("below a usize")
    }

    /// True in `mille` of a thousand calls, on average. Draws no number for 0.
    pub(super) fn hits(&mut self, mille: u16) -> bool {
        mille > 0 && self.below(1000) < u64::from(mille)
    }

    /// A span from 1 ns to `most`.
    pub(super) fn span(&mut self, most: Duration) -> u64 {
        let most = u64::try_from(most.as_nanos()).unwrap_or(u64::MAX);
        1 + self.below(most.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_and_a_concern_name_one_stream() {
        let three = |seed, concern| {
            let mut chance = Chance::new(seed, concern);
            [chance.next(), chance.next(), chance.next()]
        };
        assert_eq!(three(1, 2), three(1, 2));
        assert_ne!(three(1, 2), three(1, 3));
        assert_ne!(three(1, 2), three(2, 2));
        assert!((0..1000).all(|_| !Chance::new(7, 7).hits(0)));
        assert!(Chance::new(7, 7).hits(1000));
    }
}
