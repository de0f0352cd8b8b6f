//! E0505: a word lies in its operation's slot, and goes with the ring.

use annulus::Setup;
use annulus::op::Nop;

fn main() {
    let mut ring = Setup::new(8).build_for::<u64>().unwrap();
    let nop = ring.submit_for(Nop, 7).unwrap();
    let word = ring.user(&nop);
    drop(ring); // misuse
    println!("{word}");
}
