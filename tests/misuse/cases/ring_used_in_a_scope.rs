//! E0499: the ring is lent to the scope, and only the scope submits and waits until it ends.

use annulus::Setup;
use annulus::op::Nop;

fn main() {
    let mut ring = Setup::new(8).build().unwrap();
    ring.scope(|s| {
        let nop = s.submit(Nop).unwrap();
        ring.submit_all().unwrap(); // misuse, instead: `s.submit_all().unwrap();`
        s.wait(nop).unwrap();
    });
}
