//! E0277: an entry points to memory, and does not own it.

use annulus::Setup;
use annulus::op::Nop;
use annulus::prep;

fn main() {
    let mut ring = Setup::new(8).build().unwrap();
    let ticket = ring.submit(prep::nop()); // misuse, instead: `let ticket = ring.submit(Nop);`
    let _ = (ticket, Nop);
}
