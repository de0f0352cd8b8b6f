//! E0499: a completion is shown while its slot is open, so nothing is submitted in between.

use annulus::Setup;
use annulus::op::Nop;

fn main() {
    let mut ring = Setup::new(8).build().unwrap();
    let mut count = 0;
    ring.reap(|_| {
        count += 1;
        ring.submit(Nop).unwrap(); // misuse
    })
    .unwrap();
}
