//! E0061: a message carries a number, and no `user_data` that could be an operation's.

use annulus::Setup;

fn main() {
    let mut ring = Setup::new(8).build().unwrap();
    let sender = ring.sender().unwrap();
    sender.send(7, 1 << 32).unwrap(); // misuse
    sender.send(7).unwrap();
}
