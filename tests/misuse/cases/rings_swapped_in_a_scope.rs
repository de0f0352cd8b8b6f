//! E0499: the scope would wait on the other ring, and not for its own operations.

use annulus::Setup;
use annulus::op::Nop;

fn main() {
    let mut ring = Setup::new(8).build().unwrap();
    let mut other = Setup::new(8).build().unwrap();
    ring.scope(|s| {
        let nop = s.submit(Nop).unwrap();
        std::mem::swap(&mut ring, &mut other); // misuse, instead: `other.submit_all().unwrap();`
        s.wait(nop).unwrap();
    });
}
