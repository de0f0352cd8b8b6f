//! Random numbers from a seed, so that every history can be repeated.
//!
//! SplitMix64: each number is a hash of the count of numbers before it.

/// A stream of random numbers.
#[derive(Debug, Clone)]
pub struct Chance(u64);

impl Chance {
    /// The stream that `seed` names.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0xd134_2543_de82_ef95))
    }

    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// The lower half of the next number.
    pub fn half(&mut self) -> u32 {
        let [a, b, c, d, ..] = self.next().to_le_bytes();
        u32::from_le_bytes([a, b, c, d])
    }

    /// One of the numbers below `count`, which is not 0.
    pub fn below(&mut self, count: u32) -> u32 {
        self.half() % count
    }

    /// A random index into something that is `len` long; `None` if it is empty.
    pub fn place(&mut self, len: usize) -> Option<usize> {
        let len = u32::try_from(len).expect("short");
        (len > 0).then(|| self.below(len) as usize)
    }

    /// Returns true once in `count` calls, on average.
    pub fn one_in(&mut self, count: u32) -> bool {
        self.below(count) == 0
    }

    /// One of these.
    pub fn among<T: Copy>(&mut self, these: &[T]) -> T {
        these[self.place(these.len()).expect("one at least")]
    }

    /// Random bytes.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        let words = std::iter::repeat_with(|| self.next().to_le_bytes());
        words.take(count.div_ceil(8)).flatten().take(count).collect()
    }
}
