//! E0499: a user value is stored in its operation's slot, and is dropped when that is redeemed.

use annulus::Setup;
use annulus::op::Nop;

fn main() {
    let mut ring = Setup::new(8).build_for::<u64>().unwrap();
    let nop = ring.submit_for(Nop, 7).unwrap();
    let word = ring.user(&nop);
    ring.wait(nop).unwrap().unwrap(); // misuse
    println!("{word}");
}
