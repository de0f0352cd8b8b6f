//! E0133: through the ring underneath one could complete what is in flight.

use annulus::Setup;

fn main() {
    let mut ring = Setup::new(8).build().unwrap();
    ring.raw_mut().submit().unwrap(); // misuse
    println!("{:?}", ring.raw().room());
    ring.submit_all().unwrap();
}
