//! lifetime may not live long enough: a future can be forgotten halfway, and then nothing waits.

use annulus::Setup;
use annulus::op::Nop;

fn main() {
    let mut ring = Setup::new(8).build().unwrap();
    ring.scope(|s| {
        let nop = s.submit(Nop).unwrap();
        async move { s.wait(nop).unwrap() } // misuse, instead: `s.wait(nop).unwrap()`
    });
}
