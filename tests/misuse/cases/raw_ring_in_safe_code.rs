//! E0133: with the raw ring, code could complete operations that are in flight.

use annulus::Setup;

fn main() {
    let mut ring = Setup::new(8).build().unwrap();
    ring.raw_mut().submit().unwrap(); // misuse
    println!("{:?}", ring.raw().room());
    ring.submit_all().unwrap();
}
