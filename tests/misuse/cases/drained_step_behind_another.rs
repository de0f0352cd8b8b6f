//! E0080: a drained step makes its whole chain wait, and everything after the chain: so it must be
//! the first step.
//! Says: only the first step of a chain can be drained: all the chain waits then

use annulus::Setup;
use annulus::op::{Nop, Op as _};

fn main() {
    let mut ring = Setup::new(8).build().unwrap();
    let second = Nop.drained(); // misuse, instead: `let second = Nop.forced();`
    let chain = ring.submit_chain((Nop, second)).unwrap();
    ring.wait_chain(chain).unwrap();
}
