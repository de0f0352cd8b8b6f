//! Random numbers and random bytes from a seed, so that every round can be run again.
//!
//! | number | is |
//! |---|---|
//! | the next of a stream | a hash of how many came before it (SplitMix64) |
//! | the byte of a stream of bytes | a hash of the stream's key and of the byte's position |

use super::trouble::{Check, finding};

/// A stream of random numbers.
#[derive(Debug, Clone)]
pub struct Chance(u64);

impl Chance {
    /// The stream that `seed` names.
    pub fn new(seed: u64) -> Self {
        Self(mix(seed))
    }

    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// One of the numbers below `count`, which is not 0.
    pub fn below(&mut self, count: u32) -> u32 {
        let [a, b, c, d, ..] = self.next().to_le_bytes();
        u32::from_le_bytes([a, b, c, d]) % count
    }

    /// A number from 1 to `most`.
    pub fn up_to(&mut self, most: u32) -> usize {
        1 + self.below(most) as usize
    }

    /// Returns true once in `count` calls, on average.
    pub fn one_in(&mut self, count: u32) -> bool {
        self.below(count) == 0
    }

    /// One of these.
    pub fn among<T: Copy>(&mut self, these: &[T]) -> T {
        these[usize::try_from(self.next()).unwrap_or_default() % these.len()]
    }
}

/// A hash of a number.
pub fn mix(number: u64) -> u64 {
    let mixed = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// The byte of stream `key` at position `at`.
fn byte(key: u64, at: u64) -> u8 {
    let word = mix(key ^ (at / 8).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    word.to_le_bytes()[usize::try_from(at % 8).unwrap_or_default()]
}

/// So many bytes of stream `key`, from position `at` on.
pub fn bytes(key: u64, at: u64, len: usize) -> Vec<u8> {
    (at..at + len as u64).map(|at| byte(key, at)).collect()
}

/// Fails unless these are the bytes of stream `key` from position `at` on.
pub fn compare(key: u64, at: u64, came: &[u8]) -> Check {
    match (at..).zip(came).find(|&(at, &came)| came != byte(key, at)) {
        None => Ok(()),
        Some((place, came)) => {
            let right = place - at;
            finding(format!("stream {key:#x}: byte {place} is {came}, after {right} right ones"))
        }
    }
}
