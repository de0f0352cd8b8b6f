//! E0515: a region borrows from its owner, and not from a temporary that the owner makes.

use annulus::buf::{IoBuf, Region};

struct Number(u64);

impl IoBuf for Number {
    fn region(&self) -> Region<'_> {
        let _digits = self.0.to_string();
        _digits.as_bytes().into() // misuse, instead: `b"digits".as_slice().into()`
    }
}

fn main() {
    Number(7).region();
}
