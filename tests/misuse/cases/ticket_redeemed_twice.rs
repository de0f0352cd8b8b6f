//! E0382: redeeming a ticket uses it up, and its slot goes to another operation.

use annulus::Setup;
use annulus::op::Nop;

fn main() {
    let mut ring = Setup::new(8).build().unwrap();
    let nop = ring.submit(Nop).unwrap();
    ring.wait(nop).unwrap().unwrap();
    ring.wait(nop).unwrap().unwrap(); // misuse
}
