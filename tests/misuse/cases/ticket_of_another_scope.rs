//! E0521: a ticket is a claim to a slot of its own scope's ring.

use annulus::Setup;
use annulus::op::Nop;

fn main() {
    let mut ring = Setup::new(8).build().unwrap();
    let mut other = Setup::new(8).build().unwrap();
    ring.scope(|a| {
        let nop = a.submit(Nop).unwrap();
        other.scope(|b| b.wait(nop).unwrap()); // misuse
    });
}
