//! E0599: of two claims to one slot, the second would find another operation there.

use annulus::Setup;
use annulus::op::Nop;

fn main() {
    let mut ring = Setup::new(8).build().unwrap();
    let nop = ring.submit(Nop).unwrap();
    ring.wait(nop.clone()).unwrap().unwrap(); // misuse
    ring.detach(nop);
}
