//! E0200: code that writes entries vouches for the memory that they point to.

use annulus::op::{Done, Op};
use annulus::sys::abi::Sqe;

struct Mine;

// SAFETY: the entry points to nothing, because it is all zero, which is a NOP.
impl Op for Mine {
    // misuse, instead: `unsafe impl Op for Mine {`
    type Output = ();

    fn prep(&mut self) -> Sqe {
        Sqe::ZERO
    }

    fn finish(self, _: Done) {}
}

fn main() {}
