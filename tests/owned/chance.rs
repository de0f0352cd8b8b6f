//! Random numbers from a seed, so that every history can be repeated; or from the bytes of a
//! fuzzer, so that it can change one decision and keep the others.
//!
//! ```text
//!   a seed    hash, hash, hash, ..          SplitMix64: each a hash of the count of numbers before
//!   bytes     ours ──►  .. ◄── theirs       a byte for each small number; when they are used up,
//!                                           hashes of all of them
//! ```

use std::sync::Arc;

/// A stream of random numbers.
#[derive(Debug, Clone)]
pub struct Chance {
    hash: u64,
    /// What comes before hashes.
    input: Option<Input>,
}

/// Bytes, read from one end or the other.
#[derive(Debug, Clone)]
struct Input {
    bytes: Arc<[u8]>,
    /// Those that are left.
    from: usize,
    to: usize,
    end: End,
    /// How many streams were made of it.
    streams: u32,
}

/// The end of the input that is read next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Front,
    Back,
}

impl Chance {
    /// The stream that `seed` names.
    pub fn new(seed: u64) -> Self {
        Self { hash: seed.wrapping_mul(0xd134_2543_de82_ef95), input: None }
    }

    /// The stream that these bytes decide.
    #[allow(dead_code, reason = "for the fuzzer")]
    pub fn of(bytes: &[u8]) -> Self {
        let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, &byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        });
        let (from, to, end, streams) = (0, bytes.len(), End::Front, 0);
        let input = Input { bytes: Arc::from(bytes), from, to, end, streams };
        Self { hash, input: Some(input) }
    }

    /// A stream for somebody else. One of bytes reads them from the other end; a second one from
    /// the middle to the front.
    #[allow(dead_code, reason = "not everybody has two sides")]
    pub fn split(&mut self) -> Self {
        let Some(input) = &mut self.input else { return Self::new(self.next()) };
        let to = input.bytes.len() >> input.streams.min(63);
        input.streams += 1;
        let hash = self.hash.wrapping_mul(0xd134_2543_de82_ef95).wrapping_add(1);
        let other = Input { from: 0, to, end: End::Back, streams: 0, ..input.clone() };
        Self { hash: hash.rotate_left(input.streams), input: Some(other) }
    }

    /// Whether this is not a stream of bytes, or all were read.
    #[allow(dead_code, reason = "for the fuzzer")]
    pub fn is_used_up(&self) -> bool {
        self.input.as_ref().is_none_or(|input| input.from == input.to)
    }

    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.given(8).unwrap_or_else(|| self.hashed())
    }

    /// A number of so many bytes, while there are any.
    fn given(&mut self, count: u32) -> Option<u64> {
        let input = self.input.as_mut().filter(|input| input.from < input.to)?;
        let mut number = 0;
        for _ in 0..count {
            let at = match input.end {
                _ if input.from == input.to => break,
                End::Front => input.from,
                End::Back => input.to - 1,
            };
            match input.end {
                End::Front => input.from += 1,
                End::Back => input.to -= 1,
            }
            number = number << 8 | u64::from(input.bytes[at]);
        }
        Some(number)
    }

    fn hashed(&mut self) -> u64 {
        self.hash = self.hash.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.hash ^ (self.hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// The lower half of the next number.
    pub fn half(&mut self) -> u32 {
        let number = self.given(4).unwrap_or_else(|| self.hashed());
        let [a, b, c, d, ..] = number.to_le_bytes();
        u32::from_le_bytes([a, b, c, d])
    }

    /// One of the numbers below `count`, which is not 0.
    pub fn below(&mut self, count: u32) -> u32 {
        let byte = if count <= 256 { self.given(1) } else { None };
        let number = byte.and_then(|byte| u32::try_from(byte).ok());
        number.unwrap_or_else(|| self.half()) % count
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

    /// Random bytes, which decide nothing: so no fuzzer chooses them.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        let words = std::iter::repeat_with(|| self.hashed().to_le_bytes());
        words.take(count.div_ceil(8)).flatten().take(count).collect()
    }
}
