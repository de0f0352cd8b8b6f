//! lifetime may not live long enough: a scope empties its slots, so its tickets end with it.

use annulus::Setup;
use annulus::op::Nop;

fn main() {
    let mut ring = Setup::new(8).build().unwrap();
    ring.scope(|s| {
        let nop = s.submit(Nop).unwrap();
        nop // misuse, instead: `s.wait(nop).unwrap()`
    });
}
