//! E0277: a dropped lease goes back to the ring's own list, which is not locked.

use annulus::lease::BufLease;

fn main() {
    let _: fn(BufLease) = |lease| drop(std::thread::spawn(|| drop(lease))); // misuse
}
