//! E0505: the scope waits for the kernel, and needs the ring for it.

use annulus::Setup;
use annulus::op::Nop;

fn main() {
    let mut ring = Setup::new(8).build().unwrap();
    ring.scope(|s| {
        let nop = s.submit(Nop).unwrap();
        drop(ring); // misuse
        s.wait(nop).unwrap();
    });
}
