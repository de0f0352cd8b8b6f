//! E0423: a sender leads to a ring of this crate, because only that tells messages from
//! completions.

use annulus::{RingSender, Setup};

fn main() {
    let mut ring = Setup::new(8).build().unwrap();
    let sender = RingSender(ring.sender()); // misuse, instead: `let sender = ring.sender();`
    drop(sender);
}
