//! The checksum of the command `cksum`, as POSIX defines it: a CRC of 32 bits, and the length.
//!
//! ```text
//!   crc = crc << 8 ^ TABLE[crc >> 24 ^ byte]      for each byte, then for each byte of the length
//! ```

use std::fmt;

/// The CRC of each byte alone, with the polynomial of Ethernet, highest bit first.
const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0_u32;
    while byte < 256 {
        let mut crc = byte << 24;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc >> 31 == 1 { crc << 1 ^ 0x04C1_1DB7 } else { crc << 1 };
            bit += 1;
        }
        table[byte as usize] = crc;
        byte += 1;
    }
    table
};

/// The sum of the bytes so far.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cksum {
    crc: u32,
    bytes: u64,
}

impl Cksum {
    /// Adds bytes.
    pub fn add(&mut self, bytes: &[u8]) {
        self.crc = bytes.iter().fold(self.crc, |crc, &byte| step(crc, byte));
        self.bytes += bytes.len() as u64;
    }

    /// How many bytes there were.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

fn step(crc: u32, byte: u8) -> u32 {
    let [high, ..] = crc.to_be_bytes();
    crc << 8 ^ TABLE[usize::from(high ^ byte)]
}

/// The sum and the length, as `cksum` prints them.
impl fmt::Display for Cksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let length = self.bytes.to_le_bytes();
        let used = length.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        let crc = length[..used].iter().fold(self.crc, |crc, &byte| step(crc, byte));
        write!(f, "{} {}", !crc, self.bytes)
    }
}
