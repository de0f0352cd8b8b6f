//! E0277: nothing in a ring is locked, so two threads may not even read it.

use annulus::Setup;

fn main() {
    let ring = Setup::new(8).build().unwrap();
    std::thread::scope(|threads| {
        threads.spawn(|| ring.in_flight()); // misuse
    });
    println!("{}", ring.in_flight());
}
