//! E0080: a scope must end, and no cancel finds an operation that waits for all before it.
//! Says: nothing is drained in a scope: no cancel would find it

use annulus::Setup;
use annulus::op::{Nop, Op as _};

fn main() {
    let mut ring = Setup::new(8).build().unwrap();
    ring.scope(|s| {
        let nop = Nop.drained(); // misuse, instead: `let nop = Nop.forced();`
        let nop = s.submit(nop).unwrap();
        s.wait(nop).unwrap().unwrap();
    });
}
