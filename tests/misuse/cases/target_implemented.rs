//! E0277: a file is the owner of a descriptor, or a slot of the ring's table, and nothing else.

use annulus::op::{RingId, Target};
use annulus::sys::abi::Sqe;

struct Number(i32);

impl Target for Number {
    // misuse, instead: `impl Number {`
    fn belongs_to(&self, _: RingId) -> bool {
        true
    }

    fn aim(&self, sqe: Sqe) -> Sqe {
        Sqe { fd: self.0, ..sqe }
    }
}

fn main() {}
