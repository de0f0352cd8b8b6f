//! E0080: a scope must end, and no cancel finds a chain that waits for all operations before it.
//! Says: nothing is drained in a scope: no cancel would find it

use annulus::Setup;
use annulus::op::{Nop, Op as _};

fn main() {
    let mut ring = Setup::new(8).build().unwrap();
    ring.scope(|s| {
        let first = Nop.drained(); // misuse, instead: `let first = Nop.forced();`
        let chain = s.submit_chain((first, Nop)).unwrap();
        s.wait_chain(chain).unwrap();
    });
}
