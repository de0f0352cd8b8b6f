//! E0597: a ring drops the user values of operations in flight, so they may not borrow from values
//! that are dropped first.

use annulus::Setup;
use annulus::op::Nop;

fn main() {
    let mut ring = Setup::new(8).build_for::<&str>().unwrap();
    let text = String::from("gone first");
    let word = text.as_str(); // misuse, instead: `let word = "there forever";`
    let nop = ring.submit_for(Nop, word).unwrap();
    ring.detach(nop);
}
