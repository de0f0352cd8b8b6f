//! E0200: who writes entries vouches for what they point to.

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
