//! Which block is next: one after the other, or at random, as often as was asked for.

/// A number of blocks of one size, in the order in which they are used.
#[derive(Debug)]
pub struct Plan {
    /// The bytes in a block.
    pub block: u32,
    /// How many blocks the file has.
    blocks: u64,
    /// How many are still to be used.
    left: u64,
    next: u64,
    /// The state of the generator, if the order is random.
    random: Option<u64>,
}

impl Plan {
    /// `count` blocks of a file that has `blocks`; with a seed, at random.
    pub fn new(block: u32, blocks: u64, count: u64, seed: Option<u64>) -> Self {
        Self { block, blocks, left: count, next: 0, random: seed }
    }
}

impl Iterator for Plan {
    type Item = u64;

    /// The offset of the next block.
    fn next(&mut self) -> Option<u64> {
        self.left = self.left.checked_sub(1)?;
        let number = match &mut self.random {
            Some(state) => splitmix(state) % self.blocks,
            None => self.next % self.blocks,
        };
        self.next += 1;
        Some(number * u64::from(self.block))
    }
}

/// A generator of random numbers: SplitMix64.
fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut word = *state;
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}
