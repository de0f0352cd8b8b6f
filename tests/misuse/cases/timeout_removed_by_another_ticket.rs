//! E0277: the kernel would look for a timeout with that `user_data`, which is another operation's.

use annulus::Setup;
use annulus::op::{Nop, Timeout, TimeoutRemove};
use std::time::Duration;

fn main() {
    let mut ring = Setup::new(8).build().unwrap();
    let nop = ring.submit(Nop).unwrap();
    let timeout = ring.submit(Timeout::new(Duration::from_secs(1))).unwrap();
    let _ = TimeoutRemove::new(&nop); // misuse
    let _ = TimeoutRemove::new(&timeout);
}
