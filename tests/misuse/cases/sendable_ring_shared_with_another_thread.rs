//! E0277: a ring that can be sent is not locked, so two threads may not even read it.

use annulus::Setup;

fn main() {
    let ring = Setup::plain(8).build_raw().unwrap().into_send().unwrap();
    let other = std::sync::Mutex::new(Setup::plain(8).build_raw().unwrap().into_send().unwrap());
    std::thread::scope(|threads| {
        threads.spawn(|| ring.in_flight()); // misuse
        threads.spawn(|| other.lock().unwrap().in_flight());
    });
    println!("{}", ring.in_flight());
}
