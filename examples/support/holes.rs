//! Where zeroes lie in a block that came of a file with holes.

use std::ops::Range;

/// How zeroes are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Zeroes {
    /// As any other bytes.
    Written,
    /// Not at all: there will be a hole.
    LeftOut,
}

/// The shortest run of zeroes that is left out as a hole: a block of most file systems.
const UNIT: usize = 4 << 10;

/// The next stretch of `bytes`, from `from` on, that is not all zeroes: whole units of it.
pub fn next_data(bytes: &[u8], from: usize) -> Range<usize> {
    const ZEROES: [u8; UNIT] = [0; UNIT];
    let is_zero = |unit: &[u8]| unit == &ZEROES[..unit.len()];
    let mut units = bytes[from..].chunks(UNIT);
    let zeroes: usize = units.by_ref().take_while(|unit| is_zero(unit)).map(<[u8]>::len).sum();
    let start = from + zeroes;
    let data = bytes[start..].chunks(UNIT).take_while(|unit| !is_zero(unit));
    start..start + data.map(<[u8]>::len).sum::<usize>()
}
