//! E0277: a ring belongs to its thread, and so does a scope of it.

use annulus::Setup;

fn main() {
    let mut ring = Setup::new(8).build().unwrap();
    ring.scope(|s| {
        std::thread::scope(|threads| {
            threads.spawn(move || s.submit_all()); // misuse
        });
    });
}
