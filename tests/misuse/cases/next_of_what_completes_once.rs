//! E0277: an operation that completes once has an output, and no items before it.

use annulus::Setup;
use annulus::op::Nop;

fn main() {
    let mut ring = Setup::new(8).build().unwrap();
    let nop = ring.submit(Nop).unwrap();
    ring.next(&nop).unwrap(); // misuse
    ring.wait(nop).unwrap().unwrap();
}
