//! E0382: redeeming a chain uses its tickets up.

use annulus::Setup;
use annulus::op::Nop;

fn main() {
    let mut ring = Setup::new(8).build().unwrap();
    let chain = ring.submit_chain([Nop, Nop]).unwrap();
    ring.wait_chain(chain).unwrap();
    ring.wait_chain(chain).unwrap(); // misuse
}
