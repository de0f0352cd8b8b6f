//! E0597: the futex word would be freed while the kernel waits at it.

use annulus::Setup;
use annulus::op::FutexWait;
use std::sync::atomic::AtomicU32;

fn main() {
    let mut ring = Setup::new(8).build().unwrap();
    let word = AtomicU32::new(0);
    let word = &word; // misuse
    let wait = ring.submit(FutexWait::new(word, 0)).unwrap();
    std::mem::forget(wait);
}
