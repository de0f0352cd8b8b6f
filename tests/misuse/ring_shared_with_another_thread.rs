//! E0277: nothing in a ring is locked, so not even looking at it is for two threads.

use annulus::Setup;

fn main() {
    let ring = Setup::new(8).build().unwrap();
    std::thread::scope(|threads| {
        threads.spawn(|| ring.in_flight()); // misuse
    });
    println!("{}", ring.in_flight());
}
