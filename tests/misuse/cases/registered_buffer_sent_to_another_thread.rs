//! E0277: a dropped lease goes back to the pool's own list, which is not locked.

use annulus::lease::FixedBuf;

fn main() {
    let _: fn(FixedBuf) = |lease| drop(std::thread::spawn(|| drop(lease))); // misuse
}
